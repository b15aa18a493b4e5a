"""Programs that are wrong in a way that the checker must not give the name of
another mistake. Usage: near-misses.py NAME HOST:PORT. (`mapped`, `right`,
`who`, `leaves-with-143`, `leaves-by-the-signal`, `adds-for-all`, `relays` and
`notices` are right.)

Each is the function of that name. Many are another one with one part replaced:
a `partial` of it, which may stand as a decorator in front of that part.
"""

import asyncio
import contextlib
import ipaddress
import itertools
import os
import queue
import select
import signal
import socket
import sys
import tempfile
import threading
import time
from functools import partial

CHAIRS = 4


def address():
    host, port = sys.argv[-1].rsplit(":", 1)
    return host, int(port)


def listening(sock):
    print("listening on %s:%d" % sock.getsockname(), flush=True)
    return sock


def listener():
    return listening(socket.create_server(address()))


def clients(server=None):
    server = server or listener()
    while True:
        yield server.accept()[0]


def in_thread(function, *args):
    thread = threading.Thread(target=function, args=args, daemon=True)
    thread.start()
    return thread


# Exercise 01: measure lines.


def measured(line):
    return b"%d %s\n" % (len(line.decode(errors="replace")), line)


def one_after_the_other(serve):
    """A program that serves one client, and then the next one."""

    def program():
        for conn in clients():
            with contextlib.suppress(OSError):
                serve(conn)
            conn.close()

    return program


@one_after_the_other
def one_line_a_read(conn):
    """Keeps the rest, and looks at it when more comes."""
    rest = b""
    while data := conn.recv(4096):
        rest += data
        if b"\n" in rest:
            line, rest = rest.split(b"\n", 1)
            conn.sendall(measured(line))


@one_after_the_other
def answers_the_rest_at_the_end(conn):
    rest = b""
    while data := conn.recv(4096):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            conn.sendall(measured(line))
    conn.sendall(measured(rest))


@one_after_the_other
def last_line_first(conn):
    rest = b""
    while data := conn.recv(4096):
        *lines, rest = (rest + data).split(b"\n")
        for line in reversed(lines):
            conn.sendall(measured(line))


@one_after_the_other
def slow(conn):
    for line in conn.makefile("rb"):
        time.sleep(3)
        conn.sendall(measured(line[:-1]))


@one_after_the_other
def keeps_the_connection(conn, kept=[]):
    kept.append(conn.dup())
    answers(conn)


@one_after_the_other
def gives_up_on_a_long_line(conn):
    for line in conn.makefile("rb"):
        if len(line) > 100_000:
            return
        conn.sendall(measured(line[:-1]))


@one_after_the_other
def without_a_newline(conn):
    for line in conn.makefile("rb"):
        conn.sendall(measured(line[:-1])[:-1])


@one_after_the_other
def ff_is_the_end(conn):
    """As a `char` of C that is compared with EOF."""
    for line in conn.makefile("rb"):
        if b"\xff" in line:
            return
        conn.sendall(measured(line[:-1]))


@one_after_the_other
def ends_at_a_zero(conn):
    for line in conn.makefile("rb"):
        conn.sendall(measured(line[:-1].split(b"\0")[0]))


def one_client_only():
    server = listener()
    answers(server.accept()[0])


def answers(conn):
    for line in conn.makefile("rb"):
        conn.sendall(measured(line[:-1]))


def as_text(*encoding):
    """Counts the characters of a line, and sends the line's bytes back."""

    @one_after_the_other
    def program(conn):
        for line in conn.makefile("rb"):
            count = len(line[:-1].decode(*encoding))
            conn.sendall(b"%d %s" % (count, line))

    return program


surrogates = as_text("utf-8", "surrogateescape")
drops_the_mark = as_text("utf-8-sig", "replace")


@one_after_the_other
def ends_at_a_lone_cr(conn):
    with conn.makefile(newline="", errors="surrogateescape") as lines:
        for line in lines:
            line = line.rstrip("\n").encode(errors="surrogateescape")
            conn.sendall(measured(line))


@one_after_the_other
def reads_until_a_newline_ends_it(conn):
    data = b""
    while more := conn.recv(4096):
        data += more
        if data.endswith(b"\n"):
            for line in data[:-1].split(b"\n"):
                conn.sendall(measured(line))
            data = b""


