//! Exercise 03, solved: count words for many clients at once.

use std::collections::HashMap;
use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Without a pause a failing `accept` would be tried at full speed.
const PAUSE: Duration = Duration::from_millis(100);

/// How often each word has come.
#[derive(Default)]
struct Tally {
    counts: Mutex<HashMap<String, u64>>,
}

impl Tally {
    /// Counts `word` once more, and gives its number.
    fn count(&self, word: &str) -> u64 {
        let mut counts =
            self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(word.to_owned()).or_default();
        *count += 1;
        *count
    }
}

fn main() -> io::Result<()> {
    let addr = env::args().nth(1).unwrap_or("127.0.0.1:9006".to_owned());
    let listener = TcpListener::bind(addr)?;
    println!("listening on {}", listener.local_addr()?);
    let tally = Arc::new(Tally::default());
    for stream in listener.incoming() {
        let tally = Arc::clone(&tally);
        let thread = stream.and_then(|stream| {
            thread::Builder::new().spawn(move || {
                if let Err(error) = serve(&stream, &tally) {
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
