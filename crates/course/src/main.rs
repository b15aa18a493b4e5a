//! `cargo course`: the exercises, checked.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anstream::print;
use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use course::{Options, Target};

#[derive(Parser)]
#[command(name = "cargo course", bin_name = "cargo course")]
struct Cli {
    #[command(subcommand)]
    command: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Build your solution, check it, and explain what goes wrong
    Check(Checked),
}

#[derive(Args)]
struct Checked {
    exercise: String,
    #[arg(long)]
    at: Option<String>,
    #[arg(long)]
    seed: Option<u64>,
    #[arg(long, default_value_t = 2.0)]
    deadline: f64,
    #[arg(last = true)]
    command: Vec<OsString>,
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    let Some(Action::Check(checked)) = cli.command else {
        return Ok(ExitCode::SUCCESS);
    };
    let exercise = course::find(&checked.exercise)?;
    let target = if checked.command.is_empty() {
        exercise.build(true).map_err(anyhow::Error::msg)?
    } else {
        Target::Command(checked.command)
    };
    let options = Options {
        seed: checked.seed.unwrap_or(1),
        deadline: Duration::from_secs_f64(checked.deadline),
    };
    let outcome = course::check(&exercise, &target, options);
    print!("{}", course::show(&exercise, &outcome));
    Ok(if outcome.verdict.is_some() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