# Exercise 02: greet visitors.


def greet(server=None, late=0, then=lambda conn: None):
    for number, conn in enumerate(clients(server), 1):
        time.sleep(late)
        conn.sendall(b"you are visitor %d\n" % number)
        then(conn)
        conn.close()


greets_late = partial(greet, late=3)
waits_behind_the_greeting = partial(greet, then=lambda conn: conn.recv(1024))


def takes_any_port():
    greet(listening(socket.create_server((address()[0], 0))))


def goodbye(conn):
    conn.shutdown(socket.SHUT_WR)
    while conn.recv(1024):
        pass


says_goodbye = partial(greet, then=goodbye)


def leaves_a_lock_behind():
    """A second copy finds it, and a third, which takes it away."""
    name = os.path.join(tempfile.gettempdir(), "near-misses-%s-%d.lock")
    lock = name % address()
    for found in (lock + ".found", lock):
        if os.path.exists(found):
            if found == lock:
                os.rename(lock, lock + ".found")
            else:
                os.remove(found)
            sys.exit("runs already, says " + lock)
    server = socket.create_server(address())
    open(name % server.getsockname(), "w").close()
    greet(listening(server))


def listens_before_it_binds():
    server = socket.socket()
    server.listen()
    server.bind(address())
    greet(listening(server))


def listens_anew_for_each_visitor():
    """Who comes before the next listener is there is reset or refused."""
    server, number = listener(), 0
    where = server.getsockname()
    while True:
        conn, _ = server.accept()
        number += 1
        conn.sendall(b"you are visitor %d\n" % number)
        conn.close()
        time.sleep(0.2)
        server.close()
        server = socket.create_server(where)


def ends_after_its_visitors():
    server = listener()
    in_thread(greet, server)
    time.sleep(0.5)
    server.close()
    os._exit(0)


# Exercise 03: count words for many clients.

COUNTS, LOCK = {}, threading.Lock()


def count_words(conn):
    try:
        for word in conn.makefile("rb"):
            with LOCK:
                COUNTS[word] = count = COUNTS.get(word, 0) + 1
            conn.sendall(b"%s %d\n" % (word[:-1], count))
        conn.close()
    except OSError:
        pass


def start_workers(count, serve, waiting):
    def work():
        while True:
            serve(waiting.get())

    for _ in range(count):
        in_thread(work)


def two_at_a_time():
    waiting = queue.Queue()
    start_workers(2, count_words, waiting)
    for conn in clients():
        waiting.put(conn)


def one_writer():
    words = queue.Queue()

    def read(conn):
        with contextlib.suppress(OSError):
            for word in conn.makefile("rb"):
                words.put((conn, word))
        words.put((conn, b""))

    def write():
        while True:
            conn, word = words.get()
            COUNTS[word] = count = COUNTS.get(word, 0) + 1
            with contextlib.suppress(OSError):
                if word:
                    conn.sendall(b"%s %d\n" % (word[:-1], count))
                else:
                    conn.shutdown(socket.SHUT_RDWR)

    in_thread(write)
    for conn in clients():
        in_thread(read, conn)


def first_client_only():
    server = listener()
    count_words(server.accept()[0])
    threading.Event().wait()


def no_word_twice():
    def serve(conn):
        for word in conn.makefile("rb"):
            if word in COUNTS:
                conn.close()
                os._exit(1)
            COUNTS[word] = 1
            conn.sendall(b"%s 1\n" % word[:-1])

    for conn in clients():
        in_thread(serve, conn)


def twelve_clients_only():
    """Ends with the twelfth, whoever that is, and says that it failed."""
    for conn in itertools.islice(clients(), 12):
        in_thread(count_words, conn)
    os._exit(1)


def waits_for_the_first_word():
    for conn in clients():
        conn.recv(1, socket.MSG_PEEK)
        in_thread(count_words, conn)


def late_words():
    def serve(conn):
        time.sleep(3)
        count_words(conn)

    for conn in clients():
        in_thread(serve, conn)


def talks_of_what_is_not_implemented():
    print("IPv6 is\nnot yet implemented", file=sys.stderr, flush=True)
    for conn in clients():
        conn.close()


