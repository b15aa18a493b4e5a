//! Lesson 06 does what its chapter says: the module, and the server on it.

use std::io::{self, BufRead, BufReader, Write};
use std::mem;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
#[cfg(target_os = "linux")]
use std::process::Command;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;
use harness::{Lab, Peer, Program, Result, Transcript, UdpPeer, proc};
#[cfg(target_os = "linux")]
use harness::{side_by_side, strace};
use socket2::{Domain, Socket, Type};
use socketserver::{
    Datagram, Handler, Job, ProcessRequest, Sequential, Server, Tcp,
    ThreadPool, Threads, Transport, Udp, Waker,
};

const TCP_CHOICES: [&str; 3] = ["sequential-tcp", "threads-tcp", "pool-tcp"];
const UDP_CHOICES: [&str; 3] = ["sequential-udp", "threads-udp", "pool-udp"];
/// Where, on Linux, no client of another test can have the port that a server
/// just gave back.
const ALONE: &str = if cfg!(target_os = "linux") {
    "127.0.0.2:0"
} else {
    "127.0.0.1:0"
};
const DEADLINE: Duration = Duration::from_secs(20);

// The program, and those who talk to it.

fn server_path() -> &'static Path {
    cargo_bin!("lesson-06-socketserver")
}

fn choices() -> impl Iterator<Item = &'static str> {
    TCP_CHOICES.into_iter().chain(UDP_CHOICES)
}

fn start_server(lab: &Lab, choice: &str) -> Result<(Program, SocketAddr)> {
    lab.start_server(server_path(), &["127.0.0.1:0", choice])
}

/// A client of either kind.
enum Client {
    Tcp(Peer),
    Udp(UdpPeer),
}

impl Client {
    fn new(lab: &Lab, choice: &str, addr: SocketAddr) -> Result<Self> {
        Ok(if choice.ends_with("udp") {
            Self::Udp(lab.udp("client", addr)?)
        } else {
            Self::Tcp(lab.connect("client", addr)?)
        })
    }

    fn of<T: Transport>(lab: &Lab, addr: SocketAddr) -> Result<Self> {
        let datagrams = T::SOCKET_TYPE == Type::DGRAM;
        Self::new(lab, if datagrams { "udp" } else { "tcp" }, addr)
    }

    fn send(&self, bytes: impl AsRef<[u8]>) -> Result {
        match self {
            Self::Tcp(peer) => peer.send(bytes),
            Self::Udp(peer) => peer.send(bytes),
        }
    }

    fn expect(&mut self, bytes: impl AsRef<[u8]>) -> Result {
        match self {
            Self::Tcp(peer) => peer.expect(bytes),
            Self::Udp(peer) => peer.expect(bytes),
        }
    }

    /// The end of a stream; of datagrams there is none.
    fn expect_end(&mut self) -> Result {
        match self {
            Self::Tcp(peer) => peer.expect_end(),
            Self::Udp(_) => Ok(()),
        }
    }

    fn local_addr(&self) -> Result<SocketAddr> {
        match self {
            Self::Tcp(peer) => peer.local_addr(),
            Self::Udp(peer) => {
                Ok(peer.socket().local_addr().expect("it is bound"))
            }
        }
    }
}

/// What CPython's own tests do, three times for each kind of server.
fn says_hello_world(client: &mut Client) -> Result {
    client.send("hello world\n")?;
    client.expect("hello world\n")
}

fn good_client_is_served(lab: &Lab, choice: &str, addr: SocketAddr) -> Result {
    says_hello_world(&mut Client::new(lab, choice, addr)?)
}

// The module, from within.

/// Answers a line with the line, once; `fail` and `panic` are orders, and
/// `fail twice` one for `handle_error`, too. Tells the test what it did.
struct Line {
    told: Sender<&'static str>,
    own_server: Arc<OnceLock<Arc<Waker>>>,
}

impl Line {
    fn new() -> (Self, Receiver<&'static str>) {
        let (told, events) = mpsc::channel();
        let line = Self {
            told,
            own_server: Arc::default(),
        };
        (line, events)
    }

    fn tell(&self, event: &'static str) {
        // A test need not listen to the end.
        let _ = self.told.send(event);
    }

    fn answer(&self, line: &[u8]) -> io::Result<Vec<u8>> {
        self.tell("handled");
        match line {
            b"fail\n" => Err(io::Error::other("told to fail")),
            b"fail twice\n" => Err(io::Error::other("told to fail twice")),
            b"panic\n" => panic!("told to panic"),
            b"stop\n" => {
                self.own_server.get().expect("a test set it").shutdown();
                Ok(line.to_vec())
            }
            line => Ok(line.to_vec()),
        }
    }

    fn error(&self, error: &io::Error) {
        let error = error.to_string();
        self.tell(match error.trim_end_matches(" twice") {
            "told to fail" => "failed",
            "its handler panicked" => "panicked",
            "no thread" => "no thread",
            _ => "another error",
        });
        assert!(!error.ends_with(" twice"), "told to panic");
    }
}

