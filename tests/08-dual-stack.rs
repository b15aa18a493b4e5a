//! Lesson 08 does what its chapter says: from a name to a connection.

use std::io::{self, ErrorKind};
use std::net::{
    Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream,
    ToSocketAddrs,
};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;
use harness::{Lab, Program, Result, Transcript, has_ipv6};
use socket2::{Domain, Protocol, Socket, Type};

#[path = "../crates/08-dual-stack/src/connect.rs"]
mod connect;

const SERVER_COMMAND: &str = "cargo run -p lesson-08-dual-stack";
const CLIENT_COMMAND: &str = "cargo run --bin dual-client --";
const BOTH: &str = "[::]:0";

/// For what meets both the harness and a socket of its own.
type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

fn server_path() -> &'static Path {
    cargo_bin!("lesson-08-dual-stack")
}

fn start_client(lab: &Lab, addrs: &[&str]) -> Result<Program> {
    lab.start("client", cargo_bin!("dual-client"), addrs)
}

fn v4(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn v6(port: u16) -> SocketAddr {
    (Ipv6Addr::LOCALHOST, port).into()
}

fn ipv6_socket() -> io::Result<Socket> {
    Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))
}

/// A listener at `[::]`, and its port.
fn wildcard(only_v6: bool) -> io::Result<(TcpListener, u16)> {
    let socket = ipv6_socket()?;
    socket.set_only_v6(only_v6)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into())?;
    socket.listen(5)?;
    let listener = TcpListener::from(socket);
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

/// An address of this machine at which nobody listens: the socket has the
/// port, so that nobody else gets it.
fn refusing(addr: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let domain = Domain::for_address(addr);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&addr.into())?;
    let addr = socket.local_addr()?.as_socket();
    Ok((socket, addr.expect("it is TCP's")))
}

/// An address that does not answer: its accept queue is full.
#[cfg(target_os = "linux")]
fn dead(addr: SocketAddr) -> io::Result<(Socket, TcpStream, SocketAddr)> {
    let (socket, addr) = refusing(addr)?;
    socket.listen(0)?;
    Ok((socket, TcpStream::connect(addr)?, addr))
}

// One listener, two families.

#[test]
fn transcript_one_listener_serves_both_families() -> Result {
    if !has_ipv6() {
        return Ok(());
    }
    let lab = Lab::new();
    let (mut server, addr) = lab.start_server(server_path(), &[BOTH])?;
    for addr in [v6(addr.port()), v4(addr.port())] {
        let mut client = start_client(&lab, &[&addr.to_string()])?;
        client.expect(&format!("connected to {addr}\nsend> "))?;
        client.type_line("which way did I come?");
        server.expect("\nreply> ")?;
        server.type_line("look at my terminal");
        client.expect("received: look at my terminal\nsend> ")?;
        client.end_input();
        client.expect_exit(0)?;
        server.expect(" closed the connection\n")?;
    }
    let mut scene = Transcript::new(&lab, "08-both", addr);
    let command = format!("{SERVER_COMMAND} -- '[::]:9006'");
    scene.terminal("server", &command, &server);
    scene.check()
}

#[test]
fn each_client_is_shown_with_an_address_of_its_own_family() -> Result {
    if !has_ipv6() {
        return Ok(());
    }
    let lab = Lab::new();
    let (mut server, addr) = lab.start_server(server_path(), &[BOTH])?;
    assert_eq!(addr.ip(), Ipv6Addr::UNSPECIFIED);
    for to in [v4(addr.port()), v6(addr.port())] {
        let peer = lab.connect("peer", to)?;
        let local = peer.local_addr()?;
        server.expect_line(&format!("{local} connected"))?;
        peer.reset()?;
        server.expect_complaint_about(local)?;
    }
    Ok(())
}

#[test]
fn a_mapped_loopback_address_does_not_count_as_loopback() -> Outcome {
    if !has_ipv6() {
        return Ok(());
    }
    let (listener, port) = wildcard(false)?;
    let client = TcpStream::connect(v4(port))?;
    let (_, peer) = listener.accept()?;
    let local = client.local_addr()?;
    assert_eq!(
        peer.to_string(),
        format!("[::ffff:{}]:{}", local.ip(), local.port())
    );
    assert!(!peer.ip().is_loopback());
    assert_ne!(peer, local);
    assert_eq!(peer.ip().to_canonical(), local.ip());
    assert!(peer.ip().to_canonical().is_loopback());
    Ok(())
}