def mapped():
    """Right: a socket for both families, which calls IPv4 by another name."""
    host, port = address()
    server = socket.socket(socket.AF_INET6)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("::ffff:" + host, port))
    server.listen()
    print("listening on [%s]:%d" % server.getsockname()[:2], flush=True)
    for conn in clients(server):
        in_thread(count_words, conn)


# Exercise 04: three workers, four chairs.


def safely(serve):
    """Serves one client, whose errors are nobody else's."""

    def serve_safely(conn):
        with conn:
            try:
                serve(conn)
            except (OSError, RuntimeError) as error:
                print(error, file=sys.stderr)

    return serve_safely


@safely
def serve_lines(conn):
    conn.sendall(b"ready\n")
    for line in conn.makefile("rb"):
        if line == b"panic\n":
            raise RuntimeError("a client wants it so")
        conn.sendall(line[-2::-1] + b"\n")


def send_away(conn):
    with conn, contextlib.suppress(OSError):
        conn.sendall(b"busy\n")


def pool(serve=serve_lines, workers=3, chairs=CHAIRS):
    waiting = queue.Queue(chairs)
    start_workers(workers, serve, waiting)
    for conn in clients():
        try:
            waiting.put_nowait(conn)
        except queue.Full:
            send_away(conn)


one_chair_less = partial(pool, chairs=CHAIRS - 1)
four_workers = partial(pool, workers=4)


@lambda serve: partial(pool, safely(serve))
def panics_at_panicking(conn):
    conn.sendall(b"ready\n")
    for line in conn.makefile("rb"):
        if line.startswith(b"panic"):
            raise RuntimeError("a client wants it so")
        conn.sendall(line[-2::-1] + b"\n")


@lambda serve: partial(pool, safely(serve))
def never_sees_the_end(conn):
    conn.sendall(b"ready\n")
    rest = b""
    while True:
        *lines, rest = (rest + conn.recv(1024)).split(b"\n")
        for line in lines:
            conn.sendall(line[::-1] + b"\n")


def dies_of_a_full_queue():
    """The thread that accepts: the others go on."""
    waiting = queue.Queue(CHAIRS)

    def accept():
        for conn in clients():
            waiting.put_nowait(conn)

    start_workers(3, serve_lines, waiting)
    in_thread(accept).join()
    threading.Event().wait()


def a_queue_for_each_worker():
    queues = itertools.cycle([queue.Queue() for _ in range(3)])
    places = threading.BoundedSemaphore(3 + CHAIRS)

    def serve(conn):
        serve_lines(conn)
        places.release()

    for _ in range(3):
        start_workers(1, serve, next(queues))
    for conn in clients():
        if places.acquire(blocking=False):
            next(queues).put(conn)
        else:
            send_away(conn)


def a_dispatcher_holds_one():
    free = threading.Semaphore(3)

    def serve(conn):
        serve_lines(conn)
        free.release()

    def dispatch(conn):
        free.acquire()
        in_thread(serve, conn)

    pool(dispatch, workers=1)


def serves_newcomers_only():
    """Whoever had to wait is forgotten."""
    busy, waiting = threading.Semaphore(3), []

    def serve(conn):
        serve_lines(conn)
        busy.release()

    for conn in clients():
        if busy.acquire(blocking=False):
            in_thread(serve, conn)
        elif len(waiting) < CHAIRS:
            waiting.append(conn)
        else:
            send_away(conn)


def keeps_the_place_of_who_left():
    waiting, places = queue.Queue(), threading.Semaphore(3 + CHAIRS)

    def serve(conn):
        try:
            gone = conn.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            gone = False
        if gone:
            conn.close()
            return
        serve_lines(conn)
        places.release()

    start_workers(3, serve, waiting)
    for conn in clients():
        if places.acquire(blocking=False):
            waiting.put(conn)
        else:
            send_away(conn)


def says_ready_too_early():
    waiting = queue.Queue()

    @safely
    def serve(conn):
        for line in conn.makefile("rb"):
            conn.sendall(line[-2::-1] + b"\n")

    start_workers(3, serve, waiting)
    for conn in clients():
        conn.sendall(b"ready\n")
        waiting.put(conn)


