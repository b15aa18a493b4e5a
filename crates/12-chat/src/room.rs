//! Everybody who is there, and what all of them hear.

use std::collections::BTreeMap;
use std::io::{self, Error, ErrorKind::TimedOut, ErrorKind::WouldBlock};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Registry, Token};

use crate::LISTENER;
use crate::client::{BOTH, Client};
use crate::lines::Refusal;

const LONGEST_NAME: usize = 20;

pub struct Room {
    clients: BTreeMap<Token, Client>,
    name_timeout: Duration,
}

impl Room {
    /// An empty one. Who comes has so long to say its name.
    pub fn new(name_timeout: Duration) -> Self {
        Self {
            clients: BTreeMap::new(),
            name_timeout,
        }
    }

    pub fn enter(
        &mut self,
        mut stream: TcpStream,
        peer: SocketAddr,
        registry: &Registry,
    ) -> io::Result<()> {
        let last = self.clients.last_key_value();
        let token = Token(last.map_or(LISTENER, |(&last, _)| last).0 + 1);
        registry.register(&mut stream, token, BOTH)?;
        let name_due = Instant::now() + self.name_timeout;
        let mut client = Client::new(stream, peer, name_due);
        client.tell("* what is your name?\n");
        self.clients.insert(token, client);
        Ok(())
    }

    // ANCHOR: serve
    /// Hears what a client says, and sends to everybody what follows from it.
    pub fn serve(&mut self, event: &Event, registry: &Registry) {
        let token = event.token();
        let Some(client) = self.clients.get_mut(&token) else {
            return;
        };
        let mut lines = Vec::new();
        let end = client.read_lines(&mut lines, event, registry);
        for line in lines {
            self.hear(token, line);
        }
        if !end.as_ref().is_err_and(|error| error.kind() == WouldBlock) {
            self.part(token, end);
        }
        self.send_unsent();
    }
    // ANCHOR_END: serve

    fn hear(&mut self, token: Token, line: Result<String, Refusal>) {
        let Some(client) = self.clients.get_mut(&token) else {
            return;
        };
        match (line, &client.name) {
            (Err(refusal), _) => client.tell(&format!("* that {refusal}\n")),
            (Ok(text), Some(name)) => {
                let line = format!("{name}: {text}\n");
                self.say(&line);
            }
            (Ok(name), None) => self.introduce(token, name),
        }
    }

    fn introduce(&mut self, token: Token, name: String) {
        let is_taken = self
            .clients
            .values()
            .any(|client| client.name.as_ref() == Some(&name));
        let Some(client) = self.clients.get_mut(&token) else {
            return;
        };
        if !is_name(&name) {
            client.tell("* a name is 1 to 20 letters and digits\n");
        } else if is_taken {
            client.tell("* that name is taken, say another one\n");
        } else {
            client.name = Some(name.clone());
            self.say(&format!("* {name} has joined\n"));
        }
    }

    // ANCHOR: say
    /// Tells everybody who has a name. There is one thread, and so one order.
    fn say(&mut self, line: &str) {
        for client in self.clients.values_mut() {
            if client.name.is_some() {
                client.tell(line);
            }
        }
    }

    /// A client says no more. What it has been told already is still sent.
    fn part(&mut self, token: Token, end: io::Result<()>) {
        let Some(client) = self.clients.get_mut(&token) else {
            return;
        };
        if client.is_over {
            return;
        }
        client.is_over = true;
        let (peer, lines) = (client.peer, client.lines);
        match end {
            Ok(()) => {
                println!("{peer} closed the connection after {lines} lines");
            }
            Err(error) => eprintln!("{peer}: {error}"),
        }
        if let Some(name) = client.name.take() {
            self.say(&format!("* {name} has left\n"));
        }
    }
    // ANCHOR_END: say

    // ANCHOR: send_unsent
    /// Sends to each client what it has been told, and forgets who is gone.
    /// One who gets no more has left, and the others are told so.
    fn send_unsent(&mut self) {
        let broken = |(&token, client): (&Token, &mut Client)| {
            Some((token, client.send_unsent().err()?))
        };
        while let Some((token, error)) =
            self.clients.iter_mut().find_map(broken)
        {
            self.part(token, Err(error));
        }
        self.clients.retain(|_, client| !client.is_done());
    }
    // ANCHOR_END: send_unsent

    // ANCHOR: send_away
    /// When the next client without a name will have had its time.
    pub fn next_due(&self) -> Option<Instant> {
        self.nameless().map(|(_, due)| due).min()
    }

    /// Sends away who has had its time by `now`, and has no name.
    pub fn send_away(&mut self, now: Instant) {
        let late: Vec<_> = self.nameless().collect();
        for (token, _) in late.into_iter().filter(|&(_, due)| due <= now) {
            if let Some(client) = self.clients.get_mut(&token) {
                client.tell("* you have not said your name in time\n");
            }
            let error = Error::new(TimedOut, "sent away, it has no name");
            self.part(token, Err(error));
        }
        self.send_unsent();
    }

    fn nameless(&self) -> impl Iterator<Item = (Token, Instant)> {
        self.clients
            .iter()
            .filter(|(_, client)| client.name.is_none() && !client.is_over)
            .map(|(&token, client)| (token, client.name_due))
    }
    // ANCHOR_END: send_away
}

/// Letters and digits only: nobody can look like the server, whose lines begin
/// with a star, or make the line of somebody else.
fn is_name(text: &str) -> bool {
    (1..=LONGEST_NAME).contains(&text.chars().count())
        && text.chars().all(char::is_alphanumeric)
}
