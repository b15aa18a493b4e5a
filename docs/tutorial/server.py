import socket
import sys

port = int(sys.argv[1]) if len(sys.argv) > 1 else 9006
server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
server.bind(("127.0.0.1", port))
server.listen(5)
print("listening on 127.0.0.1:%d" % server.getsockname()[1], flush=True)

while True:
    conn, addr = server.accept()
    print(addr, "connected", flush=True)
    while True:
        text = conn.recv(1024).decode()
        if text == "":
            continue
        print("received:", text, flush=True)
        conn.send(input("reply> ").encode())
