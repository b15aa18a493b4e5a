//! The figure as a page includes it: one block of HTML, which tells
//! everything without a script; the player makes steps of it.

use std::fmt::Write;

pub use crate::picture::escape;
use crate::picture::{MOST_ALIKE, alike, bytes_of, picture, waits};
use crate::{Event, Flow, Phase, SS_HEAD, Seen, Side, Snapshot, Socket, Step};

/// The figure of a flow. No line of it is blank: a blank line would end the
/// block for Markdown.
pub fn figure(flow: &Flow) -> String {
    let name = &flow.name;
    let title = escape(&flow.title);
    let summary = escape(&flow.summary);
    let seen = seen(flow);
    let picture = picture(flow);
    let steps: String = flow.steps.iter().map(|s| item(flow, s)).collect();
    format!(
        "<figure class=\"flow\" id=\"flow-{name}\" aria-label=\"{title}\">\n\
         <figcaption><strong>{title}.</strong> {summary} {seen}</figcaption>\n\
         {picture}<ol class=\"flow-steps\">\n{steps}</ol>\n</figure>\n"
    )
}

/// What was seen, what was not, and how the picture tells it.
fn seen(flow: &Flow) -> String {
    let has = |kind: fn(&Event) -> bool| {
        flow.steps.iter().flat_map(|step| &step.events).any(kind)
    };
    let packets = has(|event| matches!(event, Event::Packet { .. }));
    let late = has(
        |event| matches!(event, Event::State { seen, .. } if *seen != Seen::There),
    );
    let seen: Vec<_> = [
        (
            has(|event| matches!(event, Event::Call { .. })),
            "the calls by strace",
        ),
        (packets, "the packets by tcpdump"),
        (
            has(|event| matches!(event, Event::State { .. })),
            "the changes of state by the kernel's tracepoint",
        ),
        (
            !flow.snapshots().is_empty(),
            "the sockets in the kernel's tables",
        ),
    ]
    .into_iter()
    .filter_map(|(there, words)| there.then_some(words))
    .collect();
    let cause = if packets {
        ", and which call sent a packet"
    } else {
        ""
    };
    let dashed = match late {
        true => {
            " A dashed frame: a state that Linux tells of later than it begins."
        }
        false => "",
    };
    format!(
        "Seen: {}. Deduced: which of two programs was first{cause}. A thick \
         bar: a call that waits.{dashed}",
        seen.join(", ")
    )
}

fn item(flow: &Flow, step: &Step) -> String {
    let fails = match step.fails {
        true => " <b class=\"fails\">The check fails here.</b>",
        false => "",
    };
    let mut out = format!(
        "<li><strong>{}.</strong>{fails} {}",
        escape(&step.title),
        escape(&step.text)
    );
    let mut facts: Vec<(&str, String)> = Vec::new();
    let several = step.code.iter().any(|line| line.who != step.code[0].who);
    for key in ["Rust", "Python"] {
        for line in &step.code {
            let text = if key == "Rust" {
                &line.rust
            } else {
                &line.python
            };
            let who = match several {
                true => format!("{}: ", escape(&line.who)),
                false => String::new(),
            };
            let fact = (key, who + &code(text));
            // (One line of Rust may be several of Python.)
            if !text.is_empty() && facts.last() != Some(&fact) {
                facts.push(fact);
            }
        }
    }
    facts.extend(step.events.iter().map(|event| fact(flow, event)));
    if let Some(snapshot) = &step.snapshot {
        for (waiting, times) in waits(snapshot) {
            let (who, call) = (escape(&waiting.who), code(&waiting.call));
            facts.push(("Waiting", format!("{times}{who} in {call}")));
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
    if let Some(snapshot) = &step.snapshot {
        out.push_str(&table(flow, snapshot));
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
            seq,
            ack,
        } => {
            let mut words = flags.clone();
            if *bytes > 0 {
                words += &format!(", {}", bytes_of(*bytes));
            }
            for (name, number) in [("seq", seq), ("ack", ack)] {
                if let Some(number) = number {
                    words += &format!(", {name} {number}");
                }
            }
            let way = match from {
                Side::Client => "from",
                Side::Server => "to",
            };
            ("Packet", format!("{words}, {way} {}", the(client)))
        }
        Event::State {
            client,
            side,
            state,
            seen,
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
            let seen = match seen {
                Seen::There => "",
                Seen::Late => " (Linux tells of it with the third segment)",
                Seen::Table => " (read in the kernel's table)",
            };
            ("State", format!("{state}, {whose}{seen}"))
        }
    };
    (key, escape(&words))
}

/// A name with its article, unless it has a number, or is a letter.
fn the(client: &str) -> String {
    let is_name = client.ends_with(|c: char| c.is_ascii_digit());
    match is_name || client.len() == 1 {
        true => client.to_owned(),
        false => format!("the {client}"),
    }
}

fn code(text: &str) -> String {
    format!("<code>{}</code>", escape(text))
}

/// The sockets as `ss` would print them.
fn table(flow: &Flow, snapshot: &Snapshot) -> String {
    let options = match flow.protocol.as_str() {
        "udp" => "-uan",
        _ => "-tan",
    };
    let mut rows = Vec::new();
    for alike in alike(&snapshot.sockets) {
        let told = match alike.len() {
            few @ ..=MOST_ALIKE => few,
            _ => 1,
        };
        rows.extend(alike[..told].iter().map(Socket::ss));
        if alike.len() > told {
            rows.push(format!("(and {} like it)", alike.len() - told));
        }
    }
    let mut out = format!(
        "\n<pre class=\"flow-ss\">$ ss {options}\n{SS_HEAD}\n{}</pre>",
        escape(&rows.join("\n"))
    );
    if snapshot.sockets.iter().any(Socket::unread_fin) {
        out.push_str(
            "\n<p>In Recv-Q the kernel counts a FIN that nobody has read as \
             one byte. It is none, and the figure draws none.</p>",
        );
    }
    out
}
