//! The recorded scenarios: still true, whole, and told in the programs' words.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use flows::compare;
use flows::recording::Recording;
use flows::scenario::{self, Scenario};
use flows::{Event, Phase, Seen, folder};

/// `flows compare` needs namespaces of its own, so it is a program that runs.
#[test]
#[ignore = "needs root or sudo, strace, tcpdump and ss"]
fn each_scenario_recorded_again_is_as_recorded() -> Result<()> {
    let flows = env!("CARGO_BIN_EXE_flows");
    let output = Command::new(flows).arg("compare").output()?;
    let [said, wrong] = [&output.stdout, &output.stderr]
        .map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "{said}{wrong}");
    Ok(())
}

#[test]
fn each_file_of_the_flows_belongs_to_a_scenario() -> Result<()> {
    let mut known: BTreeSet<_> = ["code.toml", "shared.toml"]
        .map(|file| folder().join(file))
        .into();
    for name in scenario::names()? {
        for end in ["toml", "json", "html"] {
            known.insert(folder().join(format!("{name}.{end}")));
        }
    }
    for entry in fs::read_dir(folder())? {
        let path = entry?.path();
        assert!(known.contains(&path), "{}: delete it", path.display());
    }
    Ok(())
}

#[test]
fn each_step_has_words_and_something_to_see() -> Result<()> {
    for flow in flows::all()? {
        assert!(flow.summary.ends_with('.'), "{}: summary", flow.name);
        for step in &flow.steps {
            let place = format!("{}: {}", flow.name, step.title);
            assert!(!step.title.ends_with(['.', ' ']), "{place}");
            assert!(step.text.ends_with(['.', '?', ')']), "{place}");
            assert!(!step.events.is_empty() || step.snapshot.is_some());
            for word in ["!", "simply", "obviously", "behavior", "TODO"] {
                let text = format!("{} {}", step.title, step.text);
                assert!(!text.contains(word), "{place}: {word}");
            }
        }
        assert!(flow.steps.last().is_some_and(|s| s.snapshot.is_some()));
    }
    Ok(())
}

/// The programs' sources below a folder, without any white space.
fn sources(folder: &Path) -> Result<String> {
    let mut text = String::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            text.push_str(&sources(&path)?);
        } else if path.extension().is_some_and(|end| end == "rs") {
            text.extend(fs::read_to_string(path)?.split_whitespace());
        }
    }
    Ok(text)
}

#[test]
fn each_line_of_rust_stands_in_the_program_that_calls() -> Result<()> {
    for name in scenario::names()? {
        let scenario = Scenario::load(&name)?;
        let flow = flows::load(&name)?;
        for code in flow.steps.iter().flat_map(|step| &step.code) {
            let package = scenario.owner(&code.who).map(|p| &p.package);
            let package = package.map_or("", |package| package);
            let folder = package.trim_start_matches("lesson-");
            let folder = harness::root().join("crates").join(folder);
            let line: String = code.rust.split_whitespace().collect();
            assert!(
                sources(&folder.join("src"))?.contains(&line),
                "{name}: {package} has no line {}",
                code.rust
            );
        }
    }
    Ok(())
}

