//! Looks at programs and their kernel from outside, on Linux: system calls by
//! strace, packets by tcpdump, states of sockets by a tracepoint. Packets and
//! states need root.
//!
//! All three name times in nanoseconds since 1970.

mod packets;
mod states;
pub mod strace;

pub use packets::{Capture, Packet};
pub use states::{Change, States};

/// The port to which a [`Capture`] sends its marks.
pub const MARK_PORT: u16 = 9;
