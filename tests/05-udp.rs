//! Lesson 05 does what its chapter says, with good clients and bad networks.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;
#[cfg(target_os = "linux")]
use harness::strace;
use harness::{Lab, Program, Result, Transcript, UdpServer};
use socket2::SockRef;

const SERVER_COMMAND: &str = "cargo run -p lesson-05-udp";
const CLIENT_COMMAND: &str = "cargo run --bin udp-client";
const UNCONNECTED: &str = "--unconnected";
/// How the client can be started, besides its address.
const MODES: [&[&str]; 2] = [&[], &[UNCONNECTED]];
/// macOS sends no more than this unless `net.inet.udp.maxdgram` is raised.
const LARGEST: usize = if cfg!(target_os = "macos") {
    9_216
} else {
    65_507
};
const TRIES: usize = 3;

/// For what meets both the harness and a socket of its own.
type Outcome = std::result::Result<(), Box<dyn Error>>;

fn server_path() -> &'static Path {
    cargo_bin!("lesson-05-udp")
}

fn client_path() -> &'static Path {
    cargo_bin!("udp-client")
}

fn start_server(lab: &Lab) -> Result<(Program, SocketAddr)> {
    lab.start_server(server_path(), &["127.0.0.1:0"])
}

/// A client at its first prompt.
fn start_client(lab: &Lab, addr: SocketAddr, mode: &[&str]) -> Result<Program> {
    let addr = addr.to_string();
    let args = [&[addr.as_str()], mode].concat();
    let mut client = lab.start("client", client_path(), &args)?;
    client.expect("send> ")?;
    Ok(client)
}

/// Runs `test` for both modes at once: giving up takes its time.
fn in_both_modes(test: impl Fn(&[&str]) -> Result + Sync) -> Result {
    thread::scope(|scope| {
        MODES
            .map(|mode| scope.spawn(|| test(mode)))
            .into_iter()
            .try_for_each(|mode| mode.join().expect("no panic"))
    })
}

/// The programs say nothing about a datagram, so silence is all there is.
fn says_only_where_it_listens(server: &Program, addr: SocketAddr) {
    let printed = String::from_utf8_lossy(&server.stdout()).into_owned();
    assert_eq!(printed, format!("listening on {addr}\n"));
    assert_eq!(String::from_utf8_lossy(&server.stderr()), "");
}

fn text(size: usize) -> String {
    ('a'..='z').cycle().take(size).collect()
}

/// A pair of sockets on loopback, the second connected to the first.
fn pair() -> io::Result<(UdpSocket, UdpSocket)> {
    let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    sender.connect(receiver.local_addr()?)?;
    Ok((receiver, sender))
}

/// A port at which nobody listens, and which nobody else can take: a socket
/// that is connected to itself takes datagrams from nobody else.
#[cfg(unix)]
fn deaf_socket() -> io::Result<(UdpSocket, SocketAddr)> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let addr = socket.local_addr()?;
    socket.connect(addr)?;
    Ok((socket, addr))
}

// A conversation.

#[test]
fn each_line_is_one_datagram_there_and_one_back() -> Result {
    let lab = Lab::new();
    let (server, addr) = start_server(&lab)?;
    let mut client = start_client(&lab, addr, &[])?;
    for line in ["Hello, can you hear me?", "你好", ""] {
        client.type_line(line);
        client.expect_line(&format!("received: {line}"))?;
        client.expect("send> ")?;
    }
    client.end_input();
    client.expect_line("")?;
    client.expect_exit(0)?;
    says_only_where_it_listens(&server, addr);

    let mut scene = Transcript::new(&lab, "05-echo", addr);
    scene.terminal("server", SERVER_COMMAND, &server);
    scene.terminal("client", CLIENT_COMMAND, &client);
    scene.check()
}

#[test]
fn two_clients_at_once_get_their_own_answers() -> Result {
    let lab = Lab::new();
    let (_server, addr) = start_server(&lab)?;
    let mut first = start_client(&lab, addr, &[])?;
    let mut second = start_client(&lab, addr, &[UNCONNECTED])?;
    for n in 0..20 {
        first.type_line(&format!("first {n}"));
        second.type_line(&format!("second {n}"));
        second.expect_line(&format!("received: second {n}"))?;
        first.expect_line(&format!("received: first {n}"))?;
        first.expect("send> ")?;
        second.expect("send> ")?;
    }
    Ok(())
}

// No connection.

#[test]
fn receiving_an_empty_datagram_is_ok_0() -> io::Result<()> {
    let (receiver, sender) = pair()?;
    sender.send(b"")?;
    sender.send(b"next")?;
    let mut buffer = [0; 16];
    assert_eq!(receiver.recv(&mut buffer)?, 0);
    assert_eq!(receiver.recv(&mut buffer)?, 4);
    Ok(())
}

