//! Exercise 06: add numbers, and stop when told to.
//!
//! Each line holds whole numbers with spaces between them. The answer is their
//! sum: "1 2 39" is answered with "42". A client may ask again and again, and
//! several are served at once. A line that holds anything else ends its own
//! connection, without an answer, and nothing more.
//!
//! The end of standard input (Ctrl-D) means: shut down. Then the server
//!
//!   1. prints "shutting down",
//!   2. takes no new clients: its listener is closed, they are refused,
//!   3. goes on answering the clients that are connected,
//!   4. ends with exit code 0 when the last of them has left.
//!
//! Your part: the place marked `todo!`, and the loop in `main`. Change
//! anything you like in this file; keep the first line that the program prints.
//!
//! Check:   cargo course check 6
//! By hand: cargo run -p exercises --bin 06-socketserver
//!          cargo run -p probe -- 127.0.0.1:9006
//! Read:    docs/exercises/06-socketserver.md, and lesson 06

use std::env;
use std::io::{self, BufRead, BufReader, Error, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// Without a pause a failing `accept` would be tried at full speed.
const PAUSE: Duration = Duration::from_millis(100);

fn main() -> io::Result<()> {
    let addr = env::args().nth(1).unwrap_or("127.0.0.1:9006".to_owned());
    let listener = TcpListener::bind(addr)?;
    let addr = listener.local_addr()?;
    println!("listening on {addr}");
    thread::Builder::new().spawn(move || {
        // `io::copy` comes back at the end of standard input.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        shut_down(addr);
    })?;
    for stream in listener.incoming() {
        let thread = stream.and_then(|stream| {
            thread::Builder::new().spawn(move || {
                if let Err(error) = serve(&stream) {
                    eprintln!("{error}");
                }
            })
        });
        if let Err(error) = thread {
            eprintln!("cannot serve a client: {error}");
            thread::sleep(PAUSE);
        }
    }
    Ok(())
}

/// Tells the loop in `main`, which waits for a client, that it is over.
fn shut_down(addr: SocketAddr) {
    todo!("shut down the server at {addr}")
}

/// Answers a client's lines until it sends no more.
fn serve(mut stream: &TcpStream) -> io::Result<()> {
    for line in BufReader::new(stream).lines() {
        let sum = sum(&line?).map_err(Error::other)?;
        stream.write_all(format!("{sum}\n").as_bytes())?;
    }
    Ok(())
}

fn sum(line: &str) -> Result<i64, std::num::ParseIntError> {
    line.split_whitespace().map(str::parse::<i64>).sum()
}
