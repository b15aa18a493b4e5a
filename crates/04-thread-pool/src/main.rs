//! A TCP echo server whose clients share a fixed number of threads.
//!
//! Run:
//!   terminal 1: cargo run -p lesson-04-thread-pool
//!   terminal 2: cargo run --bin client
//!   terminals 3 to 6: cargo run --bin client
//! Look for: the fifth client connects, but nobody answers it until one of
//!   the first four has left, or has said nothing for 30 seconds.
//! Limits:
//!   - At most WORKERS clients are served at a time. The others wait without
//!     a word and without a timeout, however long it takes (lesson 10 lifts
//!     this).
//!   - The timeout is one for each read and each write, not for a client: one
//!     that sends a byte now and then keeps its worker. (In lesson 10 it keeps
//!     none, and lesson 12 ends it.)
//!   - std asks for an accept queue of 128 clients. When more connect faster
//!     than they are accepted, the rest try again after a second (lesson 02
//!     asks for a queue of its own).
//!   - Ctrl-C ends it in the middle of every conversation, although the pool
//!     could be drained (lesson 09 says how).
//!   - A standard output that cannot be written ends it.
//!
//! Builds on: 03-threaded
//! Chapter: docs/04-thread-pool.md
//! Test: tests/04-thread-pool.rs, and its row in tests/servers.rs

mod pool;

use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::time::Duration;
use std::{env, thread};

use anyhow::{Context, anyhow};

const DEFAULT_ADDR: &str = "127.0.0.1:9006";
const HINT: &str = "give a free HOST:PORT of this machine, \
    such as 127.0.0.1:0, which stands for any free one";
const USAGE: &str = "usage: lesson-04-thread-pool [HOST:PORT [TIMEOUT_MS]], \
    a whole number of milliseconds from 1 on";
const BUFFER_SIZE: usize = 1024;
const WORKERS: usize = 4;
const QUEUE: usize = 4;
/// How long a worker waits for a client that neither sends nor reads.
const TIMEOUT: Duration = Duration::from_secs(30);
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

// ANCHOR: server_flow
fn main() -> anyhow::Result<()> {
    let addr = env::args().nth(1).unwrap_or(DEFAULT_ADDR.into());
    let timeout = match env::args().nth(2) {
        Some(text) => milliseconds(&text).context(USAGE)?,
        None => TIMEOUT,
    };
    let listener = TcpListener::bind(&addr)
        .map_err(|error| anyhow!("cannot listen on {addr}: {error}; {HINT}"))?;
    let pool = pool::ThreadPool::new(WORKERS, QUEUE).map_err(|error| {
        anyhow!("cannot start {WORKERS} threads: {error}; end other programs")
    })?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, peer) = accept(&listener);
        println!("{peer} connected");
        pool.submit(move || serve(&stream, peer, timeout));
    }
}
// ANCHOR_END: server_flow

/// `None` for zero as well, which a socket refuses.
fn milliseconds(text: &str) -> Option<Duration> {
    let number: NonZeroU64 = text.parse().ok()?;
    Some(Duration::from_millis(number.get()))
}

/// The next client. An error is one line, and does not end the server.
fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept() {
            Ok(client) => return client,
            Err(error) => {
                eprintln!("cannot accept a client, trying again: {error}");
                // Without a pause a lasting error would spin at full speed.
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

// ANCHOR: serve
fn serve(stream: &TcpStream, peer: SocketAddr, timeout: Duration) {
    let served = stream
        .set_read_timeout(Some(timeout))
        .and_then(|()| stream.set_write_timeout(Some(timeout)))
        .and_then(|()| echo(stream));
    match served {
        Ok(count) => {
            println!("{peer} closed the connection after {count} bytes");
        }
        // Unix says one of them when the time is up, Windows the other.
        Err(error) if matches!(error.kind(), WouldBlock | TimedOut) => {
            eprintln!("{peer}: no byte in or out for {timeout:?}, closed");
        }
        Err(error) => eprintln!("{peer}: {error}"),
    }
}

/// Sends back what comes, until the client half-closes; counts the bytes.
fn echo(mut stream: &TcpStream) -> io::Result<u64> {
    let mut buffer = [0; BUFFER_SIZE];
    let mut total = 0;
    loop {
        let count = match stream.read(&mut buffer) {
            // Linux: a read with a timeout was stopped, and goes on (Ctrl-Z).
            Err(error) if error.kind() == Interrupted => continue,
            result => result?,
        };
        if count == 0 {
            return Ok(total);
        }
        stream.write_all(&buffer[..count])?;
        total += count as u64;
    }
}
// ANCHOR_END: serve
