//! An address that does not answer, without a network: while an accept queue
//! is full, Linux leaves whoever else asks without an answer.
//!
//! Run: cargo run -p lesson-08-dual-stack --example dead-address
//!
//! Chapter: docs/08-dual-stack.md

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::{env, io};

use anyhow::Context;
use socket2::{Domain, Protocol, Socket, Type};

fn main() -> anyhow::Result<()> {
    let addr = env::args().nth(1).unwrap_or("[::1]:9007".into());
    let addr: SocketAddr = addr.parse().context("give an IP:PORT")?;
    let domain = Domain::for_address(addr);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&addr.into())?;
    // An accept queue with room for one, and the one who takes it.
    socket.listen(0)?;
    let listener = TcpListener::from(socket);
    let addr = listener.local_addr()?;
    let _waits = TcpStream::connect(addr)?;
    println!("nobody is answered at {addr}; Enter ends this");
    io::stdin().read_line(&mut String::new())?;
    Ok(())
}
