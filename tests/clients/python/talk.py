"""Python's `websockets`: says what comes on its standard input, and prints what it hears, line by line.

The first line that it prints are the extensions that were agreed on, the last how it was closed.
"""

import asyncio
import json
import sys

import websockets


async def main(url, compression):
    loop = asyncio.get_running_loop()
    words = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(words), sys.stdin)
    async with websockets.connect(url, compression=compression or None) as socket:
        # Older releases have them on the connection, newer ones on what it speaks.
        speech = socket if hasattr(socket, "extensions") else socket.protocol
        tell([extension.name for extension in speech.extensions])
        saying = asyncio.create_task(say(socket, words))
        try:
            async for message in socket:
                print(message, flush=True)
        except websockets.ConnectionClosed:
            pass
        saying.cancel()
        tell({"closed": [socket.close_code, socket.close_reason]})


async def say(socket, words):
    async for line in words:
        await socket.send(line.decode().rstrip("\n"))


def tell(what):
    print(json.dumps(what), flush=True)


asyncio.run(main(*sys.argv[1:]))
