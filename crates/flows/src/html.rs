//! The figure as a page includes it: one block of HTML, which tells
//! everything without a script; the player makes steps of it.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Result;

use crate::draw::{Layout, body, escape, head};
use crate::{
    Event, Flow, Phase, Reading, Side, Socket, Step, folder, scenarios,
};

/// Every figure: its path and its text, made from the recordings.
///
/// # Errors
/// A recording is missing.
pub fn pages() -> Result<Vec<(PathBuf, String)>> {
    let mut pages = Vec::new();
    for scenario in scenarios::ALL {
        let flow = Flow::load(scenario.name)?;
        let path = folder().join(format!("{}.html", flow.name));
        pages.push((path, figure(&flow)));
    }
    Ok(pages)
}

/// The figure of one recording. No line of it is blank: a blank line would
/// end the block for Markdown.
pub fn figure(flow: &Flow) -> String {
    let name = &flow.name;
    let title = escape(&flow.title);
    let mut out = format!(
        "<figure class=\"flow\" id=\"flow-{name}\" aria-label=\"{title}\">\n\
         <figcaption><strong>{title}.</strong> Solid: seen, by strace and in \
         the kernel's tables. Dashed: deduced, as each step says. A thick bar: \
         a call that waits.</figcaption>\n<div class=\"flow-picture\">\n"
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
    let mut rows: Vec<(&str, String)> = Vec::new();
    if !step.rust.is_empty() {
        rows.push(("Rust", code(&step.rust)));
    }
    if !step.python.is_empty() {
        rows.push(("Python", code(&step.python)));
    }
    let several = |side| flow.programs(side) > 1;
    let by = |who: &str| format!(", {}", escape(who));
    for event in &step.events {
        rows.push(match event {
            Event::Call {
                who,
                call,
                result,
                phase,
            } => {
                let words = match (phase, result.as_str()) {
                    (Phase::Waits, _) => format!("{} waits", code(call)),
                    (Phase::Returns, result) => {
                        format!(
                            "{} returns",
                            code(&format!("{call} = {result}"))
                        )
                    }
                    (_, result) => code(&format!("{call} = {result}")),
                };
                ("System call", words + &by(who))
            }
            Event::Act { who, what } => {
                ("Happens", format!("{}: {}", escape(who), escape(what)))
            }
            Event::Packet {
                client,
                from,
                label,
                deduced,
            } => {
                let whose = match (from, client.as_str()) {
                    (Side::Client, client) => format!("from {client}"),
                    (Side::Server, client) => format!("to {client}"),
                };
                let words = format!("{label}, {whose} ({deduced})");
                ("Deduced", escape(&words))
            }
            Event::Passes {
                client,
                side,
                state,
                deduced,
            } => {
                let whose = match (side, client.as_str()) {
                    (Side::Server, "") => "the server's socket".to_owned(),
                    (Side::Server, _) if several(Side::Client) => {
                        format!("the server's end for {client}")
                    }
                    (Side::Server, _) => "the server's end".to_owned(),
                    (Side::Client, client) => format!("the end of {client}"),
                };
                let words = format!("{state}, {whose} ({deduced})");
                ("Deduced", escape(&words))
            }
        });
    }
    if !rows.is_empty() {
        out.push_str("\n<dl>");
        let mut last = "";
        for (name, words) in rows {
            if name != last {
                let _ = write!(out, "<dt>{name}</dt>");
            }
            last = name;
            let _ = write!(out, "<dd>{words}</dd>");
        }
        out.push_str("</dl>");
    }
    if let Some(reading) = &step.reading {
        out.push_str(&read(flow, reading));
    }
    out + "</li>\n"
}

fn code(text: &str) -> String {
    format!("<code>{}</code>", escape(text))
}

/// What was read: who waits, and the sockets as `ss` would print them.
fn read(flow: &Flow, reading: &Reading) -> String {
    let mut out = String::new();
    if !reading.waiting.is_empty() {
        let waiting: Vec<_> = reading
            .waiting
            .iter()
            .map(|w| format!("{} in {}", escape(&w.who), code(&w.call)))
            .collect();
        let _ = write!(
            out,
            "\n<dl><dt>Waiting</dt><dd>{}</dd></dl>",
            waiting.join(", ")
        );
    }
    let options = match flow.protocol.as_str() {
        "udp" => "-uan",
        _ => "-tan",
    };
    let rows: Vec<_> = reading.sockets.iter().map(ss).collect();
    let table = escape(&rows.join("\n"));
    let _ = write!(
        out,
        "\n<pre class=\"flow-ss\">$ ss {options}\n{SS_HEAD}\n{table}</pre>"
    );
    if reading.sockets.iter().any(Socket::unread_fin) {
        out.push_str(
            "\n<p>The kernel counts an unread FIN as one byte of Recv-Q. It \
             is none.</p>",
        );
    }
    out
}

const SS_HEAD: &str =
    "State      Recv-Q Send-Q   Local Address:Port      Peer Address:Port";

/// The row of a socket as ss(8) prints it.
pub fn ss(socket: &Socket) -> String {
    let state = match socket.state.as_str() {
        "ESTABLISHED" => "ESTAB",
        "SYN-RECEIVED" => "SYN-RECV",
        state => state,
    };
    let send = socket.backlog.unwrap_or(socket.send_queue);
    format!(
        "{state:<10} {:<6} {send:<6} {:>20} {:>22}",
        socket.receive_queue, socket.local, socket.peer
    )
}
