//! Exercise 06 with a mistake: it stops without a word.

use std::env;
use std::io::{self, BufRead, BufReader, Error, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

static OVER: AtomicBool = AtomicBool::new(false);

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
    let mut threads = Vec::new();
    for stream in listener.incoming() {
        let stream = stream?;
        if OVER.load(Ordering::SeqCst) {
            break;
        }
        threads.push(thread::Builder::new().spawn(move || {
            if let Err(error) = serve(&stream) {
                eprintln!("{error}");
            }
        })?);
    }
    drop(listener);
    for thread in threads {
        let _ = thread.join();
    }
    Ok(())
}

/// Tells the loop in `main`, which waits for a client, that it is over.
fn shut_down(addr: SocketAddr) {
    OVER.store(true, Ordering::SeqCst);
    let _ = TcpStream::connect(addr);
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
