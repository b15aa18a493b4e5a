//! One end of a TCP connection, in the test's hand.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::{Failure, Fault, Lab, Result, What};

/// How much of a wrong message a fault shows on each side of the place.
const CONTEXT: usize = 12;
/// How much of a wrong answer is received, and how long its end is waited for.
const ANSWER_LIMIT: usize = 64 << 10;
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// So many timeouts at most, if bytes come within each.
const MOST_TIMEOUTS: u32 = 10;
/// How long one look at a stalled stream waits for the first byte.
const LOOK: Duration = Duration::from_millis(1);
/// As many looks, 2 ms apart, must see the same bytes.
const LOOKS: usize = 10;
/// What a client takes that takes little, in bytes (Linux doubles it).
const SMALL_BUFFER: usize = 4 << 10;
/// How much it takes in one segment, in bytes.
#[cfg(unix)]
const SMALL_SEGMENT: u32 = 1000;

/// A TCP connection whose every wait ends at the lab's deadline. Closed on
/// drop.
pub struct Peer {
    name: String,
    lab: Lab,
    stream: Arc<TcpStream>,
    unread: Vec<u8>,
}

impl Lab {
    /// Connects over TCP, with `TCP_NODELAY` set, so that a chunk sent is
    /// not held back to be joined with the next.
    ///
    /// # Errors
    /// [`Fault::ConnectionRefused`] if nobody listens there,
    /// [`Fault::TimedOut`] at the deadline.
    pub fn connect(&self, name: &str, to: SocketAddr) -> Result<Peer> {
        TcpStream::connect_timeout(&to, self.timeout)
            .and_then(|stream| Peer::over(self, name, stream))
            .map_err(|error| {
                let fault = or_timed_out(error, self.timeout);
                self.failure(name, format!("connect to {to}"), fault)
            })
    }

    /// As [`Lab::connect`], for a client that takes so little that a server's
    /// answers soon pile up if it does not read.
    pub fn connect_small(&self, name: &str, to: SocketAddr) -> Result<Peer> {
        let connect = || {
            let domain = Domain::for_address(to);
            let socket =
                Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
            // Before connecting: the handshake tells both. A server's kernel
            // makes its send buffer to the measure of the segments.
            socket.set_recv_buffer_size(SMALL_BUFFER)?;
            #[cfg(unix)]
            socket.set_tcp_mss(SMALL_SEGMENT)?;
            socket.connect(&to.into())?;
            Ok(socket.into())
        };
        let stream = connect().map_err(|error: io::Error| {
            self.failure(name, format!("connect to {to}"), error)
        })?;
        self.adopt(name, stream)
    }

    /// Takes over a stream that is connected, for instance one whose buffers
    /// are smaller than usual. Sets `TCP_NODELAY`.
    ///
    /// # Errors
    /// [`Fault::Io`] if the connection is gone.
    pub fn adopt(&self, name: &str, stream: TcpStream) -> Result<Peer> {
        Peer::over(self, name, stream)
            .map_err(|error| self.failure(name, "connect", error))
    }
}

impl Peer {
    /// Takes over a stream that exists.
    pub(crate) fn over(
        lab: &Lab,
        name: &str,
        stream: TcpStream,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let what = What::Connected {
            from: stream.local_addr()?.to_string(),
            // Unknown if the other side has reset the connection already:
            // the next step will meet that.
            to: stream.peer_addr().map_or("?".into(), |to| to.to_string()),
        };
        lab.timeline.add(name, what);
        Ok(Self {
            name: name.to_owned(),
            lab: lab.clone(),
            stream: Arc::new(stream),
            unread: Vec::new(),
        })
    }

