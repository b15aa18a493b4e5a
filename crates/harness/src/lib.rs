//! Starts a program, talks to it with deadlines, and remembers what was seen.
//!
//! The tests of the lessons, the checker of the exercises and the benchmarks
//! all meet a program from outside only: over its standard input and output,
//! TCP and UDP. They do so through a [`Lab`]:
//!
//! ```no_run
//! # fn main() -> Result<(), harness::Failure> {
//! let lab = harness::Lab::new();
//! let server = harness::binary("lesson-03-threaded", "lesson-03-threaded")?;
//! let mut server = lab.start("server", &server, &["127.0.0.1:0"])?;
//! let mut a = lab.connect("a", server.wait_until_listening()?)?;
//! a.send("hello\n")?;
//! a.expect("hello\n")?;
//! # Ok(())
//! # }
//! ```
//!
//! Every wait ends on an event or at the lab's deadline, and nothing here
//! sleeps. What goes wrong is a [`Failure`]: who waited for what, the
//! [`Fault`] that came instead, and the [`Timeline`] up to then.
//! A program is killed and waited for when its [`Program`] is dropped; one that
//! was started in a group, with all that it started itself.

mod build;
mod fault;
mod group;
mod lab;
mod listener;
#[cfg(target_os = "linux")]
pub mod namespace;
mod peer;
pub mod proc;
mod program;
mod scratch;
mod server;
mod side_by_side;
pub mod strace;
pub mod tasks;
mod timeline;
pub mod trace;
mod transcript;
mod udp;

pub use build::{
    BuildError, binaries, binary, build, example, note_edit, root,
};
pub use fault::{Failure, Fault, Result};
pub use group::kill_all_groups;
pub use lab::Lab;
pub use listener::Listener;
pub use peer::Peer;
pub use program::{Ending, Program, takes_ctrl_c};
pub use scratch::Scratch;
pub use server::{
    bad_addresses, bytes, can_open, has_ipv6, joined, lines,
    raise_descriptor_limit,
};
pub use side_by_side::side_by_side;
pub use timeline::{Event, Moment, Observer, Timeline, What, quote};
pub use transcript::Transcript;
pub use udp::{UdpPeer, UdpServer};
