//! Exercise 12, solved: notices by topic.

use std::io::{self, BufRead, BufReader, Error, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, thread};

/// How much may wait for a client, in bytes, beyond the kernel's buffers.
const MOST_WAITING: usize = 2 << 20;
/// Without a pause a failing `accept` would be tried at full speed.
const PAUSE: Duration = Duration::from_millis(100);

/// Who holds the lock decides what comes next, for everybody.
static CLIENTS: Mutex<Vec<Client>> = Mutex::new(Vec::new());

struct Client {
    stream: Arc<TcpStream>,
    topics: Vec<String>,
    mailbox: Sender<String>,
    waiting: Arc<AtomicUsize>,
}

fn main() -> io::Result<()> {
    let addr = env::args().nth(1).unwrap_or("127.0.0.1:9006".to_owned());
    let listener = TcpListener::bind(addr)?;
    println!("listening on {}", listener.local_addr()?);
    for stream in listener.incoming() {
        let serving = stream.and_then(|stream| {
            thread::Builder::new().spawn(move || serve(Arc::new(stream)))
        });
        if let Err(error) = serving {
            eprintln!("cannot serve a client: {error}");
            thread::sleep(PAUSE);
        }
    }
    Ok(())
}

fn serve(stream: Arc<TcpStream>) {
    if let Err(error) = join(&stream).and_then(|()| listen(&stream)) {
        eprintln!("{error}");
    }
    // Its mailbox goes with it, and the writer ends when that is empty.
    clients().retain(|client| !Arc::ptr_eq(&client.stream, &stream));
}

/// Adds a client, whose mailbox is emptied by a thread of its own.
fn join(stream: &Arc<TcpStream>) -> io::Result<()> {
    let (mailbox, lines) = mpsc::channel();
    let client = Client {
        stream: Arc::clone(stream),
        topics: Vec::new(),
        mailbox,
        waiting: Arc::default(),
    };
    let (stream, waiting) = (Arc::clone(stream), Arc::clone(&client.waiting));
    let writer = move || write_lines(&stream, lines, &waiting);
    thread::Builder::new().spawn(writer)?;
    clients().push(client);
    Ok(())
}

fn write_lines(
    mut stream: &TcpStream,
    lines: Receiver<String>,
    waiting: &AtomicUsize,
) {
    for line in lines {
        if stream.write_all(line.as_bytes()).is_err() {
            break;
        }
        waiting.fetch_sub(line.len(), SeqCst);
    }
    let _ = stream.shutdown(Shutdown::Write);
}

/// Does what a client's lines say, until it sends no more.
fn listen(stream: &Arc<TcpStream>) -> io::Result<()> {
    for line in BufReader::new(&**stream).lines() {
        let line = line?;
        let words: Vec<_> = line.splitn(3, ' ').collect();
        match words[..] {
            ["follow", topic] => follow(stream, topic),
            ["post", topic, text] => post(stream, topic, text),
            _ => return Err(Error::other(format!("what is {line:?}?"))),
        }
    }
    Ok(())
}

fn follow(stream: &Arc<TcpStream>, topic: &str) {
    let mut clients = clients();
    let mut all = clients.iter_mut();
    if let Some(client) = all.find(|c| Arc::ptr_eq(&c.stream, stream)) {
        client.topics.push(topic.to_owned());
        client.send(&format!("following {topic}\n"));
    }
}

fn post(stream: &Arc<TcpStream>, topic: &str, text: &str) {
    let notice = format!("{topic}: {text}\n");
    let mut count = 0;
    let mut clients = clients();
    clients.retain(|client| {
        let follows = client.topics.iter().any(|t| t == topic);
        let stays = !follows || client.send(&notice);
        count += usize::from(follows && stays);
        stays
    });
    let mut all = clients.iter();
    if let Some(client) = all.find(|c| Arc::ptr_eq(&c.stream, stream)) {
        client.send(&format!("{count}\n"));
    }
}

fn clients() -> MutexGuard<'static, Vec<Client>> {
    CLIENTS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// Puts a line into its mailbox. False if it is not there any more, or has
    /// let too much wait: then it is thrown out.
    fn send(&self, line: &str) -> bool {
        let before = self.waiting.fetch_add(line.len(), SeqCst);
        if before + line.len() > MOST_WAITING {
            let _ = self.stream.shutdown(Shutdown::Both);
            return false;
        }
        self.mailbox.send(line.to_owned()).is_ok()
    }
}
