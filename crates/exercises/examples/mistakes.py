"""A typical mistake in each exercise, made in Python, for `cargo course show`.
Usage: mistakes.py NAME HOST:PORT.
"""

import asyncio
import socket
import socketserver
import sys
import threading

host, port = sys.argv[-1].rsplit(":", 1)
address = host, int(port)
counts = {}


def listening(sock):
    print("listening on %s:%d" % sock.getsockname(), flush=True)
    return sock


def answers_at_the_end():
    """Exercise 01: the answers stay in the buffer of `makefile`."""
    listener = listening(socket.create_server(address))
    while True:
        conn, _ = listener.accept()
        with conn, conn.makefile("rwb") as stream:
            for line in stream:
                text = line.decode(errors="replace").rstrip("\n")
                stream.write(b"%d " % len(text) + line)


def no_reuse_addr():
    """Exercise 02: a bare socket, without SO_REUSEADDR."""
    listener = socket.socket()
    listener.bind(address)
    listener.listen()
    listening(listener)
    for number in range(1, 1000):
        conn, _ = listener.accept()
        conn.sendall(b"you are visitor %d\n" % number)
        conn.close()


def count(word):
    counts[word] = counts.get(word, 0) + 1
    return b"%s %d\n" % (word, counts[word])


def one_at_a_time():
    """Exercise 03: `TCPServer`, where `ThreadingTCPServer` was meant."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            for word in self.rfile:
                self.wfile.write(count(word[:-1]))

    with socketserver.TCPServer(address, Handler) as server:
        listening(server.socket)
        server.serve_forever()


def blocks_the_loop():
    """Exercise 03: asyncio, and a call that blocks in a coroutine."""

    async def serve(reader, writer):
        sock = writer.get_extra_info("socket").dup()
        sock.setblocking(True)
        for word in sock.makefile("rb"):
            sock.sendall(count(word[:-1]))

    async def main():
        server = await asyncio.start_server(serve, *address)
        listening(server.sockets[0])
        await server.serve_forever()

    asyncio.run(main())


def thread_per_client():
    """Exercise 04: threads, but no pool of three."""

    def serve(conn):
        conn.sendall(b"ready\n")
        for line in conn.makefile("rb"):
            conn.sendall(line[-2::-1] + b"\n")

    listener = listening(socket.create_server(address))
    while True:
        conn, _ = listener.accept()
        threading.Thread(target=serve, args=[conn], daemon=True).start()


def empty_is_the_end():
    """Exercise 05: an empty datagram is taken for the end of a stream."""
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(address)
    listening(sock)
    while True:
        data, peer = sock.recvfrom(65536)
        if not data:
            break
        sock.sendto(b"%d %s" % (len(data), data[::-1]), peer)


def still_listens():
    """Exercise 06: the listener is not closed when the input ends."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            for line in self.rfile:
                self.wfile.write(b"%d\n" % sum(map(int, line.split())))

    server = socketserver.ThreadingTCPServer(address, Handler)
    listening(server.socket)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    print("shutting down", flush=True)
    threading.Event().wait()


globals()[sys.argv[1].replace("-", "_")]()
