//! Changes of TCP states, by the kernel's tracepoint
//! `sock:inet_sock_set_state`; see the kernel's `Documentation/trace`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use super::strace::nanoseconds;
use crate::{Lab, Result};

const SECOND: u64 = 1_000_000_000;
/// In KiB, for each processor: other programs of this machine may make
/// thousands of connections meanwhile, and the oldest events, our mark among
/// them, would be lost first.
const BUFFER: &str = "16384";

/// An instance of tracefs, which writes down each change of state of a socket.
/// Removed on drop.
pub struct States {
    lab: Lab,
    instance: PathBuf,
    /// The kernel's clock has no leap seconds: so much is it ahead.
    ahead: u64,
    /// Locked: tracefs is one for all, also where it is mounted twice.
    _readme: File,
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub at: u64,
    /// The thread that ran then; it may have nothing to do with the socket.
    pub thread: u32,
    /// The socket's own port; 0 if `connect` has not chosen one yet.
    pub local: u16,
    /// The other end's port; 0 for a listener.
    pub remote: u16,
    /// The state that it leaves, by its name in RFC 9293.
    pub from: String,
    /// The state that it has from now on.
    pub to: String,
}

impl States {
    /// Mounts tracefs in `dir`, in a mount namespace of our own, and begins:
    /// with the sockets that have `port` at one of their ends, or with all.
    /// The kernel tells of the sockets of all namespaces, so that one process
    /// at a time does this: blocks until others have ended.
    ///
    /// # Errors
    /// Without root, or in a kernel without tracefs.
    pub fn start(lab: &Lab, dir: &Path, port: Option<u16>) -> Result<Self> {
        let begin = || -> io::Result<(PathBuf, File)> {
            let tracefs = dir.join("tracing");
            fs::create_dir(&tracefs)?;
            let mount = Command::new("mount")
                .args(["-t", "tracefs", "tracefs"])
                .arg(&tracefs)
                .output()?;
            if !mount.status.success() {
                let said = String::from_utf8_lossy(&mount.stderr);
                return Err(io::Error::other(said.into_owned()));
            }
            let readme = File::open(tracefs.join("README"))?;
            readme.lock()?;
            let instance = tracefs.join("instances/sockets-in-rust");
            // What a run left behind that was killed.
            let _ = fs::remove_dir(&instance);
            fs::create_dir(&instance)?;
            let event = instance.join("events/sock/inet_sock_set_state");
            fs::write(instance.join("trace_clock"), "tai")?;
            fs::write(instance.join("buffer_size_kb"), BUFFER)?;
            if let Some(port) = port {
                let filter = format!("sport == {port} || dport == {port}");
                fs::write(event.join("filter"), filter)?;
            }
            fs::write(event.join("enable"), "1")?;
            Ok((instance, readme))
        };
        let (instance, readme) = begin()
            .map_err(|error| lab.failure("tracefs", "begin a trace", error))?;
        let mut states = Self {
            lab: lab.clone(),
            instance,
            ahead: 0,
            _readme: readme,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_nanos() as u64);
        let text = states.marked()?;
        let at = text.lines().next_back().and_then(time).unwrap_or(now);
        states.ahead = (at.saturating_sub(now) + SECOND / 2) / SECOND * SECOND;
        Ok(states)
    }

    /// Writes a mark, and gives the changes between it and the mark before,
    /// which is how often this was called.
    ///
    /// # Errors
    /// The trace cannot be read.
    pub fn until_mark(&self, before: usize) -> Result<Vec<Change>> {
        let text = self.marked()?;
        let lines: Vec<_> =
            text.lines().filter(|line| !line.starts_with('#')).collect();
        // The first mark is that of the start.
        let acts = lines.split(|line| line.contains(MARK));
        Ok(acts
            .skip(before + 1)
            .take(1)
            .flatten()
            .filter_map(|line| self.change(line))
            .collect())
    }

    fn marked(&self) -> Result<String> {
        fs::write(self.instance.join("trace_marker"), "mark")
            .and_then(|()| fs::read_to_string(self.instance.join("trace")))
            .map_err(|e| self.lab.failure("tracefs", "keep a trace", e))
    }

    /// `server-17796 [001] ..s2. 1795621863.939467: inet_sock_set_state:
    /// family=AF_INET ... sport=9006 dport=0 ... newstate=TCP_LISTEN`.
    fn change(&self, line: &str) -> Option<Change> {
        let value = |name: &str| {
            let (_, rest) = line.split_once(&format!(" {name}="))?;
            rest.split(' ').next()
        };
        let (task, _) = line.split_once(" [")?;
        Some(Change {
            at: time(line)?.checked_sub(self.ahead)?,
            thread: task.rsplit_once('-')?.1.trim().parse().ok()?,
            local: value("sport")?.parse().ok()?,
            remote: value("dport")?.parse().ok()?,
            from: state(value("oldstate")?)?.to_owned(),
            to: state(value("newstate")?)?.to_owned(),
        })
    }
}

impl Drop for States {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.instance);
        // Lazily: whoever removes the folder must not find tracefs in it.
        let mount = self.instance.ancestors().nth(2);
        let unmount = mount
            .map(|mount| Command::new("umount").arg("-l").arg(mount).status());
        let _ = unmount;
    }
}

const MARK: &str = ": tracing_mark_write: ";

fn time(line: &str) -> Option<u64> {
    let mut words = line.split_whitespace();
    words.find_map(|word| nanoseconds(word.strip_suffix(':')?))
}

fn state(name: &str) -> Option<&'static str> {
    Some(match name.strip_prefix("TCP_")? {
        "ESTABLISHED" => "ESTABLISHED",
        "SYN_SENT" => "SYN-SENT",
        "SYN_RECV" => "SYN-RECEIVED",
        "FIN_WAIT1" => "FIN-WAIT-1",
        "FIN_WAIT2" => "FIN-WAIT-2",
        "TIME_WAIT" => "TIME-WAIT",
        "CLOSE" => "CLOSED",
        "CLOSE_WAIT" => "CLOSE-WAIT",
        "LAST_ACK" => "LAST-ACK",
        "LISTEN" => "LISTEN",
        "CLOSING" => "CLOSING",
        _ => return None,
    })
}
