//! The figures: drawn as recorded, and honest about what was not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use flows::{Actor, Event, Flow, Phase, Seen, Side, Snapshot, Socket, Step};
use flows::{figures, html};

const STATES: &str = "assets/tcp-states.html";

fn docs() -> PathBuf {
    harness::root().join("docs")
}

/// Every figure of the book: its path below `docs`, and its text.
fn shown() -> Result<Vec<(String, String)>> {
    let mut all = vec![(STATES.to_owned(), states_figure()?)];
    for (path, text) in figures()? {
        let name = path.file_name().context("a figure has a name")?;
        all.push((format!("flows/{}", name.to_string_lossy()), text));
    }
    Ok(all)
}

fn states_figure() -> Result<String> {
    Ok(fs::read_to_string(docs().join(STATES))?)
}

#[test]
fn each_figure_is_drawn_from_its_recording() -> Result<()> {
    for (path, text) in figures()? {
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
fn each_figure_is_shown_by_a_page() -> Result<()> {
    let mut pages = String::new();
    for entry in fs::read_dir(docs())? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "md") {
            pages.push_str(&fs::read_to_string(path)?);
        }
    }
    for (name, _) in shown()? {
        let include = format!("{{{{#include {name}}}}}");
        assert!(pages.contains(&include), "no page has {include}");
    }
    Ok(())
}

/// A blank line would end the block of HTML for Markdown.
#[test]
fn each_figure_is_one_block_of_html() -> Result<()> {
    for (name, text) in shown()? {
        let blank = text.lines().any(|line| line.trim().is_empty());
        assert!(!blank, "{name}: a blank line");
    }
    Ok(())
}

/// A picture and its words: the picture is for the eyes only.
#[test]
fn each_step_is_drawn_and_told() -> Result<()> {
    for (name, text) in shown()? {
        let (picture, words) = text
            .split_once("<ol class=\"flow-steps\">")
            .with_context(|| format!("{name} has no words"))?;
        let drawn = picture.matches("class=\"flow-step\"").count();
        assert!(drawn > 1 && picture.contains("aria-hidden=\"true\""));
        assert_eq!(drawn, words.matches("<li>").count(), "{name}");
    }
    Ok(())
}

#[test]
fn what_was_seen_late_is_dashed_and_nothing_else_is() -> Result<()> {
    for flow in flows::all()? {
        let events = flow.steps.iter().flat_map(|step| &step.events);
        let late = events.filter(|event| {
            matches!(event, Event::State { seen, .. } if *seen != Seen::There)
        });
        let late = late.count();
        let figure = html::figure(&flow);
        let dashed = figure.matches("class=\"state later\"").count();
        assert_eq!(dashed, late, "{}", flow.name);
        assert_eq!(figure.contains("dashed frame"), late > 0, "{}", flow.name);
    }
    Ok(())
}

/// The figure of one step at the server.
fn figure_of(step: Step) -> String {
    html::figure(&Flow {
        name: "test".to_owned(),
        title: "A test".to_owned(),
        summary: "A step.".to_owned(),
        protocol: "tcp".to_owned(),
        actors: vec![Actor {
            name: "server".to_owned(),
            program: "server".to_owned(),
            side: Side::Server,
        }],
        steps: vec![step],
    })
}

#[test]
fn an_unread_fin_is_never_drawn_as_a_byte() {
    let drawn = |state: &str, receive_queue: usize| {
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
        let snapshot = Snapshot {
            waiting: vec![],
            sockets: vec![socket],
        };
        let figure = figure_of(Step {
            snapshot: Some(snapshot),
            ..Step::default()
        });
        let bytes = figure.matches("<i class=\"byte\">").count();
        (bytes, figure.matches("<i class=\"fin\">").count())
    };
    assert_eq!(drawn("CLOSE-WAIT", 1), (0, 1));
    assert_eq!(drawn("CLOSE-WAIT", 4), (3, 1));
    assert_eq!(drawn("ESTABLISHED", 4), (4, 0));
    assert_eq!(drawn("CLOSE-WAIT", 0), (0, 0));
}

/// Without root nobody sees packets or states, and the figure says so.
#[test]
fn a_figure_claims_only_what_was_seen() {
    let call = Event::Call {
        who: "server".to_owned(),
        call: "accept4(3)".to_owned(),
        result: String::new(),
        phase: Phase::Waits,
    };
    let figure = figure_of(Step {
        events: vec![call],
        ..Step::default()
    });
    assert!(figure.contains("Seen: the calls by strace. Deduced:"));
    assert!(!figure.contains("tcpdump") && !figure.contains("tracepoint"));
}

#[test]
fn what_a_program_writes_is_text_and_never_html() {
    let call = Event::Call {
        who: "server".to_owned(),
        call: "sendto(4, \"<script>&\", 9)".to_owned(),
        result: "9".to_owned(),
        phase: Phase::Whole,
    };
    let figure = figure_of(Step {
        title: "<script>".to_owned(),
        events: vec![call],
        ..Step::default()
    });
    assert!(!figure.contains("<script>"), "{figure}");
    assert!(figure.contains("&lt;script&gt;&amp;"), "{figure}");
}

/// The states of one end of one connection, in order.
type StatePath = Vec<String>;

/// The paths that the recordings took, as the figure names the states, but
/// for those that end the connection early: a reset is no arrow of the figure.
fn recorded_paths(figure: &str) -> Result<BTreeSet<StatePath>> {
    let mut whole = BTreeSet::new();
    for flow in flows::all()? {
        let mut ends: BTreeMap<(Side, &str), StatePath> = BTreeMap::new();
        for event in flow.steps.iter().flat_map(|step| &step.events) {
            if let Event::State {
                client,
                side,
                from,
                state,
                ..
            } = event
                && !client.is_empty()
            {
                let path = ends.entry((*side, client)).or_default();
                if path.is_empty() {
                    path.push(from.clone());
                }
                path.push(match state.as_str() {
                    "CLOSED" => "CLOSED again".to_owned(),
                    state => state.to_owned(),
                });
            }
        }
        whole.extend(ends.into_values().filter(|path| {
            let last = path.last().map(String::as_str);
            matches!(last, Some("TIME-WAIT" | "CLOSED again"))
                && path.windows(2).all(|pair| {
                    figure.contains(&format!("<line id=\"{}\"", way(pair)))
                })
        }));
    }
    Ok(whole)
}

fn id(state: &str) -> String {
    state.to_lowercase().replace(' ', "-")
}

fn way(pair: &[String]) -> String {
    format!("tcp-{}--{}", id(&pair[0]), id(&pair[1]))
}

#[test]
fn the_figure_of_the_states_shows_the_paths_that_were_recorded() -> Result<()> {
    let figure = states_figure()?;
    let mut told = BTreeSet::new();
    for line in figure.lines().filter(|line| line.starts_with("<li>")) {
        let (_, states) = line.split_once("</strong> ").context("a title")?;
        let (states, _) = states.split_once('.').context("an end")?;
        let path: StatePath = states.split(", ").map(str::to_owned).collect();
        let mut drawn = format!("<use href=\"#tcp-{}\"/>", id(&path[0]));
        for pair in path.windows(2) {
            drawn += &format!("<use href=\"#{}\"/>", way(pair));
            drawn += &format!("<use href=\"#tcp-{}\"/>", id(&pair[1]));
        }
        let step = format!("<g class=\"flow-step\">{drawn}</g>");
        assert!(figure.contains(&step), "not drawn: {states}");
        told.insert(path);
    }
    assert_eq!(told, recorded_paths(&figure)?);
    Ok(())
}
