//! Exercise 02, solved: greet visitors, and be back at once after a restart.

use std::env;
use std::io::{self, Error, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// Without a pause a failing `accept` would be tried at full speed.
const PAUSE: Duration = Duration::from_millis(100);

fn main() -> io::Result<()> {
    let addr = env::args().nth(1).unwrap_or("127.0.0.1:9006".to_owned());
    let listener = listen(addr.parse().map_err(Error::other)?)?;
    println!("listening on {}", listener.local_addr()?);
    let mut number = 0;
    for stream in listener.incoming() {
        match stream {
            Ok(stream) => {
                number += 1;
                if let Err(error) = greet(stream, number) {
                    eprintln!("{error}");
                }
            }
            Err(error) => {
                eprintln!("cannot accept a visitor: {error}");
                thread::sleep(PAUSE);
            }
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
    stream.write_all(format!("you are visitor {number}\n").as_bytes())
}
