//! `cargo course`: lists, checks and reports the exercises.

mod commands;

use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anstream::eprintln;
// Not clap's derive: with the crates that it needs, a learner's first check
// would take a third longer.
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use course::Options;
use course::grade::Sandbox;

const EXAMPLES: &str = "\
An exercise is named by its number or its name: 3, 03, 03-threaded.

Examples:
  cargo course check 3            (or: cargo course 3)
  cargo course check              (the next one that does not pass)
  cargo course check 3 -- python3 server.py
  cargo course watch 3
  cargo course demo 3 one-at-a-time";

fn cli() -> Command {
    Command::new("cargo course")
        .bin_name("cargo course")
        .about("The exercises of the course, checked")
        .long_about(
            "The exercises of the course, checked.\n\n\
             Without a command: lists the lessons and exercises, and says \
             what is next.",
        )
        .after_help(EXAMPLES)
        .subcommands([
            command(
                "check",
                "Build an exercise, check it, and explain what goes wrong",
                "The exit code is 0 if it passes and 1 if it does not; it is 3 \
                 if nothing was checked, because cargo could not be run.",
            )
            .arg(exercise(
                "The exercise: its number or name; without it, the next one",
            ))
            .args([at(), seed(), timeout(), program()]),
            command(
                "watch",
                "Check again each time that the file is saved, until Ctrl-C",
                "With a command behind `--`, the files among its words are \
                 watched.",
            )
            .arg(exercise(NAMED).required(true))
            .args([seed(), timeout(), program()]),
            command(
                "hint",
                "Say where to look, in one sentence, and not what is wrong",
                "",
            )
            .arg(exercise(NAMED).required(true))
            .args([seed(), timeout(), program()]),
            command(
                "demo",
                "Show a typical mistake and its diagnosis; without an id, \
                 list them",
                "",
            )
            .arg(exercise(NAMED))
            .arg(
                argument("id", "ID")
                    .help("The diagnosis, such as one-at-a-time"),
            )
            .args([seed(), timeout()]),
            command(
                "show",
                "Check, and draw what the program, its clients and the kernel \
                 did",
                "The figure is a page of its own, which is opened in a \
                 browser. The program's calls are in it where strace is \
                 installed (on Linux).",
            )
            .arg(exercise(NAMED).required(true))
            .args([at(), seed(), timeout(), program()])
            .arg(
                option("mistake", "ID")
                    .help("Show a typical mistake instead, as in `demo`")
                    .conflicts_with_all(["at", "program"]),
            ),
            command(
                "report",
                "Check all exercises; print JSON in Exercism's results format",
                "",
            )
            .arg(
                argument("exercises", "EXERCISES")
                    .help("These exercises only, by their numbers or names")
                    .action(ArgAction::Append)
                    .num_args(1..),
            )
            .arg(flag("markdown").help("Print a table for people instead"))
            .arg(
                option("output", "FILE")
                    .help("Write it to this file, in UTF-8")
                    .value_parser(value_parser!(PathBuf)),
            )
            .arg(option("name", "WHO").help("Say in it whose it is"))
            .args([seed(), timeout()]),
            command(
                "reset",
                "Put a stub back as it came; what you wrote is kept beside it",
                "",
            )
            .arg(exercise(NAMED).required(true)),
            grade(),
            command(
                "book",
                "Build the book and open it, or say where it is",
                "",
            ),
            command(
                "figures",
                "Record the figures of the exercises' pages anew",
                "",
            )
            .hide(true),
            command(
                "mistakes",
                "Write the programs of the mistakes to where Cargo finds them",
                "",
            )
            .hide(true),
        ])
}

fn grade() -> Command {
    command(
        "grade",
        "Build and check what a class has handed in, in a sandbox",
        "FOLDER holds a folder for each student, or files with names such as \
         anna_03-threaded.rs. Only files named as the stubs are taken.",
    )
    .arg(
        argument("folder", "FOLDER")
            .help("What was handed in")
            .value_parser(value_parser!(PathBuf))
            .required(true),
    )
    .arg(
        option("csv", "FILE")
            .help("Write a line for each student to this file")
            .value_parser(value_parser!(PathBuf)),
    )
    .arg(
        option("json", "FILE")
            .help("Write all results to this file")
            .value_parser(value_parser!(PathBuf)),
    )
    .arg(
        option("image", "IMAGE")
            .help(
                "Let podman make the sandbox from this image, which has Rust \
                 in it",
            )
            .conflicts_with("no-sandbox"),
    )
    .arg(
        flag("no-sandbox").help(
            "Use no sandbox: only in a virtual machine that you throw away",
        ),
    )
    .arg(flag("allow-root").help("Do it, though you are root"))
    .arg(
        option("limit", "SECONDS")
            .help("How long the build and check of one file may take")
            .default_value("120")
            .value_parser(seconds),
    )
    .args([seed(), timeout()])
}

