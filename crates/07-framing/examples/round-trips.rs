//! How long lesson 07's server lets a client wait, by how the client writes.
//!
//! Run:
//!   terminal 1: cargo run -p lesson-07-framing
//!   terminal 2: cargo run -p lesson-07-framing --example round-trips

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Instant;

const ROUNDS: u32 = 20;

fn main() -> io::Result<()> {
    let addr = env::args().nth(1).unwrap_or("127.0.0.1:9006".into());
    measure("two writes", &addr, false, &["hello", "\n"])?;
    measure("two writes, TCP_NODELAY", &addr, true, &["hello", "\n"])?;
    measure("one write", &addr, false, &["hello\n"])
}

fn measure(
    what: &str,
    addr: &str,
    nodelay: bool,
    writes: &[&str],
) -> io::Result<()> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_nodelay(nodelay)?;
    let mut answers = BufReader::new(stream.try_clone()?);
    let start = Instant::now();
    for _ in 0..ROUNDS {
        for part in writes {
            stream.write_all(part.as_bytes())?;
        }
        answers.read_line(&mut String::new())?;
    }
    let round = start.elapsed() / ROUNDS;
    println!("{what}: {} us for a round trip", round.as_micros());
    Ok(())
}
