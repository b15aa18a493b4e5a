//! A check as a figure: the checker's clients, the program's calls, and the
//! kernel's tables.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use flows::calls::Calls;
use flows::merge::{Cause, Ports, merge};
use flows::{Actor, Event, Flow, Phase, Side, Snapshot, Socket, Step, Waiting};
use harness::What;
use harness::trace::strace::{self, Trace};

use crate::acts::{Act, acts};
use crate::recorder::{Entry, FILES, Failed, Log, Recorder, Rest, Thread};
use crate::wire::{self, Wire};
use crate::words;

/// So many events of one thread an act shows.
const EVENTS: usize = 12;
/// A call that came back earlier, in nanoseconds, has not waited.
const WAITED: u64 = 1_000_000;
/// So many threads that were in no call yet are shown; a virtual machine has
/// more, which say nothing.
const IDLE: usize = 8;
/// The checked program, in the timeline and in the figure.
const PROGRAM: &str = "program";
const SERVER: &str = "server";
const CHECKER: &str = "the checker";

/// The figure of what was seen. The check fails because of `failure`: who, and
/// what was wanted. `why_not` says why no calls are in it.
///
/// # Errors
/// strace's files cannot be read.
pub(crate) fn flow(
    recorder: &Recorder,
    name: &str,
    title: String,
    summary: String,
    failure: Option<(&str, &str)>,
    why_not: Option<&str>,
    wire: Option<Wire>,
) -> anyhow::Result<Flow> {
    let traces = match &recorder.folder {
        Some(folder) => {
            strace::read(folder, FILES, 0).map_err(anyhow::Error::msg)?
        }
        None => Vec::new(),
    };
    let log = recorder.lock();
    let acts = acts(&log.entries, failure);
    let mut painter = Painter::new(&log, traces, &acts);
    painter.wire = wire;
    let mut steps: Vec<_> =
        acts.iter().flat_map(|act| painter.steps(act)).collect();
    if let (Some(why), Some(first)) = (why_not, steps.first_mut()) {
        first.events.insert(0, happens(SERVER, why));
    }
    let mut flow = Flow {
        name: name.to_owned(),
        title,
        summary,
        protocol: if painter.is_udp { "udp" } else { "tcp" }.to_owned(),
        actors: painter.actors(&steps),
        steps,
    };
    flow.actors.sort_by_key(|actor| actor.side == Side::Server);
    Ok(flow)
}
/// A program that was started: its name, its main thread, and all of them.
struct Start {
    name: String,
    main: u32,
    /// What its other threads and processes are called.
    threads: Vec<String>,
    traces: Vec<Trace>,
}

impl Start {
    /// What one of its threads is called.
    fn name_of(&self, thread: u32) -> Option<&str> {
        let others = self.traces.iter().filter(|t| t.thread != self.main);
        let mut named = others.zip(&self.threads);
        let (_, name) = named.find(|(trace, _)| trace.thread == thread)?;
        Some(name)
    }
}

struct Painter {
    starts: Vec<(Start, Calls)>,
    clients: BTreeMap<u16, String>,
    /// Whose connections were made in the acts that are shown.
    fresh: BTreeSet<u16>,
    backlog: Option<usize>,
    is_udp: bool,
    explained: BTreeSet<String>,
    chapter: String,
    /// The acts behind the failure have begun.
    is_over: bool,
    wire: Option<Wire>,
}

