//! A TCP echo server with one thread for all its clients.
//!
//! Run:
//!   terminal 1: cargo run -p lesson-10-event-loop
//!   terminals 2 and 3: cargo run --bin client
//! Look for: both clients are answered, in any order, while both stay, and
//!   the server has one thread.
//! Limits:
//!   - One thread is one processor: more of them do not make it faster.
//!   - A call that blocks, wherever in the program, stops all clients.
//!   - A client costs a descriptor, and keeps it for as long as it likes.
//!   - std asks for an accept queue of 128 clients. While it is full, a client
//!     has to try again a second later (lesson 02 can ask for more).
//!   - Ctrl-C cuts off all clients (lesson 09 says how to do better).
//!   - A standard output that cannot be written ends it.
//!
//! Builds on: 03-threaded
//! Chapter: docs/10-event-loop.md
//! Test: tests/10-event-loop.rs, and its row in tests/servers.rs

mod client;

use std::collections::BTreeMap;
use std::io::ErrorKind::{Interrupted, WouldBlock};
use std::time::{Duration, Instant};
use std::{env, io, net};

use anyhow::anyhow;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Registry, Token};

use client::{BOTH, Client};

const DEFAULT_ADDR: &str = "127.0.0.1:9006";
const HINT: &str = "give a free HOST:PORT of this machine, \
    such as 127.0.0.1:0, which stands for any free one";
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// By its token an event says whose it is. A client's is higher than this.
const LISTENER: Token = Token(0);

type Clients = BTreeMap<Token, Client>;

// ANCHOR: server_flow
fn main() -> anyhow::Result<()> {
    let addr = env::args().nth(1).unwrap_or(DEFAULT_ADDR.into());
    let listener = net::TcpListener::bind(&addr)
        .map_err(|error| anyhow!("cannot listen on {addr}: {error}; {HINT}"))?;
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    let registry = poll.registry();
    registry.register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("listening on {}", listener.local_addr()?);
    let mut clients = Clients::new();
    let mut events = Events::with_capacity(1024);
    let mut accept_at: Option<Instant> = None;
    loop {
        let pause =
            accept_at.map(|at| at.saturating_duration_since(Instant::now()));
        match poll.poll(&mut events, pause) {
            // By a signal that does not end it, such as that of `fg`.
            Err(error) if error.kind() == Interrupted => continue,
            result => result?,
        }
        let registry = poll.registry();
        for event in &events {
            let token = event.token();
            if token == LISTENER {
                accept_at.get_or_insert_with(Instant::now);
            } else if let Some(client) = clients.get_mut(&token)
                && !client.serve(event, registry)
            {
                clients.remove(&token);
            }
        }
        if accept_at.is_some_and(|at| at <= Instant::now()) {
            accept_at = None;
            if let Err(error) = accept(&listener, &mut clients, registry)
                && error.kind() != WouldBlock
            {
                eprintln!("cannot accept a client, trying again: {error}");
                // No event comes again for those who wait already.
                accept_at = Some(Instant::now() + ACCEPT_PAUSE);
            }
        }
    }
}
// ANCHOR_END: server_flow

// ANCHOR: accept
/// Lets in all who wait. The error `WouldBlock`: nobody waits any more.
fn accept(
    listener: &TcpListener,
    clients: &mut Clients,
    registry: &Registry,
) -> io::Result<()> {
    loop {
        let (mut stream, peer) = listener.accept()?;
        println!("{peer} connected");
        let last = clients.last_key_value().map_or(LISTENER, |(&last, _)| last);
        let token = Token(last.0 + 1);
        registry.register(&mut stream, token, BOTH)?;
        clients.insert(token, Client::new(stream, peer));
    }
}
// ANCHOR_END: accept
