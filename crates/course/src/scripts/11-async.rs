//! Exercise 11: pass it on.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use harness::{Fault, Listener, Peer, bytes, joined};
use socket2::{Domain, Socket, Type};

use crate::check::{Check, Rude, expect_gone};
use crate::diagnosis::Symptom::{Closed, TimedOut};
use crate::diagnosis::{Diagnose, Result};

/// More than the kernel keeps in two connections (measured for both
/// directions of one: 6.8 to 8.1 MiB).
const TOO_MUCH: usize = 32 << 20;
const CHUNK: usize = 64 << 10;
/// Each of them lets a write that waits take a little more, until it cannot.
const WORDS: usize = 100;
/// When nothing moves for so long, it is taken for stuck. If it is not, less is
/// proved.
const STILL: Duration = Duration::from_millis(50);
/// Where nobody answers, Linux tries again after 1, 3 and 7 seconds: tcp(7),
/// `tcp_syn_retries`.
const NEXT_ATTEMPT: Duration = Duration::from_secs(8);
const LEAVES_OPEN: &str = "leaves-the-target-open";
const ANY_PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

pub(crate) fn check(c: &mut Check) -> Result {
    c.begin()?;
    let mut listener = c.lab().listen("listener")?;

    c.step("what each of the two sends reaches the other, at once");
    let Relayed {
        mut client,
        mut target,
    } = relayed(c, &listener)?;
    passes(c, &mut client, &mut target)?;
    passes(c, &mut target, &mut client)?;
    passes(c, &mut target, &mut client)?;
    passes(c, &mut client, &mut target)?;
    passes(c, &mut client, &mut target)?;
    passes_while_one_does_not_read(c, &mut client, &mut target)?;

    c.step("nobody waits for a client that is silent, or whose target is");
    // All of them stay to the end, if it is not asked for whom others wait.
    let mut first = Some((client, target));
    let mut silent = Some(c.connect("silent")?);
    let stuck = c.connect("stuck")?;
    let mut dead = dead_address().ok();
    if let Some((addr, _)) = &dead {
        stuck.send(format!("{addr}\n"))?;
        // Where clients wait for each other it is not read.
        let _ = c.wait_until_read(&stuck);
    }
    let next = relayed(c, &listener);
    next.and_then(|mut next| next.talk(c)).diagnose_if_cured(
        "blocks-the-others",
        |error| {
            error.is(TimedOut) && listener.accept("late").is_err() && {
                listener.set_timeout(c.lab().timeout() / 4);
                drop(first.take());
                let mut is_cured = listener.accept("next").is_ok();
                drop(silent.take());
                is_cured |= listener.accept("next").is_ok();
                drop(dead.take());
                listener.set_timeout(NEXT_ATTEMPT);
                is_cured || listener.accept("next").is_ok()
            }
        },
    )?;

    c.step("the first line ends at its newline, however it comes");
    in_pieces(c, &listener).diagnose_if("one-read-one-line", |error| {
        // In one piece it is understood.
        error.is(Closed)
            && relayed(c, &listener).is_ok()
            && in_pieces(c, &listener).fails_with(Closed)
    })?;
    with_more_behind(c, &listener)?;

    c.step("an end is passed on, and the other direction goes on");
    let Relayed { client, target } = relayed(c, &listener)?;
    end_in_turn(c, client, target)?;
    let Relayed { client, target } = relayed(c, &listener)?;
    end_in_turn(c, target, client)?;

    c.step("an error of one client ends only its own connection");
    let (refuses, _bound) = bound()
        .map_err(|error| c.error("checker", "bind a socket", error.into()))?;
    for line in [format!("{refuses}\n"), "nobody\n".into(), "\n".into()] {
        let rude = |c: &mut Check| {
            let mut client = c.connect("rude")?;
            client.send(&line)?;
            expect_gone(&mut client)
        };
        survives(c, &listener, rude)?;
    }
    let sink = c.lab().listen("sink")?;
    let line = format!("{}\n", sink.addr());
    for how in Rude::ALL {
        survives(c, &listener, |c| c.rude(how, "", &line, ""))?;
    }

    c.step("who breaks off takes the other along");
    let Relayed { client, mut target } = relayed(c, &listener)?;
    client.reset()?;
    expect_gone(&mut target).diagnose_if_cured(LEAVES_OPEN, |error| {
        error.is(TimedOut)
            && expect_gone(&mut target).is_err()
            && still_relays(c, &listener)
    })?;
    let Relayed { mut client, target } = relayed(c, &listener)?;
    target.reset()?;
    expect_gone(&mut client)?;
    let Relayed { client, target } = relayed(c, &listener)?;
    client.close();
    cannot_send_for_ever(c, &target)
        .diagnose_if_cured(LEAVES_OPEN, |error| {
            error.is(TimedOut) && still_relays(c, &listener)
        })?;
    Ok(())
}