impl Handler<TcpStream> for Line {
    fn handle(&self, stream: TcpStream, _: SocketAddr) -> io::Result<()> {
        let mut line = Vec::new();
        BufReader::new(&stream).read_until(b'\n', &mut line)?;
        (&stream).write_all(&self.answer(&line)?)
    }

    fn handle_error(&self, error: io::Error, _: SocketAddr) {
        self.error(&error);
    }
}

impl Handler<Datagram> for Line {
    fn handle(&self, datagram: Datagram, _: SocketAddr) -> io::Result<()> {
        datagram.reply(&self.answer(&datagram.bytes)?)
    }

    fn handle_error(&self, error: io::Error, _: SocketAddr) {
        self.error(&error);
    }
}

/// Tells of each request before it hands it on. This is the first that a test
/// can know of one: the handler may have to wait for a thread.
struct Told<P> {
    process: P,
    told: Sender<&'static str>,
}

impl<P: ProcessRequest> ProcessRequest for Told<P> {
    fn process_request(&mut self, job: Job) -> io::Result<()> {
        let _ = self.told.send("accepted");
        self.process.process_request(job)
    }
}

/// As a system that starts no more threads, and says so in these words.
struct NoThread(&'static str);

impl ProcessRequest for NoThread {
    fn process_request(&mut self, _: Job) -> io::Result<()> {
        Err(io::Error::other(self.0))
    }
}

/// What a channel brings, before the deadline.
fn next<T>(channel: &Receiver<T>, wanted: &str) -> T {
    channel.recv_timeout(DEADLINE).expect(wanted)
}

/// What `call` returns, if it does before the deadline.
fn in_time<T: Send + 'static>(
    wanted: &str,
    call: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (sender, returned) = mpsc::channel();
    thread::spawn(move || sender.send(call()));
    next(&returned, wanted)
}

/// Waits until `event` is told, whatever is told before.
fn until(events: &Receiver<&'static str>, event: &str) {
    while next(events, event) != event {}
}

/// A server whose `serve_forever` runs in a thread of its own.
struct Running<S> {
    addr: SocketAddr,
    waker: Arc<Waker>,
    returned: Receiver<S>,
}

impl<S: Send + 'static> Running<S> {
    /// The server, when `serve_forever` has returned.
    fn returned(&self) -> S {
        next(&self.returned, "serve_forever returns")
    }

    fn shut_down_and_close(self) {
        self.waker.shutdown();
        let server = self.returned();
        in_time("the server is closed", move || drop(server));
    }
}

fn run_server<T, P, H>(mut server: Server<T, P, H>) -> Running<Server<T, P, H>>
where
    Server<T, P, H>: Send + 'static,
    T: Transport,
    P: ProcessRequest,
    H: Handler<T::Request>,
{
    let addr = server.local_addr().expect("it is bound");
    let waker = server.waker();
    let (sender, returned) = mpsc::channel();
    thread::spawn(move || {
        server.serve_forever();
        let _ = sender.send(server);
    });
    Running {
        addr,
        waker,
        returned,
    }
}

fn bind<T, P>(process: P, line: Line) -> Server<T, Told<P>, Line>
where
    T: Transport,
    P: ProcessRequest,
    Line: Handler<T::Request>,
{
    let told = line.told.clone();
    let process = Told { process, told };
    Server::bind(ALONE, process, line).expect("any port")
}

fn pool() -> ThreadPool {
    ThreadPool::new(2, 2).expect("two threads")
}

/// Runs a test with each of the six kinds of server.
macro_rules! for_each_kind {
    (|$transport:ident, $process:ident| $test:block) => {{
        fn test<$transport, P>($process: P) -> Result
        where
            $transport: Transport + Send + 'static,
            P: ProcessRequest + Send + 'static,
            Line: Handler<$transport::Request>,
        $test
        test::<Tcp, _>(Sequential)?;
        test::<Tcp, _>(Threads::default())?;
        test::<Tcp, _>(pool())?;
        test::<Udp, _>(Sequential)?;
        test::<Udp, _>(Threads::default())?;
        test::<Udp, _>(pool())
    }};
}

// What CPython's test_socketserver.py asks of its module.

#[test]
fn twenty_servers_are_shut_down_as_soon_as_they_are_started() -> Result {
    for_each_kind!(|T, _process| {
        let servers: Vec<_> = (0..20)
            .map(|_| run_server(bind::<T, _>(Sequential, Line::new().0)))
            .collect();
        for server in &servers {
            server.waker.shutdown();
        }
        servers.into_iter().for_each(Running::shut_down_and_close);
        Ok(())
    })
}

#[test]
fn a_server_can_be_closed_at_once() -> Result {
    for_each_kind!(|T, process| {
        let server = bind::<T, _>(process, Line::new().0);
        in_time("the server is closed", move || drop(server));
        Ok(())
    })
}

/// True if nobody listens there. (A full queue refuses nobody.)
fn refuses(addr: SocketAddr) -> bool {
    TcpStream::connect_timeout(&addr, Duration::from_secs(1))
        .is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
}

