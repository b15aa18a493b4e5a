//! `cargo run -p flows -- record`, then `cargo run -p flows -- draw`.

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
           says (on Linux, as root, with strace and tcpdump)
  compare  the same, but write nothing, and fail
  draw     make the figures from the recordings";

fn main() -> Result<()> {
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
            let recording = recorder::record(&Scenario::load(name)?)?;
            print!("{}", recording.to_json()?);
            Ok(())
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
    let new = recorder::isolated(name)?;
    narrate::narrate(&scenario, &new)?;
    let path = Recording::path(name);
    let difference = Recording::load(&path)
        .and_then(|old| compare::difference(&scenario, &old, &new))
        .unwrap_or_else(|error| Some(format!("{error:#}")));
    match difference {
        None => Ok("as recorded"),
        Some(difference) if write => {
            println!("{difference}");
            fs::write(&path, new.to_json()?)?;
            Ok("written")
        }
        Some(difference) => bail!("{difference}"),
    }
}

fn draw() -> Result<()> {
    for (path, text) in flows::html::pages()? {
        fs::write(&path, text)?;
        println!("{}", path.display());
    }
    Ok(())
}
