//! A UDP socket in the test's hand.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::peer::{or_timed_out, time_left};
use crate::{Ending, Failure, Fault, Lab, Result, What};

/// More than a datagram can carry (65,507 bytes over IPv4).
const BUFFER_SIZE: usize = 64 << 10;
/// How often a wait looks whether the server has ended.
const LOOK: Duration = Duration::from_millis(100);

/// A connected UDP socket whose every wait ends at the lab's deadline.
pub struct UdpPeer {
    name: String,
    lab: Lab,
    socket: UdpSocket,
    server: Option<Ending>,
}

impl Lab {
    /// A UDP socket on a port that the kernel chooses, on the loopback
    /// address of `to`'s family, connected to `to`.
    ///
    /// # Errors
    /// [`Fault::Io`] if there is no free port.
    pub fn udp(&self, name: &str, to: SocketAddr) -> Result<UdpPeer> {
        let any_port: SocketAddr = match to {
            SocketAddr::V4(_) => (Ipv4Addr::LOCALHOST, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::LOCALHOST, 0).into(),
        };
        let socket = UdpSocket::bind(any_port)
            .and_then(|socket| socket.connect(to).map(|()| socket))
            .and_then(|socket| Ok((socket.local_addr()?, socket)))
            .map_err(|error| self.failure(name, "bind", error));
        let (from, socket) = socket?;
        let what = What::Connected {
            from: from.to_string(),
            to: to.to_string(),
        };
        self.timeline.add(name, what);
        Ok(UdpPeer {
            name: name.to_owned(),
            lab: self.clone(),
            socket,
            server: None,
        })
    }

    /// A UDP socket of the test's own that anybody may send to, on a port
    /// that the kernel chooses on 127.0.0.1, for programs that are clients.
    ///
    /// # Errors
    /// [`Fault::Io`] if there is no free port.
    pub fn udp_server(&self, name: &str) -> Result<UdpServer> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|socket| Ok((socket.local_addr()?, socket)))
            .map_err(|error| self.failure(name, "bind", error));
        let (addr, socket) = socket?;
        Ok(UdpServer {
            name: name.to_owned(),
            lab: self.clone(),
            socket,
            addr,
        })
    }
}

impl UdpPeer {
    /// From now on no wait is longer than the life of `server`: nobody tells
    /// a client that waits that its server has ended.
    pub fn depend_on(&mut self, server: Ending) {
        self.server = Some(server);
    }

    /// The socket itself, for what has no method here.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// [`Fault::ConnectionRefused`] if an earlier one met a closed port;
    /// [`Fault::Io`], for example for a datagram that is too long.
    pub fn send(&self, datagram: impl AsRef<[u8]>) -> Result {
        let datagram = datagram.as_ref();
        let what = What::Sent(datagram.into());
        self.lab.timeline.add(&self.name, what);
        self.socket
            .send(datagram)
            .map(|_| ())
            .map_err(|error| self.failure("send a datagram", error))
    }

    /// Receives the next datagram, which may be empty.
    ///
    /// # Errors
    /// [`Fault::TimedOut`] at the deadline, or as soon as the server that it
    /// depends on has ended; [`Fault::ConnectionRefused`] if an earlier
    /// datagram met a closed port.
    pub fn receive(&self) -> Result<Vec<u8>> {
        let timeout = self.lab.timeout;
        let until = Instant::now() + timeout;
        let mut buffer = vec![0; BUFFER_SIZE];
        let count = loop {
            // What an ended server has sent has come already.
            let over = self.server.as_ref().map(Ending::is_over);
            let received = time_left(until, timeout).and_then(|left| {
                let left = over.map_or(left, |_| left.min(LOOK));
                self.socket.set_read_timeout(Some(left))?;
                match self.socket.recv(&mut buffer) {
                    Err(e) if e.kind() == ErrorKind::Interrupted => Ok(None),
                    Err(e) => Err(or_timed_out(e, timeout)),
                    Ok(count) => Ok(Some(count)),
                }
            });
            let fault = match received {
                Ok(None) => continue,
                Err(Fault::TimedOut(_))
                    if over == Some(false) && Instant::now() < until =>
                {
                    continue;
                }
                Ok(Some(count)) => break count,
                Err(fault) => fault,
            };
            return Err(self.failure("receive a datagram", fault));
        };
        buffer.truncate(count);
        let what = What::Received(buffer.as_slice().into());
        self.lab.timeline.add(&self.name, what);
        Ok(buffer)
    }

    /// Receives the next datagram, which must be `wanted`.
    ///
    /// # Errors
    /// [`Fault::Unexpected`] for another; or as for [`UdpPeer::receive`].
    pub fn expect(&self, wanted: impl AsRef<[u8]>) -> Result {
        let wanted = wanted.as_ref();
        let quote = crate::timeline::quote;
        let step = format!("receive the datagram {}", quote(wanted));
        let got = match self.receive() {
            Ok(got) if got == wanted => return Ok(()),
            Ok(got) => got,
            Err(failure) => {
                return Err(Failure {
                    wanted: step,
                    ..failure
                });
            }
        };
        let fault = Fault::Unexpected(quote(&got));
        Err(self.failure(step, fault).with_got(got))
    }

    /// Sends one datagram, and receives it back.
    pub fn gets_echo(&self, datagram: impl AsRef<[u8]>) -> Result {
        self.send(&datagram)?;
        self.expect(datagram)
    }

    fn failure(
        &self,
        wanted: impl Into<String>,
        fault: impl Into<Fault>,
    ) -> Failure {
        self.lab.failure(&self.name, wanted, fault)
    }
}

/// A UDP socket on a free port of 127.0.0.1 that anybody may send to, for
/// programs that are clients. Its every wait ends at the lab's deadline.
pub struct UdpServer {
    name: String,
    lab: Lab,
    socket: UdpSocket,
    addr: SocketAddr,
}

impl UdpServer {
    /// The address that it is bound to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The socket itself, for what has no method here.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Receives the next datagram, and tells who sent it.
    ///
    /// # Errors
    /// [`Fault::TimedOut`] at the deadline.
    pub fn receive(&self) -> Result<(Vec<u8>, SocketAddr)> {
        let timeout = self.lab.timeout;
        let until = Instant::now() + timeout;
        let mut buffer = vec![0; BUFFER_SIZE];
        let receive = |buffer: &mut [u8]| loop {
            let left = time_left(until, timeout)?;
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.recv_from(buffer) {
                Ok(datagram) => return Ok(datagram),
                // Windows tells of an earlier answer that met a closed port.
                Err(e) if e.kind() == ErrorKind::ConnectionReset => {}
                Err(e) => return Err(or_timed_out(e, timeout)),
            }
        };
        let (count, sender) = receive(&mut buffer).map_err(|fault| {
            self.lab.failure(&self.name, "receive a datagram", fault)
        })?;
        buffer.truncate(count);
        let what = What::Received(buffer.as_slice().into());
        self.lab.timeline.add(&self.name, what);
        Ok((buffer, sender))
    }

    /// Sends one datagram to `to`.
    ///
    /// # Errors
    /// [`Fault::Io`], for example for a datagram that is too long.
    pub fn send_to(
        &self,
        datagram: impl AsRef<[u8]>,
        to: SocketAddr,
    ) -> Result {
        let datagram = datagram.as_ref();
        let what = What::Sent(datagram.into());
        self.lab.timeline.add(&self.name, what);
        self.socket
            .send_to(datagram, to)
            .map(|_| ())
            .map_err(|error| {
                let step = format!("send a datagram to {to}");
                self.lab.failure(&self.name, step, error)
            })
    }
}
