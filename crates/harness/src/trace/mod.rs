//! Looks at programs and their kernel from outside, on Linux: system calls by
//! strace, packets by tcpdump, states of sockets by a tracepoint. Packets and
//! states need root.
//!
//! All three name times in nanoseconds since 1970.

#[cfg(feature = "capture")]
mod packets;
#[cfg(feature = "capture")]
mod states;
pub mod strace;

#[cfg(feature = "capture")]
pub use packets::{Capture, Packet};
#[cfg(feature = "capture")]
pub use states::{Change, States};
