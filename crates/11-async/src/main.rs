//! A TCP echo server with a task for each client, on tokio.
//!
//! Run:
//!   terminal 1: cargo run -p lesson-11-async
//!   terminal 2: cargo run --bin client
//!   terminal 3: cargo run --bin client
//! Look for: both clients are answered, as in lesson 03, by one thread. After
//!   Ctrl-C in terminal 1 they are still served, until both have left.
//! Limits:
//!   - One thread serves everybody: a task that blocks it, or computes for
//!     long, stops all clients. Writing to a terminal that is held does so.
//!   - At most MOST_CLIENTS clients are served at a time. The others wait in
//!     the accept queue, without a word.
//!   - The timeout is one for each read and each write, not for a client: one
//!     that sends a byte now and then keeps its place, and delays the end.
//!   - Who waits for a place, or for a descriptor, when the end is asked for,
//!     is reset.
//!   - tokio asks for an accept queue of 128 clients, as std does.
//!   - A standard output that cannot be written ends it.
//!
//! Builds on: 03-threaded
//! Chapter: docs/11-async.md
//! Test: tests/11-async.rs, and its row in tests/servers.rs

mod signals;

use std::env;
use std::io::{self, ErrorKind::TimedOut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use signals::Signals;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::{select, time};

const DEFAULT_ADDR: &str = "127.0.0.1:9006";
const HINT: &str = "give a free HOST:PORT of this machine, \
    such as 127.0.0.1:0, which stands for any free one";
const USAGE: &str = "usage: lesson-11-async [HOST:PORT [TIMEOUT_MS]], \
    a whole number of milliseconds";
const BUFFER_SIZE: usize = 1024;
const MOST_CLIENTS: u32 = 10_000;
/// How long a client may keep a read or a write waiting.
const TIMEOUT: Duration = Duration::from_secs(30);
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

// ANCHOR: server_flow
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let addr = env::args().nth(1).unwrap_or(DEFAULT_ADDR.into());
    let timeout = match env::args().nth(2) {
        Some(text) => Duration::from_millis(text.parse().ok().context(USAGE)?),
        None => TIMEOUT,
    };
    let listener = TcpListener::bind(&addr)
        .await
        .map_err(|error| anyhow!("cannot listen on {addr}: {error}; {HINT}"))?;
    let mut signals = Signals::new().context("cannot wait for Ctrl-C")?;
    println!("listening on {}", listener.local_addr()?);
    let places = Arc::new(Semaphore::new(MOST_CLIENTS as usize));
    let serve_all = async {
        while let Ok(place) = places.clone().acquire_owned().await {
            let (stream, peer) = accept(&listener).await;
            println!("{peer} connected");
            tokio::spawn(async move {
                serve(stream, peer, timeout).await;
                drop(place);
            });
        }
    };
    select! {
        // In this order, so that who waits already is taken before the end.
        biased;
        () = serve_all => {}
        () = signals.recv() => {}
    }
    drop(listener);
    println!("\nno new clients; waiting for those who are here");
    select! {
        _ = places.acquire_many(MOST_CLIENTS) => println!("goodbye"),
        () = signals.recv() => bail!("cut off those who were still here"),
    }
    Ok(())
}
// ANCHOR_END: server_flow

/// The next client. An error is one line, and does not end the server.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(client) => return client,
            Err(error) => {
                eprintln!("cannot accept a client, trying again: {error}");
                // Without a pause a lasting error would spin at full speed.
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

// ANCHOR: serve
async fn serve(mut stream: TcpStream, peer: SocketAddr, timeout: Duration) {
    match echo(&mut stream, timeout).await {
        Ok(count) => {
            println!("{peer} closed the connection after {count} bytes");
        }
        Err(error) if error.kind() == TimedOut => {
            eprintln!("{peer}: no byte in or out for {timeout:?}, closed");
        }
        Err(error) => eprintln!("{peer}: {error}"),
    }
}

/// Sends back what comes, until the client half-closes; counts the bytes.
async fn echo(stream: &mut TcpStream, timeout: Duration) -> io::Result<u64> {
    let mut buffer = [0; BUFFER_SIZE];
    let mut total = 0;
    loop {
        let count = time::timeout(timeout, stream.read(&mut buffer)).await??;
        if count == 0 {
            return Ok(total);
        }
        time::timeout(timeout, stream.write_all(&buffer[..count])).await??;
        total += count as u64;
    }
}
// ANCHOR_END: serve