/// At the latest when no other test is just starting a program: until its
/// exec that one holds a copy of all sockets here.
#[test]
fn a_server_that_is_dropped_gives_its_port_back() -> Result {
    let lab = Lab::new();
    let server = bind::<Tcp, _>(Sequential, Line::new().0);
    let addr = server.local_addr().unwrap();
    drop(server);
    lab.wait_until("nobody listens", || refuses(addr))?;

    let server = bind::<Udp, _>(Sequential, Line::new().0);
    let addr = server.local_addr().unwrap();
    drop(server);
    lab.wait_until("the port is free", || UdpSocket::bind(addr).is_ok())
}

// One request ends nothing.

#[test]
fn a_handler_that_fails_or_panics_ends_its_own_request_only() -> Result {
    for_each_kind!(|T, process| {
        let lab = Lab::new();
        let (line, events) = Line::new();
        let server = run_server(bind::<T, _>(process, line));
        // More often than the pool has workers.
        for _ in 0..3 {
            for (order, event) in [
                ("fail\n", "failed"),
                ("panic\n", "panicked"),
                ("fail twice\n", "failed"),
            ] {
                let mut client = Client::of::<T>(&lab, server.addr)?;
                client.send(order)?;
                until(&events, event);
                client.expect_end()?;
            }
        }
        says_hello_world(&mut Client::of::<T>(&lab, server.addr)?)?;
        server.shut_down_and_close();
        Ok(())
    })
}

#[test]
fn a_request_without_a_thread_ends_alone_even_if_handle_error_panics() -> Result
{
    for words in ["no thread", "no thread twice"] {
        let lab = Lab::new();
        let (line, events) = Line::new();
        let server = run_server(bind::<Tcp, _>(NoThread(words), line));
        for _ in 0..3 {
            let mut client = lab.connect("client", server.addr)?;
            until(&events, "no thread");
            client.expect_end()?;
        }
        server.shut_down_and_close();
    }
    Ok(())
}

/// Answers `big` with more than a datagram can carry.
struct TooBig(Sender<String>);

impl Handler<Datagram> for TooBig {
    fn handle(&self, datagram: Datagram, _: SocketAddr) -> io::Result<()> {
        match datagram.bytes.as_slice() {
            b"big" => datagram.reply(&[0; 65_508]),
            bytes => datagram.reply(bytes),
        }
    }

    fn handle_error(&self, error: io::Error, peer: SocketAddr) {
        let _ = self.0.send(format!("{peer}: {error}"));
    }
}

#[test]
fn a_reply_that_cannot_be_sent_ends_its_own_request_only() -> Result {
    let lab = Lab::new();
    let (sender, events) = mpsc::channel();
    let server = Server::<Udp, _, _>::bind(ALONE, Sequential, TooBig(sender));
    let server = run_server(server.expect("any port"));
    let mut client = Client::of::<Udp>(&lab, server.addr)?;
    client.send("big")?;
    let error = next(&events, "handle_error is called");
    assert!(error.starts_with(&format!("{}: ", client.local_addr()?)));
    says_hello_world(&mut client)?;
    server.shut_down_and_close();
    Ok(())
}

// Shutdown.

#[test]
fn shutdown_before_serve_forever_makes_it_return_at_once() -> Result {
    for_each_kind!(|T, process| {
        let mut server = bind::<T, _>(process, Line::new().0);
        let waker = server.waker();
        in_time("shutdown returns", move || waker.shutdown());
        in_time("both return", move || {
            server.serve_forever();
            server.serve_forever();
        });
        Ok(())
    })
}

#[test]
fn shutdown_during_serve_forever_makes_it_return() -> Result {
    for_each_kind!(|T, process| {
        let lab = Lab::new();
        let (line, events) = Line::new();
        let server = run_server(bind::<T, _>(process, line));
        says_hello_world(&mut Client::of::<T>(&lab, server.addr)?)?;
        until(&events, "handled");
        server.shut_down_and_close();
        assert_eq!(events.iter().count(), 0, "what woke it was no request");
        Ok(())
    })
}

#[test]
fn shutdown_twice_and_after_the_end_returns_at_once() -> Result {
    for_each_kind!(|T, process| {
        let server = run_server(bind::<T, _>(process, Line::new().0));
        let waker = Arc::clone(&server.waker);
        let both: Vec<_> = (0..2)
            .map(|_| Arc::clone(&waker))
            .map(|waker| thread::spawn(move || waker.shutdown()))
            .collect();
        for one in both {
            in_time("shutdown returns", move || one.join().unwrap());
        }
        server.shut_down_and_close();
        in_time("shutdown returns", move || waker.shutdown());
        Ok(())
    })
}

/// A server that its handler can shut down.
fn run_own<T, P>(process: P, line: Line) -> Running<Server<T, Told<P>, Line>>
where
    T: Transport + Send + 'static,
    P: ProcessRequest + Send + 'static,
    Line: Handler<T::Request>,
{
    let own_server = Arc::clone(&line.own_server);
    let server = bind(process, line);
    assert!(own_server.set(server.waker()).is_ok());
    run_server(server)
}