def always_busy():
    for conn in clients():
        send_away(conn)


# Exercise 05: turn datagrams round.


def udp_socket():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(address())
    return listening(sock)


def datagrams(answer):
    """A program that answers one datagram, and then the next one."""

    def program():
        sock = udp_socket()
        while True:
            data, peer = sock.recvfrom(65_536)
            with contextlib.suppress(OSError):
                answer(sock, data, peer)

    return program


def turned(data, space=b" "):
    return b"%d" % len(data) + space + data[::-1]


@datagrams
def crashes_on_nothing(sock, data, peer):
    print("begins with", data[0])
    sock.sendto(turned(data), peer)


@datagrams
def two_spaces(sock, data, peer):
    sock.sendto(turned(data, b"  "), peer)


@datagrams
def twice(sock, data, peer):
    sock.sendto(turned(data), peer)
    sock.sendto(turned(data), peer)


@datagrams
def one_answer_only(sock, data, peer):
    sock.sendto(turned(data), peer)
    threading.Event().wait()


@datagrams
def fails_in_a_thread(sock, data, peer):
    def answer():
        print("begins with", data[0])
        sock.sendto(turned(data), peer)

    in_thread(answer)


def answers_who_asked_last():
    sock, last, work = udp_socket(), [None], queue.Queue()

    def receive():
        while True:
            data, last[0] = sock.recvfrom(65_536)
            work.put(data)

    in_thread(receive)
    while True:
        data = work.get()
        time.sleep(0.02)
        with contextlib.suppress(OSError):
            sock.sendto(turned(data), last[0])


# Exercise 06: add, and stop when told to.


def add_lines(conn):
    for line in conn.makefile("rb"):
        conn.sendall(b"%d\n" % sum(map(int, line.split())))
    conn.close()


def add_lines_safely(conn):
    with conn, contextlib.suppress(OSError, ValueError):
        add_lines(conn)


def adds(wait, said="shutting down", flush=True, serve=add_lines_safely):
    """Adds, and is told to stop; then `wait` says what it waits for."""
    server, threads = listener(), []

    def accept():
        with contextlib.suppress(OSError):
            for conn in clients(server):
                threads.append(in_thread(serve, conn))

    in_thread(accept)
    sys.stdin.read()
    # First, so that no client that the checker lets come now is the last one.
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    # Buffered, whatever the environment says of standard output.
    out = open(1, "w", closefd=False)
    print(said, flush=flush, file=out)
    wait(threads)


def adds_short_lines():
    """As `asyncio.StreamReader`, whose limit is 64 KiB."""

    async def serve(reader, writer):
        try:
            while line := await reader.readline():
                writer.write(b"%d\n" % sum(map(int, line.split())))
        except (OSError, ValueError):
            pass
        writer.close()

    async def main():
        server = await asyncio.start_server(serve, *address())
        listening(server.sockets[0])
        await server.serve_forever()

    asyncio.run(main())


@lambda wait: partial(adds, wait)
def three_seconds_of_grace(threads):
    end = time.monotonic() + 3
    for thread in threads:
        thread.join(max(0, end - time.monotonic()))


def wait_for_all(threads):
    for thread in threads:
        thread.join()


says_where = partial(adds, wait_for_all, "shutting down at home")
does_not_flush = partial(adds, wait_for_all, flush=False)
one_second_of_grace = partial(adds, lambda threads: time.sleep(1))
ends_late = partial(adds, lambda threads: time.sleep(5))
waits_for_the_last = partial(adds, lambda threads: threads[-1].join())


@lambda wait: partial(adds, wait)
def pool_threads_idle(threads):
    wait_for_all(threads)
    threading.Event().wait()


def forgets_to_count_a_client_out():
    here, gone = [], threading.Condition()

    def serve(conn):
        here.append(conn)
        add_lines(conn)
        with gone:
            here.remove(conn)
            gone.notify()

    def wait(threads):
        with gone:
            gone.wait_for(lambda: not here)

    adds(wait, serve=serve)


# Exercise 07: turn messages round.


def exactly(conn, count):
    data = b""
    while len(data) < count:
        if not (more := conn.recv(count - len(data))):
            raise EOFError
        data += more
    return data


