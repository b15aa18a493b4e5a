//! Plays a scenario, and writes down what happens.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};
use harness::{Lab, Program, proc, tasks};
use tempfile::TempDir;

use crate::html;
use crate::scenarios::words;
use crate::strace::{self, Call};
use crate::{Actor, Event, Flow, Phase, Reading, Side, Socket, Step, Waiting};

/// What the figures show in place of the ports that the kernel chose.
const SERVER_PORT: u16 = 9006;
const FIRST_CLIENT_PORT: u16 = 50001;

/// Whether the calls are recorded, too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// By strace, which must be installed.
    Traced,
    /// The kernel's tables alone.
    Untraced,
}

/// A scenario that is being played.
pub struct Play {
    lab: Lab,
    calls: Calls,
    traces: TempDir,
    flow: Flow,
    server_port: u16,
    ports: BTreeMap<u16, u16>,
    clients: BTreeMap<u16, String>,
    backlog: Option<usize>,
    players: Vec<Player>,
    time_waits_lost: Option<u64>,
}

struct Player {
    name: String,
    side: Side,
    program: Program,
    /// By thread: how many calls were told, and whether the last one waits.
    told: BTreeMap<u32, (usize, bool)>,
    threads: BTreeMap<u32, String>,
    /// A server's request for any port has been shown as the port it got.
    port_shown: bool,
    /// What its threads are called, beside the main one.
    thread_names: Vec<&'static str>,
}

/// What a scenario tells about a few calls.
pub struct Telling {
    step: Step,
    items: Vec<Item>,
}

enum Item {
    Begin { who: String, name: String },
    Call { who: String, name: String },
    Event(Event),
}

/// The beginning of a [`Telling`]: a title, and what happens and why.
pub fn step(title: &str, text: &str) -> Telling {
    Telling {
        step: Step {
            title: title.to_owned(),
            text: text.to_owned(),
            rust: String::new(),
            python: String::new(),
            events: Vec::new(),
            reading: None,
        },
        items: Vec::new(),
    }
}

impl Telling {
    /// The line of Rust.
    pub fn rust(mut self, line: &str) -> Self {
        self.step.rust = line.to_owned();
        self
    }

    /// The line of Python.
    pub fn python(mut self, line: &str) -> Self {
        self.step.python = line.to_owned();
        self
    }

    /// The next call of `who`, which must be `name`: its beginning, its end,
    /// or both, whatever was recorded.
    pub fn call(mut self, who: &str, name: &str) -> Self {
        self.items.push(Item::Call {
            who: who.to_owned(),
            name: name.to_owned(),
        });
        self
    }

    /// The beginning of the next call of `who`, which waits for what follows;
    /// a [`Telling::call`] tells its end.
    pub fn begin(mut self, who: &str, name: &str) -> Self {
        self.items.push(Item::Begin {
            who: who.to_owned(),
            name: name.to_owned(),
        });
        self
    }

    /// What a person did, or how a program ended.
    pub fn act(self, who: &str, what: &str) -> Self {
        self.event(Event::Act {
            who: who.to_owned(),
            what: what.to_owned(),
        })
    }

    /// A packet that must have been sent.
    pub fn packet(
        self,
        client: &str,
        from: Side,
        label: &str,
        deduced: &str,
    ) -> Self {
        self.event(Event::Packet {
            client: client.to_owned(),
            from,
            label: label.to_owned(),
            deduced: deduced.to_owned(),
        })
    }

    /// A state that a socket must have passed.
    pub fn passes(
        self,
        client: &str,
        side: Side,
        state: &str,
        deduced: &str,
    ) -> Self {
        self.event(Event::Passes {
            client: client.to_owned(),
            side,
            state: state.to_owned(),
            deduced: deduced.to_owned(),
        })
    }

    fn event(mut self, event: Event) -> Self {
        self.items.push(Item::Event(event));
        self
    }
}

/// What a scenario waits for before it reads the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    side: Side,
    client: String,
    state: &'static str,
    receive_queue: usize,
}

/// The listener, with so many connections that nobody has accepted.
pub fn listener(unaccepted: usize) -> Awaited {
    Awaited {
        side: Side::Server,
        client: String::new(),
        state: "LISTEN",
        receive_queue: unaccepted,
    }
}

/// The server's UDP socket.
pub fn udp_server() -> Awaited {
    Awaited {
        state: "UNCONN",
        ..listener(0)
    }
}