#[test]
fn nobody_comes_and_nobody_goes() -> Result {
    let lab = Lab::new();
    let (server, addr) = start_server(&lab)?;
    let before = kept_for_clients(&server, addr);
    for _ in 0..10 {
        lab.good_client_gets_datagram(addr)?;
        assert_eq!(kept_for_clients(&server, addr), before);
    }
    says_only_where_it_listens(&server, addr);
    Ok(())
}

/// How many descriptors the server has. None of its sockets has a peer. (While
/// others come and go, the kernel's table may miss a row.)
fn kept_for_clients(server: &Program, addr: SocketAddr) -> Option<usize> {
    let rows = harness::proc::udp_table().unwrap_or_default();
    let own = rows.into_iter().filter(|row| row.local == addr);
    let peers: Vec<_> = own.map(|row| row.remote).collect();
    assert!(peers.iter().all(|peer| peer.port() == 0), "{peers:?}");
    harness::proc::descriptors(server.id())
}

#[test]
fn a_tcp_listener_can_have_the_same_port() -> Result {
    let lab = Lab::new();
    // Somebody else may have that TCP port just now, hence more than one try.
    for _ in 0..10 {
        let (_server, addr) = start_server(&lab)?;
        if TcpListener::bind(addr).is_ok() {
            return lab.good_client_gets_datagram(addr);
        }
    }
    panic!("no UDP port was free for TCP");
}

/// No connection, hence no TIME-WAIT.
#[test]
fn a_restarted_server_gets_its_port_at_once() -> Result {
    let lab = Lab::new();
    // Somebody else may take the port in between, hence more than one try.
    for _ in 0..10 {
        let (mut server, addr) = start_server(&lab)?;
        lab.good_client_gets_datagram(addr)?;
        server.kill()?;
        let again = addr.to_string();
        let mut again = lab.start("again", server_path(), &[&again])?;
        if again.wait_until_listening().is_ok() {
            return lab.good_client_gets_datagram(addr);
        }
    }
    panic!("the port was taken each time");
}

// Borders, sizes, truncation.

#[test]
fn two_datagrams_are_never_joined() -> Result {
    let lab = Lab::new();
    let (_server, addr) = start_server(&lab)?;
    let a = lab.udp("a", addr)?;
    a.send("second")?;
    a.send("third")?;
    a.expect("second")?;
    a.expect("third")
}

/// Windows fails with `WSAEMSGSIZE` (10040) instead.
#[test]
#[cfg(unix)]
fn what_does_not_fit_into_the_buffer_is_lost() -> io::Result<()> {
    let (receiver, sender) = pair()?;
    sender.send(b"0123456789")?;
    sender.send(b"next")?;
    let mut buffer = [0; 4];
    assert_eq!(receiver.recv(&mut buffer)?, 4);
    assert_eq!(&buffer, b"0123");
    assert_eq!(receiver.recv(&mut buffer)?, 4);
    assert_eq!(&buffer, b"next");
    Ok(())
}

#[test]
fn the_kernel_takes_no_datagram_of_65_508_bytes_over_ipv4() -> io::Result<()> {
    let (_receiver, sender) = pair()?;
    assert_eq!(sender.send(&[0; LARGEST])?, LARGEST);
    let error = sender.send(&[0; LARGEST + 1]).map_err(|e| e.raw_os_error());
    let too_long = match std::env::consts::OS {
        "linux" => 90,
        "windows" => 10040,
        _ => 40,
    };
    assert_eq!(error, Err(Some(too_long)));
    Ok(())
}

/// Over IPv6 it would fit, see `over_ipv6_the_server_answers_65_527_bytes`.
#[test]
fn the_client_refuses_a_longer_line_and_goes_on() -> Result {
    let lab = Lab::new();
    for addr in ["127.0.0.1:0", "[::1]:0"] {
        if addr == "[::1]:0" && !harness::has_ipv6() {
            continue;
        }
        for mode in MODES {
            let (_server, addr) = lab.start_server(server_path(), &[addr])?;
            let mut client = start_client(&lab, addr, mode)?;
            client.type_line(&text(65_508));
            let refused = "not sent: a datagram holds at most 65507 bytes";
            client.expect_line(refused)?;
            client.type_line("shorter");
            client.expect_line("send> received: shorter")?;
        }
    }
    Ok(())
}

/// Here the forger is the next to have the server's address.
#[test]
fn whoever_has_the_servers_address_can_answer() -> Outcome {
    for mode in MODES {
        let lab = Lab::new();
        let server = lab.udp_server("server")?;
        let addr = server.addr();
        let mut client = start_client(&lab, addr, mode)?;
        client.type_line("who are you?");
        let (_, from) = server.receive()?;
        drop(server);
        // Another test may just be starting a program, which holds a copy of
        // the socket until its exec.
        let mut forger = None;
        lab.wait_until("the address is free", || {
            forger = UdpSocket::bind(addr).ok();
            forger.is_some()
        })?;
        let forger = forger.ok_or("no forger")?;
        forger.send_to(b"your server", from)?;
        client.expect_line("received: your server")?;
    }
    Ok(())
}

