//! A listener that IPv4 clients can reach over IPv6's `[::]`.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use socket2::{Domain, Protocol, Socket, Type};

/// What `TcpListener::bind` asks for.
const BACKLOG: i32 = 128;

/// Listens on the first address of the name `addr` that works.
///
/// Blocks while the name is looked up. The error is the last address's.
pub fn bind(addr: &str) -> io::Result<TcpListener> {
    let mut listener = Err(ErrorKind::AddrNotAvailable.into());
    for addr in addr.to_socket_addrs()? {
        listener = bind_to(addr);
        if listener.is_ok() {
            break;
        }
    }
    listener
}

// ANCHOR: bind_to
/// What `TcpListener::bind` does, and one option more.
fn bind_to(addr: SocketAddr) -> io::Result<TcpListener> {
    let domain = Domain::for_address(addr);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        // Before `bind`: that is when the kernel reserves the IPv4 port too.
        socket.set_only_v6(false)?;
    }
    // On Windows the option would let others take this port from us.
    if cfg!(unix) {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
// ANCHOR_END: bind_to