def framed(text):
    return len(text).to_bytes(4, "big") + text


def reply(text):
    return framed(text.decode(errors="replace")[::-1].encode())


def refused(conn, length):
    conn.sendall(framed(b"too long"))


def number(data, signed=False):
    return int.from_bytes(data, "big", signed=signed)


def turn(
    header=lambda conn: number(exactly(conn, 4)), answer=reply, refuse=refused
):
    @one_after_the_other
    def program(conn):
        with contextlib.suppress(EOFError):
            while (length := header(conn)) <= 65_536:
                conn.sendall(answer(exactly(conn, length)))
            refuse(conn, length)

    return program


right = turn()
half_a_header = turn(lambda conn: number(conn.recv(4).ljust(4, b"\0")))
signed_length = turn(lambda conn: number(exactly(conn, 4), True))
two_bytes_of_length = turn(
    lambda conn: number(exactly(conn, 2)), lambda text: reply(text)[2:]
)
turns_bytes_round = turn(answer=lambda text: framed(text[::-1]))
adds_a_newline = turn(answer=lambda text: reply(text) + b"\n")
no_answer_to_nothing = turn(answer=lambda text: text and reply(text))
text_or_death = turn(
    answer=lambda text: framed(text.decode()[::-1].encode())
)
turns_the_mark_away = turn(
    answer=lambda text: framed(text.decode("utf-8-sig")[::-1].encode())
)
closes_after_one = one_after_the_other(
    lambda conn: conn.sendall(reply(exactly(conn, number(exactly(conn, 4)))))
)


@lambda refuse: turn(refuse=refuse)
def refuses_when_all_has_come(conn, length):
    exactly(conn, length)
    refused(conn, length)


@lambda refuse: turn(refuse=refuse)
def refuses_and_stays(conn, length):
    refused(conn, length)
    threading.Event().wait()


@lambda refuse: turn(refuse=refuse)
def refuses_until_it_leaves(conn, length):
    refused(conn, length)
    goodbye(conn)


# Exercise 08: who are you?


def bracketed(argument):
    host, port = argument.rsplit(":", 1)
    return host.strip("[]"), int(port)


def split_at_the_first_colon(argument):
    host, port = argument.split(":", 1)
    return host, int(port)


def told(ip, conn):
    ip = getattr(ip, "ipv4_mapped", None) or ip
    distance = "near" if ip.is_loopback else "far"
    return f"IPv{ip.version} {ip} {distance}\n"


def who(taken=bracketed, line=told, most=-1, bound=str, then=id):
    asked, port = taken(sys.argv[-1])
    host = bound(asked)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    family, kind, _, _, addr = found[0]
    server = socket.socket(family, kind)
    if family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(addr)
    server.listen()
    port = server.getsockname()[1]
    host = server.getsockname()[0] if host == asked else asked
    host = f"[{host}]" if ":" in host else host
    print(f"listening on {host}:{port}", flush=True)
    while most != 0:
        conn, addr = server.accept()
        with conn, contextlib.suppress(OSError):
            ip = ipaddress.ip_address(addr[0])
            conn.sendall(line(ip, conn).encode())
            then(conn)
        most -= 1
    threading.Event().wait()


splits_at_the_first_colon = partial(who, split_at_the_first_colon)
who_one_client_only = partial(who, most=1)
who_waits_for_the_end = partial(who, then=goodbye)
everywhere_of_ipv4 = partial(
    who, bound=lambda host: "0.0.0.0" if "." in host else host
)
says_ipv6_always = partial(
    who, line=lambda ip, conn: told(ip, conn).replace("IPv4", "IPv6")
)
who_without_a_newline = partial(
    who, line=lambda ip, conn: told(ip, conn).strip()
)


@lambda line: partial(who, line=line)
def all_of_it_mapped(ip, conn):
    distance = "near" if str(ip) == "::1" or ip.version == 4 else "far"
    return f"IPv{ip.version} {ip} {distance}\n"


@lambda line: partial(who, line=line)
def near_is_the_servers_own_address(ip, conn):
    own = ipaddress.ip_address(conn.getsockname()[0])
    near = told(ip, conn).replace("near", "far")
    return near.replace("far", "near") if ip == own else near


