//! Where requests come from: what `TCPServer` and `UDPServer` differ in.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::sync::Arc;

use socket2::Type;

/// The length field of UDP has 16 bits (RFC 768).
const MAX_DATAGRAM: usize = 65_535;

// ANCHOR: transport
/// A socket that requests come from. Errors are those of the system calls.
pub trait Transport: Sized {
    /// What a request is.
    type Request: Send + 'static;
    /// What kind of socket reaches it.
    const SOCKET_TYPE: Type;

    /// Binds to the first of the addresses that can be bound.
    fn bind(addrs: impl ToSocketAddrs) -> io::Result<Self>;

    /// The address that it is bound to.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Blocks until the next request.
    fn get_request(&mut self) -> io::Result<(Self::Request, SocketAddr)>;
}

/// Each request is a connection.
pub struct Tcp(TcpListener);

impl Transport for Tcp {
    type Request = TcpStream;
    const SOCKET_TYPE: Type = Type::STREAM;

    fn bind(addrs: impl ToSocketAddrs) -> io::Result<Self> {
        TcpListener::bind(addrs).map(Self)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn get_request(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept()
    }
}
// ANCHOR_END: transport

// ANCHOR: datagram
/// Each request is a datagram.
pub struct Udp {
    socket: Arc<UdpSocket>,
    buffer: Vec<u8>,
}

/// A datagram that was received, and the way back to its sender.
pub struct Datagram {
    /// All that was sent, which may be nothing.
    pub bytes: Vec<u8>,
    peer: SocketAddr,
    socket: Arc<UdpSocket>,
}

impl Datagram {
    /// Sends one datagram back. Errors are those of `send_to`.
    pub fn reply(&self, bytes: &[u8]) -> io::Result<()> {
        self.socket.send_to(bytes, self.peer).map(drop)
    }
}
// ANCHOR_END: datagram

impl Transport for Udp {
    type Request = Datagram;
    const SOCKET_TYPE: Type = Type::DGRAM;

    fn bind(addrs: impl ToSocketAddrs) -> io::Result<Self> {
        let socket = Arc::new(UdpSocket::bind(addrs)?);
        let buffer = vec![0; MAX_DATAGRAM];
        Ok(Self { socket, buffer })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn get_request(&mut self) -> io::Result<(Datagram, SocketAddr)> {
        let (count, peer) = self.socket.recv_from(&mut self.buffer)?;
        let request = Datagram {
            bytes: self.buffer[..count].to_vec(),
            peer,
            socket: Arc::clone(&self.socket),
        };
        Ok((request, peer))
    }
}
