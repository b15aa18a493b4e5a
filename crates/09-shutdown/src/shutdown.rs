//! The end of a server: how it is asked for, and who is still taken then.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;
use std::{iter, process, thread};

type Client = (TcpStream, SocketAddr);

/// What std asks for, and one that Linux adds.
const ACCEPT_QUEUE: usize = 128 + 1;
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// What a shell says of a program that Ctrl-C has ended: 128 and SIGINT's 2.
const ENDED_BY_CTRL_C: i32 = 130;

static REQUESTED: AtomicBool = AtomicBool::new(false);
/// Where the connection comes from that wakes `accept`, if it could be made.
static WAKER: OnceLock<Option<SocketAddr>> = OnceLock::new();

// ANCHOR: on_signal
/// From now on Ctrl-C, SIGTERM or SIGHUP asks the server at `addr` to end,
/// and the second of them ends it at once.
pub fn on_signal(mut addr: SocketAddr) -> Result<(), ctrlc::Error> {
    // Not every system can connect to a wildcard such as 0.0.0.0.
    if addr.ip().is_unspecified() {
        addr.set_ip(match addr {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    ctrlc::set_handler(move || {
        if REQUESTED.swap(true, SeqCst) {
            process::exit(ENDED_BY_CTRL_C);
        }
        // A signal alone does not wake `accept`: a client does. If it cannot
        // connect, there is something else that keeps `accept` awake.
        let waker = TcpStream::connect_timeout(&addr, ACCEPT_PAUSE);
        let _ = WAKER.set(waker.and_then(|stream| stream.local_addr()).ok());
    })
}
// ANCHOR_END: on_signal

// ANCHOR: clients
/// The clients until the end is asked for, and then those who wait already.
pub fn clients(listener: &TcpListener) -> impl Iterator<Item = Client> {
    let until_requested = iter::from_fn(|| accept(listener));
    // The bound: clients who keep coming must not keep the server.
    let waiting = iter::from_fn(|| waiting(listener)).take(ACCEPT_QUEUE);
    until_requested
        .chain(waiting)
        .filter(|(_, peer)| !is_waker(*peer))
}

fn is_waker(peer: SocketAddr) -> bool {
    REQUESTED.load(SeqCst) && *WAKER.wait() == Some(peer)
}

/// The next client. An error is one line, and does not end the server.
fn accept(listener: &TcpListener) -> Option<Client> {
    while !REQUESTED.load(SeqCst) {
        match listener.accept() {
            Ok(client) => return Some(client),
            Err(error) => {
                eprintln!("cannot accept a client, trying again: {error}");
                // Without a pause a lasting error would spin at full speed.
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
    None
}

/// The next of those in the accept queue, if there is one.
fn waiting(listener: &TcpListener) -> Option<Client> {
    listener.set_nonblocking(true).ok()?;
    let (stream, peer) = listener.accept().ok()?;
    // It takes after its listener on Windows and macOS, on Linux it does not.
    stream.set_nonblocking(false).ok()?;
    Some((stream, peer))
}
// ANCHOR_END: clients
