"""The twin of lesson 03 in Python's standard library."""

import socketserver


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        name = "%s:%d" % self.client_address
        print(f"{name} connected\n", end="", flush=True)
        total = 0
        while data := self.request.recv(1024):
            self.request.sendall(data)
            total += len(data)
        print(
            f"{name} closed the connection after {total} bytes\n",
            end="",
            flush=True,
        )


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128


with Server(("127.0.0.1", 0), Echo) as server:
    print("listening on %s:%d" % server.server_address, flush=True)
    server.serve_forever()