/// A client and its target, that a relay has connected.
struct Relayed {
    client: Peer,
    target: Peer,
}

impl Relayed {
    fn talk(&mut self, c: &mut Check) -> Result {
        passes(c, &mut self.client, &mut self.target)?;
        passes(c, &mut self.target, &mut self.client)
    }
}

fn relayed(c: &Check, listener: &Listener) -> Result<Relayed> {
    let client = c.connect("client")?;
    client.send(format!("{}\n", listener.addr()))?;
    let target = listener.accept("target")?;
    Ok(Relayed { client, target })
}

/// No line, and no text.
fn binary(c: &mut Check) -> Vec<u8> {
    [c.word().as_bytes(), &[0, 0xff]].concat()
}

fn passes(c: &mut Check, from: &mut Peer, to: &mut Peer) -> Result {
    let word = binary(c);
    from.send(&word)?;
    let wait = |to: &mut Peer| to.expect(&word);
    wait(to).diagnose_if_cured("in-turns", |error| {
        let goes_on = |to: &mut Peer| {
            from.send("more").is_ok() && to.expect("more").is_ok()
        };
        error.is(TimedOut)
            && (c.is_cured(to, wait, |to| to.send("your turn").is_ok())
                || c.is_cured(to, wait, |to| to.half_close().is_ok())
                    // It was not all kept, and passed on at the end.
                    && goes_on(to))
    })
}

/// What `client` sends fills all buffers, since `target` does not read.
fn passes_while_one_does_not_read(
    c: &mut Check,
    client: &mut Peer,
    target: &mut Peer,
) -> Result {
    let much = send_until_stuck(c, client)?;
    for _ in 0..WORDS {
        let word = binary(c);
        target.send(&word)?;
        let wait = |client: &mut Peer| client.expect(&word);
        wait(client).diagnose_if_cured("in-turns", |error| {
            let read = |_: &mut Peer| target.expect(&much).is_ok();
            error.is(TimedOut) && c.is_cured(client, wait, read)
        })?;
    }
    Ok(target.expect(&much)?)
}

/// Sends until nothing moves any more, and gives what was sent.
fn send_until_stuck(c: &Check, client: &Peer) -> Result<Vec<u8>> {
    let blocking = |yes: bool| {
        client.stream().set_nonblocking(!yes).map_err(|error| {
            c.error("client", "wait for nothing", error.into())
        })
    };
    c.note(
        "the client sends until nothing moves, and the target reads nothing",
    );
    let chunk = bytes(CHUNK);
    let mut sent = Vec::new();
    let mut send = || {
        let part = &chunk[sent.len() % CHUNK..];
        let count = client.stream().write(part).unwrap_or_default();
        sent.extend_from_slice(&part[..count]);
        count > 0
    };
    blocking(false)?;
    let mut rounds = 0..TOO_MUCH / CHUNK;
    while rounds.next().is_some() && c.comes_within(STILL, &mut send) {}
    blocking(true)?;
    Ok(sent)
}

