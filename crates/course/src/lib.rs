//! The checker of the exercises: `cargo course`.
//!
//! A check is a script of steps (`scripts`). It meets a program from outside
//! only, over its standard streams, TCP and UDP, so the program may be written
//! in any language. What goes wrong is a [`Diagnosis`]; what it means is said
//! by a section of the book ([`Section`]), and by nothing else.

mod acts;
mod check;
mod diagnosis;
mod exercise;
mod figure;
pub mod grade;
mod mistake;
mod page;
mod recorder;
mod report;
mod scripts;
mod seen;
mod show;
mod wire;
mod words;

pub use check::{Options, Origin, Report, Skipped, Target, check};
pub use diagnosis::Diagnosis;
pub use exercise::{
    Build, Exercise, exercises, find, find_original, spare_files,
};
pub use harness::BuildError;
pub use mistake::{Mistake, write_mistakes};
pub use page::{Section, section};
pub use report::Results;
pub use seen::{APPETIZERS, Seen, appetizer, see};
pub use show::{place, sentence, show, state, summary};
pub use wire::in_own_namespaces;
