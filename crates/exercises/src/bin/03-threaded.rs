//! Exercise 03: count words for many clients at once.
//!
//! Each line that a client sends is a word. The answer is the word, a space,
//! and how often it has come so far, from all clients together:
//!
//!   a sends "tea"    a receives "tea 1"
//!   b sends "tea"    b receives "tea 2"
//!   a sends "milk"   a receives "milk 1"
//!
//! Each line ends with a newline, "\n". Answer each at once, however many
//! clients are connected and whatever the others do or do not do.
//!
//! Your part: the places marked `todo!`, and a thread for each client. Change
//! anything you like in this file; keep the first line that the program prints.
//! (What threads share is `Arc`, `Mutex` and a `HashMap` inside: the Rust Book
//! tells them in chapters 16.3 and 8.3.)
//!
//! Check:   cargo course check 3
//! By hand: cargo run -p exercises --bin 03-threaded
//!          cargo run -p probe -- 127.0.0.1:9006
//! Read:    docs/exercises/03-threaded.md, and lesson 03

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

/// How often each word has come. (How will the threads share it?)
#[derive(Default)]
struct Tally {}

impl Tally {
    /// Counts `word` once more, and gives its number.
    fn count(&self, word: &str) -> u64 {
        todo!("count {word:?}")
    }
}

fn main() -> io::Result<()> {
    let addr = env::args().nth(1).unwrap_or("127.0.0.1:9006".to_owned());
    let listener = TcpListener::bind(addr)?;
    println!("listening on {}", listener.local_addr()?);
    let tally = Tally::default();
    for stream in listener.incoming() {
        // One client after the other: the second one waits.
        let served = stream.and_then(|stream| serve(&stream, &tally));
        if let Err(error) = served {
            eprintln!("{error}");
        }
    }
    Ok(())
}

/// Answers a client's lines until it sends no more.
fn serve(stream: &TcpStream, tally: &Tally) -> io::Result<()> {
    let mut stream = stream;
    for word in BufReader::new(stream).lines() {
        let word = word?;
        let count = tally.count(&word);
        stream.write_all(format!("{word} {count}\n").as_bytes())?;
    }
    Ok(())
}
