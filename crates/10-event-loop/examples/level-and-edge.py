"""What epoll says three times in a row of bytes that nobody reads. Linux."""

import select
import socket

ours, theirs = socket.socketpair()
theirs.send(b"hello")

level = select.epoll()
level.register(ours, select.EPOLLIN)
edge = select.epoll()
edge.register(ours, select.EPOLLIN | select.EPOLLET)

print("level-triggered:", [len(level.poll(0)) for _ in range(3)], "events")
print("edge-triggered: ", [len(edge.poll(0)) for _ in range(3)], "events")
theirs.send(b", again")
print("after more bytes:", len(edge.poll(0)), "event")
edge.modify(ours, select.EPOLLIN | select.EPOLLET)
print("registered again:", len(edge.poll(0)), "event")
