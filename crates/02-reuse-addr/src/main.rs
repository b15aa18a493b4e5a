//! Lesson 01's server, its listener made one system call at a time.
//!
//! Run:
//!   terminal 1: cargo run -p lesson-02-reuse-addr
//!   terminal 2: cargo run --bin client
//! Look for: let the server close first (Ctrl-D at its prompt) and start it
//!   again: it is back at once. With `-- 127.0.0.1:9006 --no-reuse` it is
//!   not, for a minute.
//! Limits:
//!   - On Linux the option helps only if the server before had it too.
//!   - It never lets two servers share a port; SO_REUSEPORT is another thing.
//!   - `listen(5)` is a short accept queue: on Linux six clients wait in it, and
//!     one more is heard only when it has asked again, a second later or more.
//!   - On Windows the option stays off, whatever you choose: there it lets any
//!     program take the port of a running one.
//!   - Lesson 01's own limits.
//!
//! Builds on: 01-single-client
//! Chapter: docs/02-reuse-addr.md
//! Test: tests/02-reuse-addr.rs, and its row in tests/servers.rs

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;
use std::{env, thread};

use anyhow::{anyhow, bail};

mod listener;

const DEFAULT_ADDR: &str = "127.0.0.1:9006";
const HINT: &str = "give a free HOST:PORT of this machine, \
    such as 127.0.0.1:0, which stands for any free one";
const USAGE: &str = "usage: lesson-02-reuse-addr [HOST:PORT [--no-reuse]]";
const IN_USE: &str = "; another program has it, or an earlier server left a \
    connection in TIME-WAIT; stop that program, or wait a minute or two";
const BUFFER_SIZE: usize = 1024;
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

// ANCHOR: server_flow
fn main() -> anyhow::Result<()> {
    let addr = env::args().nth(1).unwrap_or(DEFAULT_ADDR.into());
    let reuse = match env::args().nth(2).as_deref() {
        None => true,
        Some("--no-reuse") => false,
        Some(_) => bail!(USAGE),
    };
    let listener = listener::bind(&addr, reuse).map_err(|error| {
        let in_use = error.kind() == ErrorKind::AddrInUse;
        let why = if in_use { IN_USE } else { "" };
        anyhow!("cannot listen on {addr}: {error}{why}; {HINT}")
    })?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, peer) = accept(&listener);
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
// ANCHOR_END: server_flow

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
