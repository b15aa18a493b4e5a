//! Puts what was recorded into the steps that tell it.

use std::collections::{BTreeMap, VecDeque};

use anyhow::{Result, bail, ensure};

use crate::recording::{Act, Recording};
use crate::scenario::{self, Scenario};
use crate::{Actor, Code, Event, Flow, Phase, Side, Step};

/// A call that no step has told yet, and what it caused.
struct Item {
    name: String,
    event: Event,
    caused: Vec<Event>,
}

type Items = BTreeMap<String, VecDeque<Item>>;

/// The scenario with what was recorded: what the figure shows.
///
/// # Errors
/// A step tells a call that was not made, or no step tells a call: with the
/// file and the line.
pub fn narrate(scenario: &Scenario, recording: &Recording) -> Result<Flow> {
    let (told, seen) = (scenario.acts.len(), recording.acts.len());
    ensure!(
        told == seen,
        "docs/flows/{}.toml: {told} acts, and {seen} were recorded",
        scenario.name
    );
    let acts = acts(scenario, recording)?;
    let steps: Vec<_> = acts.into_iter().flatten().collect();
    let mut actors: Vec<_> = scenario
        .programs
        .iter()
        .flat_map(|program| {
            let names = std::iter::once(&program.name).chain(&program.threads);
            names.map(|name| Actor {
                name: name.clone(),
                program: program.name.clone(),
                side: program.side,
            })
        })
        .collect();
    actors.retain(|actor| {
        let mut events = steps.iter().flat_map(|step| &step.events);
        events.any(|event| event.who() == Some(&actor.name))
    });
    actors.sort_by_key(|actor| actor.side == Side::Server);
    Ok(Flow {
        name: scenario.name.clone(),
        title: scenario.title.clone(),
        summary: scenario.summary.clone(),
        protocol: scenario.protocol.clone(),
        actors,
        steps,
    })
}

/// The steps of each act that was recorded.
pub fn acts(
    scenario: &Scenario,
    recording: &Recording,
) -> Result<Vec<Vec<Step>>> {
    let mut acts = Vec::new();
    for (told, seen) in scenario.acts.iter().zip(&recording.acts) {
        let number = acts.len() + 1;
        let mut items = items(seen);
        let mut steps = Vec::new();
        for words in &told.steps {
            steps.push(step(scenario, words, number, &mut items)?);
        }
        if let Some((who, item)) = items
            .iter()
            .find_map(|(who, items)| Some((who, items.front()?)))
        {
            bail!(
                "{}: act {number}: no step tells that {who} {}",
                told.place,
                item.event
            );
        }
        steps.extend(told.table.as_ref().map(|table| Step {
            title: table.title.clone(),
            text: table.text.clone(),
            snapshot: Some(seen.snapshot.clone()),
            ..Step::default()
        }));
        acts.push(steps);
    }
    Ok(acts)
}

/// The calls of each actor, with what they caused.
fn items(act: &Act) -> Items {
    let mut items = Items::new();
    let mut last = None;
    for event in &act.events {
        let name = match event {
            Event::Call { call, .. } => {
                call.split('(').next().unwrap_or_default()
            }
            Event::Happens { .. } => "exits",
            Event::Packet { .. } | Event::State { .. } => {
                let item = last.as_ref().and_then(|who| {
                    items.get_mut(who).and_then(VecDeque::back_mut)
                });
                item.into_iter().for_each(|item: &mut Item| {
                    item.caused.push(event.clone())
                });
                continue;
            }
        };
        let who = event.who().unwrap_or_default().to_owned();
        items.entry(who.clone()).or_default().push_back(Item {
            name: name.to_owned(),
            event: event.clone(),
            caused: Vec::new(),
        });
        last = Some(who);
    }
    items
}

fn step(
    scenario: &Scenario,
    words: &scenario::Step,
    act: usize,
    items: &mut Items,
) -> Result<Step> {
    let step_of_act = format!("act {act}, step {:?}", words.title);
    let mut step = Step {
        title: words.title.clone(),
        text: words.text.clone(),
        ..Step::default()
    };
    for told in &words.calls {
        let (who, name) = (&told.who, &told.name);
        let place = format!("{}: {step_of_act}", told.place);
        let queue = items.entry(who.clone()).or_default();
        let comes_later = queue.iter().any(|item| item.name == *name);
        let Some(item) = queue.front_mut() else {
            bail!("{place}: {who} did not call {name}");
        };
        let event = &item.event;
        if item.name != *name && comes_later {
            bail!("{place}: no step tells that {who} {event}");
        } else if item.name != *name {
            bail!("{place}: {who}: not {name}, but {event}");
        }
        let program = scenario.owner(who);
        let code = match &words.code {
            Some(code) => Some(code).filter(|_| step.code.is_empty()),
            None => program.and_then(|program| {
                // A close is told by what it closes.
                let whole = match &item.event {
                    Event::Call { call, .. } => program.calls.get(call),
                    _ => None,
                };
                whole.or(program.calls.get(name))
            }),
        };
        if let Some([rust, python]) = code {
            let code = Code {
                who: who.clone(),
                call: name.clone(),
                rust: rust.clone(),
                python: python.clone(),
            };
            let again = |old: &Code| Code {
                call: name.clone(),
                ..old.clone()
            };
            if !step.code.iter().any(|old| again(old) == code) {
                step.code.push(code);
            }
        }
        step.events.extend(typed(who, &item.event));
        let caused = std::mem::take(&mut item.caused);
        // A socket that does not block returns from it at once.
        let blocks = !matches!(
            &item.event,
            Event::Call { result, .. } if result.contains("EINPROGRESS")
        );
        let waits = !caused.is_empty() && name == "connect" && blocks;
        let beginning = match waits || told.begins {
            true => begin(&mut item.event),
            false => None,
        };
        match beginning {
            Some(beginning) => {
                step.events.push(beginning);
                step.events.extend(caused);
                if !told.begins {
                    step.events.extend(queue.pop_front().map(|i| i.event));
                }
            }
            None => {
                step.events.extend(queue.pop_front().map(|i| i.event));
                step.events.extend(caused);
            }
        }
    }
    if words.acknowledged && !step.events.iter().any(Event::is_pure_ack) {
        bail!("{}: {step_of_act}: nothing is acknowledged", words.place);
    }
    Ok(step)
}

/// What a person did, if this call read the keyboard.
fn typed(who: &str, event: &Event) -> Option<Event> {
    let Event::Call { call, result, .. } = event else {
        return None;
    };
    if call != "read(0)" || result.is_empty() {
        return None;
    }
    let line = result.split_once("(\"").and_then(|(_, text)| {
        // What is long, strace cuts.
        let long = || Some(format!("{}...", text.strip_suffix("\"...)")?));
        let whole = text.strip_suffix("\\n\")").map(str::to_owned);
        whole.or_else(long)
    });
    let line = line.as_deref().unwrap_or("Ctrl-D");
    Some(Event::Happens {
        who: who.to_owned(),
        what: format!("the person types {line}"),
    })
}

/// Cuts a call in two: gives its beginning, and leaves its end. `None` if it
/// has no end yet, or began before.
fn begin(event: &mut Event) -> Option<Event> {
    let mut beginning = event.clone();
    if let Event::Call { result, phase, .. } = &mut beginning {
        result.clear();
        *phase = Phase::Waits;
    }
    match event {
        Event::Call { phase, .. } if *phase == Phase::Whole => {
            *phase = Phase::Returns;
            Some(beginning)
        }
        _ => None,
    }
}
