//! The scenarios: which programs, what is typed, when the tables are read,
//! and the words for each step.

use anyhow::Result;

use crate::{Calls, Flow, Play};

mod common;
mod l01;
mod l02;
mod l03;
mod l04;
mod l05;
mod l06;
pub mod words;

/// A scenario: its name, and how it is played.
#[derive(Debug)]
pub struct Scenario {
    /// The name of its files, such as `01-conversation`.
    pub name: &'static str,
    /// What the figure is called.
    pub title: &'static str,
    /// One or two sentences for a reader who cannot see the figure.
    pub summary: &'static str,
    play: fn(&mut Play) -> Result<()>,
}

/// All scenarios, in the order of the book.
pub const ALL: &[Scenario] = &[
    l01::CONVERSATION,
    l01::SECOND_CLIENT,
    l01::UNREAD,
    l02::CLIENT_FIRST,
    l02::SERVER_FIRST,
    l02::REUSE,
    l03::THREE_CLIENTS,
    l04::FIVE_CLIENTS,
    l05::DATAGRAMS,
    l05::NOBODY,
    l06::OVER_TCP,
    l06::OVER_UDP,
];

impl Scenario {
    /// Plays it with the lesson's programs, which are built first if need be.
    ///
    /// # Errors
    /// The programs do something else than the scenario tells.
    pub fn record(&self, calls: Calls) -> Result<Flow> {
        let mut play = Play::new(self.name, self.title, self.summary, calls)?;
        (self.play)(&mut play)?;
        Ok(play.finish())
    }
}