    /// The name that the test gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// From now on each of its waits may take `timeout`.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.lab.timeout = timeout;
    }

    /// This end's address.
    ///
    /// # Errors
    /// [`Fault::Io`] if the system no longer knows it.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        self.stream
            .local_addr()
            .map_err(|error| self.failure("local address", error))
    }

    /// The stream itself, for what has no method here.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends all of `bytes`. Returns when the kernel has taken them.
    ///
    /// # Errors
    /// [`Fault::ConnectionReset`]; [`Fault::TimedOut`] if the kernel takes no
    /// more because the other side does not read.
    pub fn send(&self, bytes: impl AsRef<[u8]>) -> Result {
        let bytes = bytes.as_ref();
        self.send_in_chunks(bytes, bytes.len().max(1))
    }

    /// Sends all of `bytes`, at most `size` in one write.
    pub fn send_in_chunks(
        &self,
        bytes: impl AsRef<[u8]>,
        size: usize,
    ) -> Result {
        let bytes = bytes.as_ref();
        self.lab.timeline.add(&self.name, What::Sent(bytes.into()));
        write_until(&self.stream, bytes, size, self.lab.timeout)
            .map_err(|fault| self.failure("send", fault))
    }

    /// Sends `bytes` from a thread of its own, so that this end can receive
    /// meanwhile; two ends that only write block each other for ever.
    pub fn send_in_background(
        &self,
        bytes: Vec<u8>,
        size: usize,
    ) -> JoinHandle<Result> {
        self.lab
            .timeline
            .add(&self.name, What::Sent(bytes.as_slice().into()));
        let stream = Arc::clone(&self.stream);
        let (lab, name) = (self.lab.clone(), self.name.clone());
        thread::spawn(move || {
            write_until(&stream, &bytes, size, lab.timeout)
                .map_err(|fault| lab.failure(&name, "send", fault))
        })
    }

    /// Receives exactly `bytes`. What comes behind them is kept for the next
    /// step. A wrong byte fails, and the failure takes with it what came, up
    /// to the end of the line. If only a part comes, the failure has a copy of
    /// it, and a later step can go on.
    ///
    /// # Errors
    /// [`Fault::WrongByte`], [`Fault::UnexpectedEof`],
    /// [`Fault::ConnectionReset`], or [`Fault::TimedOut`].
    pub fn expect(&mut self, bytes: impl AsRef<[u8]>) -> Result {
        let wanted = bytes.as_ref();
        let step = || format!("receive {}", crate::timeline::quote(wanted));
        let mut right = 0;
        let received = self.receive_until(step, |unread, ended| {
            let got = &unread[..unread.len().min(wanted.len())];
            // The comparison of slices is quick, that of bytes says where.
            if got[right..] != wanted[right..got.len()] {
                let same = |at: &usize| got[*at] == wanted[*at];
                let offset = (right..).take_while(same).count() + right;
                return Err(Fault::WrongByte {
                    offset,
                    got: around(unread, offset),
                    wanted: around(wanted, offset),
                });
            }
            right = got.len();
            if right == wanted.len() {
                unread.drain(..right);
                return Ok(Some(()));
            }
            let wanted = wanted.len();
            let fault = Fault::UnexpectedEof { got: right, wanted };
            if ended { Err(fault) } else { Ok(None) }
        });
        received.map_err(|failure| match *failure.fault {
            Fault::WrongByte { .. } => failure.with_got(self.rest_of_line()),
            _ => self.with_part(failure),
        })
    }

    /// The failure, with a copy of the part that has come, if one has.
    fn with_part(&self, failure: Failure) -> Failure {
        match *failure.fault {
            Fault::TimedOut(_) | Fault::UnexpectedEof { .. }
                if !self.unread.is_empty() =>
            {
                failure.with_got(self.unread.clone())
            }
            _ => failure,
        }
    }

    /// Receives the next line, without its newline. If only a part comes, the
    /// failure has a copy of it.
    ///
    /// # Errors
    /// [`Fault::UnexpectedEof`], [`Fault::ConnectionReset`], or
    /// [`Fault::TimedOut`].
    pub fn line(&mut self) -> Result<String> {
        let step = || "receive a line".to_owned();
        let line = self.receive_until(step, |unread, _| {
            let Some(at) = unread.iter().position(|&b| b == b'\n') else {
                return Ok(None);
            };
            let line: Vec<u8> = unread.drain(..=at).collect();
            Ok(Some(String::from_utf8_lossy(&line[..at]).into_owned()))
        });
        line.map_err(|failure| self.with_part(failure))
    }

    /// Receives what comes next, at least one byte.
    ///
    /// # Errors
    /// [`Fault::UnexpectedEof`], [`Fault::ConnectionReset`], or
    /// [`Fault::TimedOut`].
    pub fn receive(&mut self) -> Result<Vec<u8>> {
        let step = || "receive something".to_owned();
        self.receive_until(step, |unread, _| {
            Ok((!unread.is_empty()).then(|| std::mem::take(unread)))
        })
    }

    /// Receives everything up to the end of the stream (FIN).
    ///
    /// # Errors
    /// [`Fault::ConnectionReset`], or [`Fault::TimedOut`].
    pub fn rest(&mut self) -> Result<Vec<u8>> {
        let step = || "receive the end".to_owned();
        self.receive_until(step, |unread, ended| {
            Ok(ended.then(|| std::mem::take(unread)))
        })
    }

    /// Receives the end of the stream (FIN), and nothing before it.
    ///
    /// # Errors
    /// [`Fault::Unexpected`], [`Fault::ConnectionReset`], or
    /// [`Fault::TimedOut`].
    pub fn expect_end(&mut self) -> Result {
        let step = || "receive the end of the stream".to_owned();
        self.receive_until(step, |unread, ended| match unread.is_empty() {
            true => Ok(ended.then_some(())),
            false => Err(Fault::Unexpected(crate::timeline::quote(unread))),
        })
    }

    /// Receives a reset, whatever comes before it.
    ///
    /// # Errors
    /// [`Fault::Unexpected`] if the stream ends otherwise, or
    /// [`Fault::TimedOut`].
    pub fn expect_reset(&mut self) -> Result {
        let end = self.receive_until(
            || "be reset".to_owned(),
            |_, ended| match ended {
                true => Err(Fault::Unexpected("FIN".to_owned())),
                false => Ok(None),
            },
        );
        match end {
            Err(end) if *end.fault == Fault::ConnectionReset => Ok(()),
            end => end,
        }
    }

    /// True if nothing has arrived that was not received yet. Does not wait,
    /// so it proves something only after an event that would have come later.
    ///
    /// # Errors
    /// [`Fault::ConnectionReset`].
    pub fn has_nothing(&self) -> Result<bool> {
        let look = || {
            self.stream.set_nonblocking(true)?;
            let seen = self.stream.peek(&mut [0]);
            self.stream.set_nonblocking(false)?;
            seen
        };
        match look() {
            Ok(_) => Ok(false),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                Ok(self.unread.is_empty())
            }
            Err(e) => Err(self.failure("look for bytes", e)),
        }
    }

    /// Waits until bytes have arrived that nobody receives here, and no more
    /// of them arrive: the other side's answers fill all buffers, as far as
    /// this end can see.
    ///
    /// # Errors
    /// [`Fault::UnexpectedEof`], [`Fault::ConnectionReset`], or
    /// [`Fault::TimedOut`].
    pub fn wait_until_stalled(&self) -> Result {
        let mut buffer = vec![0; 64 << 10];
        let (mut waiting, mut same) = (0, 0);
        let mut over = None;
        let stalled = || {
            // Not by making it non-blocking: a thread may be sending.
            let looked = self
                .stream
                .set_read_timeout(Some(LOOK))
                .and_then(|()| self.stream.peek(&mut buffer));
            over = match &looked {
                Ok(0) => Some(Fault::UnexpectedEof { got: 0, wanted: 1 }),
                Err(e) if e.kind() == ErrorKind::ConnectionReset => {
                    Some(Fault::ConnectionReset)
                }
                _ => None,
            };
            let seen = looked.unwrap_or(0);
            same = if seen > 0 && seen == waiting {
                same + 1
            } else {
                0
            };
            waiting = seen;
            over.is_some() || same >= LOOKS
        };
        let wanted = "receive the beginning of an answer";
        let waited = self.lab.wait_until(wanted, stalled);
        match over {
            Some(fault) => Err(self.failure(wanted, fault)),
            None => {
                waited.map_err(|failure| self.failure(wanted, *failure.fault))
            }
        }
    }

    /// Sends FIN: no more bytes from here; receiving goes on.
    ///
    /// # Errors
    /// [`Fault::ConnectionReset`] or [`Fault::Io`] if the connection is gone.
    pub fn half_close(&self) -> Result {
        self.lab.timeline.add(&self.name, What::HalfClosed);
        self.stream
            .shutdown(Shutdown::Write)
            .map_err(|error| self.failure("half-close", error))
    }

    /// Ends both directions at once, even if another thread still sends.
    pub fn hang_up(&self) -> Result {
        self.lab.timeline.add(&self.name, What::HungUp);
        self.stream
            .shutdown(Shutdown::Both)
            .map_err(|error| self.failure("hang up", error))
    }

    /// Closes both directions. (If bytes wait unread here, the kernel makes
    /// a reset of it: RFC 1122, section 4.2.2.13.)
    pub fn close(self) {
        self.lab.timeline.add(&self.name, What::Closed);
        if self.has_nothing().unwrap_or(false) {
            // Another thread may just be starting a program, which holds a
            // copy of this socket until its exec: closing alone could be late.
            let _ = self.stream.shutdown(Shutdown::Both);
        }
    }

    /// Sends RST instead of FIN: `SO_LINGER` with 0 seconds, then close.
    ///
    /// # Errors
    /// [`Fault::Io`] if the option cannot be set.
    pub fn reset(self) -> Result {
        self.lab.timeline.add(&self.name, What::Reset);
        SockRef::from(&*self.stream)
            .set_linger(Some(Duration::ZERO))
            .map_err(|error| self.failure("reset", error))
    }

    /// Receives until `look` finds what it wants in what has come and was not
    /// taken yet, or says what is wrong with it. It is told whether that is
    /// all, because the stream has ended.
    fn receive_until<T>(
        &mut self,
        wanted: impl FnOnce() -> String,
        mut look: impl FnMut(
            &mut Vec<u8>,
            bool,
        ) -> std::result::Result<Option<T>, Fault>,
    ) -> Result<T> {
        let timeout = self.lab.timeout;
        let end = Instant::now() + timeout * MOST_TIMEOUTS;
        let mut until = Instant::now() + timeout;
        let mut ended = false;
        let fault = loop {
            let received = match look(&mut self.unread, ended) {
                Ok(Some(found)) => return Ok(found),
                Ok(None) if ended => {
                    let got = self.unread.len();
                    break Fault::UnexpectedEof {
                        got,
                        wanted: got + 1,
                    };
                }
                Ok(None) => self.fill(until),
                Err(fault) => break fault,
            };
            match received {
                Ok(count) => ended = count == 0,
                Err(fault) => break fault,
            }
            // Who writes byte by byte on a busy machine is slow, not silent.
            until = end.min(Instant::now() + timeout);
        };
        Err(self.failure(wanted(), fault))
    }

    /// What has come, and what comes up to the end of the line.
    fn rest_of_line(&mut self) -> Vec<u8> {
        let until = Instant::now() + ANSWER_TIME;
        while !self.unread.contains(&b'\n')
            && self.unread.len() < ANSWER_LIMIT
            && matches!(self.fill(until), Ok(1..))
        {}
        std::mem::take(&mut self.unread)
    }

    /// Receives once, and gives the number of bytes; 0 is the end.
    fn fill(&mut self, until: Instant) -> std::result::Result<usize, Fault> {
        let mut buffer = [0; 64 << 10];
        loop {
            let left = time_left(until, self.lab.timeout)?;
            self.stream.set_read_timeout(Some(left))?;
            if self.lab.quick_acks {
                #[cfg(target_os = "linux")]
                SockRef::from(&*self.stream).set_tcp_quickack(true)?;
            }
            match (&*self.stream).read(&mut buffer) {
                Ok(0) => {
                    self.lab.timeline.add(&self.name, What::SawEnd);
                    return Ok(0);
                }
                Ok(count) => {
                    let bytes = &buffer[..count];
                    let what = What::Received(bytes.into());
                    self.lab.timeline.add(&self.name, what);
                    self.unread.extend_from_slice(bytes);
                    return Ok(count);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => {
                    let fault = or_timed_out(e, self.lab.timeout);
                    if fault == Fault::ConnectionReset {
                        self.lab.timeline.add(&self.name, What::SawReset);
                    }
                    return Err(fault);
                }
            }
        }
    }

    fn failure(
        &self,
        wanted: impl Into<String>,
        fault: impl Into<Fault>,
    ) -> Failure {
        self.lab.failure(&self.name, wanted, fault)
    }
}