#[test]
fn with_v6only_nobody_listens_for_ipv4() -> Outcome {
    if !has_ipv6() {
        return Ok(());
    }
    let (_listener, port) = wildcard(true)?;
    TcpStream::connect(v6(port))?;
    let refused = TcpStream::connect(v4(port)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn v6only_cannot_be_changed_after_bind() -> Outcome {
    if !has_ipv6() {
        return Ok(());
    }
    let (listener, _) = wildcard(true)?;
    let error = Socket::from(listener).set_only_v6(false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn the_wildcard_is_refused_while_anybody_has_the_port() -> Outcome {
    if !has_ipv6() {
        return Ok(());
    }
    let lab = Lab::new();
    let other = TcpListener::bind(v4(0))?;
    let addr = format!("[::]:{}", other.local_addr()?.port());
    let said = lab.refusal(server_path(), &[&addr])?;
    assert!(
        said.contains(&format!("cannot listen on {addr}: ")),
        "{said}"
    );
    assert!(said.contains("in use"), "{said}");
    // And it has the port for IPv4 as well.
    let (mut server, addr) = lab.start_server(server_path(), &[BOTH])?;
    for ip in ["0.0.0.0", "127.0.0.1"] {
        let addr = format!("{ip}:{}", addr.port());
        let said = lab.refusal(server_path(), &[&addr])?;
        assert!(said.contains("in use"), "{said}");
    }
    lab.good_client_gets_reply(&mut server, v4(addr.port()))?;
    Ok(())
}

/// In a namespace of its own, whose IPv6 is switched off.
#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs unshare"]
fn without_ipv6_the_wildcard_still_serves_ipv4() -> Result {
    const NAMESPACE: [&str; 2] = ["--map-root-user", "--net"];
    let mut attempt = Command::new("unshare");
    let attempt = attempt.args(NAMESPACE).arg("true").status();
    if !attempt.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no namespaces for this user");
        return Ok(());
    }
    let lab = Lab::new();
    let without_ipv6 = |addr: &str| {
        let mut command = Command::new("unshare");
        let script = "ip link set lo up && \
            echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6 && exec \"$@\"";
        command
            .args(NAMESPACE)
            .args(["sh", "-ec", script, "sh"])
            .args([server_path().as_os_str(), addr.as_ref()]);
        command
    };
    let said = lab.refusal_of(without_ipv6("[::1]:0"))?;
    let wanted = "Error: cannot listen on [::1]:0: \
        Cannot assign requested address";
    assert!(said.starts_with(wanted), "{said}");
    let mut server = lab.start_command("server", without_ipv6("[::]:0"))?;
    assert_eq!(server.wait_until_listening()?.ip(), Ipv6Addr::UNSPECIFIED);
    Ok(())
}

// Every address in turn.

/// Standard output and error by one pipe, so that their order is the client's.
#[test]
fn transcript_the_first_address_that_answers_is_kept() -> Outcome {
    if cfg!(windows) {
        eprintln!("skipped: there is no sh");
        return Ok(());
    }
    if !has_ipv6() {
        return Ok(());
    }
    let lab = Lab::new();
    let (mut server, addr) =
        lab.start_server(server_path(), &["127.0.0.1:0"])?;
    // The same port, which nobody else may get meanwhile.
    let (_reserved, refusing) = refusing(v6(addr.port()))?;
    let mut command = Command::new("sh");
    command
        .args(["-c", "exec \"$@\" 2>&1", "sh"])
        .arg(cargo_bin!("dual-client"))
        .args([refusing.to_string(), addr.to_string()]);
    let mut client = lab.start_command("client", command)?;
    client.expect("send> ")?;
    client.type_line("Hello, can you hear me?");
    server.expect("\nreply> ")?;
    server.type_line("Yes, by IPv4.");
    client.expect("received: Yes, by IPv4.\nsend> ")?;
    client.end_input();
    client.expect_exit(0)?;
    let mut scene = Transcript::new(&lab, "08-in-turn", addr);
    let command = format!("{CLIENT_COMMAND} '[::1]:9006' 127.0.0.1:9006");
    scene.terminal("client", &command, &client);
    scene.check()?;
    Ok(())
}

#[test]
fn the_addresses_behind_the_first_success_are_not_tried() -> Outcome {
    let (first, second) =
        (TcpListener::bind(v4(0))?, TcpListener::bind(v4(0))?);
    let addrs = [first.local_addr()?, second.local_addr()?];
    let stream = connect::in_turn(&addrs, Duration::from_secs(20));
    assert_eq!(stream.expect("two listen").peer_addr()?, addrs[0]);
    second.set_nonblocking(true)?;
    let nobody = second.accept().unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::WouldBlock);
    Ok(())
}

#[test]
fn every_failure_is_told_and_the_end_says_what_to_do() -> Outcome {
    let lab = Lab::new();
    let (_a, a) = refusing(v4(0))?;
    let (_b, b) = refusing(v4(0))?;
    let addrs = [a.to_string(), "nonsense".into(), b.to_string()];
    let mut client = start_client(&lab, &addrs.each_ref().map(|a| &**a))?;
    client.expect_exit(1)?;
    let said = String::from_utf8(client.stderr())?;
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].starts_with("nonsense: "), "{said}");
    for (line, addr) in lines[1..].iter().zip([a, b]) {
        assert!(line.starts_with(&format!("{addr}: ")), "{said}");
        assert!(line.contains("refused"), "{said}");
    }
    let hint = "start the server first, \
        or give its HOST:PORT, such as 127.0.0.1:9006";
    let end = format!("Error: cannot reach {}; {hint}", addrs.join(", "));
    assert_eq!(lines[3], end);
    assert_eq!(client.stdout(), b"");
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn std_tries_every_address_too_and_says_the_last_error_only() -> Outcome {
    if !has_ipv6() {
        return Ok(());
    }
    let live = TcpListener::bind(v4(0))?;
    let (_socket, refusing) = refusing(v4(0))?;
    let addrs = [refusing, live.local_addr()?];
    assert_eq!(TcpStream::connect(&addrs[..])?.peer_addr()?, addrs[1]);
    let addrs = [refusing, "[fe80::1]:9006".parse()?];
    let error = TcpStream::connect(&addrs[..]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    Ok(())
}

#[test]
fn a_name_may_stand_for_several_addresses() -> Outcome {
    let addrs: Vec<_> = ("localhost", 9006).to_socket_addrs()?.collect();
    assert_eq!(connect::resolve(&["localhost:9006".into()]), addrs);
    assert!(
        addrs.iter().all(|addr| addr.ip().is_loopback()),
        "{addrs:?}"
    );
    if addrs.len() == 1 {
        eprintln!("skipped: localhost has one address only, {}", addrs[0]);
        return Ok(());
    }
    let lab = Lab::new();
    let server = ["127.0.0.1:0"];
    let (_server, addr) = lab.start_server(server_path(), &server)?;
    let (_reserved, _) = refusing(v6(addr.port()))?;
    let name = format!("localhost:{}", addr.port());
    let mut client = start_client(&lab, &[&name])?;
    client.expect(&format!("connected to {addr}\n"))?;
    Ok(())
}

// An address that does not answer.

#[test]
#[cfg(target_os = "linux")]
fn an_address_that_does_not_answer_costs_its_timeout() -> Outcome {
    const TIMEOUT: Duration = Duration::from_millis(100);
    let (_full, _waits, dead) = dead(v4(0))?;
    let live = TcpListener::bind(v4(0))?;
    let addrs = [dead, live.local_addr()?];
    let start = std::time::Instant::now();
    let stream = connect::in_turn(&addrs, TIMEOUT);
    assert!(start.elapsed() >= TIMEOUT);
    assert_eq!(stream.expect("one listens").peer_addr()?, addrs[1]);
    Ok(())
}

#[cfg(target_os = "linux")]
fn run(lab: &Lab, addrs: &[SocketAddr]) -> Result<Program> {
    let addrs: Vec<_> = addrs.iter().map(SocketAddr::to_string).collect();
    let args: Vec<_> = addrs.iter().map(String::as_str).collect();
    lab.start(
        "happy",
        &harness::example("lesson-08-dual-stack", "happy-eyeballs")?,
        &args,
    )
}

/// In turn, the dead address would have been told before the other was tried.
#[test]
#[cfg(target_os = "linux")]
fn happy_eyeballs_do_not_wait_for_a_dead_first_address() -> Outcome {
    let lab = Lab::new();
    let (_full, _waits, dead) = dead(v4(0))?;
    let listener = lab.listen("live")?;
    let (_socket, refusing) = refusing(v4(0))?;
    let mut happy = run(&lab, &[dead, refusing, listener.addr()])?;
    happy.expect_exit(0)?;
    let said = String::from_utf8(happy.stdout())?;
    let wanted = format!("connected to {} after ", listener.addr());
    assert!(said.starts_with(&wanted), "{said}");
    let told = String::from_utf8(happy.stderr())?;
    assert!(told.starts_with(&format!("{refusing}: ")), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn happy_eyeballs_try_the_other_family_next() -> Outcome {
    if !has_ipv6() {
        return Ok(());
    }
    let lab = Lab::new();
    let (_full, _waits, dead) = dead(v6(0))?;
    let (six, four) = (TcpListener::bind(v6(0))?, TcpListener::bind(v4(0))?);
    let [six, four_addr] = [six.local_addr()?, four.local_addr()?];
    let mut happy = run(&lab, &[dead, six, four_addr])?;
    happy.expect(&format!("connected to {four_addr} after "))?;
    happy.expect_exit(0)?;
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn happy_eyeballs_wait_for_an_answer_until_all_have_failed() -> Outcome {
    let lab = Lab::new();
    let (_full, _waits, dead) = dead(v4(0))?;
    let (_socket, refusing) = refusing(v4(0))?;
    let mut happy = run(&lab, &[dead, refusing])?;
    happy.expect_exit(1)?;
    let told = String::from_utf8(happy.stderr())?;
    let lines: Vec<_> = told.lines().collect();
    assert!(lines[0].starts_with(&format!("{refusing}: ")), "{told}");
    assert_eq!(lines[1], format!("{dead}: connection timed out"));
    assert_eq!(lines[2], "Error: no address answered");
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn the_dead_address_of_the_experiment_does_not_answer() -> Outcome {
    let lab = Lab::new();
    let example = harness::example("lesson-08-dual-stack", "dead-address")?;
    let mut program = lab.start("dead", &example, &["127.0.0.1:0"])?;
    let line = program.line()?;
    let (_, rest) = line.split_once("answered at ").ok_or(line.clone())?;
    let (addr, _) = rest.split_once(';').ok_or(line.clone())?;
    let addr = addr.parse()?;
    let error = TcpStream::connect_timeout(&addr, Duration::from_millis(100));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::TimedOut);
    program.type_line("");
    program.expect_exit(0)?;
    Ok(())
}

// Addresses.

#[test]
fn a_link_local_address_needs_its_interface_as_a_number() -> Outcome {
    let addr: SocketAddrV6 = "[fe80::1%2]:9006".parse()?;
    assert_eq!(addr.scope_id(), 2);
    assert!("[fe80::1%lo]:9006".parse::<SocketAddrV6>().is_err());
    assert!(addr.ip().is_unicast_link_local());
    if cfg!(target_os = "linux") && has_ipv6() {
        let error = TcpStream::connect("[fe80::1]:9006").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    Ok(())
}

#[test]
fn addresses_that_lead_nowhere_else_are_known_by_their_first_bits() {
    for addr in ["10.0.0.1", "172.16.0.1", "172.31.0.1", "192.168.0.1"] {
        assert!(addr.parse::<Ipv4Addr>().unwrap().is_private(), "{addr}");
    }
    assert!(!"172.32.0.1".parse::<Ipv4Addr>().unwrap().is_private());
    assert!("fd12::1".parse::<Ipv6Addr>().unwrap().is_unique_local());
}
