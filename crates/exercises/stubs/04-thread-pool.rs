//! Exercise 04: three workers, four chairs, and no more.
//!
//! Three workers serve one client each, for as long as it stays. Four more
//! clients may wait. Who comes then is told `busy` and sent away.
//!
//! - A worker that takes a client says "ready"; then it answers each line with
//!   the line reversed, byte by byte: "abc" with "cba".
//! - The line "panic" makes the code that serves this client panic. That ends
//!   the client's connection, and nothing else: three workers remain.
//! - When a client leaves, the one that has waited longest is served.
//!
//! Your part: the places marked `todo!`, that is, the pool. Change anything
//! you like in this file; keep the first line that the program prints.
//!
//! Check:   cargo course check 4
//! By hand: cargo run -p exercises --bin 04-thread-pool
//!          cargo run -p probe -- 127.0.0.1:9006
//! Read:    docs/exercises/04-thread-pool.md, and lesson 04

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

const WORKERS: usize = 3;
const CHAIRS: usize = 4;
/// Without a pause a failing `accept` would be tried at full speed.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves clients with a fixed number of threads.
struct Pool {}

impl Pool {
    /// Starts the workers. At most `chairs` clients wait for one of them.
    fn new(workers: usize, chairs: usize) -> io::Result<Self> {
        todo!("start {workers} workers and put up {chairs} chairs")
    }

    /// Lets a worker serve the client, now or later; gives it back if all
    /// chairs are taken.
    fn offer(&self, stream: TcpStream) -> Result<(), TcpStream> {
        todo!("find a worker or a chair for {stream:?}")
    }
}

fn main() -> io::Result<()> {
    let addr = env::args().nth(1).unwrap_or("127.0.0.1:9006".to_owned());
    let listener = TcpListener::bind(addr)?;
    let pool = Pool::new(WORKERS, CHAIRS)?;
    println!("listening on {}", listener.local_addr()?);
    for stream in listener.incoming() {
        match stream.map(|stream| pool.offer(stream)) {
            Ok(Ok(())) => {}
            Ok(Err(mut refused)) => {
                // It may have gone already.
                let _ = refused.write_all(b"busy\n");
            }
            Err(error) => {
                eprintln!("cannot accept a client: {error}");
                thread::sleep(PAUSE);
            }
        }
    }
    Ok(())
}

/// What a worker does for one client. (It panics if the client says so.)
#[allow(dead_code, reason = "it is yours to call")]
fn serve(mut stream: &TcpStream) -> io::Result<()> {
    stream.write_all(b"ready\n")?;
    for line in BufReader::new(stream).split(b'\n') {
        let mut line = line?;
        assert_ne!(line, b"panic", "a client wants it so");
        line.reverse();
        line.push(b'\n');
        stream.write_all(&line)?;
    }
    Ok(())
}
