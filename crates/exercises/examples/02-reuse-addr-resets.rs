//! Exercise 02 with a mistake: the connection is reset, not closed.

use std::env;
use std::io::{self, Error, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

fn main() -> io::Result<()> {
    let addr = env::args().nth(1).unwrap_or("127.0.0.1:9006".to_owned());
    let listener = listen(addr.parse().map_err(Error::other)?)?;
    println!("listening on {}", listener.local_addr()?);
    for (stream, number) in listener.incoming().zip(1..) {
        if let Err(error) = greet(stream?, number) {
            eprintln!("{error}");
        }
    }
    Ok(())
}

/// A listener, made call by call.
fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let domain = Domain::for_address(addr);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(cfg!(unix))?;
    socket.bind(&addr.into())?;
    socket.listen(128)?;
    Ok(socket.into())
}

/// Greets one visitor, and closes the connection.
fn greet(mut stream: TcpStream, number: u64) -> io::Result<()> {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    stream.write_all(format!("you are visitor {number}\n").as_bytes())
}