/// The length in an IPv6 header does not count that header.
#[test]
#[cfg(target_os = "linux")]
fn over_ipv6_the_server_answers_65_527_bytes() -> Outcome {
    if !harness::has_ipv6() {
        return Ok(());
    }
    let lab = Lab::new();
    let mut server = lab.start("server", server_path(), &["[::1]:0"])?;
    let a = lab.udp("a", server.wait_until_listening()?)?;
    a.send(text(65_527))?;
    a.expect(text(65_527))?;
    assert!(a.socket().send(&[0; 65_528]).is_err());
    Ok(())
}

// Loss.

/// Numbered datagrams, of which some arrive, in their order.
fn numbers(received: &[Vec<u8>]) -> Vec<usize> {
    received
        .iter()
        .filter_map(|bytes| str::from_utf8(bytes).ok()?.parse().ok())
        .collect()
}

#[test]
fn a_full_receive_buffer_loses_datagrams_on_loopback() -> io::Result<()> {
    let (receiver, sender) = pair()?;
    SockRef::from(&receiver).set_recv_buffer_size(4096)?;
    for n in 0..1000 {
        // Not an error: nobody tells the sender.
        sender.send(n.to_string().as_bytes())?;
    }
    receiver.set_read_timeout(Some(Duration::from_millis(50)))?;
    let mut received = Vec::new();
    let mut buffer = [0; 16];
    // The marker may be lost too: it is sent until it arrives.
    while received.last().is_none_or(|last| last != b"marker") {
        sender.send(b"marker")?;
        while received.last().is_none_or(|last| last != b"marker")
            && let Ok(count) = receiver.recv(&mut buffer)
        {
            received.push(buffer[..count].to_vec());
        }
    }
    let numbers = numbers(&received);
    println!("{} of 1000 datagrams arrived", numbers.len());
    assert!(!numbers.is_empty(), "not even one arrived");
    assert!(numbers.len() < 500, "{} arrived", numbers.len());
    Ok(())
}

#[cfg(target_os = "linux")]
fn udp_row(addr: SocketAddr) -> harness::proc::UdpRow {
    let look = |_| {
        let mut rows = harness::proc::udp_table()?.into_iter();
        rows.find(|row| row.local == addr)
    };
    // While others come and go, the table may miss a row.
    let row = (0..10).find_map(look);
    row.unwrap_or_else(|| panic!("no row for {addr}"))
}

/// As Ctrl-Z in the server's terminal, a thousand datagrams, then `fg`.
#[test]
#[cfg(target_os = "linux")]
fn a_stopped_server_loses_what_its_receive_buffer_cannot_hold() -> Outcome {
    let lab = Lab::new();
    let (server, addr) = start_server(&lab)?;
    let a = lab.udp("a", addr)?;
    SockRef::from(a.socket()).set_recv_buffer_size(1 << 20)?;
    server.suspend();
    server.wait_until_stopped(true)?;
    for n in 0..1000 {
        a.send(n.to_string())?;
    }
    // The kernel takes them in turn: this one last.
    let last = lab.udp_server("last")?;
    a.socket()
        .send_to(b"the kernel has seen all", last.addr())?;
    last.receive()?;
    server.resume();
    server.wait_until_stopped(false)?;
    lab.wait_until("the server has read what was stored", || {
        udp_row(addr).receive_queue == 0
    })?;
    // Now there is room for it.
    a.send("marker")?;
    let mut received = vec![a.receive()?];
    while received.last().is_none_or(|last| last != b"marker") {
        received.push(a.receive()?);
    }
    let numbers = numbers(&received);
    let drops = udp_row(addr).drops;
    println!("{} were answered, {drops} dropped", numbers.len());
    assert_eq!(numbers.len() + drops, 1000);
    // What came first was kept, what came later was thrown away.
    assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>());
    Ok(lab.good_client_gets_datagram(addr)?)
}

/// A network between the client and the server, in the test's hand.
struct Network {
    near: UdpServer,
    far: harness::UdpPeer,
}

impl Network {
    fn new(lab: &Lab, server: SocketAddr) -> Result<Self> {
        Ok(Self {
            near: lab.udp_server("network")?,
            far: lab.udp("network", server)?,
        })
    }

    /// Takes a question from a client.
    fn take(&self) -> Result<(Vec<u8>, SocketAddr)> {
        self.near.receive()
    }

