//! From a name to a connection.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

// ANCHOR: resolve
/// All addresses of these names, in the system's order. A name without one is
/// a line to stderr.
///
/// Blocks while the names are looked up, for which there is no timeout.
pub fn resolve(names: &[String]) -> Vec<SocketAddr> {
    let mut addrs = Vec::new();
    for name in names {
        match name.to_socket_addrs() {
            Ok(found) => addrs.extend(found),
            Err(error) => eprintln!("{name}: {error}"),
        }
    }
    addrs
}
// ANCHOR_END: resolve

// ANCHOR: in_turn
/// A connection to the first of these addresses that answers, none if all
/// fail. Each failure is a line to stderr.
///
/// Blocks for at most `timeout` for each address.
pub fn in_turn(addrs: &[SocketAddr], timeout: Duration) -> Option<TcpStream> {
    for addr in addrs {
        match TcpStream::connect_timeout(addr, timeout) {
            Ok(stream) => return Some(stream),
            Err(error) => eprintln!("{addr}: {error}"),
        }
    }
    None
}
// ANCHOR_END: in_turn
