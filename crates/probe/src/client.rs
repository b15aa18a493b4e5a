//! One client, over TCP or UDP, from its socket to its end.

use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::mem::MaybeUninit;
use std::net::{
    Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use socket2::Socket;

use crate::idle_timeout::{IdleTimeout, Wait};
use crate::outgoing::{self, LONGEST_DATAGRAM, pause};
use crate::report::{Direction, Traffic, count};
use crate::{Task, failure};

/// After this time in which the peer takes nothing, that is said.
const STANDSTILL: Duration = Duration::from_secs(1);
const PEER_CLOSED: &str = "the peer closed the connection";

/// What a client's reader and its sender share.
struct Client {
    id: usize,
    task: Arc<Task>,
    socket: Socket,
    idle_timeout: IdleTimeout,
    /// Writes so far; over UDP, as many answers are expected.
    writes: AtomicU64,
}

/// Why a client stopped reading.
enum End {
    OfStream,
    TimedOut,
    Answered,
}

/// Runs client `id` to its end and says how it ended.
pub fn run(id: usize, task: &Arc<Task>) -> Result<String> {
    let client = Arc::new(Client::connect(id, task)?);
    if task.args.idle {
        client.send_all()?;
        return client.idle();
    }
    // Two threads, since a client that sends everything before it reads would
    // deadlock with an echo server.
    let sender = Arc::clone(&client);
    let sender = thread::Builder::new()
        .spawn(move || sender.send_all())
        .map_err(|_| anyhow!(failure::OUT_OF_THREADS))?;
    let (end, reads) = client.receive()?;
    // A person may be typing for ever.
    if !task.args.interactive() || client.idle_timeout.is_all_sent() {
        sender.join().map_err(|_| anyhow!(failure::FAULT))??;
    }
    client.finish(end, reads)
}

impl Client {
    fn connect(id: usize, task: &Arc<Task>) -> Result<Self> {
        let args = &task.args;
        let open = if args.udp { open_udp } else { connect_tcp };
        let (socket, peer) = open(task)
            .map_err(|e| anyhow!(failure::connecting(&e, &args.addr)))?;
        // The peer may have reset already. Then some systems fail here, and
        // the first read will say why.
        let local = socket.local_addr().ok().and_then(|addr| addr.as_socket());
        let local = local.map_or("?".into(), |addr| addr.to_string());
        let _ = socket.set_write_timeout(args.timeout.or(Some(STANDSTILL)));
        if args.udp {
            let what = format!("opened {local} -> {peer} (nothing sent yet)");
            task.report.note(id, &what);
        } else {
            task.report.reached(id);
            task.report
                .note(id, &format!("connected {local} -> {peer}"));
        }
        let timeout = match args.rst {
            true => Some(Duration::ZERO),
            false => args.idle_timeout(),
        };
        Ok(Self {
            id,
            task: Arc::clone(task),
            socket,
            idle_timeout: IdleTimeout::new(timeout),
            writes: AtomicU64::new(0),
        })
    }

    fn send_all(&self) -> Result<()> {
        let result = self.try_send_all();
        self.idle_timeout.all_sent();
        if result.is_err() && !self.task.args.udp {
            // Wakes the reader; the connection is of no more use.
            let _ = self.socket.shutdown(Shutdown::Both);
        }
        result
    }

    fn try_send_all(&self) -> Result<()> {
        let args = &self.task.args;
        if args.interactive() && io::stdin().is_terminal() {
            self.note("type lines; Ctrl-D (Windows: Ctrl-Z, Enter) ends");
        }
        let mut traffic = Traffic::new(&self.task, self.id, Direction::Sending);
        outgoing::send_all(args, |piece| self.write(piece, &mut traffic))
            .map_err(|e| self.broken(&e, "sending"))?;
        drop(traffic);
        if args.half_close || args.rst {
            pause(args);
        }
        if args.half_close || (args.interactive() && !args.udp) {
            self.note("half-closing: nothing more will be sent");
            match self.socket.shutdown(Shutdown::Write) {
                // The peer has closed or reset already; the reader says so.
                Err(e) if e.kind() == ErrorKind::NotConnected => {}
                other => other.map_err(|e| self.broken(&e, "half-closing"))?,
            }
        }
        Ok(())
    }

    /// `write_all` that counts what was sent before it failed, and sends an
    /// empty piece too.
    fn write(&self, mut piece: &[u8], traffic: &mut Traffic) -> io::Result<()> {
        traffic.show(piece);
        loop {
            match (&self.socket).write(piece) {
                Ok(n) => {
                    traffic.count(n);
                    piece = &piece[n..];
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e)
                    if failure::timed_out(&e)
                        && self.task.args.timeout.is_none() =>
                {
                    traffic.stands_still();
                    continue;
                }
                Err(_)
                    if self.task.args.udp && piece.len() > LONGEST_DATAGRAM =>
                {
                    return Err(io::Error::other(format!(
                        "{} bytes do not fit into a datagram: send at most \
                         {LONGEST_DATAGRAM}",
                        piece.len()
                    )));
                }
                Err(e) => return Err(e),
            }
            if piece.is_empty() {
                self.writes.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
        }
    }

    /// Shows what arrives; the number is that of the reads.
    fn receive(&self) -> Result<(End, u64)> {
        let udp = self.task.args.udp;
        let mut traffic =
            Traffic::new(&self.task, self.id, Direction::Received);
        let mut buffer = vec![0; 64 * 1024]; // holds any datagram
        let mut reads = 0;
        loop {
            if udp && self.idle_timeout.is_all_sent() && reads >= self.writes()
            {
                return Ok((End::Answered, reads));
            }
            match self.idle_timeout.next() {
                Wait::Forever => {}
                Wait::AtMost(time) => {
                    // Fails on some systems after a reset; the read says so.
                    let _ = self.socket.set_read_timeout(Some(time));
                }
                Wait::Over => return Ok((End::TimedOut, reads)),
            }
            match (&self.socket).read(&mut buffer) {
                Ok(0) if !udp => return Ok((End::OfStream, reads)),
                Ok(n) => {
                    self.idle_timeout.moved();
                    self.task.report.reached(self.id);
                    reads += 1;
                    traffic.count(n);
                    traffic.show(&buffer[..n]);
                }
                Err(e) if failure::timed_out(&e) => {}
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(self.broken(&e, "waiting for an answer")),
            }
        }
    }

    fn finish(&self, end: End, reads: u64) -> Result<String> {
        let args = &self.task.args;
        let ms = args.idle_timeout().unwrap_or_default().as_millis();
        match end {
            _ if args.rst => {
                // Without lingering, the close that follows is TCP's ABORT:
                // RST instead of FIN (RFC 9293, section 3.10.5).
                let linger = self.socket.set_linger(Some(Duration::ZERO));
                linger.map_err(|e| self.broken(&e, "resetting"))?;
                Ok("reset the connection, as asked".into())
            }
            End::OfStream => Ok(PEER_CLOSED.into()),
            End::Answered => {
                Ok(format!("got {} as expected", count(reads, "answer")))
            }
            End::TimedOut if args.udp => bail!(
                "{reads} of {} answered within {ms} ms: does the server run, \
                 and answer each?",
                count(self.writes(), "datagram")
            ),
            End::TimedOut if args.half_close || args.interactive() => bail!(
                "the peer did not close within {ms} ms: does the server \
                 notice the end of the stream?"
            ),
            End::TimedOut if reads == 0 => {
                bail!("no answer within {ms} ms: is the server busy?")
            }
            End::TimedOut => {
                Ok(format!("closed the connection after {ms} ms of silence"))
            }
        }
    }

    /// Waits without reading. Peeking shows the peer's close as long as
    /// nothing has arrived; behind unread bytes only a reset can be seen.
    fn idle(&self) -> Result<String> {
        const LOOK: Duration = Duration::from_millis(100);
        let start = Instant::now();
        let timeout = self.task.args.timeout;
        let left = || timeout.map(|t| t.saturating_sub(start.elapsed()));
        self.note("idle: reads nothing from now on");
        while left() != Some(Duration::ZERO) {
            let _ = self.socket.set_read_timeout(left());
            match self.socket.peek(&mut [MaybeUninit::uninit()]) {
                Ok(0) => return Ok(PEER_CLOSED.into()),
                Ok(_) => {
                    self.note("something arrived: it stays unread");
                    break;
                }
                Err(e) if failure::timed_out(&e) => {}
                // Linux: a wait with a timeout was stopped (Ctrl-Z).
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(self.broken(&e, "idle")),
            }
        }
        while left() != Some(Duration::ZERO) {
            if let Some(error) = self.socket.take_error()? {
                return Err(self.broken(&error, "idle"));
            }
            thread::sleep(left().unwrap_or(LOOK).min(LOOK));
        }
        let ms = timeout.unwrap_or_default().as_millis();
        Ok(format!("stayed idle for {ms} ms, as asked"))
    }

    fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    fn note(&self, what: &str) {
        self.task.report.note(self.id, what);
    }

    fn broken(&self, error: &io::Error, doing: &str) -> anyhow::Error {
        anyhow!(failure::broken(error, doing, &self.task.args))
    }
}

fn connect_tcp(task: &Task) -> io::Result<(Socket, SocketAddr)> {
    let mut result = Err(ErrorKind::AddrNotAvailable.into());
    for &peer in &task.peers {
        let stream = match task.args.timeout {
            Some(timeout) => TcpStream::connect_timeout(&peer, timeout),
            None => TcpStream::connect(peer),
        };
        result = stream.map(|stream| (stream, peer));
        if result.is_ok() {
            break;
        }
    }
    let (stream, peer) = result?;
    let _ = stream.set_nodelay(true);
    Ok((stream.into(), peer))
}

/// A connected socket sends nothing when it connects, but learns from the
/// kernel that nobody has bound the port (udp(7), ECONNREFUSED).
fn open_udp(task: &Task) -> io::Result<(Socket, SocketAddr)> {
    let peer = task.peers[0];
    let any: SocketAddr = match peer {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(peer)?;
    Ok((socket.into(), peer))
}
