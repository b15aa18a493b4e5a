//! Exercise 11, solved: pass it on.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// No address is longer: what a client makes us keep has a bound.
const LONGEST_LINE: u64 = 64;
/// Without a pause a failing `accept` would be tried at full speed.
const PAUSE: Duration = Duration::from_millis(100);

fn main() -> io::Result<()> {
    let addr = env::args().nth(1).unwrap_or("127.0.0.1:9006".to_owned());
    let listener = TcpListener::bind(addr)?;
    println!("listening on {}", listener.local_addr()?);
    for stream in listener.incoming() {
        let serving = stream.and_then(|stream| {
            thread::Builder::new().spawn(move || serve(&stream))
        });
        if let Err(error) = serving {
            eprintln!("cannot serve a client: {error}");
            thread::sleep(PAUSE);
        }
    }
    Ok(())
}

fn serve(client: &TcpStream) {
    if let Err(error) = relay(client) {
        eprintln!("{error}");
    }
}

/// Connects a client to the target that its first line names, until both have
/// ended.
fn relay(client: &TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(client);
    let mut line = String::new();
    reader.by_ref().take(LONGEST_LINE).read_line(&mut line)?;
    let target = &TcpStream::connect(line.trim_end())?;
    thread::scope(|scope| {
        let forth = || pass_on(reader, client, target);
        thread::Builder::new().spawn_scoped(scope, forth)?;
        pass_on(target, target, client);
        Ok(())
    })
}

/// Passes on what comes from one of them, and its end. An error ends both
/// directions: the other one would wait for ever.
fn pass_on(reader: impl Read, from: &TcpStream, to: &TcpStream) {
    let passed = copy(reader, to);
    // A connection that has gone cannot be shut down, and need not be.
    let _ = to.shutdown(Shutdown::Write);
    if let Err(error) = passed {
        eprintln!("{error}");
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}

/// What `io::copy` does, in the open.
fn copy(mut reader: impl Read, mut to: &TcpStream) -> io::Result<()> {
    let mut buffer = [0; 8 << 10];
    while let count @ 1.. = reader.read(&mut buffer)? {
        to.write_all(&buffer[..count])?;
    }
    Ok(())
}
