//! Lesson 02 does what its chapter says, on the real program where the lesson
//! speaks of the program, and with socket2 where it speaks of the kernel.

use std::io;
#[cfg(unix)]
use std::net::Ipv4Addr;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
#[cfg(target_os = "linux")]
use std::{fs, process::Command, time::Duration};

use assert_cmd::cargo::cargo_bin;
use harness::{Lab, Peer, Program, Result};
#[cfg(target_os = "linux")]
use harness::{Transcript, proc, strace};
use socket2::SockRef;
#[cfg(unix)]
use socket2::{Domain, Socket, Type};

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

/// With the option, as the lesson's server does it, or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Reuse,
    NoReuse,
}

use Choice::{NoReuse, Reuse};

const PAIRS: [(Choice, Choice); 4] = [
    (NoReuse, NoReuse),
    (NoReuse, Reuse),
    (Reuse, NoReuse),
    (Reuse, Reuse),
];

fn server_path() -> &'static Path {
    cargo_bin!("lesson-02-reuse-addr")
}

fn start_at(lab: &Lab, addr: &str, choice: Choice) -> Result<Program> {
    let args = [addr, "--no-reuse"];
    let count = if choice == Reuse { 1 } else { 2 };
    lab.start("server", server_path(), &args[..count])
}

fn start(lab: &Lab, choice: Choice) -> Result<(Program, SocketAddr)> {
    let mut server = start_at(lab, "127.0.0.1:0", choice)?;
    let addr = server.wait_until_listening()?;
    Ok((server, addr))
}

/// A client whose message the server has read: nothing is under way, and the
/// operator is asked for a reply.
fn client_whose_message_was_read(
    lab: &Lab,
    server: &mut Program,
    addr: SocketAddr,
) -> Result<Peer> {
    let peer = lab.connect("client", addr)?;
    peer.send("hello\n")?;
    server.expect("received: hello\nreply> ")?;
    Ok(peer)
}

/// A new server with `choice` serves at `addr`, where another has ended.
fn successor_is_served(lab: &Lab, addr: SocketAddr, choice: Choice) -> Outcome {
    let mut new = start_at(lab, &addr.to_string(), choice)?;
    assert_eq!(new.wait_until_listening()?, addr);
    lab.good_client_gets_reply(&mut new, addr)?;
    Ok(())
}

/// A new server with `choice` is told that `addr` is in use.
fn successor_is_refused(
    lab: &Lab,
    addr: SocketAddr,
    choice: Choice,
) -> Outcome {
    let mut new = start_at(lab, &addr.to_string(), choice)?;
    if new.wait_until_listening().is_ok() {
        return Err(format!("{addr} was rebound\n{}", lab.timeline()).into());
    }
    new.expect_exit(1)?;
    let said = String::from_utf8_lossy(&new.stderr()).into_owned();
    assert!(said.starts_with(&format!("Error: cannot listen on {addr}: ")));
    assert!(said.contains("left a connection in TIME-WAIT"), "{said}");
    Ok(())
}

// What the kernel remembers.

/// The state of the connection's end at `local`, if the kernel knows one.
/// (Both ends of a connection on loopback stand in the same table.)
#[cfg(target_os = "linux")]
fn state(local: SocketAddr, remote: SocketAddr) -> Option<&'static str> {
    state_in(&proc::tcp_rows(local.port())?, local, remote)
}

#[cfg(target_os = "linux")]
fn state_in(
    table: &[proc::TcpRow],
    local: SocketAddr,
    remote: SocketAddr,
) -> Option<&'static str> {
    table
        .iter()
        .find(|row| (row.local, row.remote) == (local, remote))
        .map(|row| row.state)
}

/// An address, and a client there whose server has closed first.
#[cfg(target_os = "linux")]
type Left = std::result::Result<(SocketAddr, Peer), Box<dyn std::error::Error>>;

/// A server that had read everything, ended by its operator.
#[cfg(target_os = "linux")]
fn ended(lab: &Lab, choice: Choice) -> Left {
    let (mut server, addr) = start(lab, choice)?;
    let client = client_whose_message_was_read(lab, &mut server, addr)?;
    server.end_input();
    server.expect("goodbye\n")?;
    server.expect_exit(0)?;
    Ok((addr, client))
}