    /// Brings a question to the server, and its answer here.
    fn ask(&self, question: &[u8]) -> Result<Vec<u8>> {
        self.far.send(question)?;
        self.far.receive()
    }

    /// Brings an answer to the client.
    fn give(&self, answer: &[u8], client: SocketAddr) -> Result {
        self.near.send_to(answer, client)
    }
}

#[test]
fn a_lost_question_is_asked_again() -> Result {
    in_both_modes(|mode| {
        let lab = Lab::new();
        let (_server, addr) = start_server(&lab)?;
        let network = Network::new(&lab, addr)?;
        let mut client = start_client(&lab, network.near.addr(), mode)?;
        client.type_line("hello");
        network.take()?;
        let (question, from) = network.take()?;
        network.give(&network.ask(&question)?, from)?;
        let shown = client.expect("received: hello\n")?;
        assert!(shown.contains("try 1 of 3"), "{shown}");
        Ok(())
    })
}

#[test]
fn a_lost_answer_makes_the_server_do_it_twice() -> Result {
    let lab = Lab::new();
    let (_server, addr) = start_server(&lab)?;
    let network = Network::new(&lab, addr)?;
    let mut client = start_client(&lab, network.near.addr(), &[])?;
    client.type_line("add one");
    let (first, _) = network.take()?;
    assert_eq!(network.ask(&first)?, b"add one");
    let (second, from) = network.take()?;
    assert_eq!(network.ask(&second)?, b"add one");
    network.give(b"done", from)?;
    client.expect("received: done\n")?;
    Ok(())
}

#[test]
fn the_network_may_change_the_order() -> Result {
    let lab = Lab::new();
    let (_server, addr) = start_server(&lab)?;
    let network = Network::new(&lab, addr)?;
    let a = lab.udp("a", network.near.addr())?;
    a.send("first")?;
    a.send("second")?;
    let ((first, from), (second, _)) = (network.take()?, network.take()?);
    network.give(&network.ask(&second)?, from)?;
    network.give(&network.ask(&first)?, from)?;
    a.expect("second")?;
    a.expect("first")
}

// An answer belongs to its question.

#[test]
fn a_late_answer_to_an_earlier_try_is_not_taken() -> Result {
    in_both_modes(|mode| {
        let lab = Lab::new();
        let server = lab.udp_server("server")?;
        let mut client = start_client(&lab, server.addr(), mode)?;
        client.type_line("hello");
        let (first, first_from) = server.receive()?;
        let (second, second_from) = server.receive()?;
        assert_eq!((first, second), (b"hello".to_vec(), b"hello".to_vec()));
        assert_ne!(first_from, second_from, "the same port");
        server.send_to("late", first_from)?;
        server.send_to("in time", second_from)?;
        client.expect_line(&format!(
            "try 1 of 3: {}: timed out",
            server.addr()
        ))?;
        client.expect_line("received: in time")?;
        Ok(())
    })
}

#[test]
fn an_answer_that_comes_after_giving_up_is_not_taken_for_the_next() -> Result {
    in_both_modes(|mode| {
        let lab = Lab::new();
        let server = lab.udp_server("server")?;
        let mut client = start_client(&lab, server.addr(), mode)?;
        client.type_line("one");
        let tries = (0..TRIES)
            .map(|_| server.receive())
            .collect::<Result<Vec<_>>>()?;
        client.expect("no answer; ")?;
        client.type_line("two");
        let (question, from) = server.receive()?;
        assert_eq!(question, b"two");
        for (_, old) in tries {
            server.send_to("one", old)?;
        }
        server.send_to("two", from)?;
        client.expect("send> received: two\n")?;
        Ok(())
    })
}

#[test]
fn the_second_copy_of_an_answer_is_not_taken_for_the_next() -> Result {
    for mode in MODES {
        let lab = Lab::new();
        let server = lab.udp_server("server")?;
        let mut client = start_client(&lab, server.addr(), mode)?;
        let mut copies = Vec::new();
        for line in ["one", "two", "three"] {
            client.type_line(line);
            let (_, from) = server.receive()?;
            for (old, to) in &copies {
                server.send_to(old, *to)?;
            }
            server.send_to(line, from)?;
            client.expect_line(&format!("received: {line}"))?;
            client.expect("send> ")?;
            copies.push((line, from));
        }
    }
    Ok(())
}

#[test]
fn a_strangers_answer_is_not_taken() -> Result {
    for mode in MODES {
        let lab = Lab::new();
        let server = lab.udp_server("server")?;
        let stranger = lab.udp_server("stranger")?;
        let mut client = start_client(&lab, server.addr(), mode)?;
        client.type_line("who are you?");
        let (_, from) = server.receive()?;
        stranger.send_to("your bank", from)?;
        server.send_to("the server", from)?;
        client.expect("received: the server\n")?;
        let printed = String::from_utf8_lossy(&client.stdout()).into_owned();
        assert!(!printed.contains("your bank"), "{printed}");
    }
    Ok(())
}

