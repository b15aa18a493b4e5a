//! One echo handler, on every server that Python's `socketserver` can make.
//!
//! Run:
//!   terminal 1: cargo run -p lesson-06-socketserver
//!   terminal 2: cargo run --bin client
//! Look for: Ctrl-D in terminal 1 does not end the server at once. It takes
//!   no new client, serves the present one to its end, and says goodbye.
//! Limits:
//!   - At the end of its input it waits for the clients that it serves, for
//!     ever if one of them stays; those who wait in the kernel's accept queue
//!     are reset (lesson 09 lifts both).
//!   - `sequential-tcp`, and `pool-tcp` when its job queue is full, notice the
//!     end of input when a client has left. Until then the kernel still takes
//!     connections, and resets them afterwards.
//!   - An input that has ended from the start, such as /dev/null, ends it at
//!     once.
//!   - Four silent clients keep `pool-tcp` from serving others, as nothing
//!     here has a timeout (lesson 04 has one).
//!   - `threads-tcp` has as many threads as clients, as lesson 03 has, and
//!     ends where that does. The accept queue is std's, 128 clients.
//!   - Each datagram is copied to memory of its own, so that another thread
//!     can own it; with `threads-udp` it costs that thread too.
//!   - It stops by connecting to itself, and closes that connection first: a
//!     TIME-WAIT is left on its port, which std's `bind` does not mind. A
//!     `Waker` used after its server's end knocks at that port all the same,
//!     which may be a stranger's by then.
//!   - When standard output cannot be written, a conversation ends at its
//!     first line, and the server with its own next one.
//!
//! Builds on: 03-threaded
//! Chapter: docs/06-socketserver.md
//! Test: tests/06-socketserver.rs, and its row in tests/servers.rs

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::{env, thread};

use anyhow::{anyhow, bail};
use socketserver::{
    Datagram, Handler, ProcessRequest, Sequential, Server, Tcp, ThreadPool,
    Threads, Transport, Udp,
};

const DEFAULT_ADDR: &str = "127.0.0.1:9006";
const DEFAULT_CHOICE: &str = "threads-tcp";
const USAGE: &str = "usage: lesson-06-socketserver [HOST:PORT] \
    [sequential-tcp|threads-tcp|pool-tcp|sequential-udp|threads-udp|pool-udp]";
const HINT: &str = "give a free HOST:PORT of this machine, \
    such as 127.0.0.1:0, which stands for any free one";
const BUFFER_SIZE: usize = 1024;
const WORKERS: usize = 4;
const QUEUE: usize = 4;

// ANCHOR: server_flow
fn main() -> anyhow::Result<()> {
    let addr = env::args().nth(1).unwrap_or(DEFAULT_ADDR.into());
    let choice = env::args().nth(2).unwrap_or(DEFAULT_CHOICE.into());
    match choice.as_str() {
        "sequential-tcp" => serve::<Tcp, _>(&addr, Sequential),
        "threads-tcp" => serve::<Tcp, _>(&addr, Threads::default()),
        "pool-tcp" => serve::<Tcp, _>(&addr, pool()?),
        "sequential-udp" => serve::<Udp, _>(&addr, Sequential),
        "threads-udp" => serve::<Udp, _>(&addr, Threads::default()),
        "pool-udp" => serve::<Udp, _>(&addr, pool()?),
        _ => bail!(USAGE),
    }
}
// ANCHOR_END: server_flow

// ANCHOR: serve
fn serve<T, P>(addr: &str, process: P) -> anyhow::Result<()>
where
    T: Transport,
    P: ProcessRequest,
    Echo: Handler<T::Request>,
{
    let mut server = Server::<T, P, _>::bind(addr, process, Echo)
        .map_err(|error| anyhow!("cannot listen on {addr}: {error}; {HINT}"))?;
    println!("listening on {}", server.local_addr()?);
    let waker = server.waker();
    let keyboard = move || {
        // What is typed does not matter, only that no more can come.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        waker.shutdown();
    };
    thread::Builder::new().spawn(keyboard).map_err(no_thread)?;
    server.serve_forever();
    println!("\nend of input: takes no new client, serves the present ones");
    drop(server);
    println!("goodbye");
    Ok(())
}
// ANCHOR_END: serve

fn pool() -> anyhow::Result<ThreadPool> {
    ThreadPool::new(WORKERS, QUEUE).map_err(no_thread)
}

fn no_thread(error: io::Error) -> anyhow::Error {
    anyhow!("cannot start a thread: {error}; end other programs")
}

// ANCHOR: echo
struct Echo;

impl Handler<TcpStream> for Echo {
    fn handle(&self, stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
        println!("{peer} connected");
        let count = echo(&stream)?;
        println!("{peer} closed the connection after {count} bytes");
        Ok(())
    }
}

impl Handler<Datagram> for Echo {
    fn handle(&self, datagram: Datagram, _: SocketAddr) -> io::Result<()> {
        datagram.reply(&datagram.bytes)
    }
}
// ANCHOR_END: echo

/// Sends back what comes, until the client half-closes; counts the bytes.
fn echo(mut stream: &TcpStream) -> io::Result<u64> {
    let mut buffer = [0; BUFFER_SIZE];
    let mut total = 0;
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(total);
        }
        stream.write_all(&buffer[..count])?;
        total += count as u64;
    }
}
