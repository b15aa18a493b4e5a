//! A listener in the test's hand, for programs that are clients.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use crate::{Fault, Lab, Peer, Result};

/// Listens on a free port of 127.0.0.1.
pub struct Listener {
    name: String,
    lab: Lab,
    addr: SocketAddr,
    accepted: Receiver<TcpStream>,
}

impl Lab {
    /// A listener of the test's own, on a port that the kernel chooses on
    /// 127.0.0.1, for programs that are clients.
    ///
    /// # Errors
    /// [`Fault::Io`] if there is no free port.
    pub fn listen(&self, name: &str) -> Result<Listener> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| Ok((listener.local_addr()?, listener)))
            .map_err(|error| self.failure(name, "listen", error));
        let (addr, listener) = listener?;
        let (sender, accepted) = mpsc::channel();
        // `accept` has no deadline of its own, and waiting on a channel has.
        thread::spawn(move || {
            for stream in listener.incoming().map_while(|s| s.ok()) {
                if sender.send(stream).is_err() {
                    return;
                }
            }
        });
        Ok(Listener {
            name: name.to_owned(),
            lab: self.clone(),
            addr,
            accepted,
        })
    }
}

impl Listener {
    /// The address that it is bound to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// From now on each wait for a connection may take `timeout`.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.lab.timeout = timeout;
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    /// [`Fault::TimedOut`] if nobody connects until the deadline.
    pub fn accept(&self, name: &str) -> Result<Peer> {
        let timeout = self.lab.timeout;
        let failure = |fault| self.lab.failure(&self.name, "accept", fault);
        let stream = self
            .accepted
            .recv_timeout(timeout)
            .map_err(|_| failure(Fault::TimedOut(timeout)))?;
        Peer::over(&self.lab, name, stream)
            .map_err(|error| failure(error.into()))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Wakes the thread, which then finds that nobody takes its streams.
        // Dropping `accepted` comes after this body; a stream too many is
        // closed with it.
        let _ = TcpStream::connect(self.addr);
    }
}