// Giving up.

#[test]
fn a_silent_server_is_asked_three_times() -> Result {
    in_both_modes(|mode| {
        let lab = Lab::new();
        let server = lab.udp_server("server")?;
        let addr = server.addr();
        let mut client = start_client(&lab, addr, mode)?;
        client.type_line("hello");
        for number in 1..=TRIES {
            assert_eq!(server.receive()?.0, b"hello");
            let try_again = format!("try {number} of 3: {addr}: timed out");
            client.expect_line(&try_again)?;
        }
        client.expect_line(
            "no answer; give HOST:PORT, such as 127.0.0.1:9006, \
             and start the server first",
        )?;
        client.expect("send> ")?;
        client.type_line("next");
        assert_eq!(server.receive()?.0, b"next", "a fourth try");
        Ok(())
    })
}

/// Each of their datagrams wakes the client, which has time left until then.
#[test]
fn strangers_cannot_keep_the_client_waiting() -> Result {
    let lab = Lab::new();
    let server = lab.udp_server("server")?;
    let stranger = lab.udp_server("stranger")?;
    let mut client = start_client(&lab, server.addr(), &[UNCONNECTED])?;
    client.type_line("hello");
    let victim = Mutex::new(server.receive()?.1);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let to = victim.lock().map(|to| *to);
                let _ = to.map(|to| stranger.socket().send_to(b"!", to));
                thread::yield_now();
            }
        });
        let given_up = (1..TRIES)
            .try_for_each(|_| {
                let (_, from) = server.receive()?;
                if let Ok(mut victim) = victim.lock() {
                    *victim = from;
                }
                Ok(())
            })
            .and_then(|()| client.expect("no answer; "));
        done.store(true, Ordering::Relaxed);
        given_up.map(|_| ())
    })
}

#[test]
#[cfg(unix)]
fn without_a_server_the_connected_client_learns_it_at_once() -> Outcome {
    let lab = Lab::new();
    let (_held, addr) = deaf_socket()?;
    let mut client = start_client(&lab, addr, &[])?;
    client.type_line("hello");
    let line = client.line()?;
    let refused = format!("try 1 of 3: {addr}: Connection refused (os error ");
    assert!(line.starts_with(&refused), "{line}");
    client.expect("no answer; give HOST:PORT, such as ")?;
    client.expect("send> ")?;
    client.end_input();
    client.expect_exit(1)?;

    let mut scene = Transcript::new(&lab, "05-nobody", addr);
    scene.terminal("connected", CLIENT_COMMAND, &client);
    Ok(scene.check()?)
}

/// On Windows it would be told, by `WSAECONNRESET`.
#[test]
#[cfg(unix)]
fn without_a_server_the_unconnected_client_times_out() -> Outcome {
    let lab = Lab::new();
    let (_held, addr) = deaf_socket()?;
    let mut client = start_client(&lab, addr, &[UNCONNECTED])?;
    client.type_line("hello");
    for number in 1..=TRIES {
        let timed_out = format!("try {number} of 3: {addr}: timed out");
        client.expect_line(&timed_out)?;
    }
    client.expect("no answer; give HOST:PORT, such as ")?;
    client.expect("send> ")?;
    client.end_input();
    client.expect_exit(1)?;

    let mut scene = Transcript::new(&lab, "05-nobody", addr);
    let command = format!("{CLIENT_COMMAND} -- 127.0.0.1:9006 {UNCONNECTED}");
    scene.terminal("unconnected", &command, &client);
    Ok(scene.check()?)
}

