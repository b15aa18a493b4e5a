//! Lesson 01's server, which IPv6 and IPv4 clients can reach by one listener.
//!
//! Run:
//!   terminal 1: `cargo run -p lesson-08-dual-stack -- '[::]:9006'`
//!   terminal 2: `cargo run --bin dual-client`
//! Look for: clients come to `[::1]:9006` and to `127.0.0.1:9006`, and each is
//!   shown with its own address.
//! Limits:
//!   - `[::]` is every address of this machine, also to the outside. So it is
//!     typed, and without an address the server stays at 127.0.0.1.
//!   - On Linux `[::]` is refused while anybody has 127.0.0.1 with that port.
//!   - A name is looked up for as long as the system likes.
//!   - Lesson 01's own limits.
//!
//! Builds on: 01-single-client
//! Chapter: docs/08-dual-stack.md
//! Test: tests/08-dual-stack.rs

mod listener;

use std::io::{self, BufRead, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;
use std::{env, thread};

use anyhow::anyhow;

const DEFAULT_ADDR: &str = "127.0.0.1:9006";
const HINT: &str = "give a free HOST:PORT of this machine, \
    such as 127.0.0.1:0, which stands for any free one";
const BUFFER_SIZE: usize = 1024;
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

fn main() -> anyhow::Result<()> {
    let addr = env::args().nth(1).unwrap_or(DEFAULT_ADDR.into());
    let listener = listener::bind(&addr)
        .map_err(|error| anyhow!("cannot listen on {addr}: {error}; {HINT}"))?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, peer) = accept(&listener);
        let peer = canonical(peer);
        println!("{peer} connected");
        match converse(stream) {
            Ok(Closed::ByPeer) => println!("{peer} closed the connection"),
            Ok(Closed::ByOperator) => break,
            Err(error) => eprintln!("{peer}: {error}"),
        }
    }
    println!("\ngoodbye");
    Ok(())
}

// ANCHOR: canonical
/// An IPv4 client of an IPv6 listener: `[::ffff:192.0.2.7]` is 192.0.2.7.
fn canonical(peer: SocketAddr) -> SocketAddr {
    match peer.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, peer.port()),
        // As it is, with the scope that a link-local address needs.
        IpAddr::V6(_) => peer,
    }
}
// ANCHOR_END: canonical

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

enum Closed {
    ByPeer,
    ByOperator,
}

fn converse(mut stream: TcpStream) -> io::Result<Closed> {
    let mut buffer = [0; BUFFER_SIZE];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(Closed::ByPeer);
        }
        show(&buffer[..count]);
        match prompt("reply> ")? {
            Some(line) => stream.write_all(&line)?,
            None => return Ok(Closed::ByOperator),
        }
    }
}

fn show(received: &[u8]) {
    let text = String::from_utf8_lossy(received);
    println!("received: {}", text.strip_suffix('\n').unwrap_or(&text));
}

/// One line as it was typed, newline and all; `None` at the end of input.
fn prompt(text: &str) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    // An empty line would send nothing, and then both sides would wait.
    while matches!(line.as_slice(), b"" | b"\n" | b"\r\n") {
        line.clear();
        print!("{text}");
        io::stdout().flush()?;
        if io::stdin().lock().read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(line))
}
