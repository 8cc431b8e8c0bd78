// The npm package `ws`, with permessage-deflate, used as a service would use it.
//
//   node ws.mjs PACKAGES URL CHANNEL TYPE COUNT
//
// Subscribes with a message, reads so many events, asks for a pong, closes. Prints one line of JSON.

import { createRequire } from 'node:module';

const [packages, url, channel, type, count] = process.argv.slice(2);
const { WebSocket } = createRequire(`${packages}/`)('ws');

const result = { types: [], ids: [], data: [] };
const socket = new WebSocket(url, { perMessageDeflate: true });
socket.on('open', () => {
    result.extensions = socket.extensions;
    socket.send(JSON.stringify({ type: 'subscribe', data: { channels: [channel] } }));
    socket.send(JSON.stringify({ type: 'resume', data: { since: 'earliest' } }));
});
socket.on('message', (text) => {
    const message = JSON.parse(text);
    result.types.push(message.type);
    if (message.type === type) {
        result.ids.push(message.id);
        result.data.push(message.data);
        if (result.data.length === Number(count)) socket.ping('protocol');
    }
});
socket.on('pong', (payload) => {
    result.pong = payload.toString();
    socket.close(1000, 'done');
});
socket.on('close', (code) => {
    result.closed = code;
    console.log(JSON.stringify(result));
});
