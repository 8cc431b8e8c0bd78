// The npm package `eventsource`, used as the printed browser page uses EventSource.
//
//   node eventsource.mjs PACKAGES URL EVENT COUNT
//
// It goes through a proxy of its own that cuts the connection once, half way: the client must come back by itself,
// with Last-Event-ID, and see every event exactly once. Prints one line of JSON: the ids, the number of connections,
// and the verdict of each.

import { createRequire } from 'node:module';
import net from 'node:net';

const [packages, url, eventName, count] = process.argv.slice(2);
const { EventSource } = createRequire(`${packages}/`)('eventsource');

const upstream = new URL(url);
const open = new Set();
const proxy = net.createServer((client) => {
    const server = net.connect(Number(upstream.port), upstream.hostname);
    open.add(client);
    client.pipe(server).pipe(client);
    for (const [socket, other] of [[client, server], [server, client]]) {
        socket.on('error', () => {});
        socket.on('close', () => { open.delete(socket); other.destroy(); });
    }
});
await new Promise((resolve) => proxy.listen(0, '127.0.0.1', resolve));

const result = { ids: [], verdicts: [], errors: 0 };
const source = new EventSource(`http://127.0.0.1:${proxy.address().port}${upstream.pathname}${upstream.search}`);
source.addEventListener('connection_established', (event) => {
    result.verdicts.push(JSON.parse(event.data).resume.verdict);
});
source.onerror = () => { result.errors += 1; };
source.addEventListener(eventName, (event) => {
    JSON.parse(event.data);
    result.ids.push(event.lastEventId);
    if (result.ids.length === Math.floor(count / 2) && result.verdicts.length === 1) {
        for (const socket of open) {
            socket.destroy();
        }
    }
    if (result.ids.length >= count && result.verdicts.length > 1) {
        console.log(JSON.stringify(result));
        process.exit(0);
    }
});
