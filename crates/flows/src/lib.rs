//! Figures that are recordings.
//!
//! A scenario ([`scenarios`]) plays a lesson's real programs. Whenever all of
//! them wait, the kernel's tables are read; strace gives the calls between.
//! That is the recording, a [`Flow`], kept as JSON in `docs/flows`. From it
//! [`html`] makes the figure, which a page includes.
//!
//! What nobody can look at is deduced: packets, and states that end before
//! the next reading. It is kept apart from what was seen, is drawn dashed,
//! and names the document that it follows from. What is left out: calls that
//! only ask (`getsockname`), writing to the screen, and the ACK of a segment
//! that another label already mentions. The programs run on ports that the
//! kernel chooses; the figures show 9006 and 50001, 50002, ...

pub mod draw;
mod flow;
pub mod html;
mod play;
pub mod scenarios;
pub mod states;
mod strace;

pub use flow::{
    Actor, Event, Flow, Phase, Reading, Side, Socket, Step, Waiting, folder,
};
pub use play::{Calls, Play};
pub use strace::is_there as strace_is_there;