#[test]
fn shutdown_by_a_handler_returns_and_ends_its_server() -> Result {
    for_each_kind!(|T, process| {
        let lab = Lab::new();
        let (line, _events) = Line::new();
        let server = run_own::<T, _>(process, line);
        let mut client = Client::of::<T>(&lab, server.addr)?;
        client.send("stop\n")?;
        client.expect("stop\n")?;
        let server = server.returned();
        in_time("the server is closed", move || drop(server));
        Ok(())
    })
}

/// More clients than the accept queue holds: the last ones are not connected
/// as long as nobody is accepted.
fn fill_accept_queue(lab: &Lab, addr: SocketAddr) -> Result<Vec<Socket>> {
    const MORE_THAN_STD_ASKS_FOR: usize = 140;
    let knock = |_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None);
        let socket = socket.expect("a socket");
        socket.set_nonblocking(true).expect("a socket");
        let _ = socket.connect(&addr.into());
        socket
    };
    let clients = (0..MORE_THAN_STD_ASKS_FOR).map(knock).collect();
    if cfg!(target_os = "linux") {
        lab.wait_until("the kernel waits for room in the queue", || {
            let rows = proc::tcp_rows(addr.port()).unwrap_or_default();
            rows.iter().any(|row| row.state == "SYN-SENT")
        })?;
    }
    Ok(clients)
}

#[test]
fn shutdown_with_a_full_accept_queue_returns_at_once() -> Result {
    let lab = Lab::new();
    let (line, events) = Line::new();
    let server = run_server(bind::<Tcp, _>(Sequential, line));
    let client = lab.connect("client", server.addr)?;
    until(&events, "accepted");
    let _waiting = fill_accept_queue(&lab, server.addr)?;
    let waker = Arc::clone(&server.waker);
    in_time("shutdown returns", move || waker.shutdown());
    client.close();
    server.shut_down_and_close();
    Ok(())
}

/// It would wait for itself: only its own thread makes room in the queue.
#[test]
fn shutdown_by_a_handler_with_a_full_accept_queue_is_no_deadlock() -> Result {
    let lab = Lab::new();
    let (line, events) = Line::new();
    let server = run_own::<Tcp, _>(Sequential, line);
    let mut client = lab.connect("client", server.addr)?;
    until(&events, "accepted");
    let _waiting = fill_accept_queue(&lab, server.addr)?;
    client.send("stop\n")?;
    client.expect("stop\n")?;
    let server = server.returned();
    in_time("the server is closed", move || drop(server));
    Ok(())
}

/// An address of this machine that needs its interface's number beside it.
#[cfg(target_os = "linux")]
fn link_local_addr() -> Option<SocketAddr> {
    use std::net::{Ipv6Addr, SocketAddrV6};
    let table = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
    let row = table.lines().find(|line| line.starts_with("fe80"))?;
    let mut fields = row.split_whitespace();
    let ip = u128::from_str_radix(fields.next()?, 16).ok()?;
    let scope = u32::from_str_radix(fields.next()?, 16).ok()?;
    Some(SocketAddrV6::new(Ipv6Addr::from(ip), 0, 0, scope).into())
}

/// Waits until the server's main thread waits for a request, where the system
/// tells.
fn waits_for_a_request(server: &Program) -> Result {
    match cfg!(target_os = "linux") {
        true => server.wait_until_blocked_in(&["accept4", "recvfrom"]),
        false => Ok(()),
    }
}

/// A wildcard such as 0.0.0.0 is no place to connect to, and a link-local one
/// is none without its interface.
#[test]
fn shutdown_reaches_a_server_on_every_kind_of_address() -> Result {
    let addrs = ["127.0.0.1:0", "0.0.0.0:0", "[::]:0", "[::1]:0"];
    let addrs = addrs.into_iter().map(str::to_owned);
    #[cfg(target_os = "linux")]
    let addrs = addrs.chain(link_local_addr().map(|addr| addr.to_string()));
    for addr in addrs {
        if addr.starts_with('[') && !harness::has_ipv6() {
            continue;
        }
        for choice in choices() {
            let lab = Lab::new();
            let args = [&addr, choice];
            let mut server = lab.start("server", server_path(), &args)?;
            server.wait_until_listening()?;
            waits_for_a_request(&server)?;
            server.end_input();
            server.expect("goodbye\n")?;
            server.expect_exit(0)?;
        }
    }
    Ok(())
}

/// The call that waits has its descriptor; a socket made now would have none.
#[test]
#[cfg(target_os = "linux")]
fn shutdown_without_a_descriptor_left_wakes_the_server() -> Result {
    for choice in choices() {
        let lab = Lab::new();
        let (mut server, _) = start_server(&lab, choice)?;
        waits_for_a_request(&server)?;
        proc::leave_descriptors(server.id(), 0).expect("a soft limit");
        server.end_input();
        server.expect("goodbye\n")?;
        server.expect_exit(0)?;
    }
    Ok(())
}