/// The first line in two pieces.
fn in_pieces(c: &mut Check, listener: &Listener) -> Result {
    let mut client = c.connect("client")?;
    let line = format!("{}\n", listener.addr());
    // In the IP address, so that the first piece names nobody.
    let (piece, rest) = line.split_at(c.rng().usize(1..=8));
    client.send(piece)?;
    c.wait_until_read(&client)?;
    client.send(rest)?;
    match listener.accept("target") {
        Ok(target) => Relayed { client, target }.talk(c),
        Err(_) if expect_gone(&mut client).is_ok() => {
            let end = Fault::UnexpectedEof { got: 0, wanted: 1 };
            Err(c.error("client", "be connected to its target", end))
        }
        Err(failure) => Err(failure.into()),
    }
}

/// The first line, and what is for the target, in one write.
fn with_more_behind(c: &mut Check, listener: &Listener) -> Result {
    let (client, word) = (c.connect("client")?, binary(c));
    let line = format!("{}\n", listener.addr());
    client.send([line.as_bytes(), &word].concat())?;
    let mut target = listener.accept("target")?;
    target
        .expect(&word)
        .diagnose_if("loses-the-first-bytes", |error| {
            error.is(TimedOut)
                && client.send("more").is_ok()
                && target.expect("more").is_ok()
        })?;
    Relayed { client, target }.talk(c)
}

fn end_in_turn(c: &mut Check, mut first: Peer, mut second: Peer) -> Result {
    passes(c, &mut first, &mut second)?;
    passes(c, &mut second, &mut first)?;
    first.half_close()?;
    second.expect_end().diagnose_if_cured(
        "half-close-not-passed",
        |error| {
            error.is(TimedOut)
                && second.expect_end().is_err()
                && passes(c, &mut second, &mut first).is_ok()
        },
    )?;
    let word = binary(c);
    second.send(&word)?;
    first
        .expect(&word)
        .diagnose(Closed, "closes-both-at-the-first-end")?;
    second.half_close()?;
    Ok(first.expect_end()?)
}

/// Nobody reads what `target` sends, and it is told so.
fn cannot_send_for_ever(c: &Check, target: &Peer) -> Result {
    let sending = target.send_in_background(bytes(TOO_MUCH), CHUNK);
    let Err(failure) = joined(sending) else {
        let fault = Fault::Unexpected("all of it was taken".to_owned());
        let wanted = "be told that nobody reads any more";
        return Err(c.error("target", wanted, fault));
    };
    match *failure.fault {
        Fault::ConnectionReset => Ok(()),
        _ => Err(failure.into()),
    }
}

fn still_relays(c: &mut Check, listener: &Listener) -> bool {
    relayed(c, listener).is_ok_and(|mut other| other.talk(c).is_ok())
}

fn survives(
    c: &mut Check,
    listener: &Listener,
    rude: impl Fn(&mut Check) -> Result,
) -> Result {
    let good = |c: &mut Check| relayed(c, listener)?.talk(c);
    let Err(error) = rude(c).and_then(|()| good(c)) else {
        return Ok(());
    };
    Err(c.ends_with("error-ends-server", error, good, rude))
}

/// An address that does not answer, for as long as the rest is kept: its
/// accept queue is full. (Elsewhere than on Linux it may be only silent.)
fn dead_address() -> io::Result<(SocketAddr, (TcpListener, TcpStream))> {
    let (addr, socket) = bound()?;
    socket.listen(0)?;
    Ok((addr, (socket.into(), TcpStream::connect(addr)?)))
}

/// An address that nobody listens at, and nobody else can take.
fn bound() -> io::Result<(SocketAddr, Socket)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from(ANY_PORT).into())?;
    let addr = socket.local_addr()?.as_socket();
    Ok((addr.ok_or(io::ErrorKind::InvalidData)?, socket))
}
