//! Exercise 10: a running sum for each of thousands.
//!
//! Each line that a client sends is a whole number. The answer is the sum of
//! all numbers that this client has sent so far:
//!
//!   a sends "5"     a receives "5"
//!   a sends "-20"   a receives "-15"
//!   b sends "1"     b receives "1"
//!
//! Each line ends with a newline, "\n". There may be 2,000 clients at once, and
//! for them the program has at most four threads more than for 20. What one
//! client does hinders nobody:
//!
//!   1. It sends many numbers and reads late: it gets all answers then.
//!   2. It never reads: it is not read from either, so that it does not decide
//!      how much memory the program takes.
//!   3. It sends without a pause: the others have their turn.
//!   4. It sends what is no number, or resets: its own connection ends.
//!
//! Your part: the place marked `todo!`, and what a `Client` has to remember
//! for it. The loop around it is lesson 10's. Change anything you like in this
//! file; keep the first line that the program prints.
//!
//! Check:   cargo course check 10
//! By hand: cargo run -p exercises --bin 10-event-loop
//!          cargo run -p probe -- 127.0.0.1:9006
//! Read:    docs/exercises/10-event-loop.md, and lesson 10

use std::collections::BTreeMap;
use std::io::{self, ErrorKind::Interrupted, ErrorKind::WouldBlock};
use std::time::{Duration, Instant};
use std::{env, net};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};

const LISTENER: Token = Token(0);
const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);
const PAUSE: Duration = Duration::from_millis(100);

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
}

impl Client {
    fn new(stream: TcpStream) -> Self {
        Self { stream, sum: 0 }
    }

    /// Goes on until it would have to wait. `false`: that was the end.
    fn serve(&mut self, event: &Event, registry: &Registry) -> bool {
        match self.answer(event, registry) {
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
    fn answer(&mut self, event: &Event, registry: &Registry) -> io::Result<()> {
        todo!(
            "{event:?}: serve {:?}, {}: {registry:?}",
            self.stream,
            self.sum
        )
    }
}