impl Painter {
    fn new(log: &Log, traces: Vec<Trace>, acts: &[Act]) -> Self {
        let mut clients = BTreeMap::new();
        let mut fresh = BTreeSet::new();
        let from = acts.first().map_or(0, |act| act.from);
        let mut begins = Vec::new();
        let mut last = 0;
        for entry in &log.entries {
            let (at, who, what) = match entry {
                Entry::Event { at, who, what } => (at, who, what),
                Entry::Failure(Failed { at, .. })
                | Entry::Rest(Rest { at, .. }) => {
                    last = *at;
                    continue;
                }
                Entry::Chapter(_) => continue,
            };
            let before = std::mem::replace(&mut last, *at);
            match what {
                // A start is told when the system has returned from it.
                What::Started(_) => begins.push((before, who.clone())),
                What::Connected { from: local, .. } => {
                    let port = local.rsplit(':').next();
                    let port = port.and_then(|port| port.parse().ok());
                    clients.extend(port.map(|port| (port, who.clone())));
                    fresh.extend(port.filter(|_| *at > from));
                }
                _ => {}
            }
        }
        let mut painter = Self {
            starts: Vec::new(),
            clients,
            fresh,
            backlog: None,
            is_udp: acts.iter().any(|act| !act.rest.udp.is_empty())
                && !acts.iter().any(|act| act.rest.is_tcp()),
            explained: BTreeSet::new(),
            chapter: String::new(),
            is_over: false,
            wire: None,
        };
        painter.find_starts(&begins, traces, &log.processes);
        let ports = Ports {
            server: 0,
            clients: &painter.clients,
        };
        for (start, calls) in &mut painter.starts {
            for trace in &mut start.traces {
                let calls = std::mem::take(&mut trace.calls);
                trace.calls = without_time_limits(calls);
                trace.calls.retain(|call| {
                    call.name.starts_with("accept")
                        || call.name == "listen"
                        || call.ended.is_none_or(|ended| ended > from)
                });
            }
            let all = start.traces.iter().flat_map(|trace| &trace.calls);
            let listen = all.clone().rfind(|call| call.name == "listen");
            painter.backlog = listen
                .and_then(|call| call.args.get(1)?.parse().ok())
                .or(painter.backlog);
            let before: Vec<_> =
                start.traces.iter().map(|t| t.until(from)).collect();
            calls.next(start.main, &before, &ports);
        }
        painter
    }

    /// Which trace belongs to which start: by its process, or else by when it
    /// began.
    fn find_starts(
        &mut self,
        begins: &[(u64, String)],
        mut traces: Vec<Trace>,
        processes: &BTreeMap<u32, u32>,
    ) {
        traces.sort_by_key(|trace| trace.began);
        let start_of = |trace: &Trace| {
            let index = begins.iter().rposition(|(at, _)| *at <= trace.began);
            index.unwrap_or(0)
        };
        let mut mains: BTreeMap<usize, u32> = BTreeMap::new();
        for trace in &traces {
            mains.entry(start_of(trace)).or_insert(trace.thread);
        }
        let mut groups: BTreeMap<usize, Vec<Trace>> = BTreeMap::new();
        for mut trace in traces {
            let process = processes.get(&trace.thread);
            let of_main = mains.iter().find(|(_, main)| process == Some(*main));
            let index = of_main.map_or(start_of(&trace), |(index, _)| *index);
            let is_main = mains.get(&index) == Some(&trace.thread);
            if is_main {
                let socket = |c: &strace::Call| c.name == "socket";
                let first = trace.calls.iter().position(socket);
                let first = first.unwrap_or(trace.calls.len());
                trace.calls.drain(..first);
            }
            let about_sockets =
                trace.calls.iter().any(|call| call.descriptor() != "0");
            if is_main || about_sockets {
                groups.entry(index).or_default().push(trace);
            }
        }
        for (index, mut traces) in groups {
            let who = begins.get(index).map_or(PROGRAM, |(_, who)| who);
            let main = mains.get(&index).copied().unwrap_or(0);
            traces.sort_by_key(|trace| {
                let first = trace.calls.first().map(|call| call.began);
                (trace.thread != main, first.is_none(), first)
            });
            let name = server(who);
            let (mut threads, mut children) = (0, 0);
            let names: Vec<_> = traces
                .iter()
                .filter(|trace| trace.thread != main)
                .map(|trace| {
                    let process = processes.get(&trace.thread);
                    let (kind, count) = match process == Some(&trace.thread) {
                        true => ("process", &mut children),
                        false => ("thread", &mut threads),
                    };
                    *count += 1;
                    let of = match name {
                        SERVER => String::new(),
                        name => format!("{name}'s "),
                    };
                    format!("{of}{kind} {count}")
                })
                .collect();
            let calls = Calls::new(name, Side::Server, &names);
            let name = name.to_owned();
            let start = Start {
                name,
                main,
                threads: names,
                traces,
            };
            self.starts.push((start, calls));
        }
    }

