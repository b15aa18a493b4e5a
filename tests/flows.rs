//! The recorded flows: still true, drawn as recorded, and honest about what
//! was not seen.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use flows::draw::{self, Layout};
use flows::scenarios::ALL;
use flows::{Actor, Calls, Event, Flow, Phase, Reading, Side, Socket, Step};

fn flows() -> Result<Vec<Flow>> {
    ALL.iter()
        .map(|scenario| Flow::load(scenario.name))
        .collect()
}

/// The first line in which two texts differ.
fn difference(old: &str, new: &str) -> Option<String> {
    let mut lines = old.lines().zip(new.lines()).zip(1..);
    let found = lines.find(|((old, new), _)| old != new);
    match found {
        Some(((old, new), line)) => {
            Some(format!("line {line}:\n- {old}\n+ {new}"))
        }
        None if old.len() == new.len() => None,
        None => Some("one is longer".to_owned()),
    }
}

#[test]
#[ignore = "needs strace"]
fn each_scenario_played_again_gives_the_same_recording() -> Result<()> {
    for scenario in ALL {
        let old = Flow::load(scenario.name)?.to_json()?;
        let new = scenario.record(Calls::Traced)?.to_json()?;
        if let Some(difference) = difference(&old, &new) {
            panic!(
                "docs/flows/{0}.json is stale, {difference}\nlook at it, and \
                 record it again: `cargo run -p flows -- record {0}`",
                scenario.name
            );
        }
    }
    Ok(())
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs Linux's tables")]
fn the_kernels_tables_are_as_recorded() -> Result<()> {
    for scenario in ALL {
        let flow = Flow::load(scenario.name)?;
        let old: Vec<_> = flow.readings().into_iter().map(bare).collect();
        let flow = scenario.record(Calls::Untraced)?;
        let new: Vec<_> = flow.readings().into_iter().map(bare).collect();
        assert_eq!(old, new, "{}", scenario.name);
    }
    Ok(())
}

/// A reading without what only the calls tell.
fn bare(reading: &Reading) -> Reading {
    let mut reading = reading.clone();
    for socket in &mut reading.sockets {
        socket.backlog = None;
    }
    reading
}

#[test]
fn each_figure_is_drawn_from_its_recording() -> Result<()> {
    for (path, text) in flows::html::pages()? {
        let drawn = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            drawn == text,
            "{} is stale: draw it with `cargo run -p flows -- draw`",
            path.display()
        );
    }
    Ok(())
}

#[test]
fn each_file_of_the_flows_belongs_to_a_scenario() -> Result<()> {
    let mut known: BTreeSet<_> =
        ALL.iter().map(|s| Flow::path(s.name)).collect();
    known.extend(flows::html::pages()?.into_iter().map(|(path, _)| path));
    for entry in fs::read_dir(flows::folder())? {
        let path = entry?.path();
        assert!(known.contains(&path), "{}: delete it", path.display());
    }
    Ok(())
}

#[test]
fn each_figure_is_shown_by_a_page() -> Result<()> {
    let docs = harness::root().join("docs");
    let mut pages = String::new();
    for entry in fs::read_dir(docs)? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "md") {
            pages.push_str(&fs::read_to_string(path)?);
        }
    }
    for (path, _) in flows::html::pages()? {
        let name = path.file_name().context("a figure has a name")?;
        let include =
            format!("{{{{#include flows/{}}}}}", name.to_string_lossy());
        assert!(pages.contains(&include), "no page has {include}");
    }
    Ok(())
}

/// A blank line would end the block of HTML for Markdown.
#[test]
fn each_figure_is_one_block_of_html() -> Result<()> {
    for (path, text) in flows::html::pages()? {
        let blank = text.lines().any(|line| line.trim().is_empty());
        assert!(!blank, "{}: a blank line", path.display());
    }
    Ok(())
}

fn cites_a_document(reference: &str) -> bool {
    let Some(rest) = reference.strip_prefix("RFC ") else {
        return false;
    };
    let Some((number, section)) = rest.split_once(", section ") else {
        return rest.parse::<u16>().is_ok();
    };
    number.parse::<u16>().is_ok()
        && section.split('.').all(|part| part.parse::<u8>().is_ok())
}

#[test]
fn what_is_deduced_names_the_rfc_that_it_follows_from() -> Result<()> {
    assert!(cites_a_document("RFC 9293, section 3.5"));
    assert!(cites_a_document("RFC 768"));
    assert!(!cites_a_document("I think so"));
    for flow in flows()? {
        for event in flow.steps.iter().flat_map(|step| &step.events) {
            if let Event::Packet { deduced, .. }
            | Event::Passes { deduced, .. } = event
            {
                assert!(cites_a_document(deduced), "{}: {event:?}", flow.name);
            }
        }
    }
    Ok(())
}

/// What holds still long enough to be read, on Linux.
const LASTING: [&str; 9] = [
    "LISTEN",
    "SYN-SENT",
    "ESTABLISHED",
    "FIN-WAIT-1",
    "FIN-WAIT-2",
    "CLOSE-WAIT",
    "TIME-WAIT",
    "LAST-ACK",
    "UNCONN",
];

