//! Packets and changes of state during a check, seen as root: with the feature
//! `packets` only, whose crates a learner need not build. Without it, or
//! without root, nothing is here.

use flows::merge::{Cause, Effect, Ports};
use flows::{Event, Side, Snapshot, Socket};

/// What was seen of a check: packets, and changes of state, behind the first
/// moment and up to the second.
pub(crate) type Wire = Box<dyn Fn(u64, u64, &Ports) -> Vec<Effect>>;

/// For each client and side a cause at the beginning of an act: whatever has
/// no other one, such as the end of a client that the checker has dropped,
/// stands behind it.
pub(crate) fn beginnings(at: u64, clients: &[&String]) -> Vec<Cause> {
    let beginning = |client: &String, side| Cause {
        at,
        ended: at,
        side,
        client: client.clone(),
        sends: true,
        event: Event::Happens {
            who: String::new(),
            what: String::new(),
        },
    };
    let none = String::new();
    let all = clients.iter().copied().chain([&none]);
    all.flat_map(|client| {
        [Side::Client, Side::Server].map(|side| beginning(client, side))
    })
    .collect()
}

/// Whether an event is one of [`beginnings`], or only acknowledges: when that
/// comes says nothing here. Or the kernel calls a socket closed of which it
/// keeps a row in its table, so that nobody else sees a difference.
pub(crate) fn is_silent(event: &Event, snapshot: &Snapshot) -> bool {
    match event {
        Event::Happens { who, .. } => who.is_empty(),
        Event::State {
            client,
            side,
            from,
            state,
            ..
        } => {
            let is_kept = |row: &Socket| {
                (row.side, &row.client, &row.state) == (*side, client, from)
            };
            state == "CLOSED" && snapshot.sockets.iter().any(is_kept)
        }
        event => event.is_pure_ack(),
    }
}

pub(crate) use recorded::Recording;
pub use recorded::in_own_namespaces;

#[cfg(not(feature = "packets"))]
mod recorded {
    use anyhow::Result;

    use super::Wire;

    /// Does nothing without the feature `packets`.
    ///
    /// # Errors
    /// None.
    pub fn in_own_namespaces() -> Result<Option<std::process::ExitStatus>> {
        Ok(None)
    }

    pub(crate) enum Recording {}

    impl Recording {
        pub(crate) fn start() -> Result<Option<Self>> {
            Ok(None)
        }

        pub(crate) fn wire(&self) -> Result<Wire> {
            match *self {}
        }
    }
}

#[cfg(feature = "packets")]
mod recorded {
    use std::env;
    use std::process::{Command, ExitStatus};

    use anyhow::Result;
    use harness::trace::{Capture, States};
    use harness::{Lab, Scratch};

    use super::Wire;

    /// Set where nobody else sends packets, and tracefs can be mounted without
    /// being seen by others.
    const OWN_NAMESPACES: &str = "COURSE_OWN_NAMESPACES";

    /// Runs this command once more in namespaces of its own: a network with
    /// nothing but a loopback interface, and mounts. `None` if this is there
    /// already, or not root.
    ///
    /// # Errors
    /// It is not known where this program is.
    pub fn in_own_namespaces() -> Result<Option<ExitStatus>> {
        let is_root = nix::unistd::geteuid().is_root();
        if !is_root || env::var_os(OWN_NAMESPACES).is_some() {
            return Ok(None);
        }
        let status = Command::new("unshare")
            .args(["--net", "--mount", "--", "sh", "-c", LOOPBACK])
            .arg(env::current_exe()?)
            .args(env::args_os().skip(1))
            .env(OWN_NAMESPACES, "1")
            .env("CARGO_NET_OFFLINE", "true")
            .status();
        // Without unshare there is a figure without packets: it says so.
        Ok(status.ok())
    }

    const LOOPBACK: &str = "ip link set lo up && exec \"$0\" \"$@\"";

    /// Packets and changes of state, while they are recorded.
    pub(crate) struct Recording {
        capture: Capture,
        states: States,
        /// Dropped last: the others have files in it.
        _folder: Scratch,
    }

    impl Recording {
        /// Begins; `None` where [`in_own_namespaces`] has not led.
        ///
        /// # Errors
        /// tcpdump or tracefs is missing.
        pub(crate) fn start() -> Result<Option<Self>> {
            if env::var_os(OWN_NAMESPACES).is_none() {
                return Ok(None);
            }
            let lab = Lab::new();
            let folder = Scratch::new(&env::temp_dir(), "course-packets")?;
            Ok(Some(Self {
                capture: Capture::start(&lab, folder.path())?,
                states: States::start(&lab, folder.path(), None)?,
                _folder: folder,
            }))
        }

        /// What was seen up to now.
        ///
        /// # Errors
        /// It cannot be read.
        pub(crate) fn wire(&self) -> Result<Wire> {
            let packets = self.capture.until_mark(0)?;
            let changes = self.states.until_mark(0)?;
            Ok(Box::new(move |from, to, ports| {
                let is_then = |at: u64| (from + 1..=to).contains(&at);
                let packets = packets.iter().filter(|p| is_then(p.at));
                let packets = packets.filter_map(|p| ports.packet(p.clone()));
                let changes = changes.iter().filter(|c| is_then(c.at));
                let changes =
                    changes.filter_map(|c| ports.change(c.clone(), None));
                packets.chain(changes).collect()
            }))
        }
    }
}
