//! How often a client is answered while another one floods the server.
//!
//! Run:
//!   terminal 1: cargo run -p lesson-10-event-loop
//!   terminal 2: cargo run -p lesson-10-event-loop --example flood

use std::env;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;

static BLOCK: [u8; 64 << 10] = [b'x'; 64 << 10];
const BLOCKS: usize = 1024;

fn main() -> io::Result<()> {
    let addr = env::args().nth(1).unwrap_or("127.0.0.1:9006".into());
    let mut other = TcpStream::connect(&addr)?;
    let flooding = TcpStream::connect(&addr)?;
    let mut count = 0;
    thread::scope(|scope| {
        scope.spawn(|| (0..BLOCKS).try_for_each(|_| send_block(&flooding)));
        let flood = (&flooding).take((BLOCKS * BLOCK.len()) as u64);
        let reading = scope.spawn(|| io::copy(&mut { flood }, &mut io::sink()));
        while !reading.is_finished() {
            other.write_all(b"x")?;
            other.read_exact(&mut [0])?;
            count += 1;
        }
        io::Result::Ok(())
    })?;
    println!("{count} round trips while another client sent 64 MiB");
    Ok(())
}

fn send_block(mut stream: &TcpStream) -> io::Result<()> {
    stream.write_all(&BLOCK)
}
