//! The calls of a program, as strace writes them, from one rest to the next.

use std::collections::BTreeMap;

use harness::trace::strace::{Call, Trace};

use crate::merge::{Cause, Ports};
use crate::{Event, Phase, Side};

/// The calls that make the kernel send something, or change a state.
const SENDS: [&str; 9] = [
    "connect", "listen", "sendto", "shutdown", "close", "write", "writev",
    "sendmsg", "sendmmsg",
];

/// How much of a program's traces was told.
pub struct Calls {
    name: String,
    side: Side,
    /// What its threads are called, beside the main one, in the order of
    /// their first call; otherwise they are numbered.
    names: Vec<String>,
    threads: BTreeMap<u32, Thread>,
    accepted: Vec<Accepted>,
}

struct Thread {
    name: String,
    calls: usize,
    waits: bool,
    ended: bool,
}

/// Whose connection a descriptor is, and since when.
struct Accepted {
    descriptor: String,
    since: u64,
    peer: u16,
}

impl Calls {
    /// Nothing was told yet of the program `name`.
    pub fn new(name: &str, side: Side, names: &[String]) -> Self {
        Self {
            name: name.to_owned(),
            side,
            names: names.to_vec(),
            threads: BTreeMap::new(),
            accepted: Vec::new(),
        }
    }

    /// Whether a thread is one of its own.
    pub fn has(&self, thread: u32) -> bool {
        self.threads.contains_key(&thread)
    }

    /// What was called, or came back, since the last time; and who ended.
    pub fn next(
        &mut self,
        main: u32,
        traces: &[Trace],
        ports: &Ports,
    ) -> Vec<Cause> {
        let calls = traces.iter().flat_map(|trace| &trace.calls);
        let accepts = calls.filter(|call| call.name.starts_with("accept"));
        self.accepted = accepts.filter_map(accepted).collect();
        let mut causes = Vec::new();
        for trace in traces.iter().filter(|trace| !trace.calls.is_empty()) {
            let mut thread = match self.threads.remove(&trace.thread) {
                Some(thread) => thread,
                None => self.thread(trace.thread == main),
            };
            let cause = |at, ended, client, sends, event| Cause {
                at,
                ended,
                side: self.side,
                client,
                sends,
                event,
            };
            let first = thread.calls - usize::from(thread.waits);
            for (index, call) in trace.calls.iter().enumerate().skip(first) {
                let (phase, at) = match (index < thread.calls, call.ended) {
                    (true, None) => continue,
                    (true, Some(ended)) => (Phase::Returns, ended),
                    (false, None) => (Phase::Waits, call.began),
                    (false, Some(_)) => (Phase::Whole, call.began),
                };
                let event = Event::Call {
                    who: thread.name.clone(),
                    call: call.shown(),
                    result: call.shown_result(),
                    phase,
                };
                let sends = SENDS.contains(&call.name.as_str());
                let client = self.client(call, ports);
                let ended = call.ended.unwrap_or(at);
                causes.push(cause(at, ended, client, sends, event));
            }
            thread.calls = trace.calls.len();
            thread.waits = trace.calls.iter().any(|c| c.ended.is_none());
            if let Some((at, how)) =
                trace.end.as_ref().filter(|_| !thread.ended)
            {
                thread.ended = true;
                let what = match how.strip_prefix("exited with ") {
                    Some("0") => "exits".to_owned(),
                    Some(code) => format!("exits with code {code}"),
                    None if how == "killed by SIGKILL" => {
                        "is killed".to_owned()
                    }
                    None => format!("is {how}"),
                };
                let who = thread.name.clone();
                let event = Event::Happens { who, what };
                causes.push(cause(*at, *at, String::new(), false, event));
            }
            self.threads.insert(trace.thread, thread);
        }
        causes
    }

    fn thread(&self, is_main: bool) -> Thread {
        let threads = self.threads.values();
        let others = threads.filter(|thread| thread.name != self.name).count();
        let name = match is_main {
            true => self.name.clone(),
            false => match self.names.get(others) {
                Some(name) => name.clone(),
                None => format!("thread {}", others + 1),
            },
        };
        Thread {
            name,
            calls: 0,
            waits: false,
            ended: false,
        }
    }

    /// The client of the connection that a call is about; empty for a server's
    /// own socket.
    fn client(&self, call: &Call, ports: &Ports) -> String {
        if self.side == Side::Client {
            return self.name.clone();
        }
        let held = self.accepted.iter().filter(|accepted| {
            accepted.descriptor == call.descriptor()
                && accepted.since <= call.began
        });
        let held = held.max_by_key(|accepted| accepted.since);
        let peer = call
            .address()
            .map(|address| address.port())
            .filter(|port| ports.clients.contains_key(port))
            .or(held.map(|accepted| accepted.peer))
            .or(call.peer());
        let client = peer.and_then(|peer| ports.clients.get(&peer));
        client.cloned().unwrap_or_default()
    }
}

fn accepted(call: &Call) -> Option<Accepted> {
    Some(Accepted {
        descriptor: call.number()?,
        since: call.ended?,
        peer: call.address()?.port(),
    })
}
