//! Exercise 11: pass it on.
//!
//! A relay. A client's first line names another server, its target, as
//! IP:PORT. The relay connects to it, and from there on passes on what each of
//! the two sends to the other, as it comes, whatever the bytes are:
//!
//!   - in both directions at once, and neither waits for the other,
//!   - an end, too: when one of the two half-closes, the relay half-closes its
//!     connection to the other, and the other direction goes on,
//!   - until both have ended: then both connections are closed.
//!
//! When a connection breaks (a reset, a failed write), both are closed. A
//! first line that names no target, or one that cannot be reached, ends the
//! client's connection. Nobody waits for another client.
//!
//! Two threads for each client are enough, one for each direction.
//!
//! Your part: the place marked `todo!`, and the loop in `main`, which serves
//! one client at a time. Change anything you like in this file; keep the first
//! line that the program prints.
//!
//! Check:   cargo course check 11
//! By hand: cargo run -p lesson-03-threaded -- 127.0.0.1:9007
//!          cargo run -p exercises --bin 11-async
//!          cargo run -p probe -- 127.0.0.1:9006
//! Read:    docs/exercises/11-async.md, and lesson 11

use std::env;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// Without a pause a failing `accept` would be tried at full speed.
const PAUSE: Duration = Duration::from_millis(100);

fn main() -> io::Result<()> {
    let addr = env::args().nth(1).unwrap_or("127.0.0.1:9006".to_owned());
    let listener = TcpListener::bind(addr)?;
    println!("listening on {}", listener.local_addr()?);
    for stream in listener.incoming() {
        match stream {
            Ok(stream) => serve(&stream),
            Err(error) => {
                eprintln!("cannot serve a client: {error}");
                thread::sleep(PAUSE);
            }
        }
    }
    Ok(())
}

fn serve(client: &TcpStream) {
    if let Err(error) = relay(client) {
        eprintln!("{error}");
    }
}

/// Connects a client to the target that its first line names, until both have
/// ended.
fn relay(client: &TcpStream) -> io::Result<()> {
    todo!("relay for {client:?}")
}