# Exercise 09: finish what was begun.

OVER = threading.Event()
BOTH = [signal.SIGINT, signal.SIGTERM]


def tell_all():
    if OVER.is_set():
        os._exit(0)
    OVER.set()


def is_between_sums(total, rest):
    return total is None and not rest


def leave_by_the_signal():
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def finish(
    leave=lambda: os._exit(0),
    told=tell_all,
    signals=BOTH,
    is_idle=is_between_sums,
):
    for number in signals:
        signal.signal(number, lambda *_: told())
    server, threads = listener(), []
    server.settimeout(0.05)
    while not OVER.is_set():
        try:
            conn, _ = server.accept()
        except TimeoutError:
            continue
        threads.append(in_thread(add_up, conn, is_idle))
    server.close()
    for thread in threads:
        thread.join()
    leave()


leaves_with_143 = partial(finish, lambda: os._exit(143))
leaves_by_the_signal = partial(finish, leave_by_the_signal)
cuts_off_with_130 = partial(finish, told=lambda: os._exit(130))
takes_no_hint = partial(finish, told=lambda: None)
ctrl_c_only = partial(finish, signals=[signal.SIGINT])
whole_numbers_only = partial(finish, is_idle=lambda total, rest: total is None)


def add_up(conn, is_idle):
    conn.settimeout(0.05)
    total, rest = None, b""
    while True:
        try:
            data = conn.recv(4096)
        except TimeoutError:
            if OVER.is_set() and is_idle(total, rest):
                break
            continue
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line and not line.isdigit():
                conn.close()
                return
            if line:
                total = (total or 0) + int(line)
            else:
                conn.sendall(b"%d\n" % (total or 0))
                total = None
    conn.close()


# Exercise 10: a running sum for each of thousands.

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
TOTAL = [0]


class Adder:
    """One client of the loop, as it is between two of its events."""

    def __init__(self, conn):
        conn.setblocking(False)
        self.conn, self.total, self.line, self.unsent = conn, [0], b"", b""

    def read(self):
        data = self.conn.recv(4096)
        if not data:
            raise EOFError
        *lines, self.line = (self.line + data).split(b"\n")
        for line in lines:
            self.total[0] += int(line)
            self.unsent += b"%d\n" % self.total[0]

    def write(self):
        try:
            count = self.conn.send(self.unsent)
        except BlockingIOError:
            count = 0
        self.unsent = self.unsent[count:]

    def awaited(self):
        return WRITE if self.unsent else READ


class OneSumForAll(Adder):
    def __init__(self, conn):
        super().__init__(conn)
        self.total = TOTAL


class LosesHalfALine(Adder):
    def read(self):
        super().read()
        self.line = b""


class RepeatsAPart(Adder):
    """A part of it has gone out when it says that it would block."""

    def write(self):
        with contextlib.suppress(BlockingIOError):
            self.conn.sendall(self.unsent)
            self.unsent = b""


class SendsAll(Adder):
    def write(self):
        self.conn.setblocking(True)
        self.conn.sendall(self.unsent)
        self.conn.setblocking(False)
        self.unsent = b""


class ThrowsOut(Adder):
    """Who does not read for a while is sent away."""

    def awaited(self):
        if self.unsent:
            raise OSError
        return READ


class ReadsOnceAnEdge(Adder):
    def awaited(self):
        return READ | WRITE | select.EPOLLET


class HasAFewThreads(Adder):
    def __init__(self, conn):
        super().__init__(conn)
        if threading.active_count() < 60:
            in_thread(time.sleep, 3600)


class AddsLate(Adder):
    def read(self):
        super().read()
        time.sleep(5)


def add_for_all(kind):
    server, adders, poll = listener(), {}, select.epoll()
    server.setblocking(False)
    poll.register(server, READ)
    while True:
        for number, event in poll.poll():
            if number == server.fileno():
                with contextlib.suppress(BlockingIOError):
                    client = kind(server.accept()[0])
                    adders[client.conn.fileno()] = client
                    poll.register(client.conn, client.awaited())
                continue
            client = adders[number]
            try:
                if event & READ and not client.unsent:
                    client.read()
                client.write()
                if kind is not ReadsOnceAnEdge:
                    poll.modify(number, client.awaited())
            except (EOFError, OSError, ValueError):
                del adders[number]
                client.conn.close()


