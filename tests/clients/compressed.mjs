// Node's own fetch and the npm package `eventsource`, reading a stream that the server compresses.
//
//   node compressed.mjs PACKAGES URL EVENT COUNT
//
// Both ask for gzip by themselves. Prints one line of JSON: the encoding that fetch was told, and how many milliseconds
// old the events were when each of the two had them, by their own `timestamp_ms`.

import { createRequire } from 'node:module';

const [packages, url, eventName, count] = process.argv.slice(2);
const { EventSource } = createRequire(`${packages}/`)('eventsource');

async function byFetch() {
    const response = await fetch(url);
    const ages = [];
    const decoder = new TextDecoder();
    let text = '';
    for await (const bytes of response.body) {
        text += decoder.decode(bytes, { stream: true });
        const blocks = text.split('\n\n');
        text = blocks.pop();
        for (const block of blocks) {
            if (!block.includes(`\nevent: ${eventName}\n`)) {
                continue;
            }
            const data = JSON.parse(block.split('\ndata: ')[1]);
            ages.push(Date.now() - data.timestamp_ms);
            if (ages.length >= count) {
                return { encoding: response.headers.get('content-encoding'), ages };
            }
        }
    }
    throw new Error('the stream ended too early');
}

function byEventSource() {
    return new Promise((resolve) => {
        const ages = [];
        const source = new EventSource(url);
        source.addEventListener(eventName, (event) => {
            ages.push(Date.now() - JSON.parse(event.data).timestamp_ms);
            if (ages.length >= count) {
                source.close();
                resolve(ages);
            }
        });
    });
}

const [fetched, sourced] = await Promise.all([byFetch(), byEventSource()]);
console.log(JSON.stringify({ encoding: fetched.encoding, fetch: fetched.ages, eventsource: sourced }));
process.exit(0);
