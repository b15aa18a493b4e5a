//! Exercise 08: who are you?

use std::io;
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream,
    ToSocketAddrs, UdpSocket,
};

use harness::{Failure, Fault, Peer, quote};
use socket2::{Domain, Protocol, Socket, Type};

use crate::check::{Check, Rude};
use crate::diagnosis::Symptom::{Exited, Refused, TimedOut};
use crate::diagnosis::{Diagnose, Result, StepError};

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
/// How often something is tried that a lucky moment may hide.
const AGAIN: usize = 3;
/// For examples: nothing is sent to them. (RFC 5737, RFC 3849)
const ELSEWHERE: [(&str, &str); 2] = [
    ("0.0.0.0:0", "198.51.100.1:9"),
    ("[::]:0", "[2001:db8::1]:9"),
];

pub(crate) fn check(c: &mut Check) -> Result {
    c.begin()?;
    c.step("a client is told who it is, at the given address only");
    two_clients(c)?;
    if c.is_ours() {
        let again = SocketAddr::new(c.addr().ip(), 0);
        is_told_here_only(c, again)?;
    }

    c.step("a client that resets its connection ends only itself");
    for how in [Rude::ResetsAtOnce, Rude::ReadsNothing] {
        for _ in 0..AGAIN {
            let rude = |c: &mut Check| c.rude(how, "", "hello\n", "");
            let good = |c: &mut Check| is_told(c, c.addr());
            c.survives(good, rude)?;
        }
    }

    let step = "a client of [::] by IPv6 is told who it is";
    let next = "a client of [::] by IPv4 is told the same";
    if TcpListener::bind((V6, 0)).is_err() {
        c.skip(step, "this machine has no IPv6");
        c.skip(next, "this machine has no IPv6");
    } else if c.step_with_program(step) {
        c.kill()?;
        c.start("[::]:0").diagnose(Exited, "ipv4-only")?;
        let port = c.addr().port();
        let [v4, v6] = [V4, V6].map(|ip| SocketAddr::new(ip, port));
        is_told(c, v6)
            .diagnose_if("ipv4-only", |error| {
                error.is(Refused) && is_told(c, v4).is_ok()
            })
            .diagnose_if("cut-down-to-ipv4", |error| {
                // What `::1` looks like in the last four of its bytes.
                words(error)[..2] == ["IPv4", "0.0.0.1"]
            })?;

        c.step(next);
        is_told(c, v4)
            .diagnose_if("ipv6-only", |error| {
                error.is(Refused) && is_told(c, v6).is_ok()
            })
            .diagnose_if("shows-the-mapped-address", |error| {
                let ip = words(error)[1].parse::<Ipv6Addr>();
                ip.is_ok_and(|ip| ip.to_ipv4_mapped().is_some())
            })
            .diagnose_if("mapped-is-ipv6", |error| {
                let [family, ip, _] = words(error);
                family == "IPv6" && ip.parse::<Ipv4Addr>().is_ok()
            })
            .diagnose_if("mapped-is-far", |error| {
                let [family, ip, distance] = words(error);
                (family, distance) == ("IPv4", "far")
                    && ip.parse::<Ipv4Addr>().is_ok()
            })?;

        c.step("told [::1], it listens nowhere else");
        c.kill()?;
        c.start("[::1]:0")?;
        is_told_here_only(c, SocketAddr::new(V6, 0))?;
    }

    if c.step_with_program("a name is looked up") {
        c.kill()?;
        c.start("localhost:0").diagnose(Exited, "takes-no-names")?;
        is_told(c, c.addr())?;
    }

    let step = "a client from an address that is not loopback is far";
    let Some(ip) = another_address() else {
        c.skip(step, "this machine has no other address");
        return Ok(());
    };
    if c.step_with_program(step) {
        c.kill()?;
        c.start(&SocketAddr::new(ip, 0).to_string())?;
        is_told(c, c.addr()).diagnose_if("everybody-is-near", |error| {
            words(error) == words_of(&line(ip, "near"))
        })?;
    }
    Ok(())
}

/// The three words of what came; empty ones if there are not three.
fn words(error: &StepError) -> [&str; 3] {
    let line = str::from_utf8(error.got().unwrap_or_default());
    words_of(line.unwrap_or_default())
}

fn words_of(line: &str) -> [&str; 3] {
    let words: Vec<_> = line.split(' ').collect();
    words.try_into().unwrap_or_default()
}

fn line(ip: IpAddr, distance: &str) -> String {
    let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    format!("{family} {ip} {distance}")
}

