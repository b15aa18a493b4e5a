//! Exercise 09, solved: finish what was begun.

use std::io::ErrorKind::{TimedOut, WouldBlock};
use std::io::{self, BufRead, BufReader, Error, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;
use std::{env, process, thread};

static OVER: AtomicBool = AtomicBool::new(false);
/// How long an idle client may keep its thread from looking at `OVER`.
const TICK: Duration = Duration::from_millis(50);

fn main() -> io::Result<()> {
    let addr = env::args().nth(1).unwrap_or("127.0.0.1:9006".to_owned());
    let listener = TcpListener::bind(addr)?;
    let addr = listener.local_addr()?;
    when_told_to_end(move || end(addr))?;
    println!("listening on {addr}");
    let mut threads = Vec::new();
    for stream in listener.incoming() {
        if OVER.load(SeqCst) {
            break;
        }
        let serving = stream.and_then(|stream| {
            thread::Builder::new().spawn(move || serve(&stream))
        });
        match serving {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                eprintln!("cannot serve a client: {error}");
                thread::sleep(TICK);
            }
        }
        threads.retain(|thread| !thread.is_finished());
    }
    drop(listener);
    for thread in threads {
        let _ = thread.join();
    }
    Ok(())
}

/// Calls `end` for each Ctrl-C and each SIGTERM; on Windows once, at the end
/// of standard input.
fn when_told_to_end(mut end: impl FnMut() + Send + 'static) -> io::Result<()> {
    if cfg!(unix) {
        return ctrlc::set_handler(end).map_err(Error::other);
    }
    let keyboard = move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        end();
    };
    thread::Builder::new().spawn(keyboard).map(|_| ())
}

/// The server was told to end.
fn end(addr: SocketAddr) {
    if OVER.swap(true, SeqCst) {
        process::exit(130);
    }
    let _ = TcpStream::connect(addr);
}

fn serve(stream: &TcpStream) {
    if let Err(error) = answer_sums(stream) {
        eprintln!("{error}");
    }
}

/// Answers a client's sums until it sends no more.
fn answer_sums(mut stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(TICK))?;
    let mut reader = BufReader::new(stream);
    let mut sum = None;
    let mut line = Vec::new();
    loop {
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // What has come of the line stays in it.
            Err(e) if matches!(e.kind(), WouldBlock | TimedOut) => {
                let idle = sum.is_none() && line.is_empty();
                if OVER.load(SeqCst) && idle {
                    return Ok(());
                }
                continue;
            }
            Err(error) => return Err(error),
        }
        let text = str::from_utf8(&line).map_err(Error::other)?.trim();
        if text.is_empty() {
            let answer = sum.take().unwrap_or(0);
            stream.write_all(format!("{answer}\n").as_bytes())?;
        } else {
            let number: i64 = text.parse().map_err(Error::other)?;
            sum = Some(sum.unwrap_or(0) + number);
        }
        line.clear();
    }
}
