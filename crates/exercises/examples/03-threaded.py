"""Exercise 03, solved in Python: count words for many clients at once."""

import socket
import sys
import threading

counts = {}
lock = threading.Lock()


def serve(stream):
    with stream, stream.makefile("rb") as lines:
        try:
            for line in lines:
                with lock:
                    counts[line] = counts.get(line, 0) + 1
                    count = counts[line]
                stream.sendall(b"%s %d\n" % (line.rstrip(b"\n"), count))
        except OSError as error:
            print(error, file=sys.stderr)


host, port = sys.argv[1].rsplit(":", 1)
with socket.create_server((host, int(port))) as listener:
    host, port = listener.getsockname()
    print(f"listening on {host}:{port}", flush=True)
    while True:
        stream, _ = listener.accept()
        threading.Thread(target=serve, args=[stream], daemon=True).start()