#[test]
#[cfg(unix)]
fn a_refusal_turns_up_at_the_call_after_the_one_that_caused_it() -> Outcome {
    let (_held, addr) = deaf_socket()?;
    let connected = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    connected.connect(addr)?;
    assert_eq!(connected.send(b"hello")?, 5);
    let next = connected.recv(&mut [0; 16]).map_err(|error| error.kind());
    assert_eq!(next, Err(io::ErrorKind::ConnectionRefused));
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn a_refusal_is_reported_although_a_server_has_started_since() -> Outcome {
    // Somebody else may take the port in between, hence more than one try.
    for _ in 0..10 {
        let addr = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let connected = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        connected.connect(addr)?;
        connected.send(b"nobody is there")?;
        let Ok(server) = UdpSocket::bind(addr) else {
            continue;
        };
        let Err(refused) = connected.send(b"refused") else {
            continue;
        };
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        connected.send(b"third")?;
        server.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut buffer = [0; 16];
        assert_eq!(server.recv(&mut buffer)?, b"third".len());
        return Ok(());
    }
    panic!("the port was taken each time");
}

#[test]
fn connecting_sends_nothing() -> Result {
    let lab = Lab::new();
    let server = lab.udp_server("server")?;
    let _connected = lab.udp("connected", server.addr())?;
    let other = lab.udp("other", server.addr())?;
    other.send("first")?;
    assert_eq!(server.receive()?.0, b"first");
    Ok(())
}

/// The wait for an answer is one of the calls that SIGCONT interrupts.
#[test]
#[cfg(target_os = "linux")]
fn a_client_that_was_stopped_goes_on_waiting() -> Result {
    let lab = Lab::new();
    let server = lab.udp_server("server")?;
    let mut client = start_client(&lab, server.addr(), &[])?;
    client.type_line("hello");
    let (_, from) = server.receive()?;
    client.wait_until_blocked_in(&["recvfrom"])?;
    client.suspend();
    client.wait_until_stopped(true)?;
    client.resume();
    client.wait_until_stopped(false)?;
    server.send_to("hello", from)?;
    // If that was too late, a later try is answered.
    thread::spawn(move || {
        while let Ok((question, from)) = server.receive() {
            let _ = server.send_to(question, from);
        }
    });
    let shown = client.expect("received: hello\n")?;
    assert!(!shown.contains("nterrupted"), "{shown}");
    Ok(())
}

// The keyboard, and the exit code.

/// What the client, given `input` and then the end of it, exits with, when
/// the server answers the questions that begin with `yes`.
fn exit_code(input: impl AsRef<[u8]>) -> Result<Option<i32>> {
    let lab = Lab::new();
    let server = lab.udp_server("server")?;
    let mut client = start_client(&lab, server.addr(), &[])?;
    thread::spawn(move || {
        while let Ok((question, from)) = server.receive() {
            if question.starts_with(b"yes") {
                let _ = server.send_to(question, from);
            }
        }
    });
    client.type_bytes(input.as_ref());
    client.end_input();
    Ok(client.exit()?.code())
}

#[test]
fn the_exit_code_tells_whether_the_last_line_was_answered() -> Result {
    let cases = [
        (String::new(), 0),
        ("yes\n".to_owned(), 0),
        ("no\n".to_owned(), 1),
        ("no\nyes\n".to_owned(), 0),
        (text(65_508) + "\n", 1),
    ];
    thread::scope(|scope| {
        cases
            .map(|(input, code)| (scope.spawn(|| exit_code(input)), code))
            .into_iter()
            .try_for_each(|(found, code)| {
                assert_eq!(found.join().expect("no panic")?, Some(code));
                Ok(())
            })
    })
}

#[test]
fn a_last_line_without_a_newline_is_sent_too() -> Result {
    let lab = Lab::new();
    let server = lab.udp_server("server")?;
    let mut client = start_client(&lab, server.addr(), &[])?;
    client.type_bytes(b"no newline");
    client.end_input();
    let (question, from) = server.receive()?;
    assert_eq!(question, b"no newline");
    server.send_to("ok", from)?;
    client.expect_line("received: ok")?;
    client.expect_exit(0)
}

/// And its answer is shown, with a replacement for what is not UTF-8.
#[test]
fn a_line_is_sent_as_typed_without_its_newline() -> Result {
    let longest = text(LARGEST).into_bytes();
    let typed: [&[u8]; 6] =
        [b"", b" \t ", b"caf\xe9\xff", b"a\0b", b"\rx", &longest];
    for mode in MODES {
        let lab = Lab::new();
        let server = lab.udp_server("server")?;
        let mut client = start_client(&lab, server.addr(), mode)?;
        for line in typed {
            client.type_bytes(&[line, b"\n"].concat());
            let (question, from) = server.receive()?;
            assert_eq!(question, line);
            server.send_to(line, from)?;
            let shown = String::from_utf8_lossy(line);
            client.expect_line(&format!("received: {shown}"))?;
            client.expect("send> ")?;
        }
        client.type_bytes(b"a\r\n");
        let wanted: &[u8] = if cfg!(windows) { b"a" } else { b"a\r" };
        assert_eq!(server.receive()?.0, wanted);
    }
    Ok(())
}

// Addresses.

#[test]
fn what_is_not_a_servers_address_is_refused_with_an_example() -> Result {
    for addr in harness::bad_addresses() {
        let said = Lab::new().refusal(client_path(), &[addr])?;
        assert!(said.contains("such as 127.0.0.1:"), "{said}");
    }
    Ok(())
}

#[test]
fn anything_but_the_clients_choice_is_refused_with_the_usage() -> Result {
    for choice in ["again", "--connected", ""] {
        let args = ["127.0.0.1:1", choice];
        let said = Lab::new().refusal(client_path(), &args)?;
        let usage = "usage: udp-client [HOST:PORT [--unconnected]]";
        assert_eq!(said, format!("Error: {usage}"));
    }
    Ok(())
}

#[test]
fn the_client_reaches_a_name_and_an_ipv6_address() -> Result {
    let lab = Lab::new();
    for addr in ["localhost:0", "[::1]:0"] {
        if addr == "[::1]:0" && !harness::has_ipv6() {
            continue;
        }
        for mode in MODES {
            let mut server = lab.start("server", server_path(), &[addr])?;
            let port = server.wait_until_listening()?.port();
            let reached = format!("{}{port}", &addr[..addr.len() - 1]);
            let args = [&[reached.as_str()], mode].concat();
            let mut client = lab.start("client", client_path(), &args)?;
            client.type_line("hello");
            client.expect("received: hello\n")?;
        }
    }
    Ok(())
}

/// Whichever of the two is asked first.
#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs root"]
fn each_address_of_a_name_is_asked() -> Result {
    for host in ["127.0.0.2:0", "127.0.0.3:0"] {
        in_both_modes(|mode| {
            let lab = Lab::new();
            let (_server, addr) = lab.start_server(server_path(), &[host])?;
            let name = format!("two-addresses:{}", addr.port());
            let args = [&[name.as_str()], mode].concat();
            let client = harness::namespace::with_two_addresses(
                "two-addresses",
                client_path(),
                &args,
            );
            let mut client = lab.start_command("client", client)?;
            client.type_line("hello");
            client.expect("received: hello\n")?;
            client.type_line("and again");
            // The address that answered is asked first from now on.
            client.expect_line("send> received: and again")
        })?;
    }
    Ok(())
}

/// To a client on the same machine, Linux answers from 127.0.0.1, whichever
/// of the machine's loopback addresses was asked.
#[test]
#[cfg(target_os = "linux")]
fn a_server_on_every_address_answers_from_another() -> Result {
    let lab = Lab::new();
    let mut server = lab.start("server", server_path(), &["0.0.0.0:0"])?;
    let port = server.wait_until_listening()?.port();
    let asked = SocketAddr::from(([127, 0, 0, 2], port));
    in_both_modes(|mode| {
        let mut client = start_client(&lab, asked, mode)?;
        client.type_line("hello");
        for number in 1..=TRIES {
            let timed_out = format!("try {number} of 3: {asked}: timed out");
            client.expect_line(&timed_out)?;
        }
        client.expect("no answer; ")?;
        client.expect("send> ")?;
        if mode.is_empty() {
            let mut scene = Transcript::new(&lab, "05-wildcard", asked);
            let shown = format!(
                "$ {CLIENT_COMMAND} -- 127.0.0.2:9006\n{}",
                client.screen()
            );
            let shown = shown.replace(&asked.to_string(), "127.0.0.2:9006");
            scene.text("client", &shown);
            scene.check()?;
        }
        Ok(())
    })?;
    lab.good_client_gets_datagram(([127, 0, 0, 1], port).into())
}

// Forged addresses.

/// Server `a` has a datagram from server `b` to answer that `b` never sent.
#[cfg(target_os = "linux")]
fn two_servers_and_a_forged_datagram(
    lab: &Lab,
) -> std::result::Result<[(Program, SocketAddr); 2], Box<dyn Error>> {
    let (a, a_addr) = start_server(lab)?;
    a.suspend();
    a.wait_until_stopped(true)?;
    // Without raw sockets: whoever has a port signs for who has it next.
    let forger = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let b_addr = forger.local_addr()?;
    forger.send_to(b"psst", a_addr)?;
    drop(forger);
    let mut b = lab.start("b", server_path(), &[&b_addr.to_string()])?;
    b.wait_until_listening()?;
    a.resume();
    a.wait_until_stopped(false)?;
    Ok([(a, a_addr), (b, b_addr)])
}

#[test]
#[cfg(target_os = "linux")]
fn two_servers_and_one_forged_datagram_never_stop() -> Outcome {
    let lab = Lab::new();
    // Somebody else may take the port in between, hence more than one try.
    let servers = (0..10)
        .map(|_| two_servers_and_a_forged_datagram(&lab))
        .find_map(|servers| servers.ok())
        .ok_or("no two servers")?;
    lab.wait_until("both have worked for 50 ms", || {
        servers.iter().all(|(server, _)| {
            harness::proc::cpu_time(server.id())
                .is_some_and(|used| used >= Duration::from_millis(50))
        })
    })?;
    for (_, addr) in &servers {
        lab.good_client_gets_datagram(*addr)?;
    }
    Ok(())
}

/// A source port of 0 means that no answer is possible (RFC 768), and only a
/// raw socket can send it.
#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs root"]
fn a_sender_who_cannot_be_answered_is_a_line_each_time() -> Outcome {
    use socket2::{Domain, Protocol, Socket, Type};
    let lab = Lab::new();
    let (mut server, addr) = start_server(&lab)?;
    let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP));
    let raw = match raw {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            println!("skipped: a raw socket needs root");
            return Ok(());
        }
        raw => raw?,
    };
    let [high, low] = addr.port().to_be_bytes();
    // Source port, destination port, length, no checksum, and one byte.
    let datagram = [0, 0, high, low, 0, 9, 0, 0, b'x'];
    for _ in 0..10 {
        raw.send_to(&datagram, &addr.into())?;
    }
    for _ in 0..10 {
        let line = server.error_line()?;
        let wanted =
            "cannot answer 127.0.0.1:0: Invalid argument (os error 22)";
        assert_eq!(line, wanted);
    }
    Ok(lab.good_client_gets_datagram(addr)?)
}

