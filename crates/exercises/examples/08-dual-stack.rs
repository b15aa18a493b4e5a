//! Exercise 08, solved: who are you?

use std::env;
use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// Without a pause a failing `accept` would be tried at full speed.
const PAUSE: Duration = Duration::from_millis(100);

fn main() -> io::Result<()> {
    let addr = env::args().nth(1).unwrap_or("127.0.0.1:9006".to_owned());
    let listener = listen(&addr)?;
    println!("listening on {}", listener.local_addr()?);
    for stream in listener.incoming() {
        match stream.map(tell) {
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

/// A listener on the first address of a name that works.
fn listen(name: &str) -> io::Result<TcpListener> {
    let mut listener = Err(ErrorKind::AddrNotAvailable.into());
    for addr in name.to_socket_addrs()? {
        listener = listen_at(addr);
        if listener.is_ok() {
            break;
        }
    }
    listener
}

/// A listener, made call by call: on `[::]` it serves both families.
fn listen_at(addr: SocketAddr) -> io::Result<TcpListener> {
    let domain = Domain::for_address(addr);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(128)?;
    Ok(socket.into())
}

/// Tells a client who it is, and closes the connection.
fn tell(mut stream: TcpStream) -> io::Result<()> {
    let ip = stream.peer_addr()?.ip().to_canonical();
    let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    let distance = if ip.is_loopback() { "near" } else { "far" };
    stream.write_all(format!("{family} {ip} {distance}\n").as_bytes())
}
