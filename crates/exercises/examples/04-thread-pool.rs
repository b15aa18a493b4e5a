//! Exercise 04, solved: three workers, four chairs, and no more.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::TrySendError::{Disconnected, Full};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

const WORKERS: usize = 3;
const CHAIRS: usize = 4;
/// Without a pause a failing `accept` would be tried at full speed.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves clients with a fixed number of threads.
struct Pool {
    chairs: mpsc::SyncSender<TcpStream>,
}

impl Pool {
    /// Starts the workers. At most `chairs` clients wait for one of them.
    fn new(workers: usize, chairs: usize) -> io::Result<Self> {
        let (chairs, waiting) = mpsc::sync_channel(chairs);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..workers {
            let waiting = Arc::clone(&waiting);
            thread::Builder::new().spawn(move || work(&waiting))?;
        }
        Ok(Self { chairs })
    }

    /// Lets a worker serve the client, now or later; gives it back if all
    /// chairs are taken.
    fn offer(&self, stream: TcpStream) -> Result<(), TcpStream> {
        match self.chairs.try_send(stream) {
            Ok(()) => Ok(()),
            Err(Full(stream) | Disconnected(stream)) => Err(stream),
        }
    }
}

/// A worker: one client after the other.
fn work(waiting: &Mutex<Receiver<TcpStream>>) {
    loop {
        let queue = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let next = queue.recv();
        drop(queue);
        let Ok(stream) = next else { return };
        let result = panic::catch_unwind(AssertUnwindSafe(|| serve(&stream)));
        if let Ok(Err(error)) = result {
            eprintln!("{error}");
        }
    }
}

fn main() -> io::Result<()> {
    let addr = env::args().nth(1).unwrap_or("127.0.0.1:9006".to_owned());
    let listener = TcpListener::bind(addr)?;
    let pool = Pool::new(WORKERS, CHAIRS)?;
    println!("listening on {}", listener.local_addr()?);
    for stream in listener.incoming() {
        match stream.map(|stream| pool.offer(stream)) {
            Ok(Ok(())) => {}
            Ok(Err(mut refused)) => {
                // It may have gone already.
                let _ = refused.write_all(b"busy\n");
            }
            Err(error) => {
                eprintln!("cannot accept a client: {error}");
                thread::sleep(PAUSE);
            }
        }
    }
    Ok(())
}

/// What a worker does for one client. (It panics if the client says so.)
fn serve(mut stream: &TcpStream) -> io::Result<()> {
    stream.write_all(b"ready\n")?;
    for line in BufReader::new(stream).split(b'\n') {
        let mut line = line?;
        assert_ne!(line, b"panic", "a client wants it so");
        line.reverse();
        line.push(b'\n');
        stream.write_all(&line)?;
    }
    Ok(())
}
