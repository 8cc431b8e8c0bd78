// The Go client that the API's documentation prints, with an end: it leaves after COUNT events of a type.
//
//	scanner URL TYPE COUNT
//
// Its bufio.Scanner gives up at a line of 64 KiB, it wants a space after the colon, and it keeps the last of several
// data lines only. Prints one line of JSON an event: id, type and the length of the data.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
)

type SSEEvent struct {
	ID   string          `json:"id"`
	Type string          `json:"type"`
	Data json.RawMessage `json:"data"`
}

func streamSSE(ctx context.Context, url string, handler func(SSEEvent)) error {
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return err
	}

	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Cache-Control", "no-cache")

	client := &http.Client{
		Timeout: 0, // No timeout for streaming
	}

	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()

	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("unexpected status: %d", resp.StatusCode)
	}

	scanner := bufio.NewScanner(resp.Body)
	var event SSEEvent

	for scanner.Scan() {
		line := scanner.Text()

		if line == "" {
			// Event complete
			if event.Type != "" {
				handler(event)
			}
			event = SSEEvent{}
			continue
		}

		parts := strings.SplitN(line, ": ", 2)
		if len(parts) != 2 {
			continue
		}

		field, value := parts[0], parts[1]

		switch field {
		case "id":
			event.ID = value
		case "event":
			event.Type = value
		case "data":
			event.Data = json.RawMessage(value)
		}
	}

	return scanner.Err()
}

func main() {
	url, wanted := os.Args[1], os.Args[2]
	count, err := strconv.Atoi(os.Args[3])
	if err != nil {
		fail(err)
	}
	err = streamSSE(context.Background(), url, func(event SSEEvent) {
		var data map[string]interface{}
		if err := json.Unmarshal(event.Data, &data); err != nil {
			fail(fmt.Errorf("event %s %s: %w", event.ID, event.Type, err))
		}
		fmt.Printf("{\"id\":%q,\"type\":%q,\"bytes\":%d}\n", event.ID, event.Type, len(event.Data))
		if event.Type == wanted {
			count--
		}
		if count == 0 {
			os.Exit(0)
		}
	})
	if err == nil {
		err = fmt.Errorf("the stream ended too early")
	}
	fail(err)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
