"""The Python package `websockets`, with permessage-deflate, used as a service would use it.

    python websockets_client.py URL CHANNEL TYPE COUNT

Subscribes with a message, reads so many events, asks for a pong, closes. Prints one line of JSON.
"""

import json
import sys

from websockets.sync.client import connect


def main(url, channel, kind, count):
    result = {'types': [], 'ids': [], 'data': []}
    with connect(url, compression='deflate', proxy=None) as socket:
        result['extensions'] = [extension.name for extension in socket.protocol.extensions]
        socket.send(json.dumps({'type': 'subscribe', 'data': {'channels': [channel]}}))
        socket.send(json.dumps({'type': 'resume', 'data': {'since': 'earliest'}}))
        while len(result['data']) < count:
            message = json.loads(socket.recv(timeout=20))
            result['types'].append(message['type'])
            if message['type'] == kind:
                result['ids'].append(message['id'])
                result['data'].append(message['data'])
        result['pong'] = 'protocol' if socket.ping(b'protocol').wait(20) else None
        socket.close(1000, 'done')
        result['closed'] = socket.close_code
    print(json.dumps(result))


if __name__ == '__main__':
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