/// A server that had read everything, killed.
#[cfg(target_os = "linux")]
fn killed(lab: &Lab, at: &str, choice: Choice) -> Left {
    let mut server = start_at(lab, at, choice)?;
    let addr = server.wait_until_listening()?;
    let client = client_whose_message_was_read(lab, &mut server, addr)?;
    server.kill()?;
    Ok((addr, client))
}

#[cfg(target_os = "linux")]
fn wait_for_state(
    lab: &Lab,
    local: SocketAddr,
    remote: SocketAddr,
    wanted: &str,
) -> Result {
    let step = format!(
        "{local} to {remote} is in {wanted} (of TIME-WAIT Linux keeps only \
         net.ipv4.tcp_max_tw_buckets)"
    );
    lab.wait_until(&step, || state(local, remote) == Some(wanted))
}

/// Lets the client close after its server, and gives its address.
///
/// Not before its kernel has acknowledged the server's FIN: on a busy machine
/// its own FIN can overtake that ACK. The late ACK is then answered from
/// TIME-WAIT, the answer meets a closed socket, and the reset which this
/// causes ends TIME-WAIT. (RFC 1337 calls it assassination.)
#[cfg(target_os = "linux")]
fn closes_second(
    lab: &Lab,
    mut client: Peer,
    addr: SocketAddr,
) -> Result<SocketAddr> {
    let local = client.local_addr()?;
    client.expect_end()?;
    wait_for_state(lab, addr, local, "FIN-WAIT-2")?;
    client.close();
    wait_for_state(lab, addr, local, "TIME-WAIT")?;
    Ok(local)
}

/// Makes an experiment while the server's end is in TIME-WAIT.
#[cfg(target_os = "linux")]
fn with_time_wait(
    leave: impl Fn(&Lab) -> Left,
    experiment: impl Fn(&Lab, SocketAddr) -> Outcome,
) -> Outcome {
    let lab = Lab::new();
    let (addr, client) = leave(&lab)?;
    let local = closes_second(&lab, client, addr)?;
    experiment(&lab, addr)?;
    // What was in the way, or would have been, is still there.
    assert_eq!(state(addr, local), Some("TIME-WAIT"));
    Ok(())
}

// The option: who may follow whom.

#[test]
#[cfg(target_os = "linux")]
fn only_two_servers_that_both_set_the_option_follow_each_other() -> Outcome {
    for (old, new) in PAIRS {
        with_time_wait(
            |lab| ended(lab, old),
            |lab, addr| match (old, new) {
                (Reuse, Reuse) => successor_is_served(lab, addr, new),
                _ => successor_is_refused(lab, addr, new),
            },
        )?;
    }
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn a_port_in_use_is_refused_with_what_to_do() -> Outcome {
    let lab = Lab::new();
    let (_server, addr) = start(&lab, NoReuse)?;
    let said =
        lab.refusal(server_path(), &[&addr.to_string(), "--no-reuse"])?;
    assert_eq!(
        said,
        format!(
            "Error: cannot listen on {addr}: Address already in use \
             (os error 98); another program has it, or an earlier server \
             left a connection in TIME-WAIT; stop that program, or wait a \
             minute or two; give a free HOST:PORT of this machine, such as 127.0.0.1:0, \
             which stands for any free one"
        )
    );
    Ok(())
}

#[test]
fn a_second_live_copy_is_refused_with_both_settings() -> Outcome {
    for (old, new) in PAIRS {
        let lab = Lab::new();
        let (mut server, addr) = start(&lab, old)?;
        successor_is_refused(&lab, addr, new)?;
        let mut client =
            client_whose_message_was_read(&lab, &mut server, addr)?;
        successor_is_refused(&lab, addr, new)?;
        server.type_line("I am still here");
        client.expect("I am still here\n")?;
        client.close();
        server.expect(" closed the connection\n")?;
        lab.good_client_gets_reply(&mut server, addr)?;
    }
    Ok(())
}

// The same on the page.

#[cfg(target_os = "linux")]
const CLIENT_COMMAND: &str = "cargo run --bin client -- 127.0.0.1:9007";

#[cfg(target_os = "linux")]
fn server_command(choice: Choice) -> &'static str {
    match choice {
        Reuse => "cargo run -p lesson-02-reuse-addr",
        NoReuse => {
            "cargo run -p lesson-02-reuse-addr -- 127.0.0.1:9007 --no-reuse"
        }
    }
}