/// The client's end of its connection; `queue` as the kernel counts.
pub fn at_client(client: &str, state: &'static str, queue: usize) -> Awaited {
    Awaited {
        side: Side::Client,
        client: client.to_owned(),
        state,
        receive_queue: queue,
    }
}

/// The server's end of that client's connection.
pub fn at_server(client: &str, state: &'static str, queue: usize) -> Awaited {
    Awaited {
        side: Side::Server,
        ..at_client(client, state, queue)
    }
}

impl Play {
    /// A scenario in which nobody has started yet.
    ///
    /// # Errors
    /// No folder can be made for strace's files.
    pub fn new(
        name: &str,
        title: &str,
        summary: &str,
        calls: Calls,
    ) -> Result<Self> {
        Ok(Self {
            lab: Lab::new(),
            calls,
            traces: TempDir::new()?,
            flow: Flow {
                name: name.to_owned(),
                title: title.to_owned(),
                summary: summary.to_owned(),
                protocol: "tcp".to_owned(),
                actors: Vec::new(),
                steps: Vec::new(),
            },
            server_port: 0,
            ports: BTreeMap::new(),
            clients: BTreeMap::new(),
            backlog: None,
            players: Vec::new(),
            time_waits_lost: proc::time_waits_lost(),
        })
    }

    /// Starts a server on a free port, and waits until it listens.
    ///
    /// # Errors
    /// It does not.
    pub fn server(
        &mut self,
        name: &str,
        package: &str,
        args: &[&str],
    ) -> Result<()> {
        let path = harness::binary(package, package)?;
        let mut all = vec!["127.0.0.1:0"];
        all.extend(args);
        self.start(name, Side::Server, path, &all)?;
        let addr = self.program(name)?.wait_until_listening()?;
        self.server_port = addr.port();
        self.ports.insert(addr.port(), SERVER_PORT);
        Ok(())
    }

    /// The scenario is about UDP.
    pub fn udp(&mut self) {
        self.flow.protocol = "udp".to_owned();
    }

