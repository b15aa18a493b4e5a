//! Exercise 08: who are you?
//!
//! The server speaks first, one line, and then closes the connection; the
//! client need not send anything. The line is the client's address family, its
//! address, and whether that is a loopback address:
//!
//!   "IPv4 127.0.0.1 near"   "IPv6 ::1 near"   "IPv4 192.0.2.7 far"
//!
//! Who has come by IPv4 is told so, and gets the address as IPv4 writes it.
//! The program listens where it is told, and nowhere else:
//!
//!   `127.0.0.1:9006`   at this address only
//!   `[::]:9006`        at all addresses, of IPv6 and of IPv4
//!   `localhost:9006`   at the first address of this name that works
//!
//! Your part: the places marked `todo!`. Change anything you like in this
//! file; keep the first line that the program prints.
//!
//! Check:   cargo course check 8
//! By hand: cargo run -p exercises --bin 08-dual-stack
//!          cargo run -p probe -- 127.0.0.1:9006
//! Read:    docs/exercises/08-dual-stack.md, and lesson 08

use std::env;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// Without a pause a failing `accept` would be tried at full speed.
const PAUSE: Duration = Duration::from_millis(100);

fn main() -> io::Result<()> {
    let addr = env::args().nth(1).unwrap_or("127.0.0.1:9006".to_owned());
    let listener = listen(&addr)?;
    println!("listening on {}", listener.local_addr()?);
    for stream in listener.incoming() {
        match stream.map(tell) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("{error}"),
            Err(error) => {
                eprintln!("cannot accept a client: {error}");
                thread::sleep(PAUSE);
            }
        }
    }
    Ok(())
}

/// A listener, made call by call: `socket2::Socket` becomes a `TcpListener`
/// with `into()`.
fn listen(addr: &str) -> io::Result<TcpListener> {
    todo!("listen on {addr}")
}

/// Tells a client who it is, and closes the connection.
fn tell(stream: TcpStream) -> io::Result<()> {
    todo!("tell {stream:?} who it is")
}
