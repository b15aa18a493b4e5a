//! Python's `socketserver` in Rust: you write a handler, it does the rest.
//!
//! A [`Server`] is made of three parts, and each is a type of its own: a
//! [`Transport`] ([`Tcp`] or [`Udp`]), a way to run the handler
//! ([`Sequential`], [`Threads`] or [`ThreadPool`]), and your [`Handler`].

mod pool;
mod process_request;
mod transport;

use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

pub use pool::ThreadPool;
pub use process_request::{Job, ProcessRequest, Sequential, Threads};
pub use transport::{Datagram, Tcp, Transport, Udp};

const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

// ANCHOR: handler
/// What you write; only `handle` has no default. A request is a `TcpStream`
/// or a [`Datagram`]. All requests of a server share one handler.
pub trait Handler<Request>: Send + Sync + 'static {
    /// Serves one request, and owns it: a stream is closed when it returns.
    ///
    /// # Errors
    /// What went wrong with this client; `handle_error` hears of it.
    fn handle(&self, request: Request, peer: SocketAddr) -> io::Result<()>;

    /// Hears of a request that failed, panicked, or found no thread.
    fn handle_error(&self, error: io::Error, peer: SocketAddr) {
        eprintln!("{peer}: {error}");
    }
}
// ANCHOR_END: handler

/// A server. Dropped, it closes its listener, then waits for those it serves.
/// A UDP socket is closed with the last datagram served.
pub struct Server<T, P, H> {
    // Fields are dropped in their order: these two may not be exchanged.
    transport: T,
    process: P,
    handler: Arc<H>,
    waker: Arc<Waker>,
}

impl<T: Transport, P: ProcessRequest, H: Handler<T::Request>> Server<T, P, H> {
    /// Binds to the first of the addresses that can be bound, and listens.
    ///
    /// # Errors
    /// That none can, or that there is no descriptor for the [`Waker`].
    pub fn bind(
        addrs: impl ToSocketAddrs,
        process: P,
        handler: H,
    ) -> io::Result<Self> {
        let transport = T::bind(addrs)?;
        let waker = Waker::new(transport.local_addr()?, T::SOCKET_TYPE)?;
        Ok(Self {
            transport,
            process,
            handler: Arc::new(handler),
            waker: Arc::new(waker),
        })
    }

    /// The address that it is bound to.
    ///
    /// # Errors
    /// If the system no longer knows it.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.transport.local_addr()
    }

    /// What stops it, for another thread, or for a handler to keep.
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    // ANCHOR: serve
    /// Serves requests until it is shut down; none if it was before.
    pub fn serve_forever(&mut self) {
        while !self.waker.is_shutdown_requested() {
            match self.transport.get_request() {
                // It may be no request that woke it, but `shutdown`.
                Ok(_) if self.waker.is_shutdown_requested() => {}
                Ok((request, peer)) => self.serve(request, peer),
                Err(error) => {
                    let text = "cannot get a request, trying again";
                    // `eprintln!` would panic if it could not be written.
                    let _ = writeln!(io::stderr(), "{text}: {error}");
                    // Without a pause a lasting error would spin.
                    thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }

    fn serve(&mut self, request: T::Request, peer: SocketAddr) {
        let handler = Arc::clone(&self.handler);
        let job = Box::new(move || {
            run_reporting(&*handler, peer, || handler.handle(request, peer));
        });
        // Reported as well: that there was no thread for the job.
        let process = || self.process.process_request(job);
        run_reporting(&*self.handler, peer, process);
    }
    // ANCHOR_END: serve
}

/// Runs `code`, so that its error or panic ends one request only.
fn run_reporting<R>(
    handler: &impl Handler<R>,
    peer: SocketAddr,
    code: impl FnOnce() -> io::Result<()>,
) {
    let result = catch_panic(code)
        .unwrap_or_else(|| Err(io::Error::other("its handler panicked")));
    if let Err(error) = result {
        catch_panic(|| handler.handle_error(error, peer));
    }
}

/// What `code` returns; `None` if it panics, which is said on stderr.
fn catch_panic<T>(code: impl FnOnce() -> T) -> Option<T> {
    // What a panic leaves half done is behind the handler's own locks.
    panic::catch_unwind(AssertUnwindSafe(code)).ok()
}

// ANCHOR: waker
/// Stops its server by waking it: from any thread, at any time, any number of
/// times.
pub struct Waker {
    shutdown_requested: AtomicBool,
    socket: Socket,
    server: SockAddr,
}

impl Waker {
    fn new(mut server: SocketAddr, kind: Type) -> io::Result<Self> {
        // Not every system can connect to a wildcard such as 0.0.0.0.
        if server.ip().is_unspecified() {
            server.set_ip(match server {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        // Made with the server: later there may be no descriptor left.
        let socket = Socket::new(Domain::for_address(server), kind, None)?;
        // With a full accept queue `connect` would block, and a handler that
        // stops its own server would wait for itself.
        socket.set_nonblocking(true)?;
        Ok(Self {
            shutdown_requested: AtomicBool::new(false),
            socket,
            server: server.into(),
        })
    }

    /// Asks the server to stop. Does not wait for it, and so never blocks:
    /// to wait, join the thread that runs `serve_forever`.
    pub fn shutdown(&self) {
        // First: the server looks at it as soon as it is awake.
        self.shutdown_requested.store(true, Ordering::SeqCst);
        // Self-connect: the server gets a client, or an empty datagram. If it
        // fails, there was something to wake the server already.
        let _ = self.socket.connect(&self.server);
        let _ = self.socket.send(&[]);
    }

    fn is_shutdown_requested(&self) -> bool {
        self.shutdown_requested.load(Ordering::SeqCst)
    }
}
// ANCHOR_END: waker
