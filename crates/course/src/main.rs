//! `cargo course`: lists, checks and reports the exercises.

mod commands;

use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anstream::eprintln;
use clap::{Args, Parser, Subcommand};
use course::Options;
use course::grade::Sandbox;

/// The exercises of the course, checked.
///
/// Without a command: lists the lessons and exercises, and says what is next.
#[derive(Parser)]
#[command(name = "cargo course", bin_name = "cargo course", after_help = HELP)]
struct Cli {
    #[command(subcommand)]
    command: Option<Action>,
}

const HELP: &str = "\
An exercise is named by its number or its name: 3, 03, 03-threaded.

Examples:
  cargo course check 3            (or: cargo course 3)
  cargo course check              (the next one that does not pass)
  cargo course check 3 -- python3 server.py
  cargo course watch 3
  cargo course demo 3 one-at-a-time";

#[derive(Subcommand)]
enum Action {
    /// Build an exercise, check it, and explain what goes wrong
    ///
    /// The exit code is 0 if it passes and 1 if it does not; it is 3 if
    /// nothing was checked, because cargo could not be run.
    Check(Checked),
    /// Check again each time that the file is saved, until Ctrl-C
    ///
    /// With a command behind `--`, the files among its words are watched.
    Watch(Watched),
    /// Show a typical mistake and its diagnosis; without an id, list them
    Demo {
        /// The exercise: its number or name
        exercise: Option<String>,
        /// The diagnosis, such as one-at-a-time
        id: Option<String>,
        #[command(flatten)]
        how: How,
    },
    /// Check, and draw what the program, its clients and the kernel did
    ///
    /// The figure is a page of its own, which is opened in a browser. The
    /// program's calls are in it where strace is installed (on Linux).
    Show {
        #[command(flatten)]
        checked: Checked,
        /// Show a typical mistake instead, as in `demo`
        #[arg(long, value_name = "ID", conflicts_with_all = ["at", "command"])]
        mistake: Option<String>,
    },
    /// Check all exercises; print JSON in Exercism's results format
    Report {
        /// These exercises only, by their numbers or names
        exercises: Vec<String>,
        /// Print a table for people instead
        #[arg(long)]
        markdown: bool,
        /// Write it to this file, in UTF-8
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Say in it whose it is
        #[arg(long, value_name = "WHO")]
        name: Option<String>,
        #[command(flatten)]
        how: How,
    },
    /// Put a stub back as it came; what you wrote is kept beside it
    Reset {
        /// The exercise: its number or name
        exercise: String,
    },
    /// Build and check what a class has handed in, in a sandbox
    ///
    /// FOLDER holds a folder for each student, or files with names such as
    /// anna_03-threaded.rs. Only files named as the stubs are taken.
    Grade(Graded),
    /// Build the book and open it, or say where it is
    Book,
    /// Record the figures of the exercises' pages anew
    #[command(hide = true)]
    Figures,
    /// Write the programs of the mistakes to where Cargo finds them
    #[command(hide = true)]
    Mistakes,
}

#[derive(Args)]
struct Checked {
    /// The exercise: its number or name; without it, the next one
    exercise: Option<String>,
    /// Check a server that runs already
    ///
    /// Steps that would restart it, or read what it prints, are skipped.
    #[arg(long, value_name = "HOST:PORT", value_parser = address,
          conflicts_with = "command")]
    at: Option<SocketAddr>,
    #[command(flatten)]
    how: How,
    /// Check this program instead; HOST:PORT is added behind it
    #[arg(last = true)]
    command: Vec<OsString>,
}

#[derive(Args)]
struct Watched {
    /// The exercise: its number or name
    exercise: String,
    #[command(flatten)]
    how: How,
    /// Check this program instead; HOST:PORT is added behind it
    #[arg(last = true)]
    command: Vec<OsString>,
}

#[derive(Args)]
struct Graded {
    /// What was handed in
    folder: PathBuf,
    /// Write a line for each student to this file
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write all results to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Let podman make the sandbox from this image, which has Rust in it
    #[arg(long, conflicts_with = "no_sandbox")]
    image: Option<String>,
    /// Use no sandbox: only in a virtual machine that you throw away
    #[arg(long)]
    no_sandbox: bool,
    /// Do it, though you are root
    #[arg(long)]
    allow_root: bool,
    /// How long the build and check of one file may take
    #[arg(long, value_name = "SECONDS", default_value = "120",
          value_parser = seconds)]
    limit: Duration,
    #[command(flatten)]
    how: How,
}

impl Graded {
    fn sandbox(&self) -> Sandbox {
        match &self.image {
            Some(image) => Sandbox::Podman(image.clone()),
            None if self.no_sandbox => Sandbox::None,
            None => Sandbox::Unshare,
        }
    }
}

#[derive(Args, Clone, Copy)]
struct How {
    /// Send the same words and numbers as the check that printed this seed
    #[arg(long)]
    seed: Option<u32>,
    /// How long each wait may take
    #[arg(long, value_name = "SECONDS", default_value = "2",
          value_parser = seconds)]
    timeout: Duration,
}

impl How {
    fn options(self) -> Options {
        Options {
            seed: self.seed.unwrap_or_else(|| fastrand::u32(..1_000_000)),
            timeout: self.timeout,
        }
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let found = text.to_socket_addrs().map_err(|error| {
        format!("{error}; give HOST:PORT, such as 127.0.0.1:9006")
    })?;
    // Of a name such as localhost, the address that most programs listen on.
    found
        .min_by_key(SocketAddr::is_ipv6)
        .ok_or_else(|| "it has no address".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|time| !time.is_zero() && time.as_secs() < 3600)
        .ok_or_else(|| "give a number of seconds, such as 2 or 0.5".to_owned())
}

fn main() -> ExitCode {
    let mut words: Vec<_> = std::env::args_os().collect();
    let is_exercise = words.get(1).is_some_and(|word| {
        let word = word.to_string_lossy();
        word.starts_with(|c: char| c.is_ascii_digit())
    });
    if is_exercise {
        words.insert(1, "check".into());
    }
    let result = match Cli::parse_from(words).command {
        None => commands::list(),
        Some(Action::Check(check)) => commands::check(
            check.exercise.as_deref(),
            check.at,
            check.command,
            check.how.options(),
        ),
        Some(Action::Show { checked, mistake }) => commands::show(
            checked.exercise.as_deref(),
            checked.at,
            checked.command,
            mistake.as_deref(),
            checked.how.options(),
        ),
        Some(Action::Watch(watch)) => commands::watch(
            &watch.exercise,
            watch.command,
            watch.how.timeout,
            watch.how.seed,
        ),
        Some(Action::Demo { exercise, id, how }) => {
            commands::demo(exercise.as_deref(), id.as_deref(), how.options())
        }
        Some(Action::Report {
            exercises,
            markdown,
            output,
            name,
            how,
        }) => commands::report(
            &exercises,
            markdown,
            output.as_deref(),
            name,
            how.options(),
        ),
        Some(Action::Grade(graded)) => commands::grade(
            &graded.folder,
            graded.sandbox(),
            graded.allow_root,
            &commands::Outputs {
                csv: graded.csv.clone(),
                json: graded.json.clone(),
            },
            graded.limit,
            graded.how.options(),
        ),
        Some(Action::Reset { exercise }) => commands::reset(&exercise),
        Some(Action::Book) => commands::book(),
        Some(Action::Figures) => commands::figures(),
        Some(Action::Mistakes) => {
            course::write_mistakes().map(|()| ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}