/// The operator ends the server while the lesson's client waits for a reply.
#[cfg(target_os = "linux")]
fn operator_closes_first(
    lab: &Lab,
    server: &mut Program,
    addr: SocketAddr,
) -> Result<Program> {
    let mut client = lab.start_client("client", addr)?;
    client.expect("send> ")?;
    client.type_line("Are you open tomorrow?");
    server.expect("received: Are you open tomorrow?\nreply> ")?;
    server.end_input();
    server.expect("goodbye\n")?;
    server.expect_exit(0)?;
    client.expect_line("server closed the connection")?;
    client.expect_exit(1)?;
    Ok(client)
}

/// One terminal, in which a server was started twice.
#[cfg(target_os = "linux")]
fn two_runs(choice: Choice, first: &Program, second: &Program) -> String {
    let command = server_command(choice);
    let (first, second) = (first.screen(), second.screen());
    format!("$ {command}\n{first}$ {command}\n{second}")
}

#[test]
#[cfg(target_os = "linux")]
fn transcript_without_the_option_a_restart_is_refused() -> Outcome {
    const ATTEMPTS: usize = 10;
    for _ in 0..ATTEMPTS {
        let lab = Lab::new();
        let (mut server, addr) = start(&lab, NoReuse)?;
        let client = operator_closes_first(&lab, &mut server, addr)?;
        let mut again = start_at(&lab, &addr.to_string(), NoReuse)?;
        if again.wait_until_listening().is_ok() {
            continue; // TIME-WAIT was lost: see `closes_second`.
        }
        again.expect_exit(1)?;

        let mut scene = Transcript::new(&lab, "02-no-reuse", addr);
        let shown = two_runs(NoReuse, &server, &again);
        // A port of its own, lest the next run be refused.
        let shown = shown.replace(&addr.to_string(), "127.0.0.1:9007");
        scene.text("server", &shown);
        scene.terminal("client", CLIENT_COMMAND, &client);
        scene.check()?;
        return Ok(());
    }
    Err(format!("rebound without the option, {ATTEMPTS} times").into())
}

#[test]
#[cfg(target_os = "linux")]
fn transcript_with_the_option_a_restart_is_served() -> Result {
    let lab = Lab::new();
    let (mut server, addr) = start(&lab, Reuse)?;
    operator_closes_first(&lab, &mut server, addr)?;
    let mut again = start_at(&lab, &addr.to_string(), Reuse)?;
    again.wait_until_listening()?;
    let mut client = lab.start_client("client", addr)?;
    client.expect("send> ")?;
    client.type_line("And now?");
    again.expect("received: And now?\nreply> ")?;
    again.type_line("We are.");
    client.expect_line("received: We are.")?;

    let mut scene = Transcript::new(&lab, "02-reuse", addr);
    scene.text("server", &two_runs(Reuse, &server, &again));
    scene.check()
}

/// What `ss` says of the sockets that `filter` lets through. (It makes the
/// columns as wide as the terminal; here they are as wide as they must be
/// when the server's port has four digits.)
#[cfg(target_os = "linux")]
fn ss(options: &str, filter: &str) -> io::Result<String> {
    let output = Command::new("ss").args([options, filter]).output()?;
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let rows = output.lines().skip(1).map(|line| {
        let mut fields = line.split_whitespace();
        std::array::from_fn(|_| fields.next().unwrap_or_default())
    });
    let head = ["State", "Recv-Q", "Send-Q", "Local Address", "Peer Address"];
    Ok(std::iter::once(head)
        .chain(rows)
        .map(|[state, receive, send, local, peer]| {
            format!("{state:10} {receive:6} {send:6} {local:14} {peer}\n")
        })
        .collect())
}

