//! `cargo run -p flows -- record`, then `cargo run -p flows -- draw`.

use std::{env, fs};

use anyhow::{Result, bail};
use flows::{Calls, Flow, scenarios};

const USAGE: &str = "\
usage: flows record [SCENARIO]
       flows draw

  record   play the scenarios, or one of them, with the lessons' programs, and
           write docs/flows/SCENARIO.json (on Linux, with strace)
  draw     make the figures from the recordings";

fn main() -> Result<()> {
    let args: Vec<_> = env::args_os().skip(1).collect();
    let words: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    let words: Vec<_> = words.iter().map(|word| &**word).collect();
    match words.as_slice() {
        ["record"] => record(None),
        ["record", name] => record(Some(name)),
        ["draw"] => draw(),
        ["-h" | "--help"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("{USAGE}"),
    }
}

fn record(only: Option<&str>) -> Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("only Linux shows its tables: record there");
    }
    if !flows::strace_is_there() {
        bail!("there is no strace: install it, it sees the calls");
    }
    let chosen: Vec<_> = scenarios::ALL
        .iter()
        .filter(|s| only.is_none_or(|name| s.name == name))
        .collect();
    if chosen.is_empty() {
        let names: Vec<_> = scenarios::ALL.iter().map(|s| s.name).collect();
        bail!("no such scenario; there are {}", names.join(", "));
    }
    for scenario in chosen {
        let flow = scenario.record(Calls::Traced)?;
        let path = Flow::path(&flow.name);
        fs::write(&path, flow.to_json()?)?;
        println!("{}: {} steps", path.display(), flow.steps.len());
    }
    Ok(())
}

fn draw() -> Result<()> {
    for (path, text) in flows::html::pages()? {
        fs::write(&path, text)?;
        println!("{}", path.display());
    }
    Ok(())
}
