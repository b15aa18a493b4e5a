//! Exercise 06, solved: add numbers, and stop when told to.

use std::env;
use std::io::{self, BufRead, BufReader, Error, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Without a pause a failing `accept` would be tried at full speed.
const PAUSE: Duration = Duration::from_millis(100);
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
    // Each client's thread has a copy of `here`, and nothing is ever sent.
    let (here, gone) = mpsc::channel::<()>();
    for stream in listener.incoming() {
        if OVER.load(Ordering::SeqCst) {
            break;
        }
        let here = here.clone();
        let thread = stream.and_then(|stream| {
            thread::Builder::new().spawn(move || {
                if let Err(error) = serve(&stream) {
                    eprintln!("{error}");
                }
                drop(here);
            })
        });
        if let Err(error) = thread {
            eprintln!("cannot serve a client: {error}");
            thread::sleep(PAUSE);
        }
    }
    drop(listener);
    drop(here);
    // Comes back, with an error, when the last copy is gone.
    let _ = gone.recv();
    Ok(())
}

/// Tells the loop in `main`, which waits for a client, that it is over.
fn shut_down(addr: SocketAddr) {
    println!("shutting down");
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