/// It waits for no request then, but for one second, and another one.
#[test]
#[cfg(target_os = "linux")]
fn shutdown_while_accept_fails_ends_the_server() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab, "threads-tcp")?;
    proc::leave_descriptors(server.id(), 1).expect("a soft limit");
    let first = lab.connect("first", addr)?;
    server.expect(" connected\n")?;
    let _second = lab.connect("second", addr)?;
    server.error_line()?;
    server.end_input();
    server.expect("end of input: ")?;
    first.close();
    server.expect("goodbye\n")?;
    server.expect_exit(0)
}

/// A limit. Whoever has the port next is a stranger to the waker.
#[test]
fn a_waker_used_after_the_end_knocks_at_the_next_owner_of_the_port() -> Result {
    let lab = Lab::new();
    let server = bind::<Tcp, _>(Sequential, Line::new().0);
    let addr = server.local_addr().unwrap();
    let waker = server.waker();
    drop(server);
    let mut stranger = None;
    lab.wait_until("the port is free", || {
        stranger = TcpListener::bind(addr).ok();
        stranger.is_some()
    })?;
    waker.shutdown();
    let stranger = stranger.unwrap();
    in_time("a connection", move || stranger.accept()).unwrap();

    let server = bind::<Udp, _>(Sequential, Line::new().0);
    let addr = server.local_addr().unwrap();
    let waker = server.waker();
    drop(server);
    let mut stranger = None;
    lab.wait_until("the port is free", || {
        stranger = UdpSocket::bind(addr).ok();
        stranger.is_some()
    })?;
    waker.shutdown();
    let stranger = stranger.unwrap();
    let count = in_time("a datagram", move || stranger.recv(&mut [0; 100]));
    assert_eq!(count.unwrap(), 0);
    Ok(())
}

/// A limit. Only a server that waits in `accept` takes the connection that
/// wakes it.
#[test]
#[cfg(target_os = "linux")]
fn a_shutdown_leaves_a_time_wait_that_the_next_server_does_not_mind() -> Result
{
    if proc::time_wait_is_full() == Some(true) {
        eprintln!("skipped: the kernel drops each TIME-WAIT");
        return Ok(());
    }
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab, "threads-tcp")?;
    waits_for_a_request(&server)?;
    server.end_input();
    server.expect_exit(0)?;
    lab.wait_until("a TIME-WAIT on the server's port", || {
        let rows = proc::tcp_rows(addr.port()).unwrap_or_default();
        rows.iter()
            .any(|row| row.local == addr && row.state == "TIME-WAIT")
    })?;
    let args = [&addr.to_string(), "threads-tcp"];
    let mut next = lab.start("next server", server_path(), &args)?;
    assert_eq!(next.wait_until_listening()?, addr);
    good_client_is_served(&lab, "threads-tcp", addr)
}

// Close.

#[test]
fn close_takes_no_new_client_and_serves_the_present_one() -> Result {
    fn test<P>(process: P) -> Result
    where
        P: ProcessRequest + Send + 'static,
    {
        let lab = Lab::new();
        let (line, events) = Line::new();
        let server = run_server(bind::<Tcp, _>(process, line));
        let addr = server.addr;
        let mut client = Client::of::<Tcp>(&lab, addr)?;
        until(&events, "accepted");
        server.waker.shutdown();
        let server = server.returned();
        let (sender, closed) = mpsc::channel();
        thread::spawn(move || {
            drop(server);
            sender.send(())
        });
        lab.wait_until("nobody listens", || refuses(addr))?;
        assert!(closed.try_recv().is_err(), "closed with a client inside");
        says_hello_world(&mut client)?;
        next(&closed, "the server is closed");
        Ok(())
    }
    test(Threads::default())?;
    test(pool())
}

#[test]
fn a_pool_serves_on_close_what_waits_in_its_queue() -> Result {
    let lab = Lab::new();
    let (line, events) = Line::new();
    let server = run_server(bind::<Tcp, _>(pool(), line));
    // Two have a worker, two wait in the queue, and one for a place there.
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(Client::of::<Tcp>(&lab, server.addr)?);
        until(&events, "accepted");
    }
    server.waker.shutdown();
    for client in &mut clients {
        says_hello_world(client)?;
        client.expect_end()?;
    }
    server.shut_down_and_close();
    Ok(())
}

#[test]
fn who_waits_in_the_kernels_queue_at_shutdown_is_not_served() -> Result {
    let lab = Lab::new();
    let (line, events) = Line::new();
    let server = run_server(bind::<Tcp, _>(Sequential, line));
    let mut first = Client::of::<Tcp>(&lab, server.addr)?;
    until(&events, "accepted");
    let mut second = lab.connect("second", server.addr)?;
    let mut third = lab.connect("third", server.addr)?;
    third.send("hello world\n")?;
    server.waker.shutdown();
    says_hello_world(&mut first)?;
    server.shut_down_and_close();
    second.expect_reset()?;
    third.expect_reset()
}

