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
//!   - A failure to answer is said once while the server runs, for the first
//!     client that met it.
//!
//! Builds on: 01-single-client
//! Chapter: docs/05-udp.md
//! Test: tests/05-udp.rs

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;
use std::{env, thread};

use anyhow::{anyhow, bail};

const DEFAULT_ADDR: &str = "127.0.0.1:9006";
const HINT: &str = "give a free HOST:PORT of this machine, \
    such as 127.0.0.1:0, which stands for any free one";
/// No datagram is longer: its length field has 16 bits.
const BUFFER_SIZE: usize = 65_535;
const RECEIVE_PAUSE: Duration = Duration::from_millis(100);

// ANCHOR: server_flow
fn main() -> anyhow::Result<()> {
    let args: Vec<_> = env::args_os().skip(1).collect();
    let addr = match args.as_slice() {
        [] => DEFAULT_ADDR.into(),
        [addr] => addr.to_string_lossy(),
        _ => bail!("usage: lesson-05-udp [HOST:PORT]"),
    };
    let socket = UdpSocket::bind(&*addr)
        .map_err(|error| anyhow!("cannot listen on {addr}: {error}; {HINT}"))?;
    println!("listening on {}", socket.local_addr()?);
    serve(&socket)
}
// ANCHOR_END: server_flow

// ANCHOR: serve
fn serve(socket: &UdpSocket) -> ! {
    let mut buffer = [0; BUFFER_SIZE];
    // Never emptied: else whoever cannot be answered could flood the terminal.
    let mut said = BTreeSet::new();
    loop {
        let (count, peer) = receive(socket, &mut buffer);
        // No pause: one client's failure is no reason to let the others wait.
        if let Err(error) = socket.send_to(&buffer[..count], peer)
            && said.insert(error.to_string())
        {
            eprintln!("cannot answer {peer}: {error}; this is said once");
        }
    }
}
// ANCHOR_END: serve

// ANCHOR: receive
/// The next datagram. An error is said once, and does not end the server.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> (usize, SocketAddr) {
    let mut said = BTreeSet::new();
    loop {
        match socket.recv_from(buffer) {
            Ok(datagram) => return datagram,
            Err(error) => {
                if said.insert(error.to_string()) {
                    eprintln!("cannot receive, trying again: {error}");
                }
                // Without a pause a lasting error would spin at full speed.
                thread::sleep(RECEIVE_PAUSE);
            }
        }
    }
}
// ANCHOR_END: receive
