//! A TCP echo server that ends when it is told to, and lets clients finish.
//!
//! Run:
//!   terminal 1: cargo run -p lesson-09-shutdown
//!   terminal 2: cargo run --bin client
//! Look for: after Ctrl-C in terminal 1 the client is still served. When it
//!   leaves, within 10 seconds, the server says goodbye.
//! Limits:
//!   - An idle client delays the end by the whole grace period: an echo does
//!     not tell a client that will say more from one that will not.
//!   - Who is still there after the grace period is cut off.
//!   - Out of descriptors, it ends, and those in the accept queue are reset.
//!   - The rest as in lesson 03: a thread for each client, and an accept
//!     queue of 128.
//!   - A standard output that cannot be written ends it.
//!
//! Builds on: 03-threaded
//! Chapter: docs/09-shutdown.md
//! Test: tests/09-shutdown.rs, and its row in tests/servers.rs

mod shutdown;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, RecvTimeoutError::Timeout};
use std::time::Duration;
use std::{env, thread};

use anyhow::{Context, anyhow, bail};

const DEFAULT_ADDR: &str = "127.0.0.1:9006";
const HINT: &str = "give a free HOST:PORT of this machine, \
    such as 127.0.0.1:0, which stands for any free one";
const USAGE: &str = "usage: lesson-09-shutdown [HOST:PORT [GRACE_MS]], \
    a whole number of milliseconds";
const BUFFER_SIZE: usize = 1024;
/// How long clients may stay when the server was asked to end.
const GRACE: Duration = Duration::from_secs(10);

// ANCHOR: server_flow
fn main() -> anyhow::Result<()> {
    let addr = env::args().nth(1).unwrap_or(DEFAULT_ADDR.into());
    let grace = match env::args().nth(2) {
        Some(text) => Duration::from_millis(text.parse().ok().context(USAGE)?),
        None => GRACE,
    };
    let listener = TcpListener::bind(&addr)
        .map_err(|error| anyhow!("cannot listen on {addr}: {error}; {HINT}"))?;
    let local = listener.local_addr()?;
    shutdown::on_signal(local).context("cannot wait for Ctrl-C")?;
    println!("listening on {local}");
    // Nothing is ever sent: who is present holds a sender, and that is all.
    let (present, all_left) = mpsc::channel::<()>();
    for (stream, peer) in shutdown::clients(&listener) {
        println!("{peer} connected");
        let present = present.clone();
        let thread = move || {
            serve(&stream, peer);
            drop(stream);
            drop(present);
        };
        // A thread that does not start drops the stream, which closes it.
        if let Err(error) = thread::Builder::new().spawn(thread) {
            eprintln!("{peer}: turned away, no thread for it: {error}");
        }
    }
    drop(listener);
    drop(present);
    println!("\nno new clients; those who are here have {grace:?}");
    if all_left.recv_timeout(grace) == Err(Timeout) {
        bail!("cut off the clients who were still here after {grace:?}");
    }
    println!("goodbye");
    Ok(())
}
// ANCHOR_END: server_flow

fn serve(stream: &TcpStream, peer: SocketAddr) {
    match echo(stream) {
        Ok(count) => {
            println!("{peer} closed the connection after {count} bytes");
        }
        Err(error) => eprintln!("{peer}: {error}"),
    }
}

/// Sends back what comes, until the client half-closes; counts the bytes.
fn echo(mut stream: &TcpStream) -> io::Result<u64> {
    let mut buffer = [0; BUFFER_SIZE];
    let mut total = 0;
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(total);
        }
        stream.write_all(&buffer[..count])?;
        total += count as u64;
    }
}
