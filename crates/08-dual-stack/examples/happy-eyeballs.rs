//! Happy eyeballs (RFC 8305): an address that does not answer holds nobody up.
//!
//! Run:
//!   terminal 1: cargo run -p lesson-08-dual-stack
//!   terminal 2: cargo run -p lesson-08-dual-stack --example dead-address
//!   terminal 3: cargo run -p lesson-08-dual-stack --example happy-eyeballs
//!
//! Chapter: docs/08-dual-stack.md

use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::Context;
use connect::resolve;

#[path = "../src/connect.rs"]
#[expect(dead_code, reason = "in turn is the other way")]
mod connect;

const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
const TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> anyhow::Result<()> {
    let mut names: Vec<_> = env::args().skip(1).collect();
    if names.is_empty() {
        names = ["[::1]:9007", "127.0.0.1:9006"].map(String::from).into();
    }
    let start = Instant::now();
    let stream = connect(&resolve(&names)).context("no address answered")?;
    let (addr, time) = (stream.peer_addr()?, start.elapsed());
    println!("connected to {addr} after {} ms", time.as_millis());
    Ok(())
}

// ANCHOR: connect
/// The first connection that comes about. The next address is tried when an
/// attempt has failed, or has had no answer for `ATTEMPT_DELAY`.
fn connect(addrs: &[SocketAddr]) -> Option<TcpStream> {
    let (sender, attempts) = mpsc::channel();
    for addr in families_in_turn(addrs) {
        let sender = sender.clone();
        let attempt = move || {
            let stream = TcpStream::connect_timeout(&addr, TIMEOUT);
            // Nobody wants it any more when another was faster: it is closed.
            let _ = sender.send((addr, stream));
        };
        thread::Builder::new().spawn(attempt).ok()?;
        match attempts.recv_timeout(ATTEMPT_DELAY) {
            Ok((_, Ok(stream))) => return Some(stream),
            Ok((addr, Err(error))) => eprintln!("{addr}: {error}"),
            Err(_) => {} // No answer yet: the attempt goes on.
        }
    }
    drop(sender);
    for (addr, result) in attempts {
        match result {
            Ok(stream) => return Some(stream),
            Err(error) => eprintln!("{addr}: {error}"),
        }
    }
    None
}
// ANCHOR_END: connect

/// The first, then one of the other family, and so on: when a machine's IPv6
/// leads nowhere, not every address of it is tried before an IPv4 one.
fn families_in_turn(addrs: &[SocketAddr]) -> Vec<SocketAddr> {
    let first = addrs.first().is_some_and(SocketAddr::is_ipv6);
    let (mut a, mut b): (Vec<_>, Vec<_>) = addrs
        .iter()
        .copied()
        .rev()
        .partition(|addr| addr.is_ipv6() == first);
    let mut turns = Vec::new();
    while !(a.is_empty() && b.is_empty()) {
        turns.extend(a.pop());
        turns.extend(b.pop());
    }
    turns
}
