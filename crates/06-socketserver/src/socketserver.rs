//! Python's `socketserver` in Rust: you write a handler, it does the rest.
//!
//! A [`Server`] is made of three parts, and each is a type of its own: a
//! [`Transport`] ([`Tcp`] or [`Udp`]), a way to run the handler
//! ([`Sequential`], [`Threads`] or [`ThreadPool`]), and your [`Handler`].

mod pool;
mod threads;
mod transport;

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

pub use pool::ThreadPool;
pub use threads::Threads;
pub use transport::{Datagram, Tcp, Transport, Udp};

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

// ANCHOR: handler
/// What you write; only `handle` has no default. A request is a `TcpStream`
/// or a [`Datagram`]. All requests of a server share one handler.
pub trait Handler<Request>: Send + Sync + 'static {
    /// Serves one request, and owns it: a stream is closed when it returns.
    ///
    /// # Errors
    /// What went wrong with this client; `handle_error` hears of it.
    fn handle(&self, request: Request, peer: SocketAddr) -> io::Result<()>;

    /// False drops a request unserved. The next one waits for the answer.
    fn verify_request(&self, _request: &Request, _peer: SocketAddr) -> bool {
        true
    }

    /// Hears of a request that failed, panicked, or found no thread.
    fn handle_error(&self, error: io::Error, peer: SocketAddr) {
        eprintln!("{peer}: {error}");
    }

    /// Hears that no request came for [`Options::timeout`].
    fn handle_timeout(&self) {}
}
// ANCHOR_END: handler

/// One request, ready to be served.
pub type Job = Box<dyn FnOnce() + Send>;

// ANCHOR: process_request
/// Who serves the requests. Dropped, it waits for those that it serves.
pub trait ProcessRequest {
    /// Runs `job`, now or later, in this thread or another. An error says
    /// that there is no thread for it, and that it was dropped.
    fn process_request(&mut self, job: Job) -> io::Result<()>;
}

/// One after the other, in the thread that accepts.
pub struct Sequential;

impl ProcessRequest for Sequential {
    fn process_request(&mut self, job: Job) -> io::Result<()> {
        job();
        Ok(())
    }
}

impl ProcessRequest for Threads {
    fn process_request(&mut self, job: Job) -> io::Result<()> {
        self.start(job)
    }
}

impl ProcessRequest for ThreadPool {
    fn process_request(&mut self, job: Job) -> io::Result<()> {
        self.submit(job);
        Ok(())
    }
}
// ANCHOR_END: process_request

/// What Python keeps in class variables.
pub struct Options {
    /// How many TCP clients may wait in the kernel's queue.
    pub request_queue_size: i32,
    /// Lets TCP bind in spite of TIME-WAIT. Ignored for UDP, where it would
    /// let a second server take the datagrams of the first.
    pub allow_reuse_address: bool,
    /// How long to wait for a request before `handle_timeout`; not zero.
    pub timeout: Option<Duration>,
}

impl Default for Options {
    /// As std: 128 clients, reuse except on Windows, no timeout.
    fn default() -> Self {
        Self {
            request_queue_size: 128,
            allow_reuse_address: cfg!(not(windows)),
            timeout: None,
        }
    }
}

/// Stops its server, from any thread, at any time, any number of times.
#[derive(Clone)]
pub struct Shutdown(Arc<Bell>);

struct Bell {
    rung: AtomicBool,
    /// `None` when the server is gone: its port may be a stranger's by then.
    socket: Mutex<Option<Socket>>,
    server: SockAddr,
}

