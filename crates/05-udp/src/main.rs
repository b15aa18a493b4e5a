//! A UDP server that sends each datagram back to where it came from.
//!
//! Run:
//!   terminal 1: cargo run -p lesson-05-udp
//!   terminal 2: cargo run --bin udp-client
//! Look for: there is no `connected` and no `closed`: one socket serves
//!   everybody, and the kernel keeps nothing about anybody.
//! Limits:
//!   - Nothing promises that a datagram arrives, in order, or only once; a
//!     full receive buffer loses it even on this machine.
//!   - The sender's address can be forged. On a public address this server
//!     would answer whomever a forger names, and two of them would answer
//!     each other for ever.
//!   - On a wildcard address such as 0.0.0.0 the answer may leave from another
//!     address than the one that was asked, and then the client drops it.
//!   - Each answer that cannot be sent is a line, so a client that cannot be
//!     answered may fill the terminal.
//!   - A standard output that cannot be written ends it.
//!
//! Builds on: 01-single-client
//! Chapter: docs/05-udp.md
//! Test: tests/05-udp.rs, and its row in tests/servers.rs

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;
use std::{env, thread};

use anyhow::anyhow;

const DEFAULT_ADDR: &str = "127.0.0.1:9006";
const HINT: &str = "give a free HOST:PORT of this machine, \
    such as 127.0.0.1:0, which stands for any free one";
/// No datagram is longer: its length field has 16 bits.
const BUFFER_SIZE: usize = 65_535;
const RECEIVE_PAUSE: Duration = Duration::from_secs(1);

// ANCHOR: server_flow
fn main() -> anyhow::Result<()> {
    let addr = env::args().nth(1).unwrap_or(DEFAULT_ADDR.into());
    let socket = UdpSocket::bind(&addr)
        .map_err(|error| anyhow!("cannot listen on {addr}: {error}; {HINT}"))?;
    println!("listening on {}", socket.local_addr()?);
    serve(&socket)
}
// ANCHOR_END: server_flow

// ANCHOR: serve
fn serve(socket: &UdpSocket) -> ! {
    let mut buffer = [0; BUFFER_SIZE];
    loop {
        let (count, peer) = receive(socket, &mut buffer);
        // No pause: one client's failure is no reason to let the others wait.
        if let Err(error) = socket.send_to(&buffer[..count], peer) {
            eprintln!("cannot answer {peer}: {error}");
        }
    }
}
// ANCHOR_END: serve

// ANCHOR: receive
/// The next datagram. An error is one line, and does not end the server.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> (usize, SocketAddr) {
    loop {
        match socket.recv_from(buffer) {
            Ok(datagram) => return datagram,
            Err(error) => {
                eprintln!("cannot receive, trying again: {error}");
                // Without a pause a lasting error would spin at full speed.
                thread::sleep(RECEIVE_PAUSE);
            }
        }
    }
}
// ANCHOR_END: receive
