//! Exercise 10, solved: a running sum for each of thousands.

use std::collections::BTreeMap;
use std::io::ErrorKind::{Interrupted, WouldBlock};
use std::io::{self, Error, Read, Write};
use std::time::{Duration, Instant};
use std::{env, net};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};

const LISTENER: Token = Token(0);
const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);
const PAUSE: Duration = Duration::from_millis(100);
/// Longer than any number.
const LONGEST_LINE: usize = 100;
/// After so many reads it is another client's turn.
const READS_A_TURN: usize = 16;

type Clients = BTreeMap<Token, Client>;

fn main() -> io::Result<()> {
    let addr = env::args().nth(1).unwrap_or("127.0.0.1:9006".to_owned());
    let listener = net::TcpListener::bind(addr)?;
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    let registry = poll.registry();
    registry.register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("listening on {}", listener.local_addr()?);
    let mut clients = Clients::new();
    let mut events = Events::with_capacity(1024);
    let mut accept_at: Option<Instant> = None;
    loop {
        let pause =
            accept_at.map(|at| at.saturating_duration_since(Instant::now()));
        match poll.poll(&mut events, pause) {
            Err(error) if error.kind() == Interrupted => continue,
            result => result?,
        }
        for event in &events {
            let token = event.token();
            if token == LISTENER {
                accept_at.get_or_insert_with(Instant::now);
            } else if let Some(client) = clients.get_mut(&token)
                && !client.serve(event, poll.registry())
            {
                clients.remove(&token);
            }
        }
        if accept_at.is_some_and(|at| at <= Instant::now()) {
            accept_at = None;
            if let Err(error) = accept(&listener, &mut clients, &poll)
                && error.kind() != WouldBlock
            {
                eprintln!("cannot accept a client: {error}");
                accept_at = Some(Instant::now() + PAUSE);
            }
        }
    }
}

/// Lets in all who wait. The error `WouldBlock`: nobody waits any more.
fn accept(
    listener: &TcpListener,
    clients: &mut Clients,
    poll: &Poll,
) -> io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept()?;
        let last = clients.last_key_value().map_or(LISTENER, |(&last, _)| last);
        let token = Token(last.0 + 1);
        poll.registry().register(&mut stream, token, BOTH)?;
        clients.insert(token, Client::new(stream));
    }
}

struct Client {
    stream: TcpStream,
    sum: i64,
    /// The beginning of a line.
    line: Vec<u8>,
    /// Answers that could not be sent yet: those of one read.
    unsent: Vec<u8>,
}

impl Client {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            sum: 0,
            line: Vec::new(),
            unsent: Vec::new(),
        }
    }

    /// Goes on until it would have to wait. `false`: that was the end.
    fn serve(&mut self, event: &Event, registry: &Registry) -> bool {
        let is_awaited = match self.unsent.is_empty() {
            true => event.is_readable(),
            false => event.is_writable(),
        };
        if !is_awaited {
            return true;
        }
        match self.answer(event.token(), registry) {
            Ok(()) => false,
            Err(error) if error.kind() == WouldBlock => true,
            Err(error) => {
                eprintln!("{error}");
                false
            }
        }
    }

    /// Answers its numbers until it sends no more. The error `WouldBlock`: it
    /// has to wait for an event.
    fn answer(&mut self, token: Token, registry: &Registry) -> io::Result<()> {
        let mut buffer = [0; 1024];
        self.send_unsent()?;
        for _ in 0..READS_A_TURN {
            let count = self.stream.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            self.add(&buffer[..count])?;
            self.send_unsent()?;
        }
        registry.reregister(&mut self.stream, token, BOTH)?;
        Err(WouldBlock.into())
    }

    /// Adds the numbers of all lines that are whole now.
    fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        let line = &mut self.line;
        for &byte in bytes {
            if byte != b'\n' {
                if line.len() == LONGEST_LINE {
                    return Err(Error::other("a line without an end"));
                }
                line.push(byte);
                continue;
            }
            let text = str::from_utf8(line).map_err(Error::other)?.trim();
            let number: i64 = text.parse().map_err(Error::other)?;
            let sum = self.sum.checked_add(number);
            self.sum = sum.ok_or(Error::other("the sum is too large"))?;
            writeln!(self.unsent, "{}", self.sum)?;
            line.clear();
        }
        Ok(())
    }

    fn send_unsent(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            let count = self.stream.write(&self.unsent)?;
            self.unsent.drain(..count);
        }
        Ok(())
    }
}
