//! Exercise 07, solved: turn messages round.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

const MAX_LENGTH: u32 = 65_536;
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
    let mut reader = BufReader::new(stream);
    while !reader.fill_buf()?.is_empty() {
        let mut header = [0; 4];
        reader.read_exact(&mut header)?;
        let length = u32::from_be_bytes(header);
        if length > MAX_LENGTH {
            return send(stream, "too long");
        }
        let mut message = vec![0; length as usize];
        reader.read_exact(&mut message)?;
        let text = String::from_utf8_lossy(&message);
        let turned: String = text.chars().rev().collect();
        send(stream, &turned)?;
    }
    Ok(())
}

/// Sends a message, in one write.
fn send(mut stream: &TcpStream, text: &str) -> io::Result<()> {
    let length = text.len() as u32;
    let message = [&length.to_be_bytes(), text.as_bytes()].concat();
    stream.write_all(&message)
}
