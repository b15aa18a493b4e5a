//! Exercise 07: turn messages round.
//!
//! A message is a length and a text: four bytes that say how many bytes the
//! text has, the most significant first, and then the text, in UTF-8. The
//! answer is a message, too: the text with its characters in reverse order.
//!
//!   00 00 00 03  "abc"      is answered with   00 00 00 03  "cba"
//!   00 00 00 06  "你好"     is answered with   00 00 00 06  "好你"
//!   00 00 00 00             is answered with   00 00 00 00
//!
//! A text has at most 65,536 bytes. A greater length is answered with the text
//! "too long", as soon as its four bytes have come, and then the connection is
//! closed. A message that the end of the stream has cut off is not answered.
//! It is enough to serve one client at a time.
//!
//! Your part: the place marked `todo!`. Change anything you like in this file;
//! keep the first line that the program prints.
//!
//! Check:   cargo course check 7
//! By hand: cargo run -p exercises --bin 07-framing
//!          cargo run -p probe -- 127.0.0.1:9006 --send '\x00\x00\x00\x03abc'
//! Read:    docs/exercises/07-framing.md, and lesson 07

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
        match stream.map(|stream| serve(&stream)) {
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

/// Answers a client's messages until it sends no more.
fn serve(stream: &TcpStream) -> io::Result<()> {
    todo!("serve {stream:?}")
}