// The system calls.

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs strace"]
fn both_flows_make_the_system_calls_of_the_chapter() -> Result {
    let lab = Lab::new();
    let options = ["-e", "trace=%net,close"];
    let (mut server, addr) =
        lab.trace_server(&options, server_path(), &["127.0.0.1:0"])?;
    let addr = addr.to_string();
    let connected = "socket bind connect sendto setsockopt recvfrom close";
    let unconnected = "socket bind sendto setsockopt recvfrom close";
    for (mode, flow) in MODES.into_iter().zip([connected, unconnected]) {
        let args = [&[addr.as_str()], mode].concat();
        let mut client = lab.start_command(
            "client",
            strace::command(&options, client_path(), &args),
        )?;
        client.type_line("hello");
        client.expect("received: hello\n")?;
        client.expect_error("recvfrom(")?;
        client.expect_error("close(")?;
        assert_eq!(strace::flow(&client.stderr()), flow);
    }
    server.expect_error("sendto(")?;
    server.expect_error("sendto(")?;
    server.expect_error("recvfrom(")?;
    assert_eq!(
        strace::flow(&server.stderr()),
        "socket bind getsockname recvfrom sendto recvfrom sendto recvfrom"
    );
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs strace"]
fn a_failing_send_is_a_line_and_hinders_nobody() -> Result {
    let lab = Lab::new();
    let fail = "inject=sendto:error=EPERM:when=1..3";
    let trace = "trace=recvfrom,sendto,clock_nanosleep";
    let options = ["-e", trace, "-e", fail];
    let (mut server, addr) =
        lab.trace_server(&options, server_path(), &["127.0.0.1:0"])?;
    let a = lab.udp("a", addr)?;
    for text in ["1", "2", "3", "4"] {
        a.send(text)?;
    }
    a.expect("4")?;
    for _ in 0..3 {
        server.expect_error("\ncannot answer 127.0.0.1:")?;
        server.expect_error("(os error 1)\n")?;
    }
    // No pause, however short.
    lab.wait_until("the server waits again", || {
        let calls = strace::calls(&server.stderr());
        let names = calls.iter().map(|call| call.name.as_str());
        names.eq(["recvfrom", "sendto"].into_iter().cycle().take(9))
    })
}

// Python on the other side.

const PYTHON_CLIENT: &str = r#"
import socket, sys
server = ("127.0.0.1", int(sys.argv[1]))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for text in ["hello", "你好", "", "x" * 9000]:
    s.sendto(text.encode(), server)
    data, sender = s.recvfrom(65535)
    assert sender == server
    assert data.decode() == text
print("well", flush=True)
"#;

const PYTHON_SERVER: &str = r#"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 0))
print("listening on 127.0.0.1:%d" % s.getsockname()[1], flush=True)
while True:
    data, sender = s.recvfrom(65535)
    s.sendto(b"got " + data, sender)
"#;

#[test]
#[ignore = "needs python3"]
fn a_python_client_is_answered() -> Result {
    let lab = Lab::new();
    let (_server, addr) = start_server(&lab)?;
    let port = addr.port().to_string();
    let args = ["-c", PYTHON_CLIENT, &port];
    let mut python = lab.start("python", Path::new("python3"), &args)?;
    python.expect_line("well")?;
    python.expect_exit(0)
}

#[test]
#[ignore = "needs python3"]
fn a_python_server_is_asked() -> Result {
    for mode in MODES {
        let lab = Lab::new();
        let args = ["-c", PYTHON_SERVER];
        let mut python = lab.start("python", Path::new("python3"), &args)?;
        let mut client =
            start_client(&lab, python.wait_until_listening()?, mode)?;
        for text in ["hello", "你好", ""] {
            client.type_line(text);
            client.expect_line(&format!("received: got {text}"))?;
            client.expect("send> ")?;
        }
        client.end_input();
        client.expect_exit(0)?;
    }
    Ok(())
}
