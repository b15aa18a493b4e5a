//! What a figure shows: who takes part, and what happens, step by step.
//!
//! Everything in it was seen: calls by strace, packets by tcpdump, states by
//! the kernel's tracepoint `sock:inet_sock_set_state`, and the kernel's tables
//! when everybody waited. Deduced are three things. Which of two threads was
//! first: each has its own order, and the scenario says whose call is told
//! first. Which call a packet or a state belongs to: it stands behind the one
//! that caused it, the last of that end before it. And where a state begins
//! that Linux does not report then: see [`Seen`].
//!
//! An act is what happens between two rests; it ends with a step that has a
//! [`Snapshot`].

use std::collections::BTreeSet;
use std::fmt;

#[cfg(feature = "record")]
use serde::{Deserialize, Serialize};

/// One scenario, recorded, with its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The name of its files, such as `01-conversation`.
    pub name: String,
    /// What the figure is called.
    pub title: String,
    /// One or two sentences for a reader who cannot see the figure.
    pub summary: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Who takes part, the server's programs and threads last.
    pub actors: Vec<Actor>,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// A program, or a thread of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// How the steps name it.
    pub name: String,
    /// The program that it is, or belongs to, as the snapshots name it.
    pub program: String,
    /// Which side of the figure it stands on.
    pub side: Side,
}

/// The two sides of the figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "record", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "record", serde(rename_all = "lowercase"))]
pub enum Side {
    /// On the left.
    Client,
    /// On the right.
    Server,
}

impl Side {
    /// The side across the wire.
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// What the player shows at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// A few words.
    pub title: String,
    /// What happens, and why.
    pub text: String,
    /// The lines of the programs that make its calls, each once, in order.
    pub code: Vec<Code>,
    /// What is drawn.
    pub events: Vec<Event>,
    /// What the kernel's tables said, if everybody was waiting here.
    pub snapshot: Option<Snapshot>,
    /// Whether a check fails here: the figure is opened at this step.
    pub fails: bool,
}

/// A line of a program, and how Python would write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// The actor's name.
    pub who: String,
    /// The first call that it makes, such as `socket`.
    pub call: String,
    /// The line of Rust; empty if no line does it, such as an end of a scope.
    pub rust: String,
    /// The line of Python.
    pub python: String,
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "record", serde(tag = "kind", rename_all = "lowercase"))]
pub enum Event {
    /// A system call.
    Call {
        /// The actor's name.
        who: String,
        /// The call and its arguments, as C would write them.
        call: String,
        /// What it returned; empty if it has not returned yet.
        #[cfg_attr(
            feature = "record",
            serde(default, skip_serializing_if = "String::is_empty")
        )]
        result: String,
        /// Whether it waits from here on, or comes back from a wait.
        phase: Phase,
    },
    /// What a person did, or how a program or a thread ended.
    Happens {
        /// The actor's name.
        who: String,
        /// A few words.
        what: String,
    },
    /// A packet. What stands behind a call or something that happens, up to
    /// the next, was caused by it.
    Packet {
        /// The client at its one end.
        client: String,
        /// The side that it comes from.
        from: Side,
        /// `SYN, ACK` and the like; `UDP`; `ICMP: port unreachable`.
        flags: String,
        /// How many bytes of data it carries.
        #[cfg_attr(
            feature = "record",
            serde(default, skip_serializing_if = "is_zero")
        )]
        bytes: usize,
        /// TCP's sequence number, counted from this end's SYN.
        #[cfg_attr(
            feature = "record",
            serde(default, skip_serializing_if = "Option::is_none")
        )]
        seq: Option<u32>,
        /// TCP's acknowledgement number, counted from the other end's SYN.
        #[cfg_attr(
            feature = "record",
            serde(default, skip_serializing_if = "Option::is_none")
        )]
        ack: Option<u32>,
    },
    /// A socket changes its state.
    State {
        /// The client at the one end of the connection; empty for a listener.
        #[cfg_attr(
            feature = "record",
            serde(default, skip_serializing_if = "String::is_empty")
        )]
        client: String,
        /// The side whose socket has this state.
        side: Side,
        /// The name in RFC 9293 of the state that it leaves. The server's end
        /// of a connection comes out of `LISTEN`.
        from: String,
        /// The name of the state that it has from now on.
        state: String,
        /// Whether it was seen where it happens.
        #[cfg_attr(
            feature = "record",
            serde(default, skip_serializing_if = "Seen::is_there")
        )]
        seen: Seen,
    },
}

/// Whether a change of state was seen where it happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "record", serde(rename_all = "lowercase"))]
pub enum Seen {
    /// There.
    #[default]
    There,
    /// Too late. SYN-RECEIVED begins with the SYN, but Linux keeps no socket
    /// for it, and tells of it only with the third segment.
    Late,
    /// In the table. Linux frees the socket, which the tracepoint calls
    /// closed, and keeps a row in TIME-WAIT.
    Table,
}

#[cfg(feature = "record")]
impl Seen {
    fn is_there(&self) -> bool {
        *self == Self::There
    }
}

#[cfg(feature = "record")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// How much of a call a step sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "record", serde(rename_all = "lowercase"))]
pub enum Phase {
    /// It begins and ends in this step.
    Whole,
    /// It begins here and waits.
    Waits,
    /// It began in an earlier step and ends here.
    Returns,
}

