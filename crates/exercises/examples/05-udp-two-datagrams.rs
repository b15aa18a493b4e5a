//! Exercise 05 with a mistake: the answer is sent in two parts.

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
        let _ = socket.send_to(format!("{count} ").as_bytes(), peer);
        let answer: Vec<u8> = buffer[..count].iter().rev().copied().collect();
        if let Err(error) = socket.send_to(&answer, peer) {
            eprintln!("{peer}: {error}");
        }
    }
}