// ANCHOR: shutdown
impl Shutdown {
    fn new(mut server: SocketAddr, kind: Type) -> io::Result<Self> {
        if server.ip().is_unspecified() {
            server.set_ip(match server {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        // When it is needed, there may be no descriptor and no port left.
        let socket = Socket::new(Domain::for_address(server), kind, None)?;
        let mut own = server;
        own.set_port(0);
        socket.bind(&own.into())?;
        // With a full queue `connect` would block, and nobody needs waking.
        socket.set_nonblocking(true)?;
        // TCP: it closes with a reset, as a TIME-WAIT would hold the port.
        let _ = socket.set_linger(Some(Duration::ZERO));
        Ok(Self(Arc::new(Bell {
            rung: AtomicBool::new(false),
            socket: Mutex::new(Some(socket)),
            server: server.into(),
        })))
    }

    /// Asks the server to stop. Does not wait for it, and so never blocks:
    /// to wait, join the thread that runs `serve_forever`.
    pub fn shutdown(&self) {
        self.0.rung.store(true, Ordering::SeqCst);
        if let Some(socket) = &*self.socket() {
            // Wakes it. If this fails, there was something to wake it already.
            let _ = socket.connect(&self.0.server);
            let _ = socket.send(&[]);
        }
    }

    fn socket(&self) -> MutexGuard<'_, Option<Socket>> {
        self.0.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_requested(&self) -> bool {
        self.0.rung.load(Ordering::SeqCst)
    }
}
// ANCHOR_END: shutdown

/// A server. Dropped, it closes its listener, then waits for those it serves:
/// the order of the fields. A UDP socket is closed with the last datagram
/// served.
pub struct Server<T, P, H> {
    transport: T,
    process: P,
    handler: Arc<H>,
    shutdown: Shutdown,
}

impl<T, P, H> Drop for Server<T, P, H> {
    fn drop(&mut self) {
        // While it still has its port: later, a stranger would be woken.
        *self.shutdown.socket() = None;
    }
}

impl<T: Transport, P: ProcessRequest, H: Handler<T::Request>> Server<T, P, H> {
    /// Binds to the first of the addresses that can be bound, and listens.
    ///
    /// # Errors
    /// That none can, or that an option is refused.
    pub fn bind(
        addrs: impl ToSocketAddrs,
        options: &Options,
        process: P,
        handler: H,
    ) -> io::Result<Self> {
        if options.timeout.is_some_and(|timeout| timeout.is_zero()) {
            let text = "a timeout must be longer than zero";
            return Err(io::Error::new(ErrorKind::InvalidInput, text));
        }
        let mut bound = Err(ErrorKind::AddrNotAvailable.into());
        for addr in addrs.to_socket_addrs()? {
            bound = bound.or_else(|_| T::bind(addr, options));
        }
        let transport: T = bound?;
        let shutdown = Shutdown::new(transport.local_addr()?, T::TYPE)?;
        let handler = Arc::new(handler);
        Ok(Self {
            transport,
            process,
            handler,
            shutdown,
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
    pub fn shutdown_handle(&self) -> Shutdown {
        self.shutdown.clone()
    }

    // ANCHOR: serve
    /// Handles requests until it is shut down; none if it was before.
    pub fn serve_forever(&mut self) {
        let mut said = BTreeSet::new();
        while !self.shutdown.is_requested() {
            match self.handle_request() {
                Ok(()) => said.clear(),
                Err(error) => {
                    if said.insert(error.to_string()) {
                        let text = "cannot get a request, trying again";
                        // `eprintln!` would panic if it could not be written.
                        let _ = writeln!(io::stderr(), "{text}: {error}");
                    }
                    // Without a pause a lasting error would spin.
                    thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }

    /// Waits for one request and has it served. Returns without one after the
    /// timeout, and when it is shut down.
    ///
    /// # Errors
    /// Those of `accept` or `recv_from`. A request's own go to its handler.
    pub fn handle_request(&mut self) -> io::Result<()> {
        if self.shutdown.is_requested() {
            return Ok(());
        }
        let (request, peer) = match self.transport.get_request() {
            Err(error) if transport::is_timeout(&error) => {
                catch(|| self.handler.handle_timeout());
                return Ok(());
            }
            result => result?,
        };
        // It may be no request that woke it, but `shutdown`.
        if self.shutdown.is_requested() {
            return Ok(());
        }
        let handler = Arc::clone(&self.handler);
        let verify = || Ok(handler.verify_request(&request, peer));
        if guard(&*handler, peer, verify) == Some(true) {
            let serve = move || {
                guard(&*handler, peer, || handler.handle(request, peer));
            };
            if let Err(error) = self.process.process_request(Box::new(serve)) {
                catch(|| self.handler.handle_error(error, peer));
            }
        }
        Ok(())
    }
    // ANCHOR_END: serve
}

/// Runs a handler's code, so that its error or panic ends this request only.
fn guard<R, T>(
    handler: &impl Handler<R>,
    peer: SocketAddr,
    code: impl FnOnce() -> io::Result<T>,
) -> Option<T> {
    catch(code)
        .unwrap_or_else(|| Err(io::Error::other("its handler panicked")))
        .map_err(|error| catch(|| handler.handle_error(error, peer)))
        .ok()
}

/// What `code` returns; `None` if it panics, which is said on stderr.
fn catch<T>(code: impl FnOnce() -> T) -> Option<T> {
    // What a panic leaves half done is behind the handler's own locks.
    panic::catch_unwind(AssertUnwindSafe(code)).ok()
}