/// What `input` returns is text without its newline, and a socket takes bytes.
#[test]
fn what_python_types_is_sent_as_bytes_and_with_its_newline() -> Result<()> {
    for name in scenario::names()? {
        for program in &Scenario::load(&name)?.programs {
            let python = |call| program.calls.get(call).map(|[_, line]| line);
            let by_input = |line: &&String| line.contains("input(");
            let Some(typed) = python("read").filter(by_input) else {
                continue;
            };
            let sent = python("sendto").map_or("", String::as_str);
            assert!(sent.contains(".encode()"), "{}: {sent}", program.binary);
            let datagrams = program.package == "lesson-05-udp";
            let whole = typed.ends_with(r#" + "\n""#);
            assert_ne!(whole, datagrams, "{}: {typed}", program.binary);
        }
    }
    Ok(())
}

/// A misspelt one would never be shown.
#[test]
fn each_call_that_has_a_line_was_made() -> Result<()> {
    let (mut made, mut told) = (BTreeSet::new(), BTreeSet::new());
    for name in scenario::names()? {
        let scenario = Scenario::load(&name)?;
        for program in &scenario.programs {
            let calls = program.calls.keys();
            told.extend(calls.map(|c| (program.binary.clone(), c.clone())));
        }
        for event in flows::load(&name)?.steps.iter().flat_map(|s| &s.events) {
            if let Event::Call { who, call, .. } = event
                && let Some(program) = scenario.owner(who)
                && let Some((name, _)) = call.split_once('(')
            {
                for call in [name, call] {
                    made.insert((program.binary.clone(), call.to_owned()));
                }
            }
        }
    }
    let unused: Vec<_> = told.difference(&made).collect();
    assert!(unused.is_empty(), "code.toml: {unused:?}");
    Ok(())
}

/// A wait that begins twice, or ends without a beginning, is not a recording.
#[test]
fn each_wait_has_a_beginning() -> Result<()> {
    for flow in flows::all()? {
        let mut waiting = BTreeSet::new();
        for event in flow.steps.iter().flat_map(|step| &step.events) {
            let Event::Call {
                who, call, phase, ..
            } = event
            else {
                continue;
            };
            let place = format!("{}: {who}: {call}", flow.name);
            match phase {
                Phase::Whole => assert!(!waiting.contains(who), "{place}"),
                Phase::Waits => assert!(waiting.insert(who), "{place}"),
                Phase::Returns => assert!(waiting.remove(who), "{place}"),
            }
        }
    }
    Ok(())
}

#[test]
fn each_program_that_a_snapshot_names_takes_part() -> Result<()> {
    for flow in flows::all()? {
        for waiting in flow.snapshots().iter().flat_map(|s| &s.waiting) {
            let known = flow.actors.iter().any(|a| a.program == waiting.who);
            assert!(known, "{}: {waiting:?}", flow.name);
        }
    }
    Ok(())
}

/// The states of one socket: each begins where the one before ended.
#[test]
fn no_change_of_state_is_missing() -> Result<()> {
    for name in scenario::names()? {
        let recording = Recording::load(&Recording::path(&name))?;
        let mut states = std::collections::BTreeMap::new();
        for event in recording.acts.iter().flat_map(|act| &act.events) {
            let Event::State {
                client,
                side,
                from,
                state,
                seen,
            } = event
            else {
                continue;
            };
            let first = match (client.as_str(), *side) {
                ("", _) | (_, flows::Side::Client) => "CLOSED",
                _ => "LISTEN",
            };
            let last = states.insert((client.clone(), *side), state.clone());
            assert_eq!(last.as_deref().unwrap_or(first), from, "{name}");
            assert_eq!(*seen == Seen::Late, state == "SYN-RECEIVED");
            assert_eq!(*seen == Seen::Table, state == "TIME-WAIT");
        }
    }
    Ok(())
}

/// What one edit of a recording makes the comparison say.
fn difference(
    name: &str,
    edit: impl Fn(&mut Vec<Event>),
) -> Result<Option<String>> {
    let scenario = Scenario::load(name)?;
    let old = Recording::load(&Recording::path(name))?;
    let mut new = old.clone();
    new.acts.iter_mut().for_each(|act| edit(&mut act.events));
    compare::difference(&scenario, &old, &new)
}

fn position(events: &[Event], wanted: &str) -> Option<usize> {
    events.iter().position(|event| {
        matches!(event, Event::Call { call, .. } if call.starts_with(wanted))
    })
}

#[test]
fn a_call_more_is_a_difference_in_its_act_and_step() -> Result<()> {
    for more in ["shutdown(5, SHUT_WR)", "setsockopt(5, TCP_NODELAY, 1)"] {
        let found = difference("03-three-clients", |events| {
            if let Some(at) = position(events, "close(5)") {
                events.insert(
                    at,
                    Event::Call {
                        who: "thread 2".to_owned(),
                        call: more.to_owned(),
                        result: "0".to_owned(),
                        phase: Phase::Whole,
                    },
                );
            }
        })?;
        let found = found.unwrap_or_default();
        assert!(found.starts_with("docs/flows/03-three-clients.toml:"));
        assert!(found.contains("act 6, step \"Client 2 leaves\""), "{found}");
        assert!(found.contains(more), "{found}");
    }
    Ok(())
}

#[test]
fn another_byte_is_a_difference_in_its_act_and_step() -> Result<()> {
    let found = difference("03-three-clients", |events| {
        for event in events {
            if let Event::Call { call, .. } = event {
                *call = call.replace("sendto(6, \"three", "sendto(6, \"Three");
            }
        }
    })?;
    let found = found.unwrap_or_default();
    let place = "docs/flows/03-three-clients.json: act 5, step \"Its thread \
                 sends it back\": thread 3:";
    assert!(found.starts_with(place), "{found}");
    assert!(found.contains("\n- ") && found.contains("\n+ "), "{found}");
    Ok(())
}

#[test]
fn a_pure_acknowledgement_is_compared_only_where_a_step_is_about_it()
-> Result<()> {
    let without = |events: &mut Vec<Event>| {
        events.retain(|event| !event.is_pure_ack());
    };
    assert_eq!(difference("03-three-clients", without)?, None);
    let found = difference("01-conversation", without)?.unwrap_or_default();
    assert!(
        found.contains("step \"The client sends a line\""),
        "{found}"
    );
    Ok(())
}

#[test]
fn another_order_between_threads_is_no_difference() -> Result<()> {
    let found = difference("03-three-clients", |events| {
        if let Some(at) = position(events, "recvfrom(4") {
            let call = events.remove(at);
            events.push(call);
        }
    })?;
    assert_eq!(found, None);
    Ok(())
}

#[test]
fn a_packet_sent_twice_is_no_difference() -> Result<()> {
    let is_fin = |event: &&Event| match event {
        Event::Packet { flags, .. } => flags.contains("FIN"),
        _ => false,
    };
    let found = difference("02-reuse", |events| {
        let fin = events.iter().find(is_fin).cloned();
        events.extend(fin);
    })?;
    assert_eq!(found, None);
    Ok(())
}

#[test]
fn another_descriptor_is_no_difference() -> Result<()> {
    let found = difference("11-two-clients", |events| {
        for event in events {
            if let Event::Call { call, result, .. } = event {
                *call = call.replace("(10", "(12");
                *result = result.replace("10 (", "12 (");
            }
        }
    })?;
    assert_eq!(found, None);
    Ok(())
}