/// Those who are busy with `clients` do not look at the flag: until one of
/// them leaves, the kernel goes on taking connections for them.
#[test]
fn without_threads_or_with_a_full_pool_the_end_waits_for_a_client() -> Result {
    fn test<P>(process: P, clients: usize) -> Result
    where
        P: ProcessRequest + Send + 'static,
    {
        let lab = Lab::new();
        let (line, events) = Line::new();
        let server = run_server(bind::<Tcp, _>(process, line));
        let mut present = Vec::new();
        for _ in 0..clients {
            present.push(Client::of::<Tcp>(&lab, server.addr)?);
            until(&events, "accepted");
        }
        server.waker.shutdown();
        let mut late = lab.connect("late", server.addr)?;
        late.send("hello world\n")?;
        // Not dropped, as that would wait for a client of this test.
        let noticed = server.returned.try_recv().map(mem::forget);
        assert!(noticed.is_err(), "it has noticed");
        says_hello_world(&mut present[0])?;
        let server = server.returned();
        drop(present);
        in_time("the server is closed", move || drop(server));
        late.expect_reset()
    }
    test(Sequential, 1)?;
    // Two have a worker, two wait in the queue, and one for a place there.
    test(pool(), 5)
}

// Threads.

#[test]
#[cfg(target_os = "linux")]
fn finished_threads_are_not_kept() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab, "threads-tcp")?;
    for _ in 0..1000 {
        let mut client = lab.connect("one of many", addr)?;
        client.send("hello world\n")?;
        client.expect("hello world\n")?;
        client.half_close()?;
        client.expect_end()?;
    }
    // The thread that accepts, and the one that reads the keyboard.
    lab.wait_until("two threads", || proc::threads(server.id()) == Some(2))?;
    // A thread that is kept, or never joined, keeps its stack: a mapping.
    let mappings = proc::mappings(server.id()).expect("this is Linux");
    assert!(mappings < 200, "{mappings} mappings");
    server.end_input();
    server.expect_exit(0)
}

// The server: each choice.

#[test]
fn each_choice_serves_three_clients_and_ends_with_its_input() -> Result {
    for choice in choices() {
        let lab = Lab::new();
        let (mut server, addr) = start_server(&lab, choice)?;
        for _ in 0..3 {
            good_client_is_served(&lab, choice, addr)?;
        }
        server.end_input();
        server.expect("end of input: ")?;
        server.expect("goodbye\n")?;
        server.expect_exit(0)?;
        assert_eq!(String::from_utf8_lossy(&server.stderr()), "");
    }
    Ok(())
}

#[test]
fn without_a_choice_it_is_a_thread_for_each_client() -> Result {
    let lab = Lab::new();
    let mut server = lab.start("server", server_path(), &["127.0.0.1:0"])?;
    let addr = server.wait_until_listening()?;
    let _first = lab.connect("first", addr)?;
    server.expect(" connected\n")?;
    good_client_is_served(&lab, "threads-tcp", addr)
}

#[test]
fn sequential_second_client_is_not_served_while_the_first_stays() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab, "sequential-tcp")?;
    let mut first = lab.start_client("first", addr)?;
    first.expect("send> ")?;
    first.type_line("I came first");
    first.expect("received: I came first\nsend> ")?;
    let mut second = lab.start_client("second", addr)?;
    second.expect("send> ")?;
    second.type_line("I came second");
    first.type_line("still here");
    first.expect("received: still here\nsend> ")?;
    assert!(!String::from_utf8_lossy(&second.stdout()).contains("received"));
    first.end_input();
    first.expect_exit(0)?;
    second.expect("received: I came second\nsend> ")?;
    second.end_input();
    second.expect_exit(0)?;
    server.expect(" closed the connection after 14 bytes\n")?;

    let mut scene = Transcript::new(&lab, "06-sequential", addr);
    scene.terminal("server", &command(addr, "sequential-tcp"), &server);
    scene.check()
}

#[test]
fn threads_second_client_is_served_while_the_first_stays() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab, "threads-tcp")?;
    let mut first = lab.start_client("first", addr)?;
    first.expect("send> ")?;
    first.type_line("I came first");
    first.expect("received: I came first\nsend> ")?;
    let mut second = lab.start_client("second", addr)?;
    second.expect("send> ")?;
    second.type_line("I came second");
    second.expect("received: I came second\nsend> ")?;
    second.end_input();
    second.expect_exit(0)?;
    server.expect(" closed the connection after 14 bytes\n")?;
    first.type_line("still here");
    first.expect("received: still here\nsend> ")?;
    first.end_input();
    first.expect_exit(0)?;
    server.expect(" closed the connection after 24 bytes\n")?;

    let mut scene = Transcript::new(&lab, "06-threads", addr);
    scene.terminal("server", &command(addr, "threads-tcp"), &server);
    scene.check()
}

fn command(addr: SocketAddr, choice: &str) -> String {
    format!("cargo run -p lesson-06-socketserver -- {addr} {choice}")
}

// The server: bad clients.