/// A command with what it does, and what else `--help` says of it.
fn command(name: &'static str, does: &'static str, more: &str) -> Command {
    let command = Command::new(name).about(does);
    match more {
        "" => command,
        more => command.long_about(format!("{does}\n\n{more}")),
    }
}

const NAMED: &str = "The exercise: its number or name";

fn exercise(help: &'static str) -> Arg {
    argument("exercise", "EXERCISE").help(help)
}

fn argument(name: &'static str, value: &'static str) -> Arg {
    Arg::new(name).value_name(value)
}

fn option(name: &'static str, value: &'static str) -> Arg {
    argument(name, value).long(name)
}

fn flag(name: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue)
}

fn at() -> Arg {
    let help = "Check a server that runs already";
    option("at", "HOST:PORT")
        .help(help)
        .long_help(format!(
            "{help}\n\nSteps that would restart it, or read what it prints, \
             are skipped."
        ))
        .value_parser(address)
        .conflicts_with("program")
}

fn seed() -> Arg {
    option("seed", "SEED")
        .help(
            "Send the same words and numbers as the check that printed this \
             seed",
        )
        .value_parser(value_parser!(u32))
}

fn timeout() -> Arg {
    option("timeout", "SECONDS")
        .help("How long each wait may take")
        .default_value("2")
        .value_parser(seconds)
}

fn program() -> Arg {
    argument("program", "COMMAND")
        .help("Check this program instead; HOST:PORT is added behind it")
        .value_parser(value_parser!(OsString))
        .num_args(1..)
        .last(true)
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

/// What was typed behind a command.
struct Typed(ArgMatches);

impl Typed {
    fn get<T: Clone + Send + Sync + 'static>(&self, name: &str) -> Option<T> {
        self.0.get_one(name).cloned()
    }

    fn all<T: Clone + Send + Sync + 'static>(&self, name: &str) -> Vec<T> {
        self.0
            .get_many(name)
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }

    /// What is required, or has a default.
    fn always<T: Clone + Send + Sync + 'static>(&self, name: &str) -> T {
        self.get(name).expect("clap has seen to it")
    }

    fn exercise(&self) -> Option<String> {
        self.get("exercise")
    }

    fn options(&self) -> Options {
        let any = || fastrand::u32(..1_000_000);
        Options {
            seed: self.get("seed").unwrap_or_else(any),
            timeout: self.always("timeout"),
        }
    }

    fn sandbox(&self) -> Sandbox {
        match self.get("image") {
            Some(image) => Sandbox::Podman(image),
            None if self.0.get_flag("no-sandbox") => Sandbox::None,
            None => Sandbox::Unshare,
        }
    }
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
    let mut typed = cli().get_matches_from(words);
    let result = match typed.remove_subcommand() {
        Some((command, typed)) => run(&command, &Typed(typed)),
        None => commands::list(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}

fn run(command: &str, typed: &Typed) -> anyhow::Result<ExitCode> {
    match command {
        "check" => commands::check(
            typed.exercise().as_deref(),
            typed.get("at"),
            typed.all("program"),
            typed.options(),
        ),
        "show" => commands::show(
            &typed.always::<String>("exercise"),
            typed.get("at"),
            typed.all("program"),
            typed.get::<String>("mistake").as_deref(),
            typed.options(),
        ),
        "hint" => commands::hint(
            &typed.always::<String>("exercise"),
            typed.all("program"),
            typed.options(),
        ),
        "watch" => commands::watch(
            &typed.always::<String>("exercise"),
            typed.all("program"),
            typed.always("timeout"),
            typed.get("seed"),
        ),
        "demo" => commands::demo(
            typed.exercise().as_deref(),
            typed.get::<String>("id").as_deref(),
            typed.options(),
        ),
        "report" => commands::report(
            &typed.all::<String>("exercises"),
            typed.0.get_flag("markdown"),
            typed.get::<PathBuf>("output").as_deref(),
            typed.get("name"),
            typed.options(),
        ),
        "grade" => commands::grade(
            &typed.always::<PathBuf>("folder"),
            typed.sandbox(),
            typed.0.get_flag("allow-root"),
            typed.get::<PathBuf>("csv").as_deref(),
            typed.get::<PathBuf>("json").as_deref(),
            typed.always("limit"),
            typed.options(),
        ),
        "reset" => commands::reset(&typed.always::<String>("exercise")),
        "book" => commands::book(),
        "figures" => commands::figures(),
        "mistakes" => course::write_mistakes().map(|()| ExitCode::SUCCESS),
        other => unreachable!("clap knows no command {other}"),
    }
}