    /// The states of the sockets that have the server's port.
    fn states(&self, rest: &Rest) -> Vec<&'static str> {
        let own = |address: &SocketAddr| address.port() == rest.port;
        let tcp = rest.tcp.iter().filter(|row| own(&row.local));
        match self.is_udp {
            true => vec![words::BOUND],
            false => tcp.map(|row| row.state).collect(),
        }
    }

    /// Who did not get what it wanted. (That a second copy of the program
    /// does not listen may be as it should be.)
    fn failures<'a>(&self, act: &'a Act) -> impl Iterator<Item = &'a Failed> {
        let clients: BTreeSet<_> = self.clients.values().cloned().collect();
        act.failures.iter().filter(move |failed| {
            failed.who == PROGRAM || clients.contains(&failed.who)
        })
    }

    /// What happens in an act, and what the tables say then.
    fn steps(&mut self, act: &Act) -> Vec<Step> {
        let ports = Ports {
            server: act.rest.port,
            clients: &self.clients,
        };
        let mut causes: Vec<_> = without_pieces(&act.events)
            .into_iter()
            .filter_map(|(at, who, what)| {
                // strace tells the end of a program, too.
                let told =
                    !matches!(what, What::Exited(_)) || self.starts.is_empty();
                let event =
                    told.then(|| happening(&who, &what, self.is_udp))?;
                Some(cause(at, event))
            })
            .collect();
        let acts = act.events.iter().filter(|(.., what)| is_act(what));
        let woken = acts.map(|(at, ..)| at + 1).min().unwrap_or(0);
        let kills = |what: &What| matches!(what, What::Killed);
        let killed = act.events.iter().any(|(.., what)| kills(what));
        for failed in self.failures(act) {
            // Until then it waited, and saw nothing else.
            let at = failed.at.max(act.rest.at);
            let who = match failed.who.as_str() {
                PROGRAM => CHECKER,
                client => client,
            };
            let mut words = failed.words();
            if self.is_udp {
                words = words.replace(
                    "connection refused: nobody listens",
                    "refused (ICMP): no socket takes it",
                );
            }
            causes.push(cause(at, happens(who, &words)));
        }
        let mut whom = BTreeMap::new();
        let mut order: BTreeMap<String, u64> = BTreeMap::new();
        for (start, calls) in &mut self.starts {
            let traces: Vec<_> =
                start.traces.iter().map(|t| t.until(act.rest.at)).collect();
            for mut cause in calls.next(start.main, &traces, &ports) {
                // What takes something waits for it first. (When a long wait
                // ended, strace does not know exactly.)
                if !cause.sends {
                    cause.at = cause.ended;
                }
                match &cause.event {
                    Event::Happens { what, .. } if what == "is killed" => {
                        // The checker has told it.
                        if killed {
                            continue;
                        }
                    }
                    Event::Happens { who, .. } => {
                        // What it has printed may be seen later than its end.
                        let said = causes.iter_mut().filter(|said| {
                            said.at > cause.at && said.event.who() == Some(who)
                        });
                        said.for_each(|said| said.at = cause.at);
                    }
                    Event::Call {
                        who,
                        call,
                        result,
                        phase,
                    } => {
                        if *phase == Phase::Returns && !cause.sends {
                            cause.at = cause.at.max(woken);
                        }
                        // A thread's calls stay in order.
                        let last = order.entry(who.clone()).or_insert(0);
                        cause.at = cause.at.max(*last);
                        *last = cause.at;
                        // A descriptor may be another client's by the end.
                        let key = (who.clone(), call.clone(), result.clone());
                        whom.insert(key, cause.client.clone());
                    }
                    Event::Packet { .. } | Event::State { .. } => {}
                }
                causes.push(cause);
            }
        }
        if act.is_left_out {
            return Vec::new();
        }
        let snapshot = self.snapshot(act);
        let effects = self
            .wire
            .as_ref()
            .map_or(Vec::new(), |seen| seen(act.from, act.rest.at, &ports));
        let clients: Vec<_> = self.clients.values().collect();
        causes.extend(wire::beginnings(act.from, &clients));
        let mut events = merge(causes, effects, &snapshot).unwrap_or_default();
        events.retain(|event| !wire::is_silent(event, &snapshot));
        let mut text = Vec::new();
        if act.chapter != self.chapter {
            self.chapter.clone_from(&act.chapter);
            text.push(format!("The check: {}.", act.chapter));
        }
        if act.is_after && !std::mem::replace(&mut self.is_over, true) {
            text.push(
                "The check has failed. What follows the checker tries to find \
                 out why."
                    .to_owned(),
            );
        }
        if act.left_out > 0 {
            text.push(format!("{} acts are left out here.", act.left_out));
        }
        for event in &events {
            let Event::Call {
                who,
                call,
                result,
                phase,
            } = event
            else {
                continue;
            };
            if self.explained.insert(words::kind(call).to_owned()) {
                text.push(words::does(call, self.is_udp));
            }
            let client = whom.get(&(who.clone(), call.clone(), result.clone()));
            let client = client.map_or("", String::as_str);
            let states = self.states(&act.rest);
            text.push(words::means(call, result, *phase, client, &states));
        }
        let mut events = shortened(events);
        if events.is_empty() {
            return Vec::new();
        }
        if act.rest.goes_on {
            events.push(happens(SERVER, "goes on, and does not rest"));
        }
        let step = Step {
            title: self.title(act),
            text: joined(text),
            events,
            fails: act.fails,
            ..Step::default()
        };
        let mut calls: Vec<(&str, Vec<&str>)> = Vec::new();
        for waiting in &snapshot.waiting {
            let (call, whom) = match waiting.call.split_once(", for ") {
                Some((call, whom)) => (call, Some(whom)),
                None => (waiting.call.as_str(), None),
            };
            let name = words::name(call);
            match calls.iter_mut().find(|(c, _)| words::name(c) == name) {
                Some((_, others)) if whom.is_some() => others.extend(whom),
                _ => calls.push((call, whom.into_iter().collect())),
            }
        }
        let mut words: Vec<_> = calls
            .iter()
            .map(|(call, whom)| words::waits(call, whom, self.is_udp))
            .collect();
        words.extend(in_the_kernel(&snapshot));
        let is_connected = |socket: &Socket| socket.state == "ESTABLISHED";
        if self.is_udp
            && snapshot.sockets.iter().any(is_connected)
            && self.explained.insert("connected".to_owned())
        {
            words.push(words::CONNECTED.to_owned());
        }
        let table = Step {
            title: "What everybody waits for".to_owned(),
            text: joined(words),
            snapshot: Some(snapshot).filter(|s| *s != Snapshot::default()),
            ..Step::default()
        };
        let tables = Some(table).filter(|table| table.snapshot.is_some());
        [step].into_iter().chain(tables).collect()
    }

    /// A few words for what the clients do in an act.
    fn title(&self, act: &Act) -> String {
        let mut words: Vec<String> = act
            .events
            .iter()
            .filter_map(|(_, who, what)| {
                Some(match what {
                    What::Started(_) => format!("{} starts", server(who)),
                    What::Connected { .. } => match self.is_udp {
                        true => format!("{who} makes its socket"),
                        false => format!("{who} connects"),
                    },
                    What::Sent(_) => format!("{who} sends"),
                    What::Received(_) => format!("{who} receives"),
                    What::HalfClosed => format!("{who} sends no more"),
                    What::HungUp => format!("{who} hangs up"),
                    What::SawEnd => format!("{who} receives the end"),
                    What::SawReset => format!("{who} receives a reset"),
                    What::Closed => format!("{who} leaves"),
                    What::Reset => format!("{who} resets the connection"),
                    What::Killed => format!("{} is killed", server(who)),
                    What::Signalled(name) => {
                        format!("{} is sent {name}", server(who))
                    }
                    What::Typed(_) | What::EndedInput => {
                        format!("somebody types to {}", server(who))
                    }
                    What::Note(text) => text.trim_end_matches('?').to_owned(),
                    What::Printed(_)
                    | What::Complained(_)
                    | What::Exited(_) => {
                        return None;
                    }
                })
            })
            .collect();
        words.extend(self.failures(act).map(|failed| {
            let who = server(&failed.who);
            match who {
                SERVER => format!("{who} does not do what it had to"),
                _ => format!("{who} does not get what it wanted"),
            }
        }));
        words.dedup();
        let more = words.len().saturating_sub(3);
        words.truncate(3);
        let mut title = words.join(", ");
        if more > 0 {
            title.push_str(", and so on");
        }
        match title.is_empty() {
            true => "server goes on".to_owned(),
            false => title,
        }
    }

    /// The tables, without what belongs to no client of these acts.
    fn snapshot(&self, act: &Act) -> Snapshot {
        let rest = &act.rest;
        let mut waiting = Vec::new();
        for (start, _) in &self.starts {
            let traces: Vec<_> =
                start.traces.iter().map(|t| t.until(rest.at)).collect();
            let mut idle = Vec::new();
            for Thread { id, waits, joins } in &rest.threads {
                let trace = traces.iter().find(|t| t.thread == *id);
                let call = trace.and_then(|trace| {
                    trace.calls.last().filter(|call| call.ended.is_none())
                });
                let known = trace.is_some_and(|trace| !trace.calls.is_empty());
                let joins = joins.and_then(|id| start.name_of(id));
                let waits = match (call, waits) {
                    (Some(call), _) => {
                        let client = self.client(call, &traces);
                        match client {
                            Some(client) => {
                                format!("{}, for {client}", call.shown())
                            }
                            None => call.shown(),
                        }
                    }
                    (None, Some(call)) => match joins {
                        Some(other) => format!("{call}, for {other}'s end"),
                        None if call == "futex" => {
                            format!("{call}, for another thread")
                        }
                        None => call.clone(),
                    },
                    (None, None) => continue,
                };
                let waits = Waiting {
                    who: start.name.clone(),
                    call: waits,
                };
                match known {
                    true => waiting.push(waits),
                    // It has made no call about a socket: whose is it?
                    false if *id == start.main || self.starts.len() == 1 => {
                        idle.push(waits);
                    }
                    false => {}
                }
            }
            if idle.len() <= IDLE {
                waiting.extend(idle);
            }
        }
        let tcp = rest.tcp.iter().filter_map(|row| {
            let (local, peer) = (row.local, row.remote);
            let mut socket = self.socket(rest.port, local, peer, row.state)?;
            socket.receive_queue = row.receive_queue;
            socket.send_queue = row.send_queue;
            Some(socket)
        });
        let udp = rest.udp.iter().filter_map(|row| {
            let state = match row.remote.port() {
                0 => "UNCONN",
                _ => "ESTABLISHED",
            };
            self.socket(rest.port, row.local, row.remote, state)
        });
        let mut sockets: Vec<_> = match self.is_udp {
            true => udp.collect(),
            false => tcp.collect(),
        };
        sockets.sort_by_key(|s: &Socket| {
            (s.state != "LISTEN", s.client.clone(), s.side)
        });
        Snapshot { waiting, sockets }
    }

    fn client(&self, call: &strace::Call, traces: &[Trace]) -> Option<String> {
        let all = traces.iter().flat_map(|trace| &trace.calls);
        let held = all
            .filter(|other| {
                other.name.starts_with("accept")
                    && other.number().as_deref() == Some(call.descriptor())
                    && other.ended.is_some_and(|ended| ended <= call.began)
            })
            .max_by_key(|other| other.ended);
        let accepted = held.and_then(|held| Some(held.address()?.port()));
        self.clients.get(&call.peer().or(accepted)?).cloned()
    }

    fn socket(
        &self,
        port: u16,
        local: SocketAddr,
        peer: SocketAddr,
        state: &str,
    ) -> Option<Socket> {
        let is_client =
            local.port() != port && self.clients.contains_key(&local.port());
        let (side, far) = match is_client {
            true => (Side::Client, local.port()),
            false => (Side::Server, peer.port()),
        };
        let client = match (side, far) {
            (Side::Server, 0) => String::new(),
            _ => self.clients.get(&far)?.clone(),
        };
        let is_old = state == "TIME-WAIT" && !self.fresh.contains(&far);
        (!is_old).then(|| Socket {
            side,
            client,
            local: shown(local),
            peer: match peer.port() {
                0 => format!("{}:*", peer.ip()),
                _ => shown(peer),
            },
            state: state.to_owned(),
            receive_queue: 0,
            send_queue: 0,
            backlog: self.backlog.filter(|_| state == "LISTEN"),
        })
    }

    /// Who takes part in these steps.
    fn actors(&self, steps: &[Step]) -> Vec<Actor> {
        let mut actors: Vec<Actor> = Vec::new();
        for event in steps.iter().flat_map(|step| &step.events) {
            let Some(who) = event.who() else { continue };
            if actors.iter().any(|actor| actor.name == who) {
                continue;
            }
            let is_client = self.clients.values().any(|client| client == who);
            let owner = self.starts.iter().find(|(start, _)| {
                who == start.name || start.threads.iter().any(|t| t == who)
            });
            let (program, side) = match (is_client, owner) {
                (true, _) => (who, Side::Client),
                (false, Some((start, _))) => {
                    (start.name.as_str(), Side::Server)
                }
                (false, None) if who == SERVER => (SERVER, Side::Server),
                (false, None) => (who, Side::Client),
            };
            actors.push(Actor {
                name: who.to_owned(),
                program: program.to_owned(),
                side,
            });
        }
        actors
    }
}