/// `eprintln!` panics when it cannot print, as on a disk that is full.
#[test]
#[cfg(target_os = "linux")]
fn a_server_whose_complaints_cannot_be_printed_goes_on() -> Result {
    let goes_on = |&choice: &&str| {
        let lab = Lab::new();
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"exec "$0" "$@" 2>/dev/full"#])
            .arg(server_path())
            .args(["127.0.0.1:0", choice]);
        let (mut server, addr) = lab.start_server_command(command)?;
        // All that it has before the first client, and when all have left.
        let descriptors = || proc::descriptors(server.id());
        waits_for_a_request(&server)?;
        let own = descriptors();
        // More often than the pool has workers.
        for _ in 0..5 {
            let mut client = lab.connect("client", addr)?;
            client.send("half a mess")?;
            client.expect("half a mess")?;
            client.reset()?;
        }
        good_client_is_served(&lab, choice, addr)?;

        lab.wait_until("all clients have left", || descriptors() == own)?;
        waits_for_a_request(&server)?;
        // The `accept` that waits has its descriptor, the next one gets none.
        proc::leave_descriptors(server.id(), 0).expect("a soft limit");
        lab.connect("last", addr)?.close();
        let pauses = || proc::pauses(server.id()).expect("this is Linux");
        let before = pauses();
        lab.wait_until("a pause of the accept loop", || pauses() > before)?;
        server.end_input();
        server.expect("goodbye\n")?;
        server.expect_exit(0)?;
        Ok(())
    };
    let each = side_by_side(TCP_CHOICES.len(), &TCP_CHOICES, goes_on);
    each.into_iter().collect()
}

// The server: out of descriptors.

/// The wake-up's socket is made with the listener, or not at all.
#[test]
#[cfg(target_os = "linux")]
fn without_a_descriptor_for_the_wake_up_it_does_not_start() -> Result {
    let lab = Lab::new();
    for choice in choices() {
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"ulimit -n 4; exec "$0" "$@""#])
            .arg(server_path())
            .args(["127.0.0.1:0", choice]);
        let mut server = lab.start_command("server", command)?;
        let complaint = server.error_line()?;
        let wanted = "Error: cannot listen on 127.0.0.1:0: ";
        assert!(complaint.starts_with(wanted), "{complaint}");
        server.expect_exit(1)?;
    }
    Ok(())
}

// The server: the end of its input.

#[test]
fn transcript_the_present_clients_are_served_to_their_end() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab, "threads-tcp")?;
    let mut client = lab.start_client("client", addr)?;
    server.expect(" connected\n")?;
    client.expect("send> ")?;
    client.type_line("hello");
    client.expect("received: hello\nsend> ")?;
    server.end_input();
    server.expect("end of input: ")?;
    server.expect("\n")?;
    client.type_line("still there?");
    client.expect("received: still there?\nsend> ")?;
    client.end_input();
    client.expect_exit(0)?;
    server.expect("goodbye\n")?;
    server.expect_exit(0)?;

    let mut scene = Transcript::new(&lab, "06-end", addr);
    let server_command = "cargo run -p lesson-06-socketserver";
    scene.terminal("server", server_command, &server);
    scene.terminal("client", "cargo run --bin client", &client);
    scene.check()
}

#[test]
fn an_idle_client_holds_up_the_end_for_as_long_as_it_stays() -> Result {
    for choice in TCP_CHOICES {
        let lab = Lab::new();
        let (mut server, addr) = start_server(&lab, choice)?;
        let mut idle = lab.connect("idle", addr)?;
        server.expect(" connected\n")?;
        server.end_input();
        if choice != "sequential-tcp" {
            server.expect("end of input: ")?;
        }
        idle.gets_echo("hello world\n")?;
        assert!(!server.stdout().ends_with(b"goodbye\n"));
        idle.close();
        server.expect("goodbye\n")?;
        server.expect_exit(0)?;
    }
    Ok(())
}

/// A rule without an exception: an input that has ended from the start.
#[test]
fn a_server_without_an_input_ends_at_once() -> Result {
    let lab = Lab::new();
    for choice in choices() {
        let args = ["127.0.0.1:0", choice];
        let mut server = lab.start("server", server_path(), &args)?;
        server.end_input();
        server.wait_until_listening()?;
        server.expect("goodbye\n")?;
        server.expect_exit(0)?;
    }
    Ok(())
}

#[test]
fn what_is_typed_does_not_matter() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab, "threads-tcp")?;
    server.type_line("stop!");
    server.type_bytes(b"\xff\n\n");
    good_client_is_served(&lab, "threads-tcp", addr)?;
    server.end_input();
    server.expect("goodbye\n")?;
    server.expect_exit(0)
}

// Arguments.

#[test]
fn a_bad_choice_is_refused_with_all_that_there_are() -> Result {
    for choice in ["forking-tcp", ""] {
        let args = ["127.0.0.1:0", choice];
        let said = Lab::new().refusal(server_path(), &args)?;
        let usage = "usage: lesson-06-socketserver [HOST:PORT]";
        assert!(said.contains(usage), "{said}");
        assert!(choices().all(|choice| said.contains(choice)), "{said}");
    }
    Ok(())
}

// What it costs.