    /// Starts another server on the same port. Does not wait.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn next_server(
        &mut self,
        name: &str,
        package: &str,
        args: &[&str],
    ) -> Result<()> {
        let path = harness::binary(package, package)?;
        let addr = self.addr().to_string();
        let mut all = vec![addr.as_str()];
        all.extend(args);
        self.start(name, Side::Server, path, &all)
    }

    /// Starts a program that talks to the server. Does not wait.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn client(
        &mut self,
        name: &str,
        (package, binary): (&str, &str),
        args: &[&str],
    ) -> Result<()> {
        let path = harness::binary(package, binary)?;
        let addr = self.addr().to_string();
        let mut all = vec![addr.as_str()];
        all.extend(args);
        self.start(name, Side::Client, path, &all)
    }

    fn addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.server_port).into()
    }

    fn start(
        &mut self,
        name: &str,
        side: Side,
        path: PathBuf,
        args: &[&str],
    ) -> Result<()> {
        let program = match self.calls {
            Calls::Untraced => self.lab.start(name, &path, args)?,
            Calls::Traced => {
                let mut command =
                    strace::command(&path, self.traces.path(), name);
                command.args(args);
                self.lab.start_command(name, command)?
            }
        };
        self.actor(name, name, side);
        self.players.push(Player {
            name: name.to_owned(),
            side,
            program,
            told: BTreeMap::new(),
            threads: BTreeMap::new(),
            port_shown: side == Side::Client,
            thread_names: Vec::new(),
        });
        Ok(())
    }

    /// Names the threads of a program, beside the main one, in the order of
    /// their first call; otherwise they are numbered.
    pub fn name_threads(&mut self, program: &str, names: &[&'static str]) {
        let mut players = self.players.iter_mut();
        if let Some(player) = players.find(|p| p.name == program) {
            player.thread_names = names.to_vec();
        }
    }

    fn actor(&mut self, name: &str, program: &str, side: Side) {
        self.flow.actors.push(Actor {
            name: name.to_owned(),
            program: program.to_owned(),
            side,
        });
    }

    /// A program that was started, to type into and to wait for.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn program(&mut self, name: &str) -> Result<&mut Program> {
        match self.players.iter_mut().find(|player| player.name == name) {
            Some(player) => Ok(&mut player.program),
            None => bail!("nobody is called {name} in {}", self.flow.name),
        }
    }

    /// Waits until each program of `waiting` sleeps in the calls that stand
    /// behind its name, one for each thread, and the tables show `sockets` and
    /// nothing else. Then writes down `tellings`, with the calls that were
    /// made since the last reading, and then `closing`, with a reading.
    ///
    /// # Errors
    /// It does not come to that, or a call of `tellings` was not made.
    pub fn reading(
        &mut self,
        tellings: Vec<Telling>,
        waiting: &[(&str, &str)],
        sockets: &[Awaited],
        closing: Telling,
    ) -> Result<()> {
        let lab = self.lab.clone();
        let mut seen = Reading::default();
        let mut trouble = None;
        let title = closing.step.title.clone();
        let waited =
            lab.wait_until(&format!("{}: {title}", self.flow.name), || {
                match self.look(waiting) {
                    Ok((reading, as_awaited)) => {
                        seen = reading;
                        as_awaited && matches(&seen.sockets, sockets)
                    }
                    Err(error) => {
                        trouble = Some(error);
                        true
                    }
                }
            });
        if let Some(trouble) = trouble {
            return Err(trouble);
        }
        if let Err(failure) = waited {
            let lost = match proc::time_waits_lost() > self.time_waits_lost {
                true => {
                    "\nOther programs have filled this machine's table of \
                     TIME-WAIT: end them, wait a minute, and try again.\n"
                }
                false => "",
            };
            bail!(
                "{failure}\n{lost}\nwaited for {sockets:?}\n\n\
                 found {seen:#?}"
            );
        }
        if self.calls == Calls::Traced {
            self.tell(tellings)?;
        }
        for socket in &mut seen.sockets {
            if socket.state == "LISTEN" {
                socket.backlog = self.backlog;
            }
        }
        if self.calls == Calls::Traced {
            self.compare_with_ss(&seen)?;
        }
        let mut step = closing.step;
        step.reading = Some(seen);
        self.flow.steps.push(step);
        Ok(())
    }

    /// The tables now, and whether everybody waits as awaited.
    fn look(&mut self, waiting: &[(&str, &str)]) -> Result<(Reading, bool)> {
        let mut reading = Reading::default();
        let mut all = true;
        for (who, calls) in waiting {
            let id = self.program(who)?.id();
            let mut found: Vec<_> = tasks::thread_ids(id)
                .unwrap_or_default()
                .into_iter()
                .map(|thread| match tasks::blocked_in(thread) {
                    Some(("futex", _)) => "futex".to_owned(),
                    Some((name, fd)) => format!("{name}({fd})"),
                    None => "running".to_owned(),
                })
                .collect();
            found.sort();
            let mut wanted: Vec<_> = calls.split(' ').collect();
            wanted.sort_unstable();
            all &= found == wanted;
            reading
                .waiting
                .extend(found.into_iter().map(|call| Waiting {
                    who: (*who).to_owned(),
                    call,
                }));
        }
        for player in &self.players {
            if player.side != Side::Client
                || self.clients.values().any(|name| *name == player.name)
            {
                continue;
            }
            for port in tasks::ports(player.program.id()).unwrap_or_default() {
                self.clients.insert(port, player.name.clone());
                let next = FIRST_CLIENT_PORT + self.ports.len() as u16 - 1;
                self.ports.entry(port).or_insert(next);
            }
        }
        if all {
            reading.sockets = self.sockets()?;
        }
        Ok((reading, all))
    }

    /// The rows of the listener and of its connections with our clients.
    fn table(&self) -> Result<Vec<proc::TcpRow>> {
        let Some(rows) = proc::tcp_rows(self.server_port) else {
            bail!("only Linux shows its tables: record there");
        };
        let is_ours = |row: &proc::TcpRow| {
            let [local, remote] = [row.local.port(), row.remote.port()];
            match local == self.server_port {
                true => {
                    row.state == "LISTEN" || self.clients.contains_key(&remote)
                }
                false => self.clients.contains_key(&local),
            }
        };
        Ok(rows.into_iter().filter(is_ours).collect())
    }

    fn sockets(&self) -> Result<Vec<Socket>> {
        if self.flow.protocol == "udp" {
            return self.udp_sockets();
        }
        let mut sockets: Vec<_> = self
            .table()?
            .into_iter()
            .map(|row| Socket {
                receive_queue: row.receive_queue,
                send_queue: row.send_queue,
                ..self.socket(row.local, row.remote, row.state)
            })
            .collect();
        sockets.sort_by_key(|s| {
            (
                s.state != "LISTEN",
                s.client.clone(),
                s.side == Side::Server,
            )
        });
        Ok(sockets)
    }

    fn udp_sockets(&self) -> Result<Vec<Socket>> {
        let Some(rows) = proc::udp_table() else {
            bail!("only Linux shows its tables: record there");
        };
        let ours = rows.into_iter().filter(|row| {
            let port = row.local.port();
            port == self.server_port || self.clients.contains_key(&port)
        });
        // The queue's length there is memory, not data: left out.
        Ok(ours
            .map(|row| {
                let state = match row.remote.port() {
                    0 => "UNCONN",
                    _ => "ESTABLISHED",
                };
                self.socket(row.local, row.remote, state)
            })
            .collect())
    }

    fn socket(
        &self,
        local: SocketAddr,
        remote: SocketAddr,
        state: &str,
    ) -> Socket {
        let shown = |addr: SocketAddr| match addr.port() {
            0 => format!("{}:*", addr.ip()),
            port => {
                let port = self.ports.get(&port).copied().unwrap_or_default();
                format!("{}:{port}", addr.ip())
            }
        };
        let (side, client) = match local.port() == self.server_port {
            true => (Side::Server, remote.port()),
            false => (Side::Client, local.port()),
        };
        Socket {
            side,
            client: self.clients.get(&client).cloned().unwrap_or_default(),
            local: shown(local),
            peer: shown(remote),
            state: state.to_owned(),
            receive_queue: 0,
            send_queue: 0,
            backlog: None,
        }
    }

    /// The figures show what `ss` would print: here it is asked, if it is
    /// installed.
    fn compare_with_ss(&self, reading: &Reading) -> Result<()> {
        let option = match self.flow.protocol.as_str() {
            "udp" => "-uanH",
            _ => "-tanH",
        };
        let port = format!(":{}", self.server_port);
        let printed = Command::new("ss")
            .args([option, "sport", "=", &port, "or", "dport", "=", &port])
            .output();
        let Ok(printed) = printed else {
            return Ok(());
        };
        let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
        let shown = |address: &str| {
            let (ip, port) = address.rsplit_once(':')?;
            if port == "*" {
                return Some(address.to_owned());
            }
            let port = self.ports.get(&port.parse().ok()?)?;
            Some(format!("{ip}:{port}"))
        };
        let mut real: Vec<Vec<String>> = printed
            .lines()
            .filter_map(|line| {
                let words: Vec<_> = line.split_whitespace().collect();
                let [state, receive, send, local, peer, ..] = words[..] else {
                    return None;
                };
                let mut row =
                    [state, receive, send].map(str::to_owned).to_vec();
                row.extend([shown(local)?, shown(peer)?]);
                Some(row)
            })
            .collect();
        let mut ours: Vec<Vec<String>> = reading
            .sockets
            .iter()
            .map(|socket| {
                let row = html::ss(socket);
                row.split_whitespace().map(str::to_owned).collect()
            })
            .collect();
        real.sort();
        ours.sort();
        if real != ours {
            bail!("{}: ss prints {real:?}, not {ours:?}", self.flow.name);
        }
        Ok(())
    }

    /// Puts the new calls into the steps that tell them. A call that no step
    /// tells gets a step of its own.
    fn tell(&mut self, tellings: Vec<Telling>) -> Result<()> {
        let mut made = self.new_calls()?;
        for Telling { mut step, items } in tellings {
            for item in items {
                let (who, name, ends) = match &item {
                    Item::Event(event) => {
                        step.events.push(event.clone());
                        continue;
                    }
                    Item::Begin { who, name } => (who, name, false),
                    Item::Call { who, name } => (who, name, true),
                };
                let calls = made.entry(who.clone()).or_default();
                let Some(at) = calls.iter().position(|(_, n)| n == name) else {
                    bail!(
                        "{}: \"{}\": {who} did not call {name}: mend the \
                         scenario",
                        self.flow.name,
                        step.title
                    );
                };
                for (event, name) in calls.drain(..at) {
                    self.flow.steps.push(words::untold(event, &name));
                }
                // A call that still waits only has a beginning.
                let waits = matches!(
                    calls.front(),
                    Some((
                        Event::Call {
                            phase: Phase::Waits,
                            ..
                        },
                        _
                    ))
                );
                if ends || waits {
                    let told = calls.pop_front();
                    step.events.extend(told.map(|(event, _)| event));
                } else if let Some((event, _)) = calls.front_mut() {
                    step.events.extend(begin(event));
                }
            }
            self.flow.steps.push(step);
        }
        for (event, name) in made.into_values().flatten() {
            self.flow.steps.push(words::untold(event, &name));
        }
        Ok(())
    }

    /// What each actor has called, or come back from, since the last time.
    fn new_calls(
        &mut self,
    ) -> Result<BTreeMap<String, VecDeque<(Event, String)>>> {
        let mut made: BTreeMap<_, VecDeque<_>> = BTreeMap::new();
        let mut actors = Vec::new();
        let mut ports = std::mem::take(&mut self.ports);
        for player in &mut self.players {
            let main = player.program.id();
            for trace in strace::read(self.traces.path(), &player.name, main)? {
                let others =
                    player.threads.keys().filter(|id| **id != main).count();
                let who =
                    player.threads.entry(trace.thread).or_insert_with(|| {
                        if trace.thread == main {
                            return player.name.clone();
                        }
                        let name = player.thread_names.get(others);
                        let name = match name {
                            Some(name) => (*name).to_owned(),
                            None => format!("thread {}", others + 1),
                        };
                        let program = player.name.clone();
                        actors.push((name.clone(), program, player.side));
                        name
                    });
                let told = player.told.entry(trace.thread).or_default();
                let port_shown = &mut player.port_shown;
                let mut shown = |port: u16| match port {
                    // The listener asked for any port, and the figure shows
                    // the one that it was given.
                    0 if !*port_shown => {
                        *port_shown = true;
                        SERVER_PORT
                    }
                    0 => 0,
                    _ => {
                        let next = FIRST_CLIENT_PORT + ports.len() as u16 - 1;
                        *ports.entry(port).or_insert(next)
                    }
                };
                let (count, waited) = *told;
                let first = count - usize::from(waited);
                for (index, call) in trace.calls.iter().enumerate().skip(first)
                {
                    let returned = index < count;
                    if returned && call.result.is_none() {
                        continue;
                    }
                    if call.name == "listen" {
                        self.backlog =
                            call.args.get(1).and_then(|n| n.parse().ok());
                    }
                    let event = Event::Call {
                        who: who.clone(),
                        call: call.shown(&mut shown),
                        result: call.shown_result(&mut shown),
                        phase: phase(call, returned),
                    };
                    made.entry(who.clone())
                        .or_default()
                        .push_back((event, call.name.clone()));
                }
                let waits =
                    trace.calls.last().is_some_and(|c| c.result.is_none());
                *told = (trace.calls.len(), waits);
            }
        }
        self.ports = ports;
        for (name, program, side) in actors {
            self.actor(&name, &program, side);
        }
        Ok(made)
    }

    /// The recording: the actors that do something, by side.
    pub fn finish(self) -> Flow {
        let mut flow = self.flow;
        let acts = |name: &str| {
            let mut events = flow.steps.iter().flat_map(|step| &step.events);
            events.any(|event| match event {
                Event::Call { who, .. } | Event::Act { who, .. } => who == name,
                _ => false,
            })
        };
        let mut actors = flow.actors;
        actors.retain(|actor| acts(&actor.name));
        actors.sort_by_key(|a| a.side == Side::Server);
        flow.actors = actors;
        flow
    }
}

/// Cuts a call in two: gives its beginning, and leaves its end.
fn begin(event: &mut Event) -> Option<Event> {
    let mut beginning = event.clone();
    if let Event::Call { result, phase, .. } = &mut beginning {
        result.clear();
        *phase = Phase::Waits;
    }
    match event {
        Event::Call { phase, .. } if *phase == Phase::Whole => {
            *phase = Phase::Returns;
            Some(beginning)
        }
        _ => None,
    }
}

fn phase(call: &Call, returned: bool) -> Phase {
    match (returned, &call.result) {
        (true, _) => Phase::Returns,
        (false, None) => Phase::Waits,
        (false, Some(_)) => Phase::Whole,
    }
}

fn matches(seen: &[Socket], awaited: &[Awaited]) -> bool {
    seen.len() == awaited.len()
        && awaited.iter().all(|a| {
            seen.iter().any(|s| {
                s.side == a.side
                    && s.client == a.client
                    && s.state == a.state
                    && s.receive_queue == a.receive_queue
                    && s.send_queue == 0
            })
        })
}
