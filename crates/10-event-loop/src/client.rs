//! A client, as it is between two of its events: what a thread would keep.

use std::io::{self, ErrorKind::WouldBlock, Read, Write};
use std::net::SocketAddr;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry};

const BUFFER_SIZE: usize = 1024;
/// After so many reads it is another client's turn.
const READS_A_TURN: usize = 16;
pub const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

pub struct Client {
    stream: TcpStream,
    peer: SocketAddr,
    /// What was read and could not be sent yet: of one read, never of two.
    unsent: Vec<u8>,
    total: u64,
}

impl Client {
    pub fn new(stream: TcpStream, peer: SocketAddr) -> Self {
        Self {
            stream,
            peer,
            unsent: Vec::new(),
            total: 0,
        }
    }

    // ANCHOR: serve
    /// Goes on until it would have to wait. `false`: that was the end.
    pub fn serve(&mut self, event: &Event, registry: &Registry) -> bool {
        // To try in vain brings the same event again on Windows: it would spin.
        let is_awaited = match self.unsent.is_empty() {
            true => event.is_readable(),
            false => event.is_writable(),
        };
        if !is_awaited {
            return true;
        }
        let peer = self.peer;
        match self.echo(event, registry) {
            Err(error) if error.kind() == WouldBlock => return true,
            Ok(count) => {
                println!("{peer} closed the connection after {count} bytes");
            }
            Err(error) => eprintln!("{peer}: {error}"),
        }
        false
    }
    // ANCHOR_END: serve

    // ANCHOR: echo
    /// Sends back what comes, until the client half-closes; counts the bytes.
    /// The error `WouldBlock`: it has to wait for an event.
    fn echo(&mut self, event: &Event, registry: &Registry) -> io::Result<u64> {
        let mut buffer = [0; BUFFER_SIZE];
        for _ in 0..READS_A_TURN {
            self.send_unsent()?;
            let count = self.stream.read(&mut buffer)?;
            if count == 0 {
                return Ok(self.total);
            }
            self.unsent.extend_from_slice(&buffer[..count]);
            self.total += count as u64;
        }
        // What it has sent already brings no event any more, but by this.
        registry.reregister(&mut self.stream, event.token(), BOTH)?;
        Err(WouldBlock.into())
    }

    fn send_unsent(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            let count = self.stream.write(&self.unsent)?;
            self.unsent.drain(..count);
        }
        Ok(())
    }
    // ANCHOR_END: echo
}