fn write_until(
    mut stream: &TcpStream,
    bytes: &[u8],
    size: usize,
    timeout: Duration,
) -> std::result::Result<(), Fault> {
    let until = Instant::now() + timeout;
    for mut chunk in bytes.chunks(size) {
        while !chunk.is_empty() {
            let left = time_left(until, timeout)?;
            stream.set_write_timeout(Some(left))?;
            match stream.write(chunk) {
                Ok(count) => chunk = &chunk[count..],
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(or_timed_out(e, timeout)),
            }
        }
    }
    Ok(())
}

/// The time left for a socket's timeout, which may not be zero.
pub(crate) fn time_left(
    until: Instant,
    timeout: Duration,
) -> std::result::Result<Duration, Fault> {
    until
        .checked_duration_since(Instant::now())
        .filter(|left| !left.is_zero())
        .ok_or(Fault::TimedOut(timeout))
}

/// A timeout is `WouldBlock` on Unix and `TimedOut` on Windows.
pub(crate) fn or_timed_out(error: io::Error, timeout: Duration) -> Fault {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Fault::TimedOut(timeout),
        _ => error.into(),
    }
}

fn around(bytes: &[u8], offset: usize) -> String {
    let start = offset.saturating_sub(CONTEXT);
    let end = bytes.len().min(offset + CONTEXT);
    crate::timeline::quote(&bytes[start..end])
}
