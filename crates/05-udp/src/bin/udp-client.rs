//! The UDP client: each line typed is one datagram, answered or given up.
//!
//! Run:
//!   terminal 1: cargo run -p lesson-05-udp
//!   terminal 2: cargo run --bin udp-client
//! Look for: it starts without a server, and learns at its first datagram
//!   that nobody listens; with `-- 127.0.0.1:9006 --unconnected` it never
//!   learns, and waits.
//!   It exits with 1 if the last line got no answer, or was not sent.
//! Limits:
//!   - It gives up after three tries of 500 ms each, whatever the network.
//!   - The server may do three times what was asked once, so that must do no
//!     harm (lesson 13, still to come).
//!   - An answer belongs to its try by the port alone. The kernel may give
//!     that port to a later try, on Linux once in 28,232 times; only a number
//!     inside the datagram would tell the two apart (lesson 13, still to come).
//!   - Who can forge the server's address can answer in its place.
//!   - It refuses more than 65,507 bytes over IPv6 too, where 65,527 would go.
//!
//! Builds on: 01-single-client
//! Chapter: docs/05-udp.md
//! Test: tests/05-udp.rs

use std::env;
use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
use std::io::{self, BufRead, Write};
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};

const DEFAULT_ADDR: &str = "127.0.0.1:9006";
const HINT: &str = "give HOST:PORT, such as 127.0.0.1:9006, \
    and start the server first";
const MAX_DATAGRAM: usize = 65_535 - 20 - 8; // less IPv4 and UDP header
const BUFFER_SIZE: usize = 65_535;
const TYPED_BY_WINDOWS: &[u8] = if cfg!(windows) { b"\r" } else { b"" };
const TRIES: usize = 3;
const TIMEOUT: Duration = Duration::from_millis(500);

// ANCHOR: client_flow
fn main() -> anyhow::Result<ExitCode> {
    let addr = env::args().nth(1).unwrap_or(DEFAULT_ADDR.into());
    let connected = match env::args().nth(2).as_deref() {
        None => true,
        Some("--unconnected") => false,
        Some(_) => bail!("usage: udp-client [HOST:PORT [--unconnected]]"),
    };
    let mut servers: Vec<_> = addr
        .to_socket_addrs()
        .map_err(|error| anyhow!("cannot reach {addr}: {error}; {HINT}"))?
        .collect();
    let mut code = ExitCode::SUCCESS;
    while let Some(line) = prompt("send> ")? {
        code = ask(&line, &mut servers, connected);
    }
    println!();
    Ok(code)
}
// ANCHOR_END: client_flow

// ANCHOR: tries
/// Asks a name's addresses in turn; the one that answers stays the first.
fn ask(line: &[u8], servers: &mut [SocketAddr], connected: bool) -> ExitCode {
    let line = line.strip_suffix(TYPED_BY_WINDOWS).unwrap_or(line);
    if line.len() > MAX_DATAGRAM {
        println!("not sent: a datagram holds at most {MAX_DATAGRAM} bytes");
        return ExitCode::FAILURE;
    }
    for number in 1..=TRIES {
        let Some(&to) = servers.first() else { break };
        let Err(error) = try_once(line, to, connected) else {
            return ExitCode::SUCCESS;
        };
        println!("try {number} of {TRIES}: {to}: {error}");
        // Only silence can be expected to end by itself.
        if error.kind() != TimedOut && servers.len() == 1 {
            break;
        }
        servers.rotate_left(1);
    }
    println!("no answer; {HINT}");
    ExitCode::FAILURE
}

/// Has a socket of its own: a late answer to another try finds a closed port.
fn try_once(line: &[u8], to: SocketAddr, connected: bool) -> io::Result<()> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    if connected {
        socket.connect(to)?;
        socket.send(line)?;
    } else {
        socket.send_to(line, to)?;
    }
    let mut buffer = [0; BUFFER_SIZE];
    let start = Instant::now();
    let mut left = TIMEOUT;
    while !left.is_zero() {
        socket.set_read_timeout(Some(left))?;
        match socket.recv_from(&mut buffer) {
            Ok((count, from)) if connected || from == to => {
                let text = String::from_utf8_lossy(&buffer[..count]);
                println!("received: {text}");
                return Ok(());
            }
            Ok(_) => {}
            Err(error) => match error.kind() {
                // A timeout has two faces; and after Ctrl-Z, `fg` interrupts.
                WouldBlock | TimedOut | Interrupted => {}
                _ => return Err(error),
            },
        }
        // A stranger's datagram must not buy the try more time.
        left = TIMEOUT.saturating_sub(start.elapsed());
    }
    Err(TimedOut.into())
}
// ANCHOR_END: tries

/// One line as it was typed, without its newline; `None` at the end of input.
fn prompt(text: &str) -> io::Result<Option<Vec<u8>>> {
    print!("{text}");
    io::stdout().flush()?;
    io::stdin().lock().split(b'\n').next().transpose()
}
