//! Exercise 01: measure lines.
//!
//! The answer to each line is the number of its characters, a space, and the
//! line itself:
//!
//!   "hello"   is answered with   "5 hello"
//!   "你好"    is answered with   "2 你好"
//!   ""        is answered with   "0 "
//!
//! Each line ends with a newline, "\n", which is not counted; all before it
//! belongs to the line, white space too. A line may come in pieces, and several
//! may come at once. Bytes that are not UTF-8 go back as they came; each broken
//! piece counts as one character, as `String::from_utf8_lossy` makes of it. One
//! client is served at a time; when it has left, however it left, the next one
//! is served.
//!
//! Your part: the place marked `todo!`, and then whatever the checker finds.
//! Change anything you like in this file; keep the first line that the program
//! prints. (Reading and writing want a stream that may change: begin `serve`
//! with `let mut stream = stream;`. `&TcpStream` reads and writes as the stream
//! itself does, and `use std::io::{Read, Write}` brings the methods; for
//! `read_until` it is `BufRead` and `BufReader`.)
//!
//! Check:   cargo course check 1
//! By hand: cargo run -p exercises --bin 01-single-client
//!          cargo run -p probe -- 127.0.0.1:9006
//! Read:    docs/exercises/01-single-client.md, and lesson 01

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
            Ok(stream) => serve(&stream)?,
            Err(error) => {
                eprintln!("cannot accept a client: {error}");
                thread::sleep(PAUSE);
            }
        }
    }
    Ok(())
}

/// Answers a client's lines until it sends no more.
fn serve(stream: &TcpStream) -> io::Result<()> {
    todo!("serve {stream:?}")
}
