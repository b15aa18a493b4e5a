//! A room of threads that share a lock, with a mailbox of bounded length for
//! each client: whose is full is thrown out, although all read all the time.
//!
//! Run: cargo run -p lesson-12-chat --example mailbox
//!      cargo run -p lesson-12-chat --example mailbox -- 18000

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::{env, mem, thread};

use anyhow::Context;

const CLIENTS: usize = 60;
const LINES: usize = 300;
/// How many lines a mailbox holds.
const MAILBOX: usize = 256;

struct Room {
    members: Mutex<Vec<Member>>,
    changed: Condvar,
    most: usize,
}

#[derive(Default)]
struct Member {
    mailbox: Vec<Vec<u8>>,
    is_out: bool,
}

fn main() -> anyhow::Result<()> {
    let most = match env::args().nth(1) {
        Some(text) => text.parse().context("usage: mailbox [LINES]")?,
        None => MAILBOX,
    };
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let addr = listener.local_addr()?;
    let mut pairs = Vec::new();
    for _ in 0..CLIENTS {
        let client = TcpStream::connect(addr)?;
        pairs.push((client, listener.accept()?.0));
    }
    let members = pairs.iter().map(|_| Member::default()).collect();
    let room = Room {
        members: Mutex::new(members),
        changed: Condvar::new(),
        most,
    };
    let heard = thread::scope(|scope| {
        let mut listening = Vec::new();
        for (n, (client, stream)) in pairs.iter().enumerate() {
            let room = &room;
            scope.spawn(move || room.write_lines(n, stream));
            scope.spawn(move || room.read_lines(n, stream));
            listening.push(scope.spawn(move || listen(client)));
        }
        for (client, _) in &pairs {
            scope.spawn(move || talk(client));
        }
        let heard = listening.into_iter().filter_map(|t| t.join().ok());
        heard.collect::<Vec<_>>()
    });
    let all = CLIENTS * LINES;
    let out = heard.iter().filter(|&&count| count < all).count();
    println!(
        "{CLIENTS} clients say {LINES} lines each, mailboxes of {most} lines: \
         {out} thrown out"
    );
    Ok(())
}

impl Room {
    // ANCHOR: read_lines
    /// Puts what a client says into every mailbox that has room for it.
    fn read_lines(&self, n: usize, mut stream: &TcpStream) {
        let mut buffer = [0; 8192];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            let mut members = self.lock();
            for line in buffer[..count].split_inclusive(|&b| b == b'\n') {
                for member in members.iter_mut().filter(|m| !m.is_out) {
                    member.mailbox.push(line.to_vec());
                    member.is_out = member.mailbox.len() > self.most;
                }
            }
            self.changed.notify_all();
        }
        self.lock()[n].is_out = true;
        self.changed.notify_all();
    }
    // ANCHOR_END: read_lines

    /// Empties a client's mailbox until it is out.
    fn write_lines(&self, n: usize, mut stream: &TcpStream) {
        loop {
            let waits = |members: &mut Vec<Member>| {
                members[n].mailbox.is_empty() && !members[n].is_out
            };
            let guard = self.changed.wait_while(self.lock(), waits);
            let mut members = guard.unwrap_or_else(PoisonError::into_inner);
            let is_out = members[n].is_out;
            let lines = mem::take(&mut members[n].mailbox);
            drop(members);
            if is_out || stream.write_all(&lines.concat()).is_err() {
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As a person does who pastes a text.
fn talk(mut client: &TcpStream) -> io::Result<()> {
    let text: String = (0..LINES).map(|n| format!("line {n}\n")).collect();
    client.write_all(text.as_bytes())
}

/// Reads as fast as it can; gives how many lines came.
fn listen(client: &TcpStream) -> usize {
    let lines = BufReader::new(client).lines().map_while(Result::ok);
    let count = lines.take(CLIENTS * LINES).count();
    let _ = client.shutdown(Shutdown::Both);
    count
}
