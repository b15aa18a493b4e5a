//! Exercise 02: greet visitors, and be back at once after a restart.
//!
//! Each client is a visitor. The server speaks first, one line, and then
//! closes the connection; the client need not send anything:
//!
//!   "you are visitor 1"   to the first,   "you are visitor 2"   to the next
//!
//! When the server is killed and started again on the same port, it listens
//! at once, and counts from 1. While it runs, a second copy on the same port
//! must fail: it ends with an exit code that is not 0.
//!
//! Your part: the places marked `todo!`. The listener is to be made call by
//! call, with `socket2` (`std::net::TcpListener::bind` would do too much for
//! you). Change anything you like in this file; keep the first line that the
//! program prints. (Writing wants `use std::io::Write`, and a stream that may
//! change: `mut stream` in `greet`.)
//!
//! Check:   cargo course check 2
//! By hand: cargo run -p exercises --bin 02-reuse-addr
//!          cargo run -p probe -- 127.0.0.1:9006
//! Read:    docs/exercises/02-reuse-addr.md, and lesson 02

use std::env;
use std::io::{self, Error};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// Without a pause a failing `accept` would be tried at full speed.
const PAUSE: Duration = Duration::from_millis(100);

fn main() -> io::Result<()> {
    let addr = env::args().nth(1).unwrap_or("127.0.0.1:9006".to_owned());
    let listener = listen(addr.parse().map_err(Error::other)?)?;
    println!("listening on {}", listener.local_addr()?);
    let mut number = 0;
    for stream in listener.incoming() {
        match stream {
            Ok(stream) => {
                number += 1;
                if let Err(error) = greet(stream, number) {
                    eprintln!("{error}");
                }
            }
            Err(error) => {
                eprintln!("cannot accept a visitor: {error}");
                thread::sleep(PAUSE);
            }
        }
    }
    Ok(())
}

/// A listener, made call by call: `socket2::Socket` becomes a `TcpListener`
/// with `into()`.
fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    todo!("listen on {addr}")
}

/// Greets one visitor, and closes the connection.
fn greet(stream: TcpStream, number: u64) -> io::Result<()> {
    todo!("greet {stream:?} as visitor {number}")
}
