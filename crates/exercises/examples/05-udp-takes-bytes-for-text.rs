//! Exercise 05 with a mistake: characters are turned round, not bytes.

use std::env;
use std::io;
use std::net::UdpSocket;

fn main() -> io::Result<()> {
    let addr = env::args().nth(1).unwrap_or("127.0.0.1:9006".to_owned());
    let socket = UdpSocket::bind(addr)?;
    println!("listening on {}", socket.local_addr()?);
    serve(&socket)
}

/// Answers each datagram, for ever.
fn serve(socket: &UdpSocket) -> io::Result<()> {
    let mut buffer = vec![0; 65_536];
    loop {
        let (count, peer) = socket.recv_from(&mut buffer)?;
        let mut answer = format!("{count} ").into_bytes();
        let text = String::from_utf8_lossy(&buffer[..count]);
        answer.extend(text.chars().rev().collect::<String>().bytes());
        if let Err(error) = socket.send_to(&answer, peer) {
            eprintln!("{peer}: {error}");
        }
    }
}