/// The kernel's tables, read while everybody waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(Serialize, Deserialize))]
pub struct Snapshot {
    /// Who waits, and in which call.
    pub waiting: Vec<Waiting>,
    /// The sockets, the server's listener first.
    pub sockets: Vec<Socket>,
}

/// An actor that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(Serialize, Deserialize))]
pub struct Waiting {
    /// The actor's name.
    pub who: String,
    /// The call, such as `accept4(3)`.
    pub call: String,
}

/// A row of `/proc/net/tcp` or `udp`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "record", derive(Serialize, Deserialize))]
pub struct Socket {
    /// The side whose kernel keeps it.
    pub side: Side,
    /// The client at the one end; empty for a listener or a server's UDP
    /// socket.
    #[cfg_attr(
        feature = "record",
        serde(default, skip_serializing_if = "String::is_empty")
    )]
    pub client: String,
    /// This end's address.
    pub local: String,
    /// The other end's address; `0.0.0.0:*` if there is none.
    pub peer: String,
    /// The state's name in RFC 9293; `UNCONN` or `ESTABLISHED` for UDP.
    pub state: String,
    /// As the table has it: bytes to be read, or connections to be accepted.
    pub receive_queue: usize,
    /// As the table has it: bytes not yet acknowledged.
    pub send_queue: usize,
    /// For a listener: the length that `listen` asked for. Not in the table.
    #[cfg_attr(
        feature = "record",
        serde(default, skip_serializing_if = "Option::is_none")
    )]
    pub backlog: Option<usize>,
}

impl Socket {
    /// Whether the peer's FIN has come: then it counts in the queue until it
    /// is read.
    fn has_fin(&self) -> bool {
        ["CLOSE-WAIT", "LAST-ACK", "CLOSING", "TIME-WAIT"]
            .contains(&self.state.as_str())
    }

    /// The bytes that can be read. An unread FIN is the last thing in the
    /// queue, and the table counts it as one byte, which it is not.
    pub fn unread_bytes(&self) -> usize {
        match self.state.as_str() {
            "LISTEN" => 0,
            _ if self.has_fin() => self.receive_queue.saturating_sub(1),
            _ => self.receive_queue,
        }
    }

    /// Whether a FIN waits to be read.
    pub fn unread_fin(&self) -> bool {
        self.has_fin() && self.receive_queue > 0
    }

    /// The connections that nobody has accepted yet.
    pub fn unaccepted(&self) -> usize {
        match self.state.as_str() {
            "LISTEN" => self.receive_queue,
            _ => 0,
        }
    }

    /// The row as ss(8) prints it, below [`SS_HEAD`].
    pub fn ss(&self) -> String {
        let state = match self.state.as_str() {
            "ESTABLISHED" => "ESTAB",
            "SYN-RECEIVED" => "SYN-RECV",
            state => state,
        };
        let send = self.backlog.unwrap_or(self.send_queue);
        format!(
            "{state:<10} {:<6} {send:<6} {:>20} {:>22}",
            self.receive_queue, self.local, self.peer
        )
    }
}

/// The heads of the columns of [`Socket::ss`].
pub const SS_HEAD: &str =
    "State      Recv-Q Send-Q   Local Address:Port      Peer Address:Port";

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

/// As a sentence without its subject, such as `calls listen(3, 128) = 0`.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call {
                call,
                result,
                phase,
                ..
            } => match phase {
                Phase::Whole => write!(f, "calls {call} = {result}"),
                Phase::Waits => write!(f, "calls {call}, and waits"),
                Phase::Returns => write!(f, "returns from {call} = {result}"),
            },
            Self::Happens { what, .. } => f.write_str(what),
            Self::Packet {
                flags,
                bytes,
                seq,
                ack,
                ..
            } => {
                write!(f, "{flags}")?;
                for (name, number) in [("seq", seq), ("ack", ack)] {
                    if let Some(number) = number {
                        write!(f, ", {name} {number}")?;
                    }
                }
                write!(f, ", {bytes} bytes")
            }
            Self::State { from, state, .. } => write!(f, "{from} to {state}"),
        }
    }
}

impl Event {
    /// The actor that it is about, if one is.
    pub fn who(&self) -> Option<&str> {
        match self {
            Self::Call { who, .. } | Self::Happens { who, .. } => Some(who),
            Self::Packet { .. } | Self::State { .. } => None,
        }
    }

    /// Whether it is a segment that does nothing but acknowledge. When it
    /// comes, and whether, differs from run to run.
    pub fn is_pure_ack(&self) -> bool {
        matches!(self, Self::Packet { flags, bytes: 0, .. } if flags == "ACK")
    }
}

impl Flow {
    /// The side of a program.
    pub fn side(&self, program: &str) -> Side {
        let actor = self.actors.iter().find(|a| a.program == program);
        actor.map_or(Side::Server, |actor| actor.side)
    }

    /// How many programs take part on a side.
    pub fn programs(&self, side: Side) -> usize {
        let actors = self.actors.iter().filter(|a| a.side == side);
        actors.map(|a| &a.program).collect::<BTreeSet<_>>().len()
    }

    /// The kernel's tables, in order.
    pub fn snapshots(&self) -> Vec<&Snapshot> {
        let steps = self.steps.iter();
        steps.filter_map(|step| step.snapshot.as_ref()).collect()
    }
}
