//! `cargo run -p flows -- record`, then `cargo run -p flows -- draw`.

use std::process::ExitCode;
use std::{env, fs};

use anyhow::{Result, bail, ensure};
use flows::recording::Recording;
use flows::scenario::{self, Scenario};
use flows::{compare, narrate, recorder};

const USAGE: &str = "\
usage: flows record [SCENARIO]
       flows compare [SCENARIO]
       flows draw

  record   run the scenarios, or one of them, with the lessons' programs, and
           write docs/flows/SCENARIO.json if something else was seen than it
           says (on Linux, as root or by sudo, with strace and tcpdump)
  compare  the same, but write nothing, and fail
  draw     make the figures from the recordings";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let args: Vec<_> = env::args_os().skip(1).collect();
    let words: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    let words: Vec<_> = words.iter().map(|word| &**word).collect();
    match words.as_slice() {
        ["record"] => record(&scenario::names()?, true),
        ["record", name] => record(&[(*name).to_owned()], true),
        ["compare"] => record(&scenario::names()?, false),
        ["compare", name] => record(&[(*name).to_owned()], false),
        ["draw"] => draw(),
        // Started by `record`.
        ["recorder", name] => {
            let mut recording = Recording::default();
            let recorded =
                recorder::record(&Scenario::load(name)?, &mut recording);
            print!("{}", recording.to_json()?);
            recorded
        }
        ["-h" | "--help"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("{USAGE}"),
    }
}

fn record(names: &[String], write: bool) -> Result<()> {
    let mut refused = 0;
    for name in names {
        match record_one(name, write) {
            Ok(said) => println!("{name}: {said}"),
            Err(error) => {
                eprintln!("{error:#}");
                refused += 1;
            }
        }
    }
    ensure!(
        refused == 0,
        "{refused} of {} scenarios: mend the scenario or the program, or \
         record again: `cargo run -p flows -- record`",
        names.len()
    );
    Ok(())
}

fn record_one(name: &str, write: bool) -> Result<&'static str> {
    let scenario = Scenario::load(name)?;
    let (new, failure) = recorder::isolated(&scenario)?;
    let path = Recording::path(name);
    let difference = Recording::load(&path)
        .and_then(|old| compare::difference(&scenario, &old, &new))
        .unwrap_or_else(|error| Some(format!("{error:#}")));
    let found = match (failure, difference) {
        (Some(failure), difference) => {
            bail!("{}\n{failure}", difference.unwrap_or_default())
        }
        (None, None) => return Ok("as recorded"),
        (None, Some(difference)) => difference,
    };
    narrate::narrate(&scenario, &new)?;
    ensure!(write, "{found}");
    println!("{found}");
    fs::write(&path, new.to_json()?)?;
    Ok("written")
}

fn draw() -> Result<()> {
    for (path, text) in flows::figures()? {
        fs::write(&path, text)?;
        println!("{}", path.display());
    }
    Ok(())
}