/// Each sentence once.
fn joined(mut sentences: Vec<String>) -> String {
    let mut said = BTreeSet::new();
    sentences.retain(|line| !line.is_empty() && said.insert(line.clone()));
    sentences.join(" ")
}

fn server(who: &str) -> &str {
    if who == PROGRAM { SERVER } else { who }
}

fn shown(address: SocketAddr) -> String {
    let ip = address.ip().to_canonical();
    SocketAddr::new(ip, address.port()).to_string()
}

fn happens(who: &str, what: &str) -> Event {
    Event::Happens {
        who: server(who).to_owned(),
        what: what.to_owned(),
    }
}

/// What the checker does or sees; a client sends something by it.
fn cause(at: u64, event: Event) -> Cause {
    let client = event.who().unwrap_or_default().to_owned();
    let what = match &event {
        Event::Happens { what, .. } => what.as_str(),
        _ => "",
    };
    let sends = ["connects", "sends", "hangs up", "closes", "resets"];
    let sends = sends.iter().any(|act| what.starts_with(act));
    Cause {
        at,
        ended: at,
        side: Side::Client,
        client,
        sends,
        event,
    }
}

/// Whether the checker does it, and does not only see it.
fn is_act(what: &What) -> bool {
    !matches!(
        what,
        What::Printed(_)
            | What::Complained(_)
            | What::Exited(_)
            | What::Received(_)
            | What::SawEnd
            | What::SawReset
    )
}

