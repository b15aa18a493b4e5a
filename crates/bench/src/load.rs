//! What the servers are loaded with. It is the same for all of them.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::Barrier;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::server::Server;

const MESSAGE: [u8; 64] = [b'x'; 64];
const LINE: [u8; 64] = {
    let mut line = MESSAGE;
    line[63] = b'\n';
    line
};
const CHUNK: usize = 64 << 10;
/// An answer that takes longer is an error. It outlasts several lost SYNs.
const PATIENCE: Duration = Duration::from_secs(60);
/// Fewer than there are ports: each connection leaves one in TIME-WAIT.
const MAX_CONNECTIONS: usize = 20_000;

/// What came of a load.
pub struct Work {
    /// In the load's unit.
    pub figure: f64,
    /// The part of the time in which the server had a processor, where the
    /// system tells.
    pub busy: Option<f64>,
}

/// Looks at the clock and at the server's processor time, from when the
/// clients are ready.
struct Meter<'a> {
    server: &'a Server,
    start: Instant,
    used: Option<Duration>,
}

impl<'a> Meter<'a> {
    fn start(server: &'a Server) -> Self {
        Self {
            server,
            used: cpu_time(server.process),
            start: Instant::now(),
        }
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// `figure` makes the figure of the seconds that have passed.
    fn stop(&self, figure: impl FnOnce(f64) -> f64) -> Work {
        let seconds = self.elapsed().as_secs_f64();
        let used = cpu_time(self.server.process);
        let used = used.zip(self.used).map(|(now, then)| now - then);
        Work {
            figure: figure(seconds),
            busy: used.map(|used| used.as_secs_f64() / seconds),
        }
    }
}

/// A kind of load, and how many clients make it: [`Load::what`] says how.
#[derive(Clone, Copy)]
pub enum Load {
    PingPong(usize),
    Lines(usize),
    Bulk,
    Udp(usize),
    Connect(usize),
    Burst(usize),
}

impl Load {
    /// What it does, in a few words.
    pub fn what(self) -> String {
        match self {
            Self::PingPong(n) => {
                format!("64 bytes there and back, connections: {n}")
            }
            Self::Lines(n) => {
                format!("a line of 64 bytes and its answer, connections: {n}")
            }
            Self::Bulk => {
                "as many bytes as go through, 1 connection".to_owned()
            }
            Self::Udp(n) => {
                format!("64-byte datagrams there and back, under way: {n}")
            }
            Self::Connect(n) => {
                format!("connect, 64 bytes there and back, close; clients: {n}")
            }
            Self::Burst(n) => format!("{n} clients at once, until all served"),
        }
    }

    /// How many clients are connected at once.
    pub fn clients(self) -> usize {
        match self {
            Self::PingPong(n)
            | Self::Lines(n)
            | Self::Udp(n)
            | Self::Connect(n)
            | Self::Burst(n) => n,
            Self::Bulk => 1,
        }
    }

    /// What [`Load::run`] measures.
    pub fn unit(self) -> &'static str {
        match self {
            Self::PingPong(_) | Self::Lines(_) | Self::Udp(_) => "answers/s",
            Self::Bulk => "MB/s",
            Self::Connect(_) => "connections/s",
            Self::Burst(_) => "ms",
        }
    }

    /// Loads `server` for about `time`. Blocks so long. An answer that is wrong
    /// or missing is an error.
    pub fn run(self, server: &Server, time: Duration) -> Result<Work> {
        match self {
            Self::PingPong(count) => ping_pong(server, count, time),
            Self::Lines(count) => lines(server, count, time),
            Self::Bulk => bulk(server, time),
            Self::Udp(count) => udp(server, count, time),
            Self::Connect(count) => connect_echo_close(server, count, time),
            Self::Burst(count) => burst(server, count),
        }
    }
}

/// The processor time that a process and its threads have used so far.
#[cfg(target_os = "linux")]
fn cpu_time(process: u32) -> Option<Duration> {
    use nix::{time::clock_getcpuclockid, unistd::Pid};
    let clock = clock_getcpuclockid(Pid::from_raw(process.cast_signed()));
    clock.ok()?.now().ok().map(Duration::from)
}

#[cfg(not(target_os = "linux"))]
fn cpu_time(_: u32) -> Option<Duration> {
    None
}

/// A client that is connected and was answered once.
pub fn client(addr: SocketAddr) -> Result<TcpStream> {
    let stream = connect(addr)?;
    exchange(&stream)?;
    Ok(stream)
}

