//! Builds the book, and keeps what mdBook complained about.
//!
//! The version of mdBook is the one that `Cargo.lock` pins, so that reading
//! the book needs nothing but the Rust toolchain. `book.toml` stays the only
//! configuration: a plain `mdbook serve` shows the same pages.

use std::{
    fmt::{Debug, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result, ensure};
use mdbook_driver::{MDBook, config::Config};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// A book that was built.
#[derive(Debug)]
pub struct Built {
    /// The folder that holds `index.html`.
    pub destination: PathBuf,
    /// What mdBook warned about, errors that it carried on after included,
    /// in order.
    pub warnings: Vec<String>,
}

/// Builds the book whose `book.toml` is in `root`, where that file says.
///
/// # Errors
///
/// There is no `book.toml`, it is wrong, a page that `SUMMARY.md` names is
/// missing, or the pages cannot be written.
pub fn build(root: &Path) -> Result<Built> {
    let config = read_config(root)?;
    build_with(root, config)
}

/// Like [`build`], into the folder `destination`, which is emptied first.
pub fn build_into(root: &Path, destination: &Path) -> Result<Built> {
    let mut config = read_config(root)?;
    config.build.build_dir = std::path::absolute(destination)?;
    build_with(root, config)
}

fn read_config(root: &Path) -> Result<Config> {
    let file = root.join("book.toml");
    ensure!(
        file.is_file(),
        "there is no book.toml in {}: give the folder that holds it",
        root.display()
    );
    Config::from_disk(&file)
        .with_context(|| format!("cannot read {}", file.display()))
}

fn build_with(root: &Path, config: Config) -> Result<Built> {
    let warnings = Warnings::default();
    let destination =
        tracing::subscriber::with_default(warnings.clone(), || {
            let book = MDBook::load_with_config(root, config)?;
            book.build()?;
            anyhow::Ok(book.build_dir_for("html"))
        })
        .context("mdBook could not build the book")?;
    Ok(Built {
        destination,
        warnings: warnings.take(),
    })
}

/// Collects what mdBook reports at level WARN or ERROR.
///
/// mdBook carries on after a broken include and only says so in its log.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    fn push(&self, warning: String) {
        let mut warnings =
            self.0.lock().unwrap_or_else(PoisonError::into_inner);
        warnings.push(warning);
    }

    fn take(&self) -> Vec<String> {
        let mut warnings =
            self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut warnings)
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn event(&self, event: &Event<'_>) {
        let mut message = Message::default();
        event.record(&mut message);
        self.push(message.0);
    }

    // Spans say where a message comes from; the messages say enough.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            // Writing to a String cannot fail.
            let _ = write!(self.0, "{value:?}");
        }
    }
}
