//! Exercise 03, solved in odd ways, and right: `odd MODE HOST:PORT`.
//!
//! `byte-by-byte` writes the end of each answer one byte at a time, `late`
//! thinks before each answer, `talkative` prints what it does, `crlf` ends what
//! it prints as programs on Windows do, `slow-start` takes a while before it
//! listens, `two-writes` writes an answer and its newline in calls of their own.

use std::collections::HashMap;
use std::env;
use std::io::{self, BufRead, BufReader, Error, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// So many bytes at the end of an answer come one by one.
const SINGLE: usize = 40;

static TALLY: Mutex<Option<HashMap<String, u64>>> = Mutex::new(None);

fn main() -> io::Result<()> {
    let args: Vec<_> = env::args().skip(1).collect();
    let [mode, addr] = args.as_slice() else {
        return Err(Error::other("usage: odd MODE HOST:PORT"));
    };
    if mode == "slow-start" {
        thread::sleep(Duration::from_millis(1500));
    }
    let listener = TcpListener::bind(addr)?;
    let end = if mode == "crlf" { "\r\n" } else { "\n" };
    print!("listening on {}{end}", listener.local_addr()?);
    io::stdout().flush()?;
    for stream in listener.incoming() {
        let (stream, mode) = (stream?, mode.clone());
        thread::Builder::new().spawn(move || serve(&stream, &mode))?;
    }
    Ok(())
}

fn serve(mut stream: &TcpStream, mode: &str) -> io::Result<()> {
    for word in BufReader::new(stream).lines() {
        let answer = count(word?);
        if mode == "late" {
            thread::sleep(Duration::from_millis(1));
        }
        if mode == "talkative" {
            print!("{answer}");
            eprint!("{answer}");
        }
        match mode {
            "byte-by-byte" => {
                stream.set_nodelay(true)?;
                let at = answer.len().saturating_sub(SINGLE);
                let (start, end) = answer.as_bytes().split_at(at);
                stream.write_all(start)?;
                for byte in end {
                    stream.write_all(&[*byte])?;
                }
            }
            "two-writes" => {
                stream.write_all(answer.trim_end().as_bytes())?;
                stream.write_all(b"\n")?;
            }
            _ => stream.write_all(answer.as_bytes())?,
        }
    }
    Ok(())
}

fn count(word: String) -> String {
    let mut tally = TALLY.lock().unwrap_or_else(PoisonError::into_inner);
    let counts = tally.get_or_insert_default();
    let count = counts.entry(word.clone()).or_default();
    *count += 1;
    format!("{word} {count}\n")
}
