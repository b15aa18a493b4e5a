//! The figure as a page includes it: one block of HTML, which tells
//! everything without a script; the player makes steps of it.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Result;

use crate::draw::{Layout, body, escape, head};
use crate::{
    Event, Flow, Phase, SS_HEAD, Side, Snapshot, Socket, Step, folder, states,
};

/// Every figure: its path and its text, made from the recordings.
///
/// # Errors
/// A recording is missing.
pub fn pages() -> Result<Vec<(PathBuf, String)>> {
    let flows = crate::all()?;
    let mut pages: Vec<_> = flows
        .iter()
        .map(|flow| (format!("{}.html", flow.name), figure(flow)))
        .collect();
    pages.push(("states.html".to_owned(), states::figure(&flows)));
    let place = |(name, text)| (folder().join(name), text);
    Ok(pages.into_iter().map(place).collect())
}

/// The figure of one recording. No line of it is blank: a blank line would
/// end the block for Markdown.
pub fn figure(flow: &Flow) -> String {
    let name = &flow.name;
    let title = escape(&flow.title);
    let mut out = format!(
        "<figure class=\"flow\" id=\"flow-{name}\" data-drawings=\"2\" \
         aria-label=\"{title}\">\n\
         <figcaption><strong>{title}.</strong> Solid: seen, by strace and in \
         the kernel's tables. Dashed: deduced, as each step says. Deduced too: \
         which of two programs was first. A thick bar: a call that waits.\
         </figcaption>\n<div class=\"flow-picture\">\n"
    );
    for (layout, class) in Layout::ALL {
        let head = head(flow, layout);
        let body = body(flow, layout, &format!("flow-{name}-{class}"));
        let _ = write!(
            out,
            "<div class=\"flow-{class}\">\n{head}\n{body}\n</div>\n"
        );
    }
    out.push_str("</div>\n<ol class=\"flow-steps\">\n");
    for step in &flow.steps {
        out.push_str(&item(flow, step));
    }
    out + "</ol>\n</figure>\n"
}

fn item(flow: &Flow, step: &Step) -> String {
    let mut out = format!(
        "<li><strong>{}.</strong> {}",
        escape(&step.title),
        escape(&step.text)
    );
    let mut facts: Vec<(&str, String)> = Vec::new();
    for line in &step.code {
        facts.push(("Rust", code(&line.rust)));
        facts.push(("Python", code(&line.python)));
    }
    facts.extend(step.events.iter().map(|event| fact(flow, event)));
    if let Some(reading) = &step.snapshot {
        let mut waiting: Vec<String> = Vec::new();
        let mut last = "";
        for w in &reading.waiting {
            match waiting.last_mut() {
                Some(line) if last == w.who => {
                    *line += &format!(" and {}", code(&w.call));
                }
                _ => {
                    let who = escape(&w.who);
                    waiting.push(format!("{who} in {}", code(&w.call)));
                }
            }
            last = &w.who;
        }
        if !waiting.is_empty() {
            facts.push(("Waiting", waiting.join(", ")));
        }
    }
    if !facts.is_empty() {
        out.push_str("\n<div class=\"flow-facts\">");
        let mut last = "";
        for (key, words) in facts {
            let shown = if key == last { "" } else { key };
            last = key;
            let _ =
                write!(out, "\n<div><b>{shown}</b> <span>{words}</span></div>");
        }
        out.push_str("\n</div>");
    }
    if let Some(reading) = &step.snapshot {
        out.push_str(&table(flow, reading));
    }
    out + "</li>\n"
}

/// What stands beside the picture for one thing that happens.
fn fact(flow: &Flow, event: &Event) -> (&'static str, String) {
    let several = flow.programs(Side::Client) > 1;
    let (key, words) = match event {
        Event::Call {
            who,
            call,
            result,
            phase,
        } => {
            let call = match phase {
                Phase::Waits => format!("{} waits", code(call)),
                Phase::Returns => {
                    format!("{} returns", code(&format!("{call} = {result}")))
                }
                Phase::Whole => code(&format!("{call} = {result}")),
            };
            return ("System call", format!("{}: {call}", escape(who)));
        }
        Event::Happens { who, what } => ("Happens", format!("{who}: {what}")),
        Event::Packet {
            client,
            from,
            flags,
            bytes,
            ..
        } => {
            let way = match from {
                Side::Client => "from",
                Side::Server => "to",
            };
            (
                "Packet",
                format!("{flags}, {bytes} bytes, {way} {}", the(client)),
            )
        }
        Event::State {
            client,
            side,
            state,
            ..
        } => {
            let whose = match side {
                Side::Client => format!("{}'s end", the(client)),
                Side::Server if client.is_empty() => {
                    "the server's socket".to_owned()
                }
                Side::Server if several => {
                    format!("the server's end for {}", the(client))
                }
                Side::Server => "the server's end".to_owned(),
            };
            ("State", format!("{state}, {whose}"))
        }
    };
    (key, escape(&words))
}

/// A name with its article, unless it has a number.
fn the(client: &str) -> String {
    match client.ends_with(|c: char| c.is_ascii_digit()) {
        true => client.to_owned(),
        false => format!("the {client}"),
    }
}

fn code(text: &str) -> String {
    format!("<code>{}</code>", escape(text))
}

/// The sockets as `ss` would print them.
fn table(flow: &Flow, reading: &Snapshot) -> String {
    let options = match flow.protocol.as_str() {
        "udp" => "-uan",
        _ => "-tan",
    };
    let rows: Vec<_> = reading.sockets.iter().map(Socket::ss).collect();
    let mut out = format!(
        "\n<pre class=\"flow-ss\">$ ss {options}\n{SS_HEAD}\n{}</pre>",
        escape(&rows.join("\n"))
    );
    if reading.sockets.iter().any(Socket::unread_fin) {
        out.push_str(
            "\n<p>In Recv-Q the kernel counts a FIN that nobody has read as \
             one byte. It is none, and the figure draws none.</p>",
        );
    }
    out
}
