//! What a recording holds: the JSON files in `docs/flows`.
//!
//! Two kinds of facts stand side by side, and never look alike. *Seen* are
//! the calls, which strace printed, and the readings of the kernel's tables.
//! *Deduced* are packets, and states that end before anybody can look; each
//! of these names the document that it follows from.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// One scenario, recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// How the steps name it.
    pub name: String,
    /// The program that it is, or belongs to, as the readings name it.
    pub program: String,
    /// Which side of the figure it stands on.
    pub side: Side,
}

/// The two sides of the figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// On the left.
    Client,
    /// On the right.
    Server,
}

/// What the player shows at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// A few words.
    pub title: String,
    /// What happens, and why.
    pub text: String,
    /// The line of Rust that does it; empty if no program does anything.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rust: String,
    /// The same in Python.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub python: String,
    /// What is drawn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
    /// What the kernel's tables said, if everybody was waiting here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading: Option<Reading>,
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Event {
    /// Seen: a system call.
    Call {
        /// The actor's name.
        who: String,
        /// The call and its arguments, as C would write them.
        call: String,
        /// What it returned; empty if it has not returned yet.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        result: String,
        /// Whether it waits from here on, or comes back from a wait.
        phase: Phase,
    },
    /// Seen: what a person did, or how a program ended.
    Act {
        /// The actor's name.
        who: String,
        /// A few words.
        what: String,
    },
    /// Deduced: a packet.
    Packet {
        /// The client at its one end.
        client: String,
        /// The side that it comes from.
        from: Side,
        /// Its flags, and what it carries.
        label: String,
        /// Where it says that this packet must have been sent.
        deduced: String,
    },
    /// Deduced: a state that ends before anybody can look.
    Passes {
        /// The client at the one end of the connection; empty for a listener.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        client: String,
        /// The side whose socket has this state.
        side: Side,
        /// The state's name in RFC 9293, or a few words.
        state: String,
        /// Where it says that the socket must have passed this state.
        deduced: String,
    },
}

/// How much of a call a step sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It begins and ends in this step.
    Whole,
    /// It begins here and waits.
    Waits,
    /// It began in an earlier step and ends here.
    Returns,
}

/// The kernel's tables, read while everybody waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Who waits, and in which call.
    pub waiting: Vec<Waiting>,
    /// The sockets, the server's listener first.
    pub sockets: Vec<Socket>,
}

/// An actor that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The actor's name.
    pub who: String,
    /// The call, such as `accept4(3)`.
    pub call: String,
}

/// A row of `/proc/net/tcp` or `udp`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// The side whose kernel keeps it.
    pub side: Side,
    /// The client at the one end; empty for a listener or a server's UDP
    /// socket.
    #[serde(default, skip_serializing_if = "String::is_empty")]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
}

/// The folder of the recordings and the figures.
pub fn folder() -> PathBuf {
    let folder = harness::root().join("docs/flows");
    folder.canonicalize().unwrap_or(folder)
}

impl Flow {
    /// Where the recording of the scenario `name` is kept.
    pub fn path(name: &str) -> PathBuf {
        folder().join(format!("{name}.json"))
    }

    /// Reads the recording of the scenario `name`.
    ///
    /// # Errors
    /// There is none, or it is not a recording.
    pub fn load(name: &str) -> Result<Self> {
        let path = Self::path(name);
        let text = fs::read_to_string(&path).with_context(|| {
            format!(
                "cannot read {}: write it with `cargo run -p flows -- record \
                 {name}`",
                path.display()
            )
        })?;
        serde_json::from_str(&text)
            .with_context(|| format!("{} is no recording", path.display()))
    }

    /// The text of its file.
    ///
    /// # Errors
    /// None that a recording can cause.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

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

    /// The readings of the kernel's tables, in order.
    pub fn readings(&self) -> Vec<&Reading> {
        let steps = self.steps.iter();
        steps.filter_map(|step| step.reading.as_ref()).collect()
    }
}