/// Two clients of the program's own address; the first one stays.
fn two_clients(c: &mut Check) -> Result {
    let from = other_loopback(c, c.addr());
    let mut a = connected(c, from, c.addr())?;
    let line = |client: &mut Peer| client.line().map(drop);
    let says = |client: &mut Peer| {
        client.send("hello\n").is_ok() && client.half_close().is_ok()
    };
    learns(c, &mut a)
        .diagnose_if_cured("waits-for-the-client", |error| {
            error.is(TimedOut) && c.is_cured(&mut a, line, says)
        })
        .diagnose_if("near-is-one-address", |error| {
            let far = from.map(|ip| self::line(ip, "far"));
            far.is_some_and(|far| words(error) == words_of(&far))
                && connected(c, Some(V4), c.addr())
                    .is_ok_and(|mut usual| learns(c, &mut usual).is_ok())
        })?;
    a.expect_end()
        .diagnose_if_cured("waits-for-the-client", |error| {
            error.is(TimedOut) && c.is_cured(&mut a, Peer::expect_end, says)
        })
        .diagnose_if("keeps-the-connection", |error| {
            // Who is merely busy, or late, tells nobody else meanwhile.
            error.is(TimedOut)
                && a.expect_end().fails_with(TimedOut)
                && connected(c, None, c.addr())
                    .is_ok_and(|mut next| learns(c, &mut next).is_ok())
        })?;
    // One that has a name nearly everywhere.
    let from = from.map(|_| V4);
    let mut b = connected(c, from, c.addr())?;
    learns(c, &mut b)
        .diagnose_if_cured("waits-for-the-client", |error| {
            let leaves = |_: &mut Peer| a.half_close().is_ok();
            error.is(TimedOut) && c.is_cured(&mut b, line, leaves)
        })
        .diagnose_if("name-for-an-address", |error| {
            let [family, name, distance] = words(error);
            let mut ips = (name, 0).to_socket_addrs().into_iter().flatten();
            (family, distance) == ("IPv4", "near")
                && name.parse::<IpAddr>().is_err()
                && ips.any(|addr| addr.ip() == V4)
        })?;
    Ok(b.expect_end()?)
}

/// The program, started again at `addr`, listens nowhere else.
fn is_told_here_only(c: &mut Check, addr: SocketAddr) -> Result {
    let served = served_elsewhere(c);
    // If it can be started again, then what ends it later is the address.
    c.kill()?;
    c.start(&addr.to_string())?;
    is_told(c, c.addr())?;
    // Once it might be another program, with the same port by accident.
    if served.is_none() {
        return Ok(());
    }
    let Some(other) = served_elsewhere(c) else {
        return Ok(());
    };
    let fault = Fault::Unexpected(format!("an answer at {other}"));
    Err(c
        .error("client", "be refused at another address", fault)
        .certainly("listens-everywhere"))
}

/// A client of `to` learns its own address, in whichever form, and how far it
/// is; and then the connection is closed.
fn is_told(c: &mut Check, to: SocketAddr) -> Result {
    let from = other_loopback(c, to);
    let mut client = connected(c, from, to)?;
    learns(c, &mut client)?;
    Ok(client.expect_end()?)
}

fn learns(c: &Check, client: &mut Peer) -> Result {
    let own = client.local_addr()?.ip();
    let right = line(own, if own.is_loopback() { "near" } else { "far" });
    let wanted = quote(format!("{right}\n").as_bytes());
    let wanted = format!("receive {wanted}");
    let told = client.line().map_err(|failure| Failure {
        wanted: wanted.clone(),
        ..failure
    })?;
    let told = told.trim_end_matches('\r');
    let [family, ip, far] = words_of(told);
    let in_short = ip
        .parse::<IpAddr>()
        .map(|ip| format!("{family} {ip} {far}"));
    if in_short.as_ref() == Ok(&right) {
        return Ok(());
    }
    let fault = Fault::Unexpected(format!("{told:?}"));
    let failure = c.lab().failure("client", wanted, fault);
    Err(failure.with_got(told.into()).into())
}

/// An address that no program has written into it, for a client over IPv4's
/// loopback, where the system has so many.
fn other_loopback(c: &mut Check, to: SocketAddr) -> Option<IpAddr> {
    let has = cfg!(target_os = "linux") && to.is_ipv4();
    (has && to.ip().is_loopback()).then(|| {
        let part = c.rng().u8(2..=250);
        Ipv4Addr::new(127, part, part / 2, part).into()
    })
}

fn connected(c: &Check, from: Option<IpAddr>, to: SocketAddr) -> Result<Peer> {
    let stream = || {
        let domain = Domain::for_address(to);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        if let Some(ip) = from {
            socket.bind(&SocketAddr::new(ip, 0).into())?;
        }
        socket.connect_timeout(&to.into(), c.lab().timeout())?;
        Ok(TcpStream::from(socket))
    };
    let stream = stream().map_err(|error: io::Error| {
        c.error("client", format!("connect to {to}"), error.into())
    })?;
    Ok(c.lab().adopt("client", stream)?)
}

/// Another address of this machine at which a client is told who it is.
fn served_elsewhere(c: &mut Check) -> Option<SocketAddr> {
    let addr = c.addr();
    [V4, V6]
        .map(|ip| SocketAddr::new(ip, addr.port()))
        .into_iter()
        .find(|&other| other != addr && is_told(c, other).is_ok())
}

/// An address of this machine by which it would reach others.
fn another_address() -> Option<IpAddr> {
    ELSEWHERE.iter().find_map(|(any, elsewhere)| {
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(elsewhere).ok()?;
        let ip = socket.local_addr().ok()?.ip();
        TcpListener::bind((ip, 0)).ok()?;
        (!ip.is_loopback()).then_some(ip)
    })
}