/// The sockets of the server at `addr`, as a person sees them with ss.
#[cfg(target_os = "linux")]
fn ss_shows(addr: SocketAddr) -> io::Result<String> {
    let seen = ss("-tan", &format!("sport = :{}", addr.port()))?;
    Ok(format!("$ ss -tan 'sport = :9006'\n{seen}"))
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs ss"]
fn ss_shows_what_a_server_leaves_behind() -> Outcome {
    let lab = Lab::new();
    let (mut server, addr) = start(&lab, Reuse)?;
    let client = client_whose_message_was_read(&lab, &mut server, addr)?;
    let connected = ss_shows(addr)?;
    server.end_input();
    server.expect_exit(0)?;
    wait_for_state(&lab, addr, client.local_addr()?, "FIN-WAIT-2")?;
    let half_closed = ss_shows(addr)?;
    closes_second(&lab, client, addr)?;
    let closed = ss_shows(addr)?;
    let mut again = start_at(&lab, &addr.to_string(), Reuse)?;
    again.wait_until_listening()?;
    let restarted = ss_shows(addr)?;

    let mut scene = Transcript::new(&lab, "02-ss", addr);
    scene.text("connected", &connected);
    scene.text("left-behind", &format!("{half_closed}\n{closed}"));
    scene.text("restarted", &restarted);
    scene.check()?;
    Ok(())
}

// Who closes first.

/// Neither if its clients have, nor if there was none.
#[test]
fn a_server_that_did_not_close_first_restarts_at_once() -> Outcome {
    for (old, new) in PAIRS {
        for clients in 0..2 {
            let lab = Lab::new();
            let (mut server, addr) = start(&lab, old)?;
            for _ in 0..clients {
                lab.good_client_gets_reply(&mut server, addr)?;
            }
            server.kill()?;
            successor_is_served(&lab, addr, new)?;
        }
    }
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn a_server_that_closes_first_keeps_time_wait() -> Outcome {
    with_time_wait(|lab| ended(lab, Reuse), |_, _| Ok(()))
}

#[test]
#[cfg(target_os = "linux")]
fn a_client_that_closes_first_keeps_time_wait() -> Outcome {
    let lab = Lab::new();
    let (mut server, addr) = start(&lab, Reuse)?;
    let mut client = client_whose_message_was_read(&lab, &mut server, addr)?;
    let local = client.local_addr()?;
    client.half_close()?;
    wait_for_state(&lab, local, addr, "FIN-WAIT-2")?;
    server.type_line("goodbye");
    server.expect(" closed the connection\n")?;
    client.expect("goodbye\n")?;
    client.expect_end()?;
    client.close();
    wait_for_state(&lab, local, addr, "TIME-WAIT")?;
    assert_eq!(state(addr, local), None);
    Ok(())
}

/// What TIME-WAIT guards is one pair of addresses, and even that can be had
/// again, by a SYN that is newer than all that it remembers.
#[test]
#[cfg(target_os = "linux")]
fn the_same_pair_of_addresses_can_connect_again() -> Outcome {
    // Another loopback address: on 127.0.0.1 its port may be in use by then.
    let any_port = (Ipv4Addr::new(127, 0, 0, 2), 0).into();
    let connect = |from: SocketAddr, to: SocketAddr| {
        let socket = bare_socket()?;
        socket.bind(&from.into())?;
        socket.connect(&to.into()).map(|()| socket)
    };
    let lab = Lab::new();
    let (mut server, addr) = start(&lab, Reuse)?;
    let client = connect(any_port, addr)?;
    let local = address_of(&client)?;
    client.send(b"hello")?;
    server.expect("received: hello\nreply> ")?;
    server.end_input();
    server.expect_exit(0)?;
    wait_for_state(&lab, addr, local, "FIN-WAIT-2")?;
    drop(client);
    wait_for_state(&lab, addr, local, "TIME-WAIT")?;

    let mut again = start_at(&lab, &addr.to_string(), Reuse)?;
    again.wait_until_listening()?;
    assert_eq!(state(addr, local), Some("TIME-WAIT"));
    let _client = connect(local, addr)?;
    again.expect_line(&format!("{local} connected"))?;
    assert_eq!(state(addr, local), Some("ESTABLISHED"));
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn until_the_client_closes_too_the_server_waits_in_fin_wait_2() -> Outcome {
    for (old, new) in PAIRS {
        let lab = Lab::new();
        let (mut server, addr) = start(&lab, old)?;
        let client = client_whose_message_was_read(&lab, &mut server, addr)?;
        let local = client.local_addr()?;
        server.kill()?;
        wait_for_state(&lab, addr, local, "FIN-WAIT-2")?;
        assert_eq!(state(local, addr), Some("CLOSE-WAIT"));
        if (old, new) == (Reuse, Reuse) {
            successor_is_served(&lab, addr, new)?;
        } else {
            successor_is_refused(&lab, addr, new)?;
        }
        assert_eq!(state(addr, local), Some("FIN-WAIT-2"));
    }
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn a_killed_server_that_had_read_everything_leaves_time_wait() -> Outcome {
    with_time_wait(
        |lab| killed(lab, "127.0.0.1:0", NoReuse),
        |lab, addr| successor_is_refused(lab, addr, Reuse),
    )
}

#[test]
#[cfg(target_os = "linux")]
fn a_server_killed_with_unread_bytes_resets_and_leaves_nothing() -> Outcome {
    let lab = Lab::new();
    let (mut server, addr) = start(&lab, NoReuse)?;
    let mut client = client_whose_message_was_read(&lab, &mut server, addr)?;
    client.send("unread")?;
    lab.wait_until("the server's kernel has six bytes", || {
        proc::tcp_rows(addr.port()).is_some_and(|rows| {
            rows.iter()
                .any(|row| row.local == addr && row.receive_queue == 6)
        })
    })?;
    server.kill()?;
    client.expect_reset()?;
    let local = client.local_addr()?;
    assert_eq!(state(addr, local), None);
    assert_eq!(state(local, addr), None);
    successor_is_served(&lab, addr, NoReuse)
}

// The option: when, and by whom.

#[test]
fn std_sets_the_option_for_you_on_unix_only() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let reuse = SockRef::from(&listener).reuse_address()?;
    assert_eq!(reuse, cfg!(unix));
    Ok(())
}

/// Closes a listener of this process. Another thread may just be starting a
/// program, which holds a copy of it until its exec: so wait until it is gone.
#[cfg(target_os = "linux")]
fn close_listener(lab: &Lab, listener: Socket) -> Outcome {
    let addr = address_of(&listener)?;
    drop(listener);
    lab.wait_until(&format!("nobody listens at {addr}"), || {
        proc::accept_queue(addr).is_none()
    })?;
    Ok(())
}

/// A socket, not yet bound, and without options.
#[cfg(unix)]
fn bare_socket() -> io::Result<Socket> {
    Socket::new(Domain::IPV4, Type::STREAM, None)
}

#[cfg(unix)]
fn address_of(socket: &Socket) -> io::Result<SocketAddr> {
    let addr = socket.local_addr()?;
    addr.as_socket().ok_or_else(|| io::ErrorKind::Other.into())
}

#[cfg(unix)]
fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// Listens, lets `lab`'s client connect, and gives both ends.
#[cfg(target_os = "linux")]
fn connection(
    lab: &Lab,
    listener: &Socket,
) -> std::result::Result<(Socket, Peer), Box<dyn std::error::Error>> {
    let client = lab.connect("client", address_of(listener)?)?;
    let (served, _) = listener.accept()?;
    Ok((served, client))
}

#[test]
#[cfg(target_os = "linux")]
fn an_option_set_after_bind_comes_too_late_for_that_bind() -> Outcome {
    with_time_wait(
        |lab| ended(lab, Reuse),
        |_, addr| {
            let socket = bare_socket()?;
            let refused = socket.bind(&addr.into()).err();
            let kind = refused.ok_or("bound without the option")?.kind();
            assert_eq!(kind, io::ErrorKind::AddrInUse);
            socket.set_reuse_address(true)?;
            assert_eq!(address_of(&socket)?.port(), 0, "bound by the option");
            socket.bind(&addr.into())?;
            socket.listen(5)?;
            Ok(())
        },
    )
}

/// A listener made by `make`, which has closed first and is gone.
#[cfg(target_os = "linux")]
fn left_by(lab: &Lab, make: impl Fn(&Socket) -> io::Result<()>) -> Left {
    let listener = bare_socket()?;
    make(&listener)?;
    let addr = address_of(&listener)?;
    let (served, client) = connection(lab, &listener)?;
    drop(served);
    close_listener(lab, listener)?;
    Ok((addr, client))
}

#[test]
#[cfg(target_os = "linux")]
fn an_option_set_after_bind_lets_a_successor_in() -> Outcome {
    for set_after in [false, true] {
        with_time_wait(
            |lab| {
                left_by(lab, |listener| {
                    listener.bind(&any_port().into())?;
                    listener.listen(5)?;
                    listener.set_reuse_address(set_after)
                })
            },
            |lab, addr| {
                successor_is_refused(lab, addr, NoReuse)?;
                match set_after {
                    true => successor_is_served(lab, addr, Reuse),
                    false => successor_is_refused(lab, addr, Reuse),
                }
            },
        )?;
    }
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn two_sockets_with_the_option_can_bind_and_one_can_listen() -> Outcome {
    let (first, second) = (bare_socket()?, bare_socket()?);
    first.set_reuse_address(true)?;
    second.set_reuse_address(true)?;
    first.bind(&any_port().into())?;
    let addr = address_of(&first)?;
    second.bind(&addr.into())?;
    first.listen(5)?;
    let refused = second.listen(5).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    Ok(())
}

// What the option is not.

#[test]
#[cfg(all(unix, not(any(target_os = "solaris", target_os = "illumos"))))]
fn reuse_port_lets_a_second_live_copy_start() -> Outcome {
    let lab = Lab::new();
    let (first, second) = (bare_socket()?, bare_socket()?);
    first.set_reuse_port(true)?;
    second.set_reuse_port(true)?;
    first.bind(&any_port().into())?;
    first.listen(5)?;
    let addr = address_of(&first)?;
    second.bind(&addr.into())?;
    second.listen(5)?;
    // And nobody in who has only the other option, or none.
    successor_is_refused(&lab, addr, Reuse)?;
    successor_is_refused(&lab, addr, NoReuse)?;
    Ok(())
}

/// So it is easily taken for the other.
#[test]
#[cfg(target_os = "linux")]
fn reuse_port_lets_a_successor_in_that_has_it_too() -> Outcome {
    let listen = |listener: &Socket, addr: SocketAddr| {
        listener.set_reuse_port(true)?;
        listener.bind(&addr.into())?;
        listener.listen(5)
    };
    with_time_wait(
        |lab| left_by(lab, |listener| listen(listener, any_port())),
        |lab, addr| {
            successor_is_refused(lab, addr, Reuse)?;
            listen(&bare_socket()?, addr)?;
            Ok(())
        },
    )
}

#[test]
#[cfg(target_os = "linux")]
fn reuse_port_shares_the_clients_out() -> Outcome {
    const CLIENTS: usize = 64;
    let (first, second) = (bare_socket()?, bare_socket()?);
    for socket in [&first, &second] {
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
    }
    first.bind(&any_port().into())?;
    let addr = address_of(&first)?;
    second.bind(&addr.into())?;
    first.listen(CLIENTS as i32)?;
    second.listen(CLIENTS as i32)?;
    let lab = Lab::new();
    let clients: Vec<Peer> = (0..CLIENTS)
        .map(|_| lab.connect("client", addr))
        .collect::<Result<_>>()?;
    let mut counts = [0; 2];
    lab.wait_until("both listeners together have all clients", || {
        for (listener, count) in [&first, &second].iter().zip(&mut counts) {
            while listener.accept().is_ok() {
                *count += 1;
            }
        }
        counts[0] + counts[1] == clients.len()
    })?;
    assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn linger_zero_leaves_no_time_wait_because_it_resets() -> Outcome {
    let lab = Lab::new();
    let listener = bare_socket()?;
    listener.bind(&any_port().into())?;
    listener.listen(5)?;
    let addr = address_of(&listener)?;
    let (served, mut client) = connection(&lab, &listener)?;
    served.set_linger(Some(Duration::ZERO))?;
    drop(served);
    client.expect_reset()?;
    close_listener(&lab, listener)?;
    let local = client.local_addr()?;
    assert_eq!(state(addr, local), None);
    assert_eq!(state(local, addr), None);
    successor_is_served(&lab, addr, NoReuse)?;
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn linger_zero_throws_away_what_was_not_yet_delivered() -> Outcome {
    use std::io::{ErrorKind, Write};
    for linger in [None, Some(Duration::ZERO)] {
        let lab = Lab::new();
        let listener = bare_socket()?;
        listener.bind(&any_port().into())?;
        listener.listen(5)?;
        let (mut served, client) = connection(&lab, &listener)?;
        // More than the client's kernel takes while the client reads nothing.
        served.set_nonblocking(true)?;
        let mut written = 0;
        let full = loop {
            match served.write(&[b'x'; 64 << 10]) {
                Ok(count) => written += count,
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        served.set_nonblocking(false)?;
        served.set_linger(linger)?;
        drop(served);
        let (addr, local) = (address_of(&listener)?, client.local_addr()?);
        lab.wait_until("the server has closed", || {
            !matches!(state(addr, local), Some("ESTABLISHED"))
        })?;
        let mut received = Vec::new();
        client
            .stream()
            .set_read_timeout(Some(Duration::from_secs(20)))?;
        let end = io::Read::read_to_end(&mut client.stream(), &mut received);
        if linger.is_none() {
            assert_eq!(end?, written);
        } else {
            assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
            assert!(received.len() < written, "all {written} bytes came");
        }
    }
    Ok(())
}

// The queue.

/// A client that has asked to be connected and does not wait for the answer.
#[cfg(target_os = "linux")]
fn asking(addr: SocketAddr) -> io::Result<Socket> {
    let socket = bare_socket()?;
    socket.set_nonblocking(true)?;
    match socket.connect(&addr.into()) {
        Err(error) if error.raw_os_error() != Some(EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

#[cfg(target_os = "linux")]
const EINPROGRESS: i32 = 115;

/// Asks `count` times, and gives those who asked, when `queue` of them are in
/// the queue at `addr`, and the others are known not to have been heard.
#[cfg(target_os = "linux")]
fn ask(
    lab: &Lab,
    addr: SocketAddr,
    count: usize,
    queue: usize,
) -> std::result::Result<Vec<Socket>, Box<dyn std::error::Error>> {
    let ask = |count| -> io::Result<Vec<Socket>> {
        (0..count).map(|_| asking(addr)).collect()
    };
    let mut asked = ask(queue)?;
    // Before others ask: of two that come at once, Linux may finish one only
    // at the client's end.
    lab.wait_until(&format!("{queue} clients wait in the queue"), || {
        proc::accept_queue(addr) == Some(queue)
    })?;
    asked.extend(ask(count - queue)?);
    let table = proc::tcp_rows(addr.port()).unwrap_or_default();
    for (n, socket) in asked.iter().enumerate() {
        let wanted = if n < queue { "ESTABLISHED" } else { "SYN-SENT" };
        let seen = state_in(&table, address_of(socket)?, addr);
        assert_eq!(seen, Some(wanted), "number {n}");
    }
    Ok(asked)
}

#[test]
#[cfg(target_os = "linux")]
fn six_clients_wait_in_the_queue_and_the_seventh_is_not_heard() -> Outcome {
    let lab = Lab::new();
    let (mut server, addr) = start(&lab, Reuse)?;
    let first = client_whose_message_was_read(&lab, &mut server, addr)?;
    let mut asked = ask(&lab, addr, 7, 6)?;
    // It asks again by itself, and is heard when somebody has left.
    let seventh = asked.pop().expect("seven have asked");
    let seventh = address_of(&seventh).map(|addr| (addr, seventh))?;
    server.type_line("goodbye, first");
    first.half_close()?;
    drop(asked);
    server.expect(&format!("{} connected\n", seventh.0))?;
    drop(seventh);
    server.expect(" closed the connection\n")?;
    lab.good_client_gets_reply(&mut server, addr)?;
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn the_queue_of_stds_listener_holds_129_clients() -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    ask(&Lab::new(), listener.local_addr()?, 131, 129)?;
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
fn a_longer_queue_hears_500_clients_at_once() -> Outcome {
    let limit = fs::read_to_string("/proc/sys/net/core/somaxconn")?;
    if limit.trim().parse::<usize>()? < 500 {
        eprintln!("skipped: somaxconn is {limit}");
        return Ok(());
    }
    let listener = bare_socket()?;
    listener.bind(&any_port().into())?;
    listener.listen(4096)?;
    ask(&Lab::new(), address_of(&listener)?, 500, 500)?;
    Ok(())
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs ss"]
fn ss_shows_the_length_of_a_listeners_queue() -> Outcome {
    let lab = Lab::new();
    let (mut server, addr) = start(&lab, Reuse)?;
    let _served = client_whose_message_was_read(&lab, &mut server, addr)?;
    let _asked = ask(&lab, addr, 7, 6)?;
    let seen = ss("-ltn", &format!("sport = :{}", addr.port()))?;
    let mut scene = Transcript::new(&lab, "02-queue", addr);
    scene.text("full", &format!("$ ss -ltn 'sport = :9006'\n{seen}"));
    Ok(scene.check()?)
}

// The system calls.

/// What strace shows of how `path` makes its listener.
#[cfg(target_os = "linux")]
fn listening_calls(lab: &Lab, path: &Path) -> Result<(SocketAddr, String)> {
    let options = ["-e", "trace=socket,setsockopt,bind,listen"];
    let (mut server, addr) =
        lab.trace_server(&options, path, &["127.0.0.1:0"])?;
    // Strace has told all when the program has ended.
    client_whose_message_was_read(lab, &mut server, addr)?;
    server.end_input();
    server.expect_exit(0)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut shown = format!(
        "$ strace -e trace=socket,setsockopt,bind,listen target/debug/{name}\n"
    );
    for strace::Call { name, args, result } in strace::calls(&server.stderr()) {
        let args = args.join(", ").replace("htons(0)", "htons(9006)");
        let result = result.unwrap_or_default();
        shown += &format!("{name}({args}) = {result}\n");
    }
    Ok((addr, format!("{shown}listening on {addr}")))
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs strace"]
fn stds_one_line_is_the_same_four_system_calls() -> Result {
    let lab = Lab::new();
    let std = "lesson-01-single-client";
    let (addr, calls) = listening_calls(&lab, &harness::binary(std, std)?)?;
    let mut scene = Transcript::new(&lab, "02-calls", addr);
    scene.text("std", &calls);
    scene.check()?;
    let (addr, calls) = listening_calls(&lab, server_path())?;
    let mut scene = Transcript::new(&lab, "02-calls", addr);
    scene.text("socket2", &calls);
    scene.check()
}

// Addresses.

#[test]
#[cfg(target_os = "linux")]
fn an_ipv6_address_in_time_wait_is_rebound() -> Outcome {
    if !harness::has_ipv6() {
        return Ok(());
    }
    with_time_wait(
        |lab| killed(lab, "[::1]:0", Reuse),
        |lab, addr| {
            successor_is_refused(lab, addr, NoReuse)?;
            successor_is_served(lab, addr, Reuse)
        },
    )
}

/// Whichever of the two is tried first.
#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs root"]
fn the_next_address_of_a_name_is_tried_when_one_is_taken() -> Outcome {
    for (taken, free) in
        [("127.0.0.2", "127.0.0.3"), ("127.0.0.3", "127.0.0.2")]
    {
        let lab = Lab::new();
        let taken = TcpListener::bind((taken, 0))?;
        let port = taken.local_addr()?.port();
        let name = format!("two-addresses:{port}");
        let server = harness::namespace::with_two_addresses(
            "two-addresses",
            server_path(),
            &[&name],
        );
        let (mut server, addr) = lab.start_server_command(server)?;
        assert_eq!(addr.to_string(), format!("{free}:{port}"));
        lab.good_client_gets_reply(&mut server, addr)?;
    }
    Ok(())
}

#[test]
fn anything_but_the_choice_is_refused_with_the_usage() -> Result {
    for choice in ["again", "--reuse", ""] {
        let args = ["127.0.0.1:0", choice];
        let said = Lab::new().refusal(server_path(), &args)?;
        let usage = "usage: lesson-02-reuse-addr [HOST:PORT [--no-reuse]]";
        assert_eq!(said, format!("Error: {usage}"));
    }
    Ok(())
}

#[test]
fn the_choice_stands_behind_an_address() -> Result {
    let said = Lab::new().refusal(server_path(), &["--no-reuse"])?;
    assert!(said.contains("cannot listen on --no-reuse: "), "{said}");
    assert!(said.contains("give a free HOST:PORT"), "{said}");
    Ok(())
}
