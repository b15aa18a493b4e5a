//! Figures that are recordings.
//!
//! A scenario ([`scenario`]) runs a lesson's real programs. Whenever all of
//! them wait, the kernel's tables are read; strace gives the calls between,
//! tcpdump the packets, and a tracepoint the changes of state ([`recorder`]).
//! That is the [`recording`]. With the scenario's words it is a [`Flow`], and
//! from it [`html`] makes the figure, which a page includes.

pub mod calls;
#[cfg(feature = "record")]
pub mod compare;
mod flow;
pub mod html;
pub mod merge;
#[cfg(feature = "record")]
pub mod narrate;
mod picture;
#[cfg(feature = "record")]
pub mod recorder;
#[cfg(feature = "record")]
pub mod recording;
#[cfg(feature = "record")]
pub mod scenario;

pub use flow::{
    Actor, Code, Event, Flow, Phase, SS_HEAD, Seen, Side, Snapshot, Socket,
    Step, Waiting,
};
#[cfg(feature = "record")]
pub use recording::folder;

/// The scenario `name`, as it was recorded.
///
/// # Errors
/// There is none, or its recording does not fit it.
#[cfg(feature = "record")]
pub fn load(name: &str) -> anyhow::Result<Flow> {
    let scenario = scenario::Scenario::load(name)?;
    let path = recording::Recording::path(name);
    narrate::narrate(&scenario, &recording::Recording::load(&path)?)
}

/// All of them, in the order of the book.
#[cfg(feature = "record")]
pub fn all() -> anyhow::Result<Vec<Flow>> {
    scenario::names()?.iter().map(|name| load(name)).collect()
}

/// The figure of each scenario: its file, and its text.
#[cfg(feature = "record")]
pub fn figures() -> anyhow::Result<Vec<(std::path::PathBuf, String)>> {
    let place = |flow: Flow| {
        let file = format!("{}.html", flow.name);
        (folder().join(file), html::figure(&flow))
    };
    Ok(all()?.into_iter().map(place).collect())
}
