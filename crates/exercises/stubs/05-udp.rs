//! Exercise 05: turn datagrams round.
//!
//! The answer to each datagram is the number of its bytes, a space, and its
//! bytes in reverse order, in one datagram to whoever sent it:
//!
//!   "abc"   is answered with   "3 cba"
//!   ""      is answered with   "0 "       (an empty datagram is a datagram)
//!
//! A datagram has any size that UDP allows, 0 to 65,507 bytes. If the answer
//! is too long for a datagram, this client gets none, and all others go on.
//!
//! Your part: the place marked `todo!`. Change anything you like in this file;
//! keep the first line that the program prints.
//!
//! Check:   cargo course check 5
//! By hand: cargo run -p exercises --bin 05-udp
//!          cargo run -p probe -- --udp 127.0.0.1:9006
//! Read:    docs/exercises/05-udp.md, and lesson 05

use std::env;
use std::io;
use std::net::UdpSocket;

fn main() -> io::Result<()> {
    let addr = env::args().nth(1).unwrap_or("127.0.0.1:9006".to_owned());
    let socket = UdpSocket::bind(addr)?;
    println!("listening on {}", socket.local_addr()?);
    serve(&socket)
}

/// Answers each datagram, for ever.
fn serve(socket: &UdpSocket) -> io::Result<()> {
    todo!("serve {socket:?}")
}
