//! A listener made one system call at a time.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

// ANCHOR: socket2
use socket2::{Domain, Protocol, Socket, Type};
// ANCHOR_END: socket2

/// How many clients may wait in the kernel until they are accepted. Linux
/// lets one more wait; what `TcpListener::bind` asks for is 128.
const BACKLOG: i32 = 5;

// ANCHOR: bind
/// Listens on the first address of the name `addr` that works.
///
/// Blocks while the name is looked up. The error is the last address's.
pub fn bind(addr: &str, reuse: bool) -> io::Result<TcpListener> {
    let mut listener = Err(ErrorKind::AddrNotAvailable.into());
    for addr in addr.to_socket_addrs()? {
        listener = bind_to(addr, reuse);
        if listener.is_ok() {
            break;
        }
    }
    listener
}
// ANCHOR_END: bind

// ANCHOR: bind_to
/// What `TcpListener::bind` does, with the option and the backlog in view.
fn bind_to(addr: SocketAddr, reuse: bool) -> io::Result<TcpListener> {
    let domain = Domain::for_address(addr);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    // On Windows the option would let others take this port from us.
    if cfg!(unix) && reuse {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
// ANCHOR_END: bind_to