#[test]
fn a_state_that_was_read_is_one_that_lasts() -> Result<()> {
    for flow in flows()? {
        for socket in flow.readings().iter().flat_map(|r| &r.sockets) {
            let state = socket.state.as_str();
            assert!(LASTING.contains(&state), "{}: {state}", flow.name);
        }
    }
    Ok(())
}

#[test]
fn what_is_deduced_is_dashed_and_nothing_else_is() -> Result<()> {
    for flow in flows()? {
        let events = flow.steps.iter().flat_map(|step| &step.events);
        let deduced = events
            .filter(|event| {
                matches!(event, Event::Packet { .. } | Event::Passes { .. })
            })
            .count();
        for (layout, class) in Layout::ALL {
            let drawn = draw::body(&flow, layout, "id");
            let name = &flow.name;
            let dashed = drawn.matches("stroke-dasharray").count();
            assert_eq!(dashed, deduced, "{name}, {class}: dashed");
            let told = drawn.matches("<title>Deduced: RFC ").count();
            assert_eq!(told, deduced, "{name}, {class}: with its RFC");
        }
    }
    Ok(())
}

/// A flow that is nothing but one reading of one socket at the server.
fn reading_of(state: &str, receive_queue: usize) -> Flow {
    let socket = Socket {
        side: Side::Server,
        client: "client".to_owned(),
        local: "127.0.0.1:9006".to_owned(),
        peer: "127.0.0.1:50001".to_owned(),
        state: state.to_owned(),
        receive_queue,
        send_queue: 0,
        backlog: None,
    };
    Flow {
        name: "test".to_owned(),
        title: "A test".to_owned(),
        summary: "A reading.".to_owned(),
        protocol: "tcp".to_owned(),
        actors: vec![Actor {
            name: "server".to_owned(),
            program: "server".to_owned(),
            side: Side::Server,
        }],
        steps: vec![Step {
            title: "A reading".to_owned(),
            text: "It is read.".to_owned(),
            rust: String::new(),
            python: String::new(),
            events: vec![],
            reading: Some(Reading {
                waiting: vec![],
                sockets: vec![socket],
            }),
        }],
    }
}

const BYTE: &str = "width=\"8\" height=\"8\"";

#[test]
fn an_unread_fin_is_never_drawn_as_a_byte() {
    for (layout, _) in Layout::ALL {
        let fin = draw::body(&reading_of("CLOSE-WAIT", 1), layout, "id");
        assert_eq!(fin.matches(BYTE).count(), 0);
        assert!(!fin.contains("byte") && fin.contains("FIN unread"));
        let both = draw::body(&reading_of("CLOSE-WAIT", 4), layout, "id");
        assert_eq!(both.matches(BYTE).count(), 3);
        assert!(both.contains("3 bytes unread") && both.contains("FIN unread"));
        let bytes = draw::body(&reading_of("ESTABLISHED", 4), layout, "id");
        assert_eq!(bytes.matches(BYTE).count(), 4);
        assert!(!bytes.contains("FIN"));
        let none = draw::body(&reading_of("CLOSE-WAIT", 0), layout, "id");
        assert!(!none.contains("FIN") && !none.contains(BYTE));
    }
}

#[test]
fn each_step_has_words_and_something_to_see() -> Result<()> {
    for flow in flows()? {
        ensure!(flow.summary.ends_with('.'), "{}: summary", flow.name);
        for step in &flow.steps {
            let place = format!("{}: {}", flow.name, step.title);
            assert!(!step.title.ends_with(['.', ' ']), "{place}");
            assert!(step.text.ends_with(['.', '?', ')']), "{place}");
            assert!(!step.events.is_empty() || step.reading.is_some());
            for word in ["!", "simply", "obviously", "behavior", "TODO"] {
                let text = format!("{} {}", step.title, step.text);
                assert!(!text.contains(word), "{place}: {word}");
            }
        }
        assert!(flow.steps.last().is_some_and(|s| s.reading.is_some()));
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
fn each_line_of_rust_stands_in_a_program_that_is_played() -> Result<()> {
    let mut text = String::new();
    for entry in fs::read_dir(harness::root().join("crates"))? {
        let package = entry?.path();
        let name = package.file_name().unwrap_or_default().to_string_lossy();
        if name == "probe" || name.starts_with(|c: char| c.is_ascii_digit()) {
            text.push_str(&sources(&package.join("src"))?);
        }
    }
    for flow in flows()? {
        for step in &flow.steps {
            for line in step.rust.split("; ") {
                let bare: String = line.split_whitespace().collect();
                let place = format!("{}: {}", flow.name, step.title);
                assert!(text.contains(&bare), "{place}: {line}");
            }
        }
    }
    Ok(())
}

/// A wait that begins twice, or ends without a beginning, is not a recording.
#[test]
fn each_wait_has_a_beginning() -> Result<()> {
    for flow in flows()? {
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
fn each_program_that_a_reading_names_takes_part() -> Result<()> {
    for flow in flows()? {
        for waiting in flow.readings().iter().flat_map(|r| &r.waiting) {
            let known = flow.actors.iter().any(|a| a.program == waiting.who);
            assert!(known, "{}: {waiting:?}", flow.name);
        }
    }
    Ok(())
}
