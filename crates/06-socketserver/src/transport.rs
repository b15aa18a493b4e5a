//! Where requests come from: what `TCPServer` and `UDPServer` differ in.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::Options;

/// How often a TCP server with a timeout looks for a client.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// The length field of UDP has 16 bits (RFC 768).
const MAX_DATAGRAM: usize = 65_535;

/// A socket that requests come from. Errors are those of the system calls.
pub trait Transport: Sized {
    /// What a request is.
    type Request: Send + 'static;
    /// What is asked of `socket`.
    const TYPE: Type;

    /// A socket bound to `addr` and ready for requests.
    fn bind(addr: SocketAddr, options: &Options) -> io::Result<Self>;

    /// The address that it is bound to.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// Blocks until the next request; with a timeout no longer than that, and
    /// then the error is `WouldBlock`, on Windows `TimedOut`.
    fn get_request(&mut self) -> io::Result<(Self::Request, SocketAddr)>;
}

/// Each request is a connection.
pub struct Tcp {
    listener: TcpListener,
    timeout: Option<Duration>,
}

impl Transport for Tcp {
    type Request = TcpStream;
    const TYPE: Type = Type::STREAM;

    fn bind(addr: SocketAddr, options: &Options) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Self::TYPE, None)?;
        socket.set_reuse_address(options.allow_reuse_address)?;
        socket.bind(&addr.into())?;
        socket.listen(options.request_queue_size)?;
        socket.set_nonblocking(options.timeout.is_some())?;
        let (listener, timeout) = (socket.into(), options.timeout);
        Ok(Self { listener, timeout })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    // ANCHOR: get_request
    fn get_request(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let Some(timeout) = self.timeout else {
            return self.listener.accept();
        };
        // Only Linux has a deadline for `accept`: look again and again.
        let began = Instant::now();
        let (stream, peer) = loop {
            match self.listener.accept() {
                Err(e) if is_timeout(&e) && began.elapsed() < timeout => {
                    thread::sleep(POLL_INTERVAL);
                }
                result => break result?,
            }
        };
        // macOS and Windows hand it on from the listener.
        stream.set_nonblocking(false)?;
        Ok((stream, peer))
    }
    // ANCHOR_END: get_request
}

/// Each request is a datagram.
pub struct Udp {
    socket: Arc<UdpSocket>,
    buffer: Vec<u8>,
}

impl Transport for Udp {
    type Request = Datagram;
    const TYPE: Type = Type::DGRAM;

    fn bind(addr: SocketAddr, options: &Options) -> io::Result<Self> {
        let socket = Arc::new(UdpSocket::bind(addr)?);
        socket.set_read_timeout(options.timeout)?;
        let buffer = vec![0; MAX_DATAGRAM];
        Ok(Self { socket, buffer })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn get_request(&mut self) -> io::Result<(Datagram, SocketAddr)> {
        let (count, peer) = self.socket.recv_from(&mut self.buffer)?;
        let bytes = self.buffer[..count].to_vec();
        let socket = Arc::clone(&self.socket);
        Ok((
            Datagram {
                bytes,
                peer,
                socket,
            },
            peer,
        ))
    }
}

// ANCHOR: datagram
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

/// Unix says `WouldBlock` when a deadline strikes, Windows `TimedOut`.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