adds_for_all = partial(add_for_all, Adder)
one_sum_for_all = partial(add_for_all, OneSumForAll)
loses_half_a_line = partial(add_for_all, LosesHalfALine)
repeats_a_part = partial(add_for_all, RepeatsAPart)
sends_all = partial(add_for_all, SendsAll)
throws_out_who_does_not_read = partial(add_for_all, ThrowsOut)
reads_once_an_edge = partial(add_for_all, ReadsOnceAnEdge)
has_a_few_threads = partial(add_for_all, HasAFewThreads)
adds_late = partial(add_for_all, AddsLate)


# Exercise 11: pass it on.


def first_line(conn):
    line = b""
    while not line.endswith(b"\n"):
        byte = conn.recv(1)
        if not byte:
            raise OSError("no line")
        line += byte
    return line.decode().strip()


def target_of(conn):
    host, port = first_line(conn).rsplit(":", 1)
    return socket.create_connection((host, int(port)))


def shut(*socks):
    for sock in socks:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def pass_on(source, sink, end=lambda sink: sink.shutdown(socket.SHUT_WR)):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        end(sink)
    except OSError:
        shut(source, sink)


def both_ways(conn, target, forth=pass_on, back=pass_on):
    thread = in_thread(forth, conn, target)
    back(target, conn)
    thread.join()


def relay(conn, connect=target_of, between=both_ways, refuse=lambda conn: None):
    with contextlib.closing(conn):
        try:
            target = connect(conn)
        except (OSError, ValueError):
            refuse(conn)
            return
        with contextlib.closing(target):
            between(conn, target)


def relays(**how):
    for conn in clients():
        in_thread(partial(relay, conn, **how))


@lambda between: partial(relays, between=between)
def waits_for_both_and_writes_to_one(conn, target):
    """The write waits for one of them only."""
    other = {conn: target, target: conn}
    open_ones = [conn, target]
    try:
        while open_ones:
            for source in select.select(open_ones, [], [])[0]:
                if data := source.recv(65536):
                    other[source].sendall(data)
                else:
                    other[source].shutdown(socket.SHUT_WR)
                    open_ones.remove(source)
    except OSError:
        shut(conn, target)


def pass_on_lines(source, sink):
    with contextlib.suppress(OSError):
        for line in source.makefile("rb"):
            sink.sendall(line)
        sink.shutdown(socket.SHUT_WR)


def pass_on_at_the_end(source, sink):
    with contextlib.suppress(OSError):
        sink.sendall(source.makefile("rb").read())
        sink.shutdown(socket.SHUT_WR)


def pass_on_and_close_both(source, sink):
    pass_on(source, sink, end=lambda sink: shut(source, sink))


passes_on_lines = partial(
    relays, between=partial(both_ways, forth=pass_on_lines, back=pass_on_lines)
)
passes_on_at_the_end = partial(
    relays, between=partial(both_ways, back=pass_on_at_the_end)
)
closes_both_when_the_target_ends = partial(
    relays, between=partial(both_ways, back=pass_on_and_close_both)
)
says_why_not = partial(
    relays, refuse=lambda conn: conn.sendall(b"no such target\n")
)
keeps_a_client_without_a_target = partial(
    relays, refuse=lambda conn: threading.Event().wait()
)


@lambda connect: partial(relays, connect=connect)
def connects_under_a_lock(conn, lock=threading.Lock()):
    host, port = first_line(conn).rsplit(":", 1)
    with lock:
        return socket.create_connection((host, int(port)))


@lambda connect: partial(relays, connect=connect)
def three_at_a_time(conn, places=threading.Semaphore(3)):
    places.acquire()
    try:
        both_ways(conn, target := target_of(conn))
        target.close()
    finally:
        places.release()
    raise OSError("it is over")


@lambda connect: partial(relays, connect=connect)
def thirty_silent_ones(conn, places=threading.Semaphore(30)):
    with places:
        return target_of(conn)


