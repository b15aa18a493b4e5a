//! A TCP chat room in one thread: everybody hears everything, in one order.
//!
//! Run:
//!   terminal 1: cargo run -p lesson-12-chat
//!   terminals 2 and 3: cargo run --bin chat-client
//! Look for: all terminals show the same lines, and your own only when the
//!   server has heard them.
//! Limits:
//!   - A client that lets more than MAX_UNSENT bytes wait is thrown out. So
//!     who talks a lot can have slow readers thrown out.
//!   - Anybody can take any name that is free, and read all that is said.
//!   - Nothing is kept: who joins hears what comes from then on.
//!   - A client that has sent its last line and does not read keeps its
//!     descriptor, and what waits for it.
//!   - The rest as in lesson 10: one thread, an accept queue of 128, and
//!     Ctrl-C cuts off all.
//!   - A standard output that cannot be written ends it.
//!
//! Builds on: 10-event-loop, 07-framing
//! Chapter: docs/12-chat.md
//! Test: tests/12-chat.rs, and its row in tests/servers.rs

mod client;
mod lines;
mod room;

use std::io::ErrorKind::{Interrupted, WouldBlock};
use std::time::{Duration, Instant};
use std::{env, io, net};

use anyhow::{Context, anyhow};
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Registry, Token};

use room::Room;

const DEFAULT_ADDR: &str = "127.0.0.1:9006";
const HINT: &str = "give a free HOST:PORT of this machine, \
    such as 127.0.0.1:0, which stands for any free one";
const USAGE: &str = "usage: lesson-12-chat [HOST:PORT [NAME_TIMEOUT_MS]], \
    a whole number of milliseconds";
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// How long a client may take to say its name. (In 64 bits, a moment that far
/// away could be more than an `Instant` holds.)
const NAME_TIMEOUT_MS: u32 = 60_000;
/// By its token an event says whose it is. A client's is higher than this.
const LISTENER: Token = Token(0);

// ANCHOR: server_flow
fn main() -> anyhow::Result<()> {
    let addr = env::args().nth(1).unwrap_or(DEFAULT_ADDR.into());
    let millis = match env::args().nth(2) {
        Some(text) => text.parse().ok().context(USAGE)?,
        None => NAME_TIMEOUT_MS,
    };
    let name_timeout = Duration::from_millis(millis.into());
    let listener = net::TcpListener::bind(&addr)
        .map_err(|error| anyhow!("cannot listen on {addr}: {error}; {HINT}"))?;
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    let interest = Interest::READABLE;
    poll.registry()
        .register(&mut listener, LISTENER, interest)?;
    println!("listening on {}", listener.local_addr()?);
    let mut room = Room::new(name_timeout);
    let mut events = Events::with_capacity(1024);
    let mut accept_at: Option<Instant> = None;
    loop {
        let next = accept_at.into_iter().chain(room.next_due()).min();
        let pause = next.map(|at| at.saturating_duration_since(Instant::now()));
        match poll.poll(&mut events, pause) {
            // By a signal that does not end it, such as that of `fg`.
            Err(error) if error.kind() == Interrupted => continue,
            result => result?,
        }
        let registry = poll.registry();
        for event in &events {
            if event.token() == LISTENER {
                accept_at.get_or_insert_with(Instant::now);
            } else {
                room.serve(event, registry);
            }
        }
        room.send_away(Instant::now());
        if accept_at.is_some_and(|at| at <= Instant::now()) {
            accept_at = None;
            if let Err(error) = accept(&listener, &mut room, registry)
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

/// Lets in all who wait. The error `WouldBlock`: nobody waits any more.
fn accept(
    listener: &TcpListener,
    room: &mut Room,
    registry: &Registry,
) -> io::Result<()> {
    loop {
        let (stream, peer) = listener.accept()?;
        println!("{peer} connected");
        room.enter(stream, peer, registry)?;
    }
}