/// What the checker saw, as the figure says it.
fn happening(who: &str, what: &What, is_udp: bool) -> Event {
    let words = match what {
        What::Started(_) => "starts".to_owned(),
        What::Printed(text) => format!("prints {text}"),
        What::Complained(text) => format!("prints on stderr {text}"),
        What::Typed(text) => format!("is typed {text}"),
        What::EndedInput => "is typed Ctrl-D".to_owned(),
        What::Exited(status) => format!("exits: {status}"),
        What::Signalled(name) => format!("is sent {name}"),
        What::Killed => "is killed by the checker".to_owned(),
        What::Connected { .. } if is_udp => "makes its socket".to_owned(),
        What::Connected { .. } => "connects".to_owned(),
        What::Sent(bytes) => format!("sends {bytes}"),
        What::Received(bytes) => format!("receives {bytes}"),
        What::HalfClosed => "sends no more (FIN)".to_owned(),
        What::HungUp => "hangs up (FIN)".to_owned(),
        What::SawEnd => "receives the end".to_owned(),
        What::SawReset => "receives a reset (RST)".to_owned(),
        What::Closed => "closes".to_owned(),
        What::Reset => "resets the connection (RST)".to_owned(),
        What::Note(text) => text.clone(),
    };
    let who = match what {
        What::Note(_) => CHECKER,
        _ => who,
    };
    happens(who, &words)
}

