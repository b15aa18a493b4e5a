//! Whether two recordings of a scenario tell the same.
//!
//! Act by act: the calls of each thread, the packets of each end of a
//! connection without the segments that only acknowledge, the states of each
//! socket, and the tables. Their order among each other differs from run to
//! run; so does whether a FIN is acknowledged alone or with the answering FIN,
//! and with it when the one end is in FIN-WAIT-2; and so does a descriptor: it
//! is the lowest free one, which another thread may take first, or which the
//! shell has left open. A busy machine may send a segment twice.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::narrate::acts;
use crate::recording::Recording;
use crate::scenario::Scenario;
use crate::{Event, Step};

/// The first difference, with file, act and step; `None` if there is none.
///
/// # Errors
/// The old recording does not fit its scenario.
pub fn difference(
    scenario: &Scenario,
    old: &Recording,
    new: &Recording,
) -> Result<Option<String>> {
    let old = acts(scenario, old)?;
    let new = match acts(scenario, new) {
        Ok(new) => new,
        Err(error) => return Ok(Some(error.to_string())),
    };
    let found = old.iter().zip(&new).zip(1..).find_map(|((old, new), act)| {
        let (step, difference) = in_act(old, new)?;
        Some(format!(
            "docs/flows/{}.json: act {act}, step {:?}: {difference}",
            scenario.name, old[step].title
        ))
    });
    let acts = [old.len(), new.len()];
    Ok(found.or_else(|| {
        let [old, new] = acts;
        (old != new).then(|| format!("{old} acts were recorded, now {new}"))
    }))
}

/// By what is compared: in which step, and what.
type Facts = BTreeMap<String, Vec<(usize, String)>>;

fn in_act(old: &[Step], new: &[Step]) -> Option<(usize, String)> {
    let (old_facts, new_facts) = (facts(old), facts(new));
    let keys = old_facts.keys().chain(new_facts.keys());
    let differences = keys.filter_map(|key| {
        let none = Vec::new();
        let old = old_facts.get(key).unwrap_or(&none);
        let new = new_facts.get(key).unwrap_or(&none);
        let length = old.len().max(new.len());
        (0..length).find_map(|at| match (old.get(at), new.get(at)) {
            (Some((_, old)), Some((_, new))) if old == new => None,
            (Some((step, old)), Some((_, new))) => {
                Some((*step, format!("{key}:\n- {old}\n+ {new}")))
            }
            (Some((step, old)), None) => {
                Some((*step, format!("{key}:\n- {old}")))
            }
            (None, Some((step, new))) => {
                Some((*step, format!("{key}:\n+ {new}")))
            }
            (None, None) => None,
        })
    });
    differences.min()
}

fn facts(steps: &[Step]) -> Facts {
    let mut facts = Facts::new();
    for (index, step) in steps.iter().enumerate() {
        for event in &step.events {
            let key = match event {
                Event::Call { who, .. } | Event::Happens { who, .. } => {
                    who.clone()
                }
                Event::Packet { .. } if event.is_pure_ack() => continue,
                Event::Packet { client, from, .. } => {
                    format!("packets of {client}'s connection from the {from}")
                }
                Event::State { client, side, .. } => {
                    format!("states of {client}'s connection at the {side}")
                }
            };
            let told = without_numbers(event).to_string();
            let facts = facts.entry(key).or_default();
            let is_segment =
                matches!(event, Event::Packet { seq: Some(_), .. });
            if is_segment && facts.iter().any(|(_, before)| *before == told) {
                continue;
            }
            facts.push((index, told));
        }
        let tables = step.snapshot.iter().flat_map(|snapshot| {
            let sockets = snapshot.sockets.iter().map(|socket| socket.ss());
            let waiting = snapshot.waiting.iter();
            sockets.chain(waiting.map(|w| {
                format!("{} in {}", w.who, call_without_numbers(&w.call))
            }))
        });
        for row in tables {
            let table = facts.entry("the tables".to_owned()).or_default();
            table.push((index, row));
        }
    }
    facts
}

/// The event, without the numbers that differ from run to run.
fn without_numbers(event: &Event) -> Event {
    let mut event = event.clone();
    if let Event::Call { call, result, .. } = &mut event {
        if call.starts_with("socket(") || call.starts_with("accept4(") {
            *result = without_descriptor(result);
        }
        *call = call_without_numbers(call);
    }
    event
}

/// With `N` for the descriptor, and without a time limit: what is left of one
/// is a little less each time.
fn call_without_numbers(call: &str) -> String {
    let Some((name, args)) = call.split_once('(') else {
        return call.to_owned();
    };
    match name {
        "socket" => call.to_owned(),
        "poll" | "epoll_wait" => name.to_owned(),
        _ => format!("{name}({}", without_descriptor(args)),
    }
}

/// `text`, with `N` for a descriptor at its beginning, but for the standard
/// streams.
fn without_descriptor(text: &str) -> String {
    let end = text.find(|c: char| !c.is_ascii_digit());
    let (number, rest) = text.split_at(end.unwrap_or(text.len()));
    match number {
        "" | "0" | "1" | "2" => text.to_owned(),
        _ => format!("N{rest}"),
    }
}
