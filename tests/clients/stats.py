"""The Python client that the API's documentation prints, with an end: it leaves after the events it was asked for.

    python stats.py URL STATS HEARTBEATS
"""

import json
import sys

import requests
import sseclient


def stream_stats(url, stats, heartbeats):
    response = requests.get(url, stream=True)
    client = sseclient.SSEClient(response)

    for event in client.events():
        if event.event == 'stats':
            data = json.loads(event.data)
            print(f"Stats: {data['total_requests']} requests, "
                  f"${data['total_cost']:.4f} cost")
            stats -= 1
        elif event.event == 'heartbeat':
            print("♥")
            heartbeats -= 1
        if stats <= 0 and heartbeats <= 0:
            return
    sys.exit('the stream ended too early')


if __name__ == '__main__':
    stream_stats(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