/// A call that has waited until its time was over, and is then made again, is
/// drawn as one that waits on: how often differs from run to run.
fn without_time_limits(calls: Vec<strace::Call>) -> Vec<strace::Call> {
    let mut out: Vec<strace::Call> = Vec::new();
    for mut call in calls {
        let before = out.pop_if(|before| {
            let result = before.result.as_deref().unwrap_or_default();
            let over = ["-1 EAGAIN", "0 (Timeout)"];
            let waited = before.ended.map(|ended| ended - before.began);
            over.iter().any(|over| result.starts_with(over))
                && waited.is_some_and(|waited| waited > WAITED)
                && (&before.name, before.descriptor())
                    == (&call.name, call.descriptor())
        });
        call.began = before.map_or(call.began, |before| before.began);
        out.push(call);
    }
    out
}

/// A program may print a line in pieces. Of what it complains about the last
/// line says most.
fn without_pieces(events: &[(u64, String, What)]) -> Vec<(u64, String, What)> {
    let mut out: Vec<(u64, String, What)> = Vec::new();
    for event in events {
        let (at, who, what) = event;
        if let (
            Some((_, before, What::Complained(line))),
            What::Complained(more),
        ) = (out.last_mut(), what)
            && before == who
            && !line.text().ends_with('\n')
        {
            *line = (line.text() + &more.text()).as_bytes().into();
            continue;
        }
        let is_blank = match what {
            What::Printed(text) | What::Complained(text) => text
                .to_string()
                .trim_matches(['"', ' ', '\\', 'n'])
                .is_empty(),
            _ => false,
        };
        if is_blank {
            continue;
        }
        let goes_on = matches!(
            (out.last(), what),
            (Some((_, before, What::Complained(_))), What::Complained(_))
                if before == who
        );
        if goes_on {
            out.pop();
        }
        out.push((*at, who.clone(), what.clone()));
    }
    out
}