/// The system calls of a server with one client and a hundred requests.
#[cfg(target_os = "linux")]
fn system_calls(choice: &str) -> Result<Vec<strace::Call>> {
    let lab = Lab::new();
    let args = ["127.0.0.1:0", choice];
    let (mut server, addr) = lab.trace_server(&[], server_path(), &args)?;
    let mut client = Client::new(&lab, choice, addr)?;
    for _ in 0..100 {
        says_hello_world(&mut client)?;
    }
    drop(client);
    if choice.ends_with("tcp") {
        server.expect(" closed the connection after 1200 bytes\n")?;
    }
    server.end_input();
    server.expect_exit(0)?;
    Ok(strace::calls(&server.stderr()))
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs strace"]
fn a_connection_costs_its_lines_and_its_thread_and_no_more() -> Result {
    for choice in choices() {
        let calls = system_calls(choice)?;
        let count = |name| calls.iter().filter(|c| c.name == name).count();
        let udp = choice.ends_with("udp");
        let lines = if udp { 0 } else { 2 };
        let printed = |c: &&strace::Call| c.name == "write" && c.args[0] == "1";
        // And the three lines of a server without clients.
        let printed = calls.iter().filter(printed).count();
        assert_eq!(printed, lines + 3, "{choice}: {calls:?}");
        // The keyboard's, and those that serve.
        let threads = 1 + match choice {
            "threads-tcp" => 1,
            "threads-udp" => 100,
            "pool-tcp" | "pool-udp" => 4,
            _ => 0,
        };
        let started = count("clone3") + count("clone");
        assert_eq!(started, threads, "{choice}: {calls:?}");
        let options = if udp { 0 } else { 1 };
        assert_eq!(count("setsockopt"), options, "{choice}: {calls:?}");
    }
    Ok(())
}

// Python's module.

/// The same server in Python, with a queue that is long enough for all.
#[cfg(target_os = "linux")]
const PYTHON: &str = r#"
import socketserver
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)
class Server(socketserver.ThreadingTCPServer):
    request_queue_size = 128
with Server(("127.0.0.1", 0), Echo) as server:
    print("listening on 127.0.0.1:%d" % server.server_address[1], flush=True)
    server.serve_forever()
"#;

/// The chapter's claims about it. A deadlock is told by a wait that ends
/// without what it waited for; nothing here passes because it was slow.
#[cfg(target_os = "linux")]
const WEAK_SPOTS: &str = r#"
import socket, socketserver, sys, threading
sys.stderr = open("/dev/null", "w")
ADDR = ("127.0.0.1", 0)
def waits_for_ever(thread):
    thread.join(1)
    return thread.is_alive()
def start(call):
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread
class Nothing(socketserver.BaseRequestHandler):
    def handle(self):
        pass
class Stop(socketserver.BaseRequestHandler):
    def handle(self):
        self.server.shutdown()
class Length(socketserver.BaseRequestHandler):
    def handle(self):
        print("datagram cut to", len(self.request[0]), flush=True)

server = socketserver.TCPServer(ADDR, Nothing)
print("shutdown before", waits_for_ever(start(server.shutdown)), flush=True)

server = socketserver.TCPServer(ADDR, Stop)
serving = start(server.serve_forever)
socket.create_connection(server.server_address).close()
print("shutdown within", waits_for_ever(serving), flush=True)

server = socketserver.UDPServer(ADDR, Length)
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.sendto(b"x" * 9000, server.server_address)
server.handle_request()
"#;

#[test]
#[ignore = "needs python3"]
#[cfg(target_os = "linux")]
fn pythons_module_has_the_weak_spots_of_the_chapter() -> Result {
    let lab = Lab::new();
    let args = ["-c", WEAK_SPOTS];
    let mut python = lab.start("python", Path::new("python3"), &args)?;
    python.expect_line("shutdown before True")?;
    python.expect_line("shutdown within True")?;
    python.expect_line("datagram cut to 8192")?;
    python.expect_exit(0)
}

/// Both servers stand before 60 clients with 27 descriptors. While Python's
/// uses half a second of processor time, this one uses next to nothing.
#[test]
#[ignore = "needs python3"]
#[cfg(target_os = "linux")]
fn out_of_descriptors_pythons_server_spins_and_this_one_does_not() -> Result {
    let lab = Lab::new();
    let (mut ours, our_addr) = start_server(&lab, "threads-tcp")?;
    let args = ["-c", PYTHON];
    let mut theirs = lab.start("python", Path::new("python3"), &args)?;
    let their_addr = theirs.wait_until_listening()?;
    let mut clients = Vec::new();
    for (server, addr) in [(&ours, our_addr), (&theirs, their_addr)] {
        proc::leave_descriptors(server.id(), 27).expect("a soft limit");
        for _ in 0..60 {
            clients.push(lab.connect("one of 60", addr)?);
        }
    }
    ours.error_line()?;
    let cpu_time =
        |server: &Program| proc::cpu_time(server.id()).expect("this is Linux");
    let (our_before, their_before) = (cpu_time(&ours), cpu_time(&theirs));
    lab.wait_until("half a second of Python's processor time", || {
        cpu_time(&theirs) > their_before + Duration::from_millis(500)
    })?;
    let used = cpu_time(&ours) - our_before;
    assert!(used <= Duration::from_millis(50), "used {used:?}");
    Ok(())
}
