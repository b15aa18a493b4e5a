"""The twin of lesson 11 in Python's standard library: asyncio's streams."""

import asyncio
import sys


async def serve(reader, writer):
    name = "%s:%d" % writer.get_extra_info("peername")
    print(f"{name} connected\n", end="", flush=True)
    total = 0
    try:
        while data := await reader.read(1024):
            writer.write(data)
            await writer.drain()
            total += len(data)
        print(
            f"{name} closed the connection after {total} bytes\n",
            end="",
            flush=True,
        )
    except OSError as error:
        print(f"{name}: {error}", file=sys.stderr)
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=128)
    address = server.sockets[0].getsockname()
    print("listening on %s:%d" % address, flush=True)
    await server.serve_forever()


asyncio.run(main())
