//! A client, as it is between two of its events.

use std::io::{self, Error, ErrorKind::WouldBlock, Read, Write};
use std::net::SocketAddr;
use std::time::Instant;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry};

use crate::lines::{LineDecoder, Refusal};

const BUFFER_SIZE: usize = 1024;
/// After so many reads it is another client's turn.
const READS_A_TURN: usize = 16;
/// In bytes, without the end of the line.
const MAX_LINE: usize = 4096;
/// How much may wait for a client beyond the kernel's buffers, in bytes.
const MAX_UNSENT: usize = 1 << 20;
pub const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

pub struct Client {
    stream: TcpStream,
    pub peer: SocketAddr,
    pub name: Option<String>,
    /// When it must have said its name.
    pub name_due: Instant,
    decoder: LineDecoder,
    /// What it has been told and the kernel has not taken yet.
    unsent: Vec<u8>,
    /// The kernel has room for more, as far as is known.
    can_send: bool,
    /// It says no more, and is told no more.
    pub is_over: bool,
    pub lines: u64,
}

impl Client {
    pub fn new(stream: TcpStream, peer: SocketAddr, name_due: Instant) -> Self {
        Self {
            stream,
            peer,
            name: None,
            name_due,
            decoder: LineDecoder::new(MAX_LINE),
            unsent: Vec::new(),
            can_send: true,
            is_over: false,
            lines: 0,
        }
    }

    // ANCHOR: read_lines
    /// Adds what it says to `lines`, until its end, or until it has to be
    /// waited for: that is the error `WouldBlock`.
    pub fn read_lines(
        &mut self,
        lines: &mut Vec<Result<String, Refusal>>,
        event: &Event,
        registry: &Registry,
    ) -> io::Result<()> {
        self.can_send |= event.is_writable();
        if self.is_over || !event.is_readable() {
            return Err(WouldBlock.into());
        }
        let mut buffer = [0; BUFFER_SIZE];
        for _ in 0..READS_A_TURN {
            let count = self.stream.read(&mut buffer)?;
            if count == 0 {
                return self.decoder.end();
            }
            self.decoder.push(&buffer[..count]);
            while let Some(line) = self.decoder.next_line() {
                lines.push(line.map(str::to_owned));
                self.lines += 1;
            }
        }
        // What it has sent already brings no event any more, but by this.
        registry.reregister(&mut self.stream, event.token(), BOTH)?;
        Err(WouldBlock.into())
    }
    // ANCHOR_END: read_lines

    /// Puts a line behind what it has been told before.
    pub fn tell(&mut self, line: &str) {
        if !self.is_over {
            self.unsent.extend_from_slice(line.as_bytes());
        }
    }

    // ANCHOR: send_unsent
    /// Sends what the kernel takes. An error says that it gets no more: the
    /// connection is broken, or too much waits for it.
    pub fn send_unsent(&mut self) -> io::Result<()> {
        while self.can_send && !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => _ = self.unsent.drain(..count),
                Err(e) if e.kind() == WouldBlock => self.can_send = false,
                Err(error) => {
                    self.unsent.clear();
                    return Err(error);
                }
            }
        }
        if self.unsent.len() > MAX_UNSENT {
            self.unsent.clear();
            return Err(Error::other("thrown out, it does not read"));
        }
        Ok(())
    }
    // ANCHOR_END: send_unsent

    /// There is nothing left to do for it.
    pub fn is_done(&self) -> bool {
        self.is_over && self.unsent.is_empty()
    }
}
