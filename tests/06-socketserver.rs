//! Lesson 06 does what its chapter says: the module, and the server on it.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::mem;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;
#[cfg(target_os = "linux")]
use harness::proc;
use harness::{Lab, Peer, Program, Result, Transcript, UdpPeer, root};
use predicates::prelude::*;
use predicates::str::contains;
use socket2::{Domain, Socket, Type};
use socketserver::{
    Datagram, Handler, Options, ProcessRequest, Sequential, Server, Shutdown,
    Tcp, ThreadPool, Threads, Transport, Udp,
};

const TCP_CHOICES: [&str; 3] = ["sequential-tcp", "threads-tcp", "pool-tcp"];
const UDP_CHOICES: [&str; 3] = ["sequential-udp", "threads-udp", "pool-udp"];
const CHUNK_SIZES: [usize; 6] = [1, 2, 3, 5, 1024, 4096];
const DATAGRAM_SIZES: [usize; 8] = [0, 1, 2, 3, 5, 1024, 4096, 65_507];
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
    let args = ["127.0.0.1:0", choice];
    let mut server = lab.start("server", server_path(), &args)?;
    let addr = server.wait_until_listening()?;
    Ok((server, addr))
}

/// Runs a program that should end by itself.
fn run(args: &[&str]) -> assert_cmd::assert::Assert {
    assert_cmd::Command::new(server_path())
        .args(args)
        .env_remove("RUST_BACKTRACE")
        .timeout(DEADLINE)
        .assert()
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
        let datagrams = T::TYPE == Type::DGRAM;
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

/// Answers a line with the line, once; `fail` and `panic` are orders. Tells
/// the test what it did.
struct Line {
    told: Sender<&'static str>,
    stop: Arc<OnceLock<Shutdown>>,
    welcome: fn() -> bool,
    /// What it does beyond telling, when it hears of an error or a timeout.
    hearing: fn(),
}

impl Line {
    fn new() -> (Self, Receiver<&'static str>) {
        let (told, events) = mpsc::channel();
        let line = Self {
            told,
            stop: Arc::default(),
            welcome: || true,
            hearing: || {},
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
            b"panic\n" => panic!("told to panic"),
            b"stop\n" => {
                self.stop.get().expect("a test set it").shutdown();
                Ok(line.to_vec())
            }
            line => Ok(line.to_vec()),
        }
    }

    fn verify(&self) -> bool {
        self.tell("verified");
        (self.welcome)()
    }

    fn error(&self, error: &io::Error) {
        self.tell(match error.to_string().as_str() {
            "told to fail" => "failed",
            "its handler panicked" => "panicked",
            text if text.starts_with("turned away") => "turned away",
            _ => "another error",
        });
        (self.hearing)();
    }

    fn timeout(&self) {
        self.tell("timeout");
        (self.hearing)();
    }
}

impl Handler<TcpStream> for Line {
    fn handle(&self, stream: TcpStream, _: SocketAddr) -> io::Result<()> {
        let mut line = Vec::new();
        BufReader::new(&stream).read_until(b'\n', &mut line)?;
        (&stream).write_all(&self.answer(&line)?)
    }

    fn verify_request(&self, _: &TcpStream, _: SocketAddr) -> bool {
        self.verify()
    }

    fn handle_error(&self, error: io::Error, _: SocketAddr) {
        self.error(&error);
    }

    fn handle_timeout(&self) {
        self.timeout();
    }
}

impl Handler<Datagram> for Line {
    fn handle(&self, datagram: Datagram, _: SocketAddr) -> io::Result<()> {
        datagram.reply(&self.answer(&datagram.bytes)?)
    }

    fn verify_request(&self, _: &Datagram, _: SocketAddr) -> bool {
        self.verify()
    }

    fn handle_error(&self, error: io::Error, _: SocketAddr) {
        self.error(&error);
    }

    fn handle_timeout(&self) {
        self.timeout();
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
    stop: Shutdown,
    returned: Receiver<S>,
}

impl<S: Send + 'static> Running<S> {
    /// The server, when `serve_forever` has returned.
    fn returned(&self) -> S {
        next(&self.returned, "serve_forever returns")
    }

    fn shut_down_and_close(self) {
        self.stop.shutdown();
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
    let stop = server.shutdown_handle();
    let (sender, returned) = mpsc::channel();
    thread::spawn(move || {
        server.serve_forever();
        let _ = sender.send(server);
    });
    Running {
        addr,
        stop,
        returned,
    }
}

fn bind<T, P, H>(process: P, handler: H) -> Server<T, P, H>
where
    T: Transport,
    P: ProcessRequest,
    H: Handler<T::Request>,
{
    bind_with(&Options::default(), process, handler)
}

fn bind_with<T, P, H>(
    options: &Options,
    process: P,
    handler: H,
) -> Server<T, P, H>
where
    T: Transport,
    P: ProcessRequest,
    H: Handler<T::Request>,
{
    Server::bind(ALONE, options, process, handler).expect("any port")
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
fn each_kind_of_server_serves_three_clients_and_shuts_down() -> Result {
    for_each_kind!(|T, process| {
        let lab = Lab::new();
        let server = run_server(bind::<T, _, _>(process, Line::new().0));
        for _ in 0..3 {
            let mut client = Client::of::<T>(&lab, server.addr)?;
            says_hello_world(&mut client)?;
            client.expect_end()?;
        }
        server.shut_down_and_close();
        Ok(())
    })
}

#[test]
fn the_address_is_the_one_really_bound() {
    let server = bind::<Tcp, _, _>(Sequential, Line::new().0);
    let addr = server.local_addr().unwrap();
    assert_ne!(addr.port(), 0);
    assert!(TcpStream::connect(addr).is_ok());
}

#[test]
fn twenty_servers_are_shut_down_as_soon_as_they_are_started() -> Result {
    for_each_kind!(|T, _process| {
        let servers: Vec<_> = (0..20)
            .map(|_| run_server(bind::<T, _, _>(Sequential, Line::new().0)))
            .collect();
        for server in &servers {
            server.stop.shutdown();
        }
        servers.into_iter().for_each(Running::shut_down_and_close);
        Ok(())
    })
}

#[test]
fn a_server_can_be_closed_at_once() -> Result {
    for_each_kind!(|T, process| {
        let server = bind::<T, _, _>(process, Line::new().0);
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
    let server = bind::<Tcp, _, _>(Sequential, Line::new().0);
    let addr = server.local_addr().unwrap();
    drop(server);
    lab.wait_until("nobody listens", || refuses(addr))?;

    let server = bind::<Udp, _, _>(Sequential, Line::new().0);
    let addr = server.local_addr().unwrap();
    drop(server);
    lab.wait_until("the port is free", || UdpSocket::bind(addr).is_ok())
}

#[test]
fn handle_request_handles_one_request() -> Result {
    let lab = Lab::new();
    let (line, events) = Line::new();
    let mut server = bind::<Tcp, _, _>(Sequential, line);
    let addr = server.local_addr().unwrap();
    let mut first = Client::of::<Tcp>(&lab, addr)?;
    let second = Client::of::<Tcp>(&lab, addr)?;
    first.send("hello world\n")?;
    second.send("hello world\n")?;
    in_time("handle_request returns", move || {
        server.handle_request().unwrap();
        first.expect("hello world\n")?;
        first.expect_end()
    })?;
    let told: Vec<_> = events.iter().collect();
    assert_eq!(told, ["verified", "handled"]);
    Ok(())
}

#[test]
fn a_refused_request_is_closed_and_not_handled() -> Result {
    for_each_kind!(|T, process| {
        let lab = Lab::new();
        let (mut line, events) = Line::new();
        line.welcome = || false;
        let server = run_server(bind::<T, _, _>(process, line));
        let mut client = Client::of::<T>(&lab, server.addr)?;
        if let Client::Udp(_) = client {
            client.send("hello world\n")?;
        }
        client.expect_end()?;
        until(&events, "verified");
        server.shut_down_and_close();
        assert_eq!(events.iter().count(), 0);
        Ok(())
    })
}

// One request ends nothing.

#[test]
fn a_handler_that_fails_or_panics_ends_its_own_request_only() -> Result {
    for_each_kind!(|T, process| {
        let lab = Lab::new();
        let (line, events) = Line::new();
        let server = run_server(bind::<T, _, _>(process, line));
        // More often than the pool has workers.
        for _ in 0..3 {
            for (order, event) in
                [("fail\n", "failed"), ("panic\n", "panicked")]
            {
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
fn a_panic_in_verify_request_ends_its_own_request_only() -> Result {
    for_each_kind!(|T, process| {
        let lab = Lab::new();
        let (mut line, events) = Line::new();
        line.welcome = || panic!("told to panic");
        let server = run_server(bind::<T, _, _>(process, line));
        for _ in 0..3 {
            let mut client = Client::of::<T>(&lab, server.addr)?;
            if let Client::Udp(_) = client {
                client.send("hello world\n")?;
            }
            until(&events, "panicked");
            client.expect_end()?;
        }
        server.shut_down_and_close();
        Ok(())
    })
}

#[test]
fn a_panic_in_handle_error_ends_its_own_request_only() -> Result {
    for_each_kind!(|T, process| {
        let lab = Lab::new();
        let (mut line, events) = Line::new();
        line.hearing = || panic!("told to panic");
        let server = run_server(bind::<T, _, _>(process, line));
        // More often than the pool has workers.
        for _ in 0..3 {
            let mut client = Client::of::<T>(&lab, server.addr)?;
            client.send("fail\n")?;
            until(&events, "failed");
            client.expect_end()?;
        }
        says_hello_world(&mut Client::of::<T>(&lab, server.addr)?)?;
        server.shut_down_and_close();
        Ok(())
    })
}

#[test]
fn a_panic_over_a_request_without_a_thread_ends_that_one_only() -> Result {
    let lab = Lab::new();
    let (mut line, events) = Line::new();
    line.hearing = || panic!("told to panic");
    let server = run_server(bind::<Tcp, _, _>(Threads::at_most(0), line));
    for _ in 0..3 {
        let mut client = lab.connect("client", server.addr)?;
        until(&events, "turned away");
        client.expect_end()?;
    }
    server.shut_down_and_close();
    Ok(())
}

#[test]
fn a_panic_in_handle_timeout_ends_nothing() -> Result {
    for_each_kind!(|T, process| {
        let lab = Lab::new();
        let (mut line, events) = Line::new();
        line.hearing = || panic!("told to panic");
        let options = Options {
            timeout: Some(Duration::from_millis(1)),
            ..Options::default()
        };
        let server = run_server(bind_with::<T, _, _>(&options, process, line));
        for _ in 0..3 {
            until(&events, "timeout");
        }
        says_hello_world(&mut Client::of::<T>(&lab, server.addr)?)?;
        server.shut_down_and_close();
        Ok(())
    })
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
    let server = run_server(bind::<Udp, _, _>(Sequential, TooBig(sender)));
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
        let mut server = bind::<T, _, _>(process, Line::new().0);
        let stop = server.shutdown_handle();
        in_time("shutdown returns", move || stop.shutdown());
        in_time("all of them return", move || {
            server.serve_forever();
            server.handle_request().unwrap();
            server.handle_request().unwrap();
        });
        Ok(())
    })
}

#[test]
fn shutdown_twice_and_after_the_end_returns_at_once() -> Result {
    for_each_kind!(|T, process| {
        let server = run_server(bind::<T, _, _>(process, Line::new().0));
        let stop = server.stop.clone();
        let both: Vec<_> = (0..2)
            .map(|_| server.stop.clone())
            .map(|stop| thread::spawn(move || stop.shutdown()))
            .collect();
        for one in both {
            in_time("shutdown returns", move || one.join().unwrap());
        }
        server.shut_down_and_close();
        in_time("shutdown returns", move || stop.shutdown());
        Ok(())
    })
}

/// Whoever has the port next is a stranger: what reaches it first is not of
/// the handle, but of the test, which comes later.
#[test]
fn shutdown_after_the_end_does_not_reach_the_next_owner_of_the_port() -> Result
{
    let lab = Lab::new();
    for used_before in [false, true] {
        let server = bind::<Tcp, _, _>(Sequential, Line::new().0);
        let addr = server.local_addr().unwrap();
        let stop = server.shutdown_handle();
        if used_before {
            stop.shutdown();
        }
        drop(server);
        let mut stranger = None;
        lab.wait_until("the port is free", || {
            stranger = TcpListener::bind(addr).ok();
            stranger.is_some()
        })?;
        stop.shutdown();
        let client = lab.connect("client", addr)?;
        let (_, first) = stranger.unwrap().accept().unwrap();
        assert_eq!(first, client.local_addr()?);

        let server = bind::<Udp, _, _>(Sequential, Line::new().0);
        let addr = server.local_addr().unwrap();
        let stop = server.shutdown_handle();
        if used_before {
            stop.shutdown();
        }
        drop(server);
        let mut stranger = None;
        lab.wait_until("the port is free", || {
            stranger = UdpSocket::bind(addr).ok();
            stranger.is_some()
        })?;
        stop.shutdown();
        let client = lab.udp("client", addr)?;
        client.send("of the test")?;
        let first = stranger.unwrap().recv_from(&mut [0; 100]).unwrap();
        assert_eq!(first, (11, client.socket().local_addr().unwrap()));
    }
    Ok(())
}

#[test]
fn a_handler_can_shut_its_own_server_down() -> Result {
    for_each_kind!(|T, process| {
        let lab = Lab::new();
        let (line, _events) = Line::new();
        let stop = Arc::clone(&line.stop);
        let server = bind::<T, _, _>(process, line);
        assert!(stop.set(server.shutdown_handle()).is_ok());
        let server = run_server(server);
        let mut client = Client::of::<T>(&lab, server.addr)?;
        client.send("stop\n")?;
        client.expect("stop\n")?;
        let server = server.returned();
        in_time("the server is closed", move || drop(server));
        Ok(())
    })
}

/// Its wake-up goes to loopback, as 0.0.0.0 is no place to connect to.
#[test]
fn a_server_on_all_addresses_is_shut_down_too() -> Result {
    fn test<T>(addr: &str) -> Result
    where
        T: Transport + Send + 'static,
        Line: Handler<T::Request>,
    {
        let line = Line::new().0;
        let options = Options::default();
        let server = Server::<T, _, _>::bind(addr, &options, Sequential, line);
        run_server(server.unwrap()).shut_down_and_close();
        Ok(())
    }
    for addr in ["0.0.0.0:0", "[::]:0", "[::1]:0"] {
        test::<Tcp>(addr)?;
        test::<Udp>(addr)?;
    }
    Ok(())
}

/// An address of this machine that needs its interface's number beside it.
#[cfg(target_os = "linux")]
fn link_local_addr() -> Option<SocketAddr> {
    use std::net::{Ipv6Addr, SocketAddrV6};
    let table = fs::read_to_string("/proc/net/if_inet6").ok()?;
    let row = table.lines().find(|line| line.starts_with("fe80"))?;
    let mut fields = row.split_whitespace();
    let ip = u128::from_str_radix(fields.next()?, 16).ok()?;
    let scope = u32::from_str_radix(fields.next()?, 16).ok()?;
    Some(SocketAddrV6::new(Ipv6Addr::from(ip), 0, 0, scope).into())
}

#[test]
#[cfg(target_os = "linux")]
fn a_server_on_a_link_local_address_is_shut_down_too() -> Result {
    fn test<T>(addr: SocketAddr)
    where
        T: Transport + Send + 'static,
        Line: Handler<T::Request>,
    {
        let line = Line::new().0;
        let options = Options::default();
        let server = Server::<T, _, _>::bind(addr, &options, Sequential, line);
        run_server(server.unwrap()).shut_down_and_close();
    }
    let Some(addr) = link_local_addr() else {
        println!("skipped: no interface has a link-local IPv6 address");
        return Ok(());
    };
    test::<Tcp>(addr);
    test::<Udp>(addr);

    let lab = Lab::new();
    let args = [&addr.to_string(), "threads-tcp"];
    let mut server = lab.start("server", server_path(), &args)?;
    let bound = server.wait_until_listening()?;
    good_client_is_served(&lab, "threads-tcp", bound)?;
    server.end_input();
    server.expect_exit(0)
}

/// A connection that the kernel does not finish as long as the queue is full.
fn knock(addr: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None);
    let socket = socket.expect("a socket");
    let _ = socket.set_nonblocking(true);
    let _ = socket.connect(&addr.into());
    socket
}

#[test]
fn shutdown_with_a_full_queue_returns_at_once() -> Result {
    let lab = Lab::new();
    let options = Options {
        request_queue_size: 1,
        ..Options::default()
    };
    let (line, events) = Line::new();
    let server = run_server(bind_with::<Tcp, _, _>(&options, Sequential, line));
    let client = lab.connect("client", server.addr)?;
    until(&events, "verified");
    let _queue: Vec<_> = (0..5).map(|_| knock(server.addr)).collect();
    let stop = server.stop.clone();
    in_time("shutdown returns", move || stop.shutdown());
    client.close();
    server.shut_down_and_close();
    Ok(())
}

#[test]
fn shutdown_wakes_a_server_that_waits_with_a_timeout() -> Result {
    fn test<T>() -> Result
    where
        T: Transport + Send + 'static,
        Line: Handler<T::Request>,
    {
        let options = Options {
            timeout: Some(10 * DEADLINE),
            ..Options::default()
        };
        let line = Line::new().0;
        run_server(bind_with::<T, _, _>(&options, Sequential, line))
            .shut_down_and_close();
        Ok(())
    }
    test::<Tcp>()?;
    test::<Udp>()
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
        let server = run_server(bind::<Tcp, _, _>(process, line));
        let addr = server.addr;
        let mut client = Client::of::<Tcp>(&lab, addr)?;
        until(&events, "verified");
        server.stop.shutdown();
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
    let server = run_server(bind::<Tcp, _, _>(pool(), line));
    // Two have a worker, two wait in the queue, and one for a place there.
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(Client::of::<Tcp>(&lab, server.addr)?);
        until(&events, "verified");
    }
    server.stop.shutdown();
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
    let server = run_server(bind::<Tcp, _, _>(Sequential, line));
    let mut first = Client::of::<Tcp>(&lab, server.addr)?;
    until(&events, "verified");
    let mut second = lab.connect("second", server.addr)?;
    let mut third = lab.connect("third", server.addr)?;
    third.send("hello world\n")?;
    server.stop.shutdown();
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
        let server = run_server(bind::<Tcp, _, _>(process, line));
        let mut present = Vec::new();
        for _ in 0..clients {
            present.push(Client::of::<Tcp>(&lab, server.addr)?);
            until(&events, "verified");
        }
        server.stop.shutdown();
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
fn one_thread_more_than_the_most_is_turned_away() -> Result {
    let lab = Lab::new();
    let (line, events) = Line::new();
    let server = bind::<Tcp, _, _>(Threads::at_most(2), line);
    let server = run_server(server);
    let mut first = Client::of::<Tcp>(&lab, server.addr)?;
    until(&events, "verified");
    let _second = Client::of::<Tcp>(&lab, server.addr)?;
    until(&events, "verified");
    let mut third = Client::of::<Tcp>(&lab, server.addr)?;
    until(&events, "turned away");
    third.expect_end()?;
    says_hello_world(&mut first)?;
    lab.wait_until("a place is free", || {
        Client::of::<Tcp>(&lab, server.addr)
            .is_ok_and(|mut late| says_hello_world(&mut late).is_ok())
    })
}

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

// Timeouts.

#[test]
fn handle_timeout_is_called_when_no_request_comes() -> Result {
    for_each_kind!(|T, process| {
        let lab = Lab::new();
        let (line, events) = Line::new();
        let options = Options {
            timeout: Some(Duration::from_millis(1)),
            ..Options::default()
        };
        let mut server = bind_with::<T, _, _>(&options, process, line);
        let server = in_time("handle_request returns", move || {
            server.handle_request().unwrap();
            server
        });
        assert_eq!(events.try_recv(), Ok("timeout"));

        let server = run_server(server);
        for _ in 0..3 {
            until(&events, "timeout");
        }
        // The timeout is that of waiting for a request, not of serving it.
        let mut client = Client::of::<T>(&lab, server.addr)?;
        if let Client::Tcp(_) = client {
            until(&events, "verified");
            client.send("hello")?;
            client.send(" world\n")?;
            client.expect("hello world\n")?;
        } else {
            says_hello_world(&mut client)?;
        }
        until(&events, "handled");
        server.shut_down_and_close();
        Ok(())
    })
}

#[test]
fn a_timeout_of_zero_is_refused() {
    let options = Options {
        timeout: Some(Duration::ZERO),
        ..Options::default()
    };
    let addr = "127.0.0.1:0";
    let line = || Line::new().0;
    let tcp = Server::<Tcp, _, _>::bind(addr, &options, Sequential, line());
    let udp = Server::<Udp, _, _>::bind(addr, &options, Sequential, line());
    for error in [tcp.err(), udp.err()] {
        let kind = error.map(|error| error.kind());
        assert_eq!(kind, Some(io::ErrorKind::InvalidInput));
    }
}

// Options.

/// The kernel's queue holds one more than it is asked for.
#[test]
#[cfg(target_os = "linux")]
fn request_queue_size_is_how_many_may_wait() -> Result {
    let default = Options::default().request_queue_size;
    assert_eq!(default, 128);
    for size in [1, 5, default] {
        let options = Options {
            request_queue_size: size,
            ..Options::default()
        };
        let line = Line::new().0;
        let server = bind_with::<Tcp, _, _>(&options, Sequential, line);
        let addr = server.local_addr().unwrap();
        let all = size as usize + 1;
        let connected = |some: &[Socket]| {
            some.iter().filter(|one| one.peer_addr().is_ok()).count()
        };
        let waiting = || {
            let rows = proc::tcp_rows(addr.port()).unwrap_or_default();
            let listener = rows
                .iter()
                .find(|row| row.local == addr && row.state == "LISTEN");
            listener.map(|row| row.receive_queue)
        };
        let lab = Lab::new();
        let first: Vec<_> = (0..all).map(|_| knock(addr)).collect();
        // Not before the queue is full: then nobody else gets an answer.
        lab.wait_until("the queue is full", || {
            waiting() == Some(all) && connected(&first) == all
        })?;
        let more: Vec<_> = (0..10).map(|_| knock(addr)).collect();
        lab.wait_until("all the others have asked", || {
            let rows = proc::tcp_rows(addr.port()).unwrap_or_default();
            rows.iter().filter(|row| row.state == "SYN-SENT").count() == 10
        })?;
        assert_eq!((connected(&more), waiting()), (0, Some(all)));
    }
    Ok(())
}

/// Binds to a port on which the server before closed a connection first.
///
/// On a busy machine a segment that comes late can end the TIME-WAIT (RFC
/// 1337). Without it the result says nothing: `None`.
#[cfg(target_os = "linux")]
fn bind_again(reuse: bool) -> Result<Option<io::Result<()>>> {
    let lab = Lab::new();
    let options = Options {
        allow_reuse_address: reuse,
        ..Options::default()
    };
    let line = Line::new().0;
    let server = run_server(bind_with::<Tcp, _, _>(&options, Sequential, line));
    let addr = server.addr;
    let mut client = Client::of::<Tcp>(&lab, addr)?;
    says_hello_world(&mut client)?;
    client.expect_end()?;
    drop(client);
    server.shut_down_and_close();
    let states = || -> Vec<_> {
        let table = proc::tcp_table().expect("this is Linux");
        let rows = table.iter().filter(|row| row.local == addr);
        rows.map(|row| row.state).collect()
    };
    lab.wait_until("at most a TIME-WAIT is left", || {
        states().iter().all(|state| *state == "TIME-WAIT")
    })?;
    let line = Line::new().0;
    let again = Server::<Tcp, _, _>::bind(addr, &options, Sequential, line);
    let waits = states().contains(&"TIME-WAIT");
    Ok(waits.then_some(again.map(drop)))
}

#[cfg(target_os = "linux")]
fn bind_again_in_time_wait(reuse: bool) -> Result<io::Result<()>> {
    for _ in 0..10 {
        if let Some(result) = bind_again(reuse)? {
            return Ok(result);
        }
    }
    panic!("no TIME-WAIT in ten attempts");
}

#[test]
#[cfg(target_os = "linux")]
fn allow_reuse_address_binds_in_spite_of_time_wait() -> Result {
    assert!(bind_again_in_time_wait(true)?.is_ok());
    let refused = bind_again_in_time_wait(false)?.map_err(|error| error.kind());
    assert_eq!(refused, Err(io::ErrorKind::AddrInUse));
    assert_eq!(Options::default().allow_reuse_address, cfg!(not(windows)));
    Ok(())
}

/// A TIME-WAIT lasts longer than a lab's patience.
#[test]
fn a_shutdown_leaves_no_time_wait_of_its_own() -> Result {
    let options = Options {
        allow_reuse_address: false,
        ..Options::default()
    };
    let (line, events) = Line::new();
    let server = run_server(bind_with::<Tcp, _, _>(&options, Sequential, line));
    let addr = server.addr;
    // Only a server that waits in `accept` is woken by a connection.
    let lab = Lab::new();
    lab.connect("client", addr)?.close();
    until(&events, "handled");
    server.shut_down_and_close();
    lab.wait_until("the port is free", || {
        let line = Line::new().0;
        Server::<Tcp, _, _>::bind(addr, &options, Sequential, line).is_ok()
    })
}

#[test]
fn a_second_server_on_the_same_port_is_refused() {
    fn test<T>()
    where
        T: Transport,
        Line: Handler<T::Request>,
    {
        let first = bind::<T, _, _>(Sequential, Line::new().0);
        let addr = first.local_addr().unwrap();
        // As for Python's UDPServer: asked for, but it must not be.
        let options = Options {
            allow_reuse_address: cfg!(not(windows)),
            ..Options::default()
        };
        let line = Line::new().0;
        let second = Server::<T, _, _>::bind(addr, &options, Sequential, line);
        let kind = second.err().map(|error| error.kind());
        assert_eq!(kind, Some(io::ErrorKind::AddrInUse));
    }
    test::<Tcp>();
    test::<Udp>();
}

/// Why a UDP server must not: the second one gets all datagrams.
#[test]
#[cfg(target_os = "linux")]
fn two_udp_sockets_that_reuse_an_address_share_it() -> io::Result<()> {
    let bind = |addr: SocketAddr| {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())?;
        io::Result::Ok(UdpSocket::from(socket))
    };
    let first = bind(([127, 0, 0, 1], 0).into())?;
    let second = bind(first.local_addr()?)?;
    let client = UdpSocket::bind("127.0.0.1:0")?;
    client.send_to(b"for the first", first.local_addr()?)?;
    second.set_read_timeout(Some(DEADLINE))?;
    assert_eq!(second.recv(&mut [0; 100])?, 13);
    Ok(())
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
    let mut first = start_client(&lab, "first", addr)?;
    first.expect("send> ")?;
    first.type_line("I came first");
    first.expect("received: I came first\nsend> ")?;
    let mut second = start_client(&lab, "second", addr)?;
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
    let mut first = start_client(&lab, "first", addr)?;
    first.expect("send> ")?;
    first.type_line("I came first");
    first.expect("received: I came first\nsend> ")?;
    let mut second = start_client(&lab, "second", addr)?;
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

#[test]
fn pool_fifth_client_waits_until_one_of_four_leaves() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab, "pool-tcp")?;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(lab.connect("one of four", addr)?);
        server.expect(" connected\n")?;
    }
    let mut fifth = lab.connect("fifth", addr)?;
    fifth.send("hello world\n")?;
    for client in &mut clients {
        client.send("hello world\n")?;
        client.expect("hello world\n")?;
    }
    assert!(fifth.has_nothing()?);
    clients.pop();
    fifth.expect("hello world\n")
}

fn start_client(lab: &Lab, name: &str, addr: SocketAddr) -> Result<Program> {
    let path = harness::binary("lesson-01-single-client", "client")?;
    lab.start(name, &path, &[&addr.to_string()])
}

fn command(addr: SocketAddr, choice: &str) -> String {
    format!("cargo run -p lesson-06-socketserver -- {addr} {choice}")
}

// The server: every byte, every datagram.

#[test]
fn every_byte_comes_back_whatever_the_size_of_the_chunks() -> Result {
    let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(20_000).collect();
    for choice in TCP_CHOICES {
        let lab = Lab::new();
        let (_server, addr) = start_server(&lab, choice)?;
        for size in CHUNK_SIZES {
            let mut client = lab.connect("client", addr)?;
            let sending = client.send_in_background(bytes.clone(), size);
            client.expect(&bytes)?;
            sending.join().unwrap()?;
            client.half_close()?;
            client.expect_end()?;
        }
    }
    Ok(())
}

#[test]
fn datagrams_of_every_size_come_back_whole() -> Result {
    for choice in UDP_CHOICES {
        let lab = Lab::new();
        let (_server, addr) = start_server(&lab, choice)?;
        let client = lab.udp("client", addr)?;
        for size in DATAGRAM_SIZES {
            let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(size).collect();
            client.send(&bytes)?;
            client.expect(&bytes)?;
        }
    }
    Ok(())
}

#[test]
fn each_of_two_udp_clients_gets_its_own_answers() -> Result {
    for choice in UDP_CHOICES {
        let lab = Lab::new();
        let (_server, addr) = start_server(&lab, choice)?;
        let (a, b) = (lab.udp("a", addr)?, lab.udp("b", addr)?);
        a.send("from a")?;
        b.send("from b")?;
        b.expect("from b")?;
        a.expect("from a")?;
    }
    Ok(())
}

// The server: bad clients.

#[test]
fn a_reset_is_said_and_ends_nothing() -> Result {
    for choice in TCP_CHOICES {
        let lab = Lab::new();
        let (mut server, addr) = start_server(&lab, choice)?;
        let mut client = lab.connect("client", addr)?;
        client.send("half a mess")?;
        client.expect("half a mess")?;
        let local = client.local_addr()?;
        client.reset()?;
        let complaint = server.error_line()?;
        assert!(complaint.starts_with(&format!("{local}: ")), "{complaint}");
        good_client_is_served(&lab, choice, addr)?;
    }
    Ok(())
}

/// `eprintln!` panics when it cannot print, as on a disk that is full.
#[test]
#[cfg(target_os = "linux")]
fn a_server_whose_complaints_cannot_be_printed_goes_on() -> Result {
    for choice in TCP_CHOICES {
        let lab = Lab::new();
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"exec "$0" "$@" 2>/dev/full"#])
            .arg(server_path())
            .args(["127.0.0.1:0", choice]);
        let mut server = lab.start_command("server", command)?;
        let addr = server.wait_until_listening()?;
        // All that it has before the first client, and when all have left.
        let descriptors = || proc::descriptors(server.id());
        let idle = || {
            harness::tasks::blocked_in(server.id())
                .is_some_and(|(call, _)| call == "accept4")
        };
        lab.wait_until("the server waits in accept", idle)?;
        let own = descriptors();
        // More often than the pool has workers.
        for _ in 0..5 {
            let mut client = lab.connect("client", addr)?;
            client.send("half a mess")?;
            client.expect("half a mess")?;
            client.reset()?;
        }
        good_client_is_served(&lab, choice, addr)?;

        lab.wait_until("all clients have left, and it waits again", || {
            descriptors() == own && idle()
        })?;
        // The `accept` that waits has its descriptor, the next one gets none.
        proc::leave_descriptors(server.id(), 0).expect("a soft limit");
        lab.connect("last", addr)?.close();
        let pauses = || proc::pauses(server.id()).expect("this is Linux");
        let before = pauses();
        lab.wait_until("five pauses of the accept loop", || {
            pauses() >= before + 5
        })?;
        server.end_input();
        server.expect("goodbye\n")?;
        server.expect_exit(0)?;
    }
    Ok(())
}

#[test]
fn udp_clients_that_do_not_wait_for_answers_hinder_nobody() -> Result {
    for choice in UDP_CHOICES {
        let lab = Lab::new();
        let (_server, addr) = start_server(&lab, choice)?;
        // Made first: later it might get a port that an answer is meant for.
        let mut good = Client::new(&lab, choice, addr)?;
        for _ in 0..100 {
            lab.udp("gone", addr)?.send("no answer, please")?;
        }
        says_hello_world(&mut good)?;
    }
    Ok(())
}

// The server: out of descriptors.

/// As with `ulimit -n 32`: the standard three, two sockets, and 27 clients.
#[test]
#[cfg(target_os = "linux")]
fn out_of_descriptors_it_pauses_and_serves_again_when_some_leave() -> Result {
    const SERVED: usize = 27;
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab, "threads-tcp")?;
    proc::leave_descriptors(server.id(), SERVED).expect("a soft limit");
    let mut clients = (0..60)
        .map(|_| lab.connect("one of 60", addr))
        .collect::<Result<Vec<_>>>()?;
    let complaint = server.error_line()?;
    assert!(complaint.starts_with("cannot get a request, trying again: "));
    let pauses = || proc::pauses(server.id()).expect("this is Linux");
    let cpu_time = || proc::cpu_time(server.id()).expect("this is Linux");
    let (before, cpu_before) = (pauses(), cpu_time());
    lab.wait_until("five pauses of the accept loop", || {
        pauses() >= before + 5
    })?;
    let used = cpu_time() - cpu_before;
    assert!(used <= Duration::from_millis(50), "used {used:?}");
    // Later it is said again whenever an `accept` has succeeded in between,
    // and how often that is depends on how fast the others leave.
    let complaints = String::from_utf8_lossy(&server.stderr()).into_owned();
    assert_eq!(
        complaints.matches("trying again").count(),
        1,
        "{complaints}"
    );

    while !clients.is_empty() {
        let rest = clients.split_off(clients.len().min(SERVED));
        for client in &mut clients {
            client.send("hello world\n")?;
            client.expect("hello world\n")?;
        }
        clients.into_iter().for_each(Peer::close);
        clients = rest;
    }
    good_client_is_served(&lab, "threads-tcp", addr)
}

#[test]
#[cfg(target_os = "linux")]
fn out_of_descriptors_it_still_ends_with_its_input() -> Result {
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
    let mut client = start_client(&lab, "client", addr)?;
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
        says_hello_world_again(&mut idle)?;
        assert!(!server.stdout().ends_with(b"goodbye\n"));
        idle.close();
        server.expect("goodbye\n")?;
        server.expect_exit(0)?;
    }
    Ok(())
}

fn says_hello_world_again(client: &mut Peer) -> Result {
    client.send("hello world\n")?;
    client.expect("hello world\n")
}

/// A rule without an exception: an input that has ended from the start.
#[test]
fn a_server_without_an_input_ends_at_once() {
    for choice in choices() {
        let output = in_time("the server ends", move || {
            Command::new(server_path())
                .args(["127.0.0.1:0", choice])
                .stdin(Stdio::null())
                .output()
                .unwrap()
        });
        assert!(output.status.success());
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(printed.starts_with("listening on 127.0.0.1:"), "{printed}");
        assert!(printed.ends_with("\ngoodbye\n"), "{printed}");
    }
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
fn a_bad_choice_is_refused_with_all_that_there_are() {
    for args in [
        ["127.0.0.1:0", "forking-tcp"].as_slice(),
        &["127.0.0.1:0", ""],
        &["127.0.0.1:0", "threads-tcp", "again"],
    ] {
        let mut refused = run(args).code(1).stdout("");
        for choice in choices() {
            refused = refused.stderr(contains(choice));
        }
        refused
            .stderr(contains("usage: lesson-06-socketserver [HOST:PORT]"))
            .stderr(contains("panicked").not());
    }
}

#[test]
fn what_is_not_an_address_is_refused_with_an_example() {
    for addr in ["", "nonsense", "127.0.0.1", "127.0.0.1:99999", "::1", ":1"] {
        for choice in choices() {
            run(&[addr, choice])
                .code(1)
                .stdout("")
                .stderr(contains(format!("cannot listen on {addr}: ")))
                .stderr(contains("such as 127.0.0.1:"))
                .stderr(contains("panicked").not());
        }
    }
}

#[test]
#[cfg(unix)]
fn an_argument_that_is_not_utf8_is_refused_without_a_panic() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    for args in [[&b"\xff:1"[..], b"pool-udp"], [b"127.0.0.1:0", b"\xff"]] {
        assert_cmd::Command::new(server_path())
            .args(args.map(OsStr::from_bytes))
            .timeout(DEADLINE)
            .assert()
            .code(1)
            .stderr(contains("panicked").not());
    }
}

#[test]
fn a_port_in_use_is_refused_with_what_to_do() -> Result {
    for choice in choices() {
        let lab = Lab::new();
        let (_server, addr) = start_server(&lab, choice)?;
        run(&[&addr.to_string(), choice])
            .code(1)
            .stdout("")
            .stderr(contains(format!("cannot listen on {addr}: ")))
            .stderr(contains("give a free HOST:PORT"));
    }
    Ok(())
}

#[test]
fn a_name_and_an_ipv6_address_work() -> Result {
    for choice in choices() {
        for addr in ["localhost:0", "[::1]:0"] {
            let lab = Lab::new();
            let args = [addr, choice];
            let mut server = lab.start("server", server_path(), &args)?;
            let bound = server.wait_until_listening()?;
            good_client_is_served(&lab, choice, bound)?;
            server.end_input();
            server.expect_exit(0)?;
        }
    }
    Ok(())
}

// What is copied.

/// The text of another lesson; nothing if that lesson was taken out.
fn other_lesson(path: &str) -> Option<String> {
    let text = fs::read_to_string(root().join("crates").join(path)).ok();
    if text.is_none() {
        eprintln!("skipped: no crates/{path} to compare with");
    }
    text
}

/// All but the marks by which lesson 04's chapter shows parts of it.
#[test]
fn the_pool_is_that_of_lesson_04() {
    if let Some(theirs) = other_lesson("04-thread-pool/src/pool.rs") {
        let ours = include_str!("../crates/06-socketserver/src/pool.rs");
        let marks = |line: &&str| !line.starts_with("// ANCHOR");
        assert!(
            ours.lines().eq(theirs.lines().filter(marks)),
            "pool.rs differs"
        );
    }
}

// What it costs.

/// The system calls of a server with one client and a hundred requests.
#[cfg(target_os = "linux")]
fn system_calls(choice: &str) -> Result<String> {
    let lab = Lab::new();
    let mut command = Command::new("strace");
    command
        .args(["-f", "-s", "100"])
        .arg(server_path())
        .args(["127.0.0.1:0", choice]);
    let mut server = lab.start_command("server", command)?;
    let addr = server.wait_until_listening()?;
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
    Ok(String::from_utf8_lossy(&server.stderr()).into_owned())
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs strace"]
fn a_request_is_two_system_calls_and_a_connection_no_more_than_its_lines()
-> Result {
    for choice in choices() {
        let calls = system_calls(choice)?;
        let count = |name| calls.matches(name).count();
        let udp = choice.ends_with("udp");
        // One more for the end of the stream, or for the wake-up, unless that
        // came earlier.
        let reads = if udp { 100..=101 } else { 101..=101 };
        assert!(reads.contains(&count("recvfrom(")), "{choice}: {calls}");
        let answers = calls
            .lines()
            .filter(|l| l.contains("sendto(") && l.contains("hello world"));
        assert_eq!(answers.count(), 100, "{choice}: {calls}");
        let lines = if udp { 0 } else { 2 };
        // And the three lines of a server without clients.
        assert_eq!(count("write(1, "), lines + 3, "{choice}: {calls}");
        // The keyboard's, and those that serve.
        let threads = 1 + match choice {
            "threads-tcp" => 1,
            "threads-udp" => 100,
            "pool-tcp" | "pool-udp" => 4,
            _ => 0,
        };
        let started = count("clone3(") + count("clone(");
        assert_eq!(started, threads, "{choice}: {calls}");
        // One of the listener, and SO_LINGER of the wake-up.
        assert_eq!(count("setsockopt("), 2, "{choice}: {calls}");
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
class Picky(socketserver.ThreadingTCPServer):
    def verify_request(self, request, client_address):
        raise ValueError
class Reuse(socketserver.UDPServer):
    allow_reuse_address = True

server = socketserver.TCPServer(ADDR, Nothing)
print("shutdown before", waits_for_ever(start(server.shutdown)), flush=True)

server = socketserver.TCPServer(ADDR, Stop)
serving = start(server.serve_forever)
socket.create_connection(server.server_address).close()
print("shutdown within", waits_for_ever(serving), flush=True)

server = Picky(ADDR, Nothing)
serving = start(server.serve_forever)
socket.create_connection(server.server_address).close()
serving.join()
print("verify_request ended the server", flush=True)

server = socketserver.UDPServer(ADDR, Length)
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.sendto(b"x" * 9000, server.server_address)
server.handle_request()

first = Reuse(ADDR, Nothing)
second = Reuse(first.server_address, Nothing)
print("two servers on one port", flush=True)
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
    python.expect_line("verify_request ended the server")?;
    python.expect_line("datagram cut to 8192")?;
    python.expect_line("two servers on one port")?;
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
