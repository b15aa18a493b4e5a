//! What the servers are loaded with. It is the same for all of them.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::Barrier;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

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

/// A kind of load, and how many clients make it.
#[derive(Clone, Copy)]
pub enum Load {
    /// 64 bytes there and back on each of so many connections.
    PingPong(usize),
    /// A line of 64 bytes and its numbered answer, on each of so many.
    Lines(usize),
    /// One connection, as many bytes as go through.
    Bulk,
    /// 64-byte datagrams there and back, so many under way.
    Udp(usize),
    /// So many clients that connect, send 64 bytes, get them and close.
    Connect(usize),
    /// So many clients that connect at once, and stay until all are served.
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

    /// What [`Load::run`] measures.
    pub fn unit(self) -> &'static str {
        match self {
            Self::PingPong(_) | Self::Lines(_) | Self::Udp(_) => "answers/s",
            Self::Bulk => "MB/s",
            Self::Connect(_) => "connections/s",
            Self::Burst(_) => "ms",
        }
    }

    /// Loads the server at `addr` for about `time`. Blocks so long.
    ///
    /// # Errors
    /// When an answer is wrong or missing.
    pub fn run(self, addr: SocketAddr, time: Duration) -> Result<f64> {
        match self {
            Self::PingPong(count) => ping_pong(addr, count, time),
            Self::Lines(count) => lines(addr, count, time),
            Self::Bulk => bulk(addr, time),
            Self::Udp(count) => udp(addr, count, time),
            Self::Connect(count) => connect_echo_close(addr, count, time),
            Self::Burst(count) => burst(addr, count),
        }
    }
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
        .context("cannot connect; is `ulimit -n` above 600?")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A client from beginning to end, with so many requests.
///
/// # Errors
/// When an answer is wrong or missing.
pub fn tcp_talk(addr: SocketAddr, requests: usize) -> Result<()> {
    let stream = client(addr)?;
    (1..requests).try_for_each(|_| exchange(&stream))
}

/// The same in lines. Calls `at` with the number of each line answered.
///
/// # Errors
/// When an answer is wrong or missing, or `at` fails.
pub fn line_talk(
    addr: SocketAddr,
    requests: usize,
    mut at: impl FnMut(usize) -> Result<()>,
) -> Result<()> {
    let mut stream = connect(addr)?;
    (1..=requests).try_for_each(|number| {
        stream.write_all(&LINE)?;
        numbered_answer(&stream, number)?;
        at(number)
    })
}

/// The same over UDP.
///
/// # Errors
/// When an answer is wrong or missing.
pub fn udp_talk(addr: SocketAddr, requests: usize) -> Result<()> {
    let socket = udp_client(addr)?;
    (0..requests).try_for_each(|_| {
        socket.send(&MESSAGE)?;
        datagram(&socket)
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
fn ping_pong(addr: SocketAddr, count: usize, time: Duration) -> Result<f64> {
    let streams = (0..count)
        .map(|_| client(addr))
        .collect::<Result<Vec<_>>>()?;
    rate(time, || {
        for mut stream in &streams {
            stream.write_all(&MESSAGE)?;
        }
        streams.iter().try_for_each(answer)?;
        Ok(count)
    })
}

/// As [`ping_pong`], with a server that numbers the lines of each client.
fn lines(addr: SocketAddr, count: usize, time: Duration) -> Result<f64> {
    let streams = (0..count)
        .map(|_| connect(addr))
        .collect::<Result<Vec<_>>>()?;
    let mut number = 0;
    rate(time, || {
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
    time: Duration,
    mut sweep: impl FnMut() -> Result<usize>,
) -> Result<f64> {
    let warm_up = Instant::now();
    while warm_up.elapsed() < time / 10 {
        sweep()?;
    }
    let start = Instant::now();
    let mut done = 0;
    while start.elapsed() < time {
        done += sweep()?;
    }
    Ok(done as f64 / start.elapsed().as_secs_f64())
}

fn bulk(addr: SocketAddr, time: Duration) -> Result<f64> {
    let stream = client(addr)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let start = Instant::now();
    let sender = |mut stream: &TcpStream| -> io::Result<()> {
        let chunk = vec![b'x'; CHUNK];
        while start.elapsed() < time {
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
    Ok(received as f64 / 1e6 / start.elapsed().as_secs_f64())
}

fn udp(addr: SocketAddr, count: usize, time: Duration) -> Result<f64> {
    let socket = udp_client(addr)?;
    rate(time, || {
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
    addr: SocketAddr,
    count: usize,
    time: Duration,
) -> Result<f64> {
    let start = Instant::now();
    let work = || -> Result<usize> {
        let mut done = 0;
        while start.elapsed() < time && done < MAX_CONNECTIONS / count {
            client(addr)?;
            done += 1;
        }
        Ok(done)
    };
    let done = thread::scope(|scope| {
        let clients: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
        let done = clients.into_iter().map(|client| joined(client)?);
        done.sum::<Result<usize>>()
    })?;
    Ok(done as f64 / start.elapsed().as_secs_f64())
}

fn burst(addr: SocketAddr, count: usize) -> Result<f64> {
    let barrier = Barrier::new(count + 1);
    let work = || {
        barrier.wait();
        client(addr)
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
        barrier.wait();
        let start = Instant::now();
        let streams = clients.into_iter().map(|client| joined(client)?);
        let streams = streams.collect::<Result<Vec<_>>>()?;
        let milliseconds = start.elapsed().as_secs_f64() * 1e3;
        drop(streams);
        Ok(milliseconds)
    })
}

fn joined<T>(thread: ScopedJoinHandle<T>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread panicked"))
}