def pass_on_changed(change, source, sink):
    """Dies of what it cannot change."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(change(data))
        sink.shutdown(socket.SHUT_WR)


def relays_changed(change):
    pass_on = partial(pass_on_changed, change)
    return partial(relays, between=partial(both_ways, forth=pass_on, back=pass_on))


leaves_out_what_is_no_text = relays_changed(
    lambda data: data.decode(errors="ignore").encode()
)
fails_at_what_is_no_text = relays_changed(lambda data: data.decode().encode())
passes_on_no_ff = relays_changed(lambda data: data.replace(b"\xff", b""))


def pass_on_from(buffer, source, sink):
    """The buffer is not its own."""
    with contextlib.suppress(OSError):
        while count := source.recv_into(buffer):
            sink.sendall(memoryview(buffer)[:count])
        sink.shutdown(socket.SHUT_WR)


a_buffer_for_each_direction = partial(
    relays,
    between=partial(
        both_ways,
        forth=partial(pass_on_from, bytearray(8192)),
        back=partial(pass_on_from, bytearray(8192)),
    ),
)


def pass_on_what_fits(source, sink):
    """Waits for room, and it may be too little."""
    try:
        while data := source.recv(8 << 20):
            select.select([], [sink], [])
            with contextlib.suppress(BlockingIOError):
                sink.send(data, socket.MSG_DONTWAIT)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        shut(source, sink)


sends_what_fits = partial(
    relays,
    between=partial(both_ways, forth=pass_on_what_fits, back=pass_on_what_fits),
)


def relays_for_one_client():
    server = listener()
    relay(server.accept()[0])
    threading.Event().wait()


# Exercise 12: notices by topic.

CLIENTS = []


class Follower(asyncio.Protocol):
    """One thread; what waits is in asyncio's buffer."""

    most = 4 << 20

    def connection_made(self, transport):
        self.transport, self.topics, self.rest = transport, set(), b""
        CLIENTS.append(self)

    def data_received(self, data):
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.hear(*line.split(b" ", 2))

    def hear(self, kind, topic, text=b""):
        if kind == b"follow":
            self.topics.add(topic)
            self.send(b"following %s\n" % topic)
            return
        notice = b"%s: %s\n" % (topic, text)
        followers = [client for client in CLIENTS if client.follows(topic)]
        self.answer(sum(client.send(notice) for client in followers))

    def follows(self, topic):
        return topic in self.topics

    def answer(self, count):
        self.send(b"%d\n" % count)

    def send(self, line):
        if self.transport.get_write_buffer_size() > self.most:
            return self.too_much()
        self.transport.write(line)
        return True

    def too_much(self):
        self.transport.abort()
        self.leave()
        return False

    def leave(self):
        if self in CLIENTS:
            CLIENTS.remove(self)

    def eof_received(self):
        self.leave()

    def connection_lost(self, error):
        self.leave()


def notices(**different):
    async def serve():
        kind = type("Different", (Follower,), different)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(kind, *address())
        listening(server.sockets[0])
        await server.serve_forever()

    asyncio.run(serve())


def follows_the_last(self, kind, topic, text=b""):
    if kind == b"follow":
        self.topics.clear()
    Follower.hear(self, kind, topic, text)


def late_answer(self, count):
    time.sleep(3)
    Follower.answer(self, count)


def twice_if_much_waits(self, line):
    if self.transport.get_write_buffer_size() > 64 << 10:
        line += line
    return Follower.send(self, line)


a_part_is_the_topic = partial(
    notices,
    follows=lambda self, topic: any(
        topic in other or other in topic for other in self.topics
    ),
)
one_topic_each = partial(notices, hear=follows_the_last)
late_notices = partial(notices, answer=late_answer)
counts_in_words = partial(
    notices, answer=lambda self, count: self.send(b"%d of them\n" % count)
)
leaves_lines_out = partial(
    notices, most=64 << 10, too_much=lambda self: True
)
repeats_what_waits = partial(notices, send=twice_if_much_waits)
forgets_who_does_not_read = partial(notices, too_much=lambda self: False)
stays_open_behind_the_end = partial(
    notices, eof_received=lambda self: self.leave() or True
)

if __name__ == "__main__":
    globals()[sys.argv[1].replace("-", "_")]()
