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
//!     a word and without a deadline, however long it takes (lesson 10, still
//!     to come).
//!   - The deadline is one for each read and each write, not for a client: one
//!     that sends a byte now and then keeps its worker (lesson 10, still to
//!     come).
//!   - std asks the kernel for a queue of 128 clients. When more connect
//!     faster than they are accepted, the rest try again after a second
//!     (lesson 02 asks for a queue of its own).
//!   - Ctrl-C ends it in the middle of every conversation, although the pool
//!     could be drained (lesson 09, still to come).
//!
//! Builds on: 03-threaded
//! Chapter: docs/04-thread-pool.md
//! Test: tests/04-thread-pool.rs

mod pool;

use std::collections::BTreeSet;
use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;
use std::{env, thread};

use anyhow::{Context, anyhow, bail};

const DEFAULT_ADDR: &str = "127.0.0.1:9006";
const HINT: &str = "give a free HOST:PORT of this machine, \
    such as 127.0.0.1:0, which stands for any free one";
const USAGE: &str = "usage: lesson-04-thread-pool [HOST:PORT] [DEADLINE_MS], \
    a whole number of milliseconds from 1 on";
const BUFFER_SIZE: usize = 1024;
const WORKERS: usize = 4;
const QUEUE: usize = 4;
/// How long a worker waits for a client that neither sends nor reads.
const DEADLINE: Duration = Duration::from_secs(30);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

// ANCHOR: server_flow
fn main() -> anyhow::Result<()> {
    let args: Vec<_> = env::args_os().skip(1).collect();
    let addr = match args.as_slice() {
        [] => DEFAULT_ADDR.into(),
        [addr] | [addr, _] => addr.to_string_lossy(),
        _ => bail!(USAGE),
    };
    let deadline = args
        .get(1)
        .map_or(Some(DEADLINE), |text| milliseconds(text))
        .context(USAGE)?;
    let listener = TcpListener::bind(&*addr)
        .map_err(|error| anyhow!("cannot listen on {addr}: {error}; {HINT}"))?;
    let pool = pool::ThreadPool::new(WORKERS, QUEUE).map_err(|error| {
        anyhow!("cannot start {WORKERS} threads: {error}; end other programs")
    })?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, peer) = accept(&listener);
        println!("{peer} connected");
        pool.submit(move || serve(&stream, peer, deadline));
    }
}
// ANCHOR_END: server_flow

/// `None` for zero as well, which a socket refuses.
fn milliseconds(text: &std::ffi::OsStr) -> Option<Duration> {
    let number: u64 = text.to_str()?.parse().ok()?;
    (number > 0).then(|| Duration::from_millis(number))
}

/// The next client. An error is said once, and does not end the server.
fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut said = BTreeSet::new();
    loop {
        match listener.accept() {
            Ok(client) => return client,
            Err(error) => {
                if said.insert(error.to_string()) {
                    eprintln!("cannot accept a client, trying again: {error}");
                }
                // Without a pause a lasting error would spin at full speed.
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

// ANCHOR: serve
fn serve(stream: &TcpStream, peer: SocketAddr, deadline: Duration) {
    let served = stream
        .set_read_timeout(Some(deadline))
        .and_then(|()| stream.set_write_timeout(Some(deadline)))
        .and_then(|()| echo(stream));
    match served {
        Ok(count) => {
            println!("{peer} closed the connection after {count} bytes");
        }
        // Unix says one of them when the deadline strikes, Windows the other.
        Err(error) if matches!(error.kind(), WouldBlock | TimedOut) => {
            eprintln!("{peer}: no byte in or out for {deadline:?}, closed");
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
            // Linux: a read with a deadline was stopped, and goes on (Ctrl-Z).
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