fn connect(addr: SocketAddr) -> Result<TcpStream> {
    // Few calls, so that the load costs less than what it measures. The kernel
    // gives `connect` up by itself, and no message here waits for another, so
    // that Nagle's algorithm has nothing to hold back.
    let stream = TcpStream::connect(addr)
        .context("cannot connect; is `ulimit -n` high enough?")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A client from beginning to end: the server's address, how many requests,
/// and what is to be done after each answer, by its number.
pub type Talk =
    fn(SocketAddr, usize, &mut dyn FnMut(usize) -> Result<()>) -> Result<()>;

/// A [`Talk`] over TCP.
pub fn tcp_talk(
    addr: SocketAddr,
    requests: usize,
    after: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<()> {
    let stream = connect(addr)?;
    (1..=requests).try_for_each(|number| {
        exchange(&stream)?;
        after(number)
    })
}

/// A [`Talk`] in lines, whose answers have a number.
pub fn line_talk(
    addr: SocketAddr,
    requests: usize,
    after: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<()> {
    let mut stream = connect(addr)?;
    (1..=requests).try_for_each(|number| {
        stream.write_all(&LINE)?;
        numbered_answer(&stream, number)?;
        after(number)
    })
}

/// A [`Talk`] over UDP.
pub fn udp_talk(
    addr: SocketAddr,
    requests: usize,
    after: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<()> {
    let socket = udp_client(addr)?;
    (1..=requests).try_for_each(|number| {
        socket.send(&MESSAGE)?;
        datagram(&socket)?;
        after(number)
    })
}

fn exchange(mut stream: &TcpStream) -> Result<()> {
    stream.write_all(&MESSAGE)?;
    answer(stream)
}

fn answer(mut stream: &TcpStream) -> Result<()> {
    let mut buffer = [0; MESSAGE.len()];
    stream.read_exact(&mut buffer).context("no answer")?;
    ensure!(buffer == MESSAGE, "a wrong answer");
    Ok(())
}

/// One thread asks on all connections, and then takes all answers: two calls
/// a message, as for the server, and no switch from thread to thread.
fn ping_pong(server: &Server, count: usize, time: Duration) -> Result<Work> {
    let streams = (0..count)
        .map(|_| client(server.addr))
        .collect::<Result<Vec<_>>>()?;
    rate(server, time, || {
        for mut stream in &streams {
            stream.write_all(&MESSAGE)?;
        }
        streams.iter().try_for_each(answer)?;
        Ok(count)
    })
}

/// As [`ping_pong`], with a server that numbers the lines of each client.
fn lines(server: &Server, count: usize, time: Duration) -> Result<Work> {
    let streams = (0..count)
        .map(|_| connect(server.addr))
        .collect::<Result<Vec<_>>>()?;
    let mut number = 0;
    rate(server, time, || {
        number += 1;
        for mut stream in &streams {
            stream.write_all(&LINE)?;
        }
        for stream in &streams {
            numbered_answer(stream, number)?;
        }
        Ok(count)
    })
}

fn numbered_answer(mut stream: &TcpStream, number: usize) -> Result<()> {
    let mut wanted = format!("{number}: ").into_bytes();
    wanted.extend(LINE);
    let mut buffer = vec![0; wanted.len()];
    stream.read_exact(&mut buffer).context("no answer")?;
    ensure!(buffer == wanted, "a wrong answer");
    Ok(())
}

/// How often a second something is done that `sweep` does a few times.
fn rate(
    server: &Server,
    time: Duration,
    mut sweep: impl FnMut() -> Result<usize>,
) -> Result<Work> {
    let warm_up = Instant::now();
    while warm_up.elapsed() < time / 10 {
        sweep()?;
    }
    let meter = Meter::start(server);
    let mut done = 0;
    while meter.elapsed() < time {
        done += sweep()?;
    }
    Ok(meter.stop(|seconds| done as f64 / seconds))
}

fn bulk(server: &Server, time: Duration) -> Result<Work> {
    let stream = client(server.addr)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let meter = Meter::start(server);
    let sender = |mut stream: &TcpStream| -> io::Result<()> {
        let chunk = vec![b'x'; CHUNK];
        while meter.elapsed() < time {
            stream.write_all(&chunk)?;
        }
        stream.shutdown(Shutdown::Write)
    };
    let received = thread::scope(|scope| {
        let sender = scope.spawn(|| sender(&stream));
        let mut buffer = vec![0; CHUNK];
        let mut received = 0;
        loop {
            match (&stream).read(&mut buffer).context("no echo")? {
                0 => break,
                count => received += count,
            }
        }
        joined(sender)??;
        anyhow::Ok(received)
    })?;
    Ok(meter.stop(|seconds| received as f64 / 1e6 / seconds))
}

fn udp(server: &Server, count: usize, time: Duration) -> Result<Work> {
    let socket = udp_client(server.addr)?;
    rate(server, time, || {
        for _ in 0..count {
            socket.send(&MESSAGE)?;
        }
        (0..count).try_for_each(|_| datagram(&socket))?;
        Ok(count)
    })
}

fn udp_client(addr: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(("127.0.0.1", 0))?;
    socket.connect(addr)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn datagram(socket: &UdpSocket) -> Result<()> {
    let mut buffer = [0; MESSAGE.len() + 1];
    let length = socket.recv(&mut buffer).context("no datagram")?;
    ensure!(buffer[..length] == MESSAGE, "a wrong datagram");
    Ok(())
}

fn connect_echo_close(
    server: &Server,
    count: usize,
    time: Duration,
) -> Result<Work> {
    let meter = Meter::start(server);
    let work = || -> Result<usize> {
        let mut done = 0;
        while meter.elapsed() < time && done < MAX_CONNECTIONS / count {
            client(server.addr)?;
            done += 1;
        }
        Ok(done)
    };
    let done = thread::scope(|scope| {
        let clients: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
        let done = clients.into_iter().map(|client| joined(client)?);
        done.sum::<Result<usize>>()
    })?;
    Ok(meter.stop(|seconds| done as f64 / seconds))
}

fn burst(server: &Server, count: usize) -> Result<Work> {
    let barrier = Barrier::new(count + 1);
    let work = || {
        barrier.wait();
        client(server.addr)
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
        barrier.wait();
        let meter = Meter::start(server);
        let streams = clients.into_iter().map(|client| joined(client)?);
        let streams = streams.collect::<Result<Vec<_>>>()?;
        let work = meter.stop(|seconds| seconds * 1e3);
        drop(streams);
        Ok(work)
    })
}

fn joined<T>(thread: ScopedJoinHandle<T>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread panicked"))
}