/// What lies in the server's queues.
fn in_the_kernel(snapshot: &Snapshot) -> Vec<String> {
    let mut lines = Vec::new();
    for socket in snapshot.sockets.iter().filter(|s| s.side == Side::Server) {
        match socket.unaccepted() {
            0 => {}
            1 => lines.push(
                "One connection is in the accept queue: the kernel has made \
                 it, the program has not accepted it."
                    .to_owned(),
            ),
            n => lines.push(format!(
                "{n} connections are in the accept queue: the kernel has made \
                 them, the program has not accepted them."
            )),
        }
        let unread = socket.unread_bytes();
        if unread > 0 {
            lines.push(format!(
                "{unread} bytes of {} have arrived, and the program has not \
                 read them.",
                socket.client
            ));
        }
        if socket.unread_fin() {
            lines.push(format!(
                "The end of what {} sends has arrived, and the program has \
                 not read it.",
                socket.client
            ));
        } else if socket.state == "CLOSE-WAIT" {
            lines.push(format!(
                "{} has sent its end; the program has not closed its own \
                 (CLOSE-WAIT).",
                socket.client
            ));
        }
    }
    lines
}

/// The same again and again is told once, and of very many calls the first.
fn shortened(events: Vec<Event>) -> Vec<Event> {
    let mut out: Vec<(Event, usize)> = Vec::new();
    for event in events {
        let same = |(other, _): &&mut (Event, usize)| {
            *other == event
                || matches!(
                    (other, &event),
                    (Event::Call { call: a, result: r, phase: Phase::Returns, who: v },
                     Event::Call { call: b, result: s, who: w, .. })
                        if (a, r, v) == (b, s, w)
                )
        };
        match out.last_mut().filter(same) {
            Some((_, times)) => *times += 1,
            None => out.push((event, 1)),
        }
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut events = Vec::new();
    for (event, times) in out {
        let who = event.who().unwrap_or_default().to_owned();
        let count = counts.entry(who.clone()).or_default();
        *count += 1;
        let waits = matches!(
            event,
            Event::Call {
                phase: Phase::Waits,
                ..
            }
        );
        if *count <= EVENTS || waits {
            events.push(event);
            if times > 1 {
                let what = match times {
                    2 => "the same once more".to_owned(),
                    _ => format!("the same {} times more", times - 1),
                };
                events.push(happens(&who, &what));
            }
        }
    }
    for (who, count) in counts {
        if count > EVENTS {
            let what = format!("and {} more", count - EVENTS);
            events.push(happens(&who, &what));
        }
    }
    events
}
