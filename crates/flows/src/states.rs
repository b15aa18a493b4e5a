//! The states of a TCP connection (RFC 9293, section 3.3.2), with the paths
//! that the recordings took.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::draw::{Layout, escape};
use crate::{Event, Flow, Side};

/// A state, and where it stands: column and row. CLOSED stands twice, as the
/// beginning and as the end.
const STATES: [(&str, u8, u8); 12] = [
    ("CLOSED", 1, 0),
    ("LISTEN", 0, 1),
    ("SYN-SENT", 2, 1),
    ("SYN-RECEIVED", 0, 2),
    ("ESTABLISHED", 1, 3),
    ("FIN-WAIT-1", 0, 4),
    ("CLOSE-WAIT", 2, 4),
    ("FIN-WAIT-2", 0, 5),
    ("CLOSING", 1, 5),
    ("LAST-ACK", 2, 5),
    ("TIME-WAIT", 0, 6),
    (END, 1, 7),
];
const END: &str = "CLOSED again";

/// What leads from one state to another: what happens, and what is sent. (The
/// ways back to CLOSED before a connection exists are left out.)
const CHANGES: [(&str, &str, &str, &str); 18] = [
    ("CLOSED", "LISTEN", "listen", ""),
    ("CLOSED", "SYN-SENT", "connect", "SYN"),
    ("LISTEN", "SYN-RECEIVED", "SYN", "SYN, ACK"),
    ("LISTEN", "SYN-SENT", "send", "SYN"),
    ("SYN-SENT", "SYN-RECEIVED", "SYN", "SYN, ACK"),
    ("SYN-SENT", "ESTABLISHED", "SYN, ACK", "ACK"),
    ("SYN-RECEIVED", "ESTABLISHED", "ACK", ""),
    ("SYN-RECEIVED", "FIN-WAIT-1", "close", "FIN"),
    ("ESTABLISHED", "FIN-WAIT-1", "close", "FIN"),
    ("ESTABLISHED", "CLOSE-WAIT", "FIN", "ACK"),
    ("FIN-WAIT-1", "FIN-WAIT-2", "ACK", ""),
    ("FIN-WAIT-1", "CLOSING", "FIN", "ACK"),
    ("FIN-WAIT-2", "TIME-WAIT", "FIN", "ACK"),
    ("CLOSING", "TIME-WAIT", "ACK", ""),
    ("CLOSE-WAIT", "LAST-ACK", "close", "FIN"),
    ("LAST-ACK", END, "ACK", ""),
    ("TIME-WAIT", END, "a wait", ""),
    ("FIN-WAIT-1", "TIME-WAIT", "FIN and ACK", "ACK"),
];

/// One end of one recorded connection: its states, and whether each was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Whose end, and in which recording.
    pub whose: String,
    /// The states in order, with true for those that were read.
    pub states: Vec<(String, bool)>,
}

impl Path {
    /// Whether each step of it is one that TCP has.
    fn is_whole(&self) -> bool {
        self.states.len() > 2
            && self.states.windows(2).all(|pair| {
                CHANGES.iter().any(|(from, to, ..)| {
                    pair[0].0 == *from && pair[1].0 == *to
                })
            })
    }

    fn names(&self) -> Vec<&str> {
        self.states.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// The paths of the recordings, each sequence of states once. A state that
/// one recording deduced and another read was seen.
pub fn paths(flows: &[Flow]) -> Vec<Path> {
    let mut found: Vec<Path> = Vec::new();
    for path in flows.iter().flat_map(paths_of) {
        match found.iter_mut().find(|p| p.names() == path.names()) {
            None if path.is_whole() => found.push(path),
            None => {}
            Some(known) => {
                for (old, new) in known.states.iter_mut().zip(path.states) {
                    old.1 |= new.1;
                }
            }
        }
    }
    // What only began is no path of its own.
    let all: Vec<_> = found.iter().map(|p| p.states.clone()).collect();
    found.retain(|path| {
        let is_longer = |other: &&Vec<(String, bool)>| {
            other.len() > path.states.len()
                && other.iter().zip(&path.states).all(|(a, b)| a.0 == b.0)
        };
        !all.iter().any(|other| is_longer(&other))
    });
    found
}

fn paths_of(flow: &Flow) -> Vec<Path> {
    let mut ends: BTreeMap<(bool, String), Vec<(String, bool)>> =
        BTreeMap::new();
    let mut pass = |side: Side, client: &str, state: &str, seen: bool| {
        if client.is_empty() {
            return;
        }
        let key = (side == Side::Server, client.to_owned());
        let states = ends.entry(key).or_insert_with(|| match side {
            // The server's end comes out of the listener.
            Side::Server => vec![("LISTEN".to_owned(), true)],
            Side::Client => vec![("CLOSED".to_owned(), false)],
        });
        let closed_again = states.len() > 1 && state == "CLOSED";
        let state = if closed_again { END } else { state };
        match states.last_mut() {
            Some((last, known)) if last == state => *known |= seen,
            _ => states.push((state.to_owned(), seen)),
        }
    };
    for step in &flow.steps {
        for event in &step.events {
            if let Event::State {
                client,
                side,
                state,
                ..
            } = event
            {
                pass(*side, client, state, true);
            }
        }
        for socket in step.snapshot.iter().flat_map(|r| &r.sockets) {
            pass(socket.side, &socket.client, &socket.state, true);
        }
    }
    let title = &flow.title;
    ends.into_iter()
        .map(|((server, _), states)| Path {
            whose: match server {
                true => format!("The server's end: {title}"),
                false => format!("The client's end: {title}"),
            },
            states,
        })
        .collect()
}

/// The figure, as a page includes it.
pub fn figure(flows: &[Flow]) -> String {
    let paths = paths(flows);
    let mut out = String::from(
        "<figure class=\"flow flow-whole\" id=\"flow-states\" data-drawings=\"1\" \
         aria-label=\"The states of a TCP connection\">\n\
         <figcaption><strong>The states of a TCP connection.</strong> Thick: \
         the paths that the recordings of this book took. A solid frame: the \
         state was read in the kernel's table. A dashed frame: it was too \
         short, and is deduced. A dashed arrow: FIN-WAIT-2 may have come \
         between, which the recording leaves open.</figcaption>\n<div class=\"flow-picture\">\n",
    );
    for (layout, class) in Layout::ALL {
        let body = draw(&paths, layout, class);
        let _ = write!(out, "<div class=\"flow-{class}\">\n{body}\n</div>\n");
    }
    out.push_str("</div>\n<ol class=\"flow-steps\">\n");
    for path in &paths {
        let states: Vec<_> = path
            .states
            .iter()
            .map(|(name, seen)| match seen {
                true => format!("<b>{name}</b>"),
                false => format!("<i>{name}</i>"),
            })
            .collect();
        let open = match path.states.windows(2).any(is_open) {
            true => {
                " Whether it passed FIN-WAIT-2 after FIN-WAIT-1 was not seen."
            }
            false => "",
        };
        let _ = writeln!(
            out,
            "<li><strong>{}.</strong> {}.{open} (Bold: read, in one of the recordings \
             that took this path. Italic: deduced, RFC 9293, section \
             3.3.2.)</li>",
            escape(&path.whose),
            states.join(", ")
        );
    }
    out + "</ol>\n</figure>\n"
}

/// Nobody saw whether the ACK came alone, before the FIN, or with it.
fn is_open(pair: &[(String, bool)]) -> bool {
    pair[0].0 == "FIN-WAIT-1" && pair[1].0 == "TIME-WAIT"
}

/// The places of a layout: the middle of each column, and of each row.
fn place(layout: Layout, name: &str) -> (f64, f64) {
    let (columns, row) = match layout {
        Layout::Wide => ([190.0, 405.0, 620.0], 64.0),
        Layout::Narrow => ([72.0, 198.0, 324.0], 56.0),
    };
    let found = STATES.iter().find(|(state, ..)| *state == name);
    let (column, line) = found.map_or((1, 0), |(_, x, y)| (*x, *y));
    (columns[usize::from(column)], f64::from(line) * row + 18.0)
}

const WIDTH: f64 = 104.0;
const HEIGHT: f64 = 24.0;

fn draw(paths: &[Path], layout: Layout, class: &str) -> String {
    let width = layout.width();
    let height = place(layout, END).1 + 18.0;
    let mut out = format!(
        "<svg class=\"flow-body\" fill=\"currentColor\" role=\"img\" \
         viewBox=\"0 0 {width} {height}\" \
         aria-labelledby=\"flow-states-{class}-title \
         flow-states-{class}-desc\"><title id=\"flow-states-{class}-title\">\
         The states of a TCP connection</title>\
         <desc id=\"flow-states-{class}-desc\">Twelve boxes and the changes \
         between them. The list below names each recorded path.</desc>"
    );
    for (from, to, event, sent) in CHANGES {
        out.push_str(&arrow(layout, from, to, 1.0, ""));
        if layout == Layout::Wide {
            out.push_str(&label(layout, from, to, event, sent));
        }
    }
    for (name, ..) in STATES {
        let (x, y) = place(layout, name);
        let _ = write!(
            out,
            "<rect x=\"{}\" y=\"{}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             rx=\"4\" fill=\"none\" stroke=\"currentColor\" \
             stroke-opacity=\"0.4\"/><text x=\"{x}\" y=\"{}\" \
             text-anchor=\"middle\">{name}</text>",
            x - WIDTH / 2.0,
            y - HEIGHT / 2.0,
            y + 4.5
        );
    }
    for (number, path) in paths.iter().enumerate() {
        let _ = write!(
            out,
            "\n<g class=\"flow-step flow-path\" data-step=\"{}\">",
            number + 1
        );
        for (state, seen) in &path.states {
            let (x, y) = place(layout, state);
            let dashes = if *seen {
                ""
            } else {
                " stroke-dasharray=\"5 3\""
            };
            let _ = write!(
                out,
                "<rect class=\"flow-band\" x=\"{}\" y=\"{}\" \
                 width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"4\" \
                 fill=\"currentColor\" fill-opacity=\"0\" \
                 stroke=\"currentColor\" stroke-width=\"2.5\"{dashes}/>",
                x - WIDTH / 2.0,
                y - HEIGHT / 2.0
            );
        }
        for pair in path.states.windows(2) {
            let dashes = match is_open(pair) {
                true => " stroke-dasharray=\"5 3\"",
                false => "",
            };
            let (from, to) = (&pair[0].0, &pair[1].0);
            out.push_str(&arrow(layout, from, to, 3.0, dashes));
        }
        out.push_str("</g>");
    }
    out + "</svg>"
}

/// From the edge of one box to the edge of the other.
fn ends(layout: Layout, from: &str, to: &str) -> ((f64, f64), (f64, f64)) {
    let (a, b) = (place(layout, from), place(layout, to));
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    // Past a box that stands between.
    if dx == 0.0 && dy > 1.6 * (place(layout, "LISTEN").1 - 18.0) {
        let x = a.0 - WIDTH / 2.0;
        return ((x, a.1), (x, b.1));
    }
    let share = (WIDTH / 2.0 / dx.abs()).min(HEIGHT / 2.0 / dy.abs());
    (
        (a.0 + dx * share, a.1 + dy * share),
        (b.0 - dx * share, b.1 - dy * share),
    )
}

fn arrow(
    layout: Layout,
    from: &str,
    to: &str,
    width: f64,
    dashes: &str,
) -> String {
    let ((x1, y1), (x2, y2)) = ends(layout, from, to);
    let opacity = if width > 1.0 { 1.0 } else { 0.4 };
    let beside = x1 == x2 && (y2 - y1) > 100.0;
    let (line, (dx, dy)) = if beside {
        let out = layout_gap(layout);
        (format!("M{x1} {y1}h-{out}V{y2}h{out}"), (1.0, 0.0))
    } else {
        let length = (x2 - x1).hypot(y2 - y1);
        (
            format!("M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}"),
            ((x2 - x1) / length, (y2 - y1) / length),
        )
    };
    let (bx, by) = (x2 - dx * 8.0, y2 - dy * 8.0);
    format!(
        "<g fill=\"none\" stroke=\"currentColor\" stroke-width=\"{width}\" \
         stroke-opacity=\"{opacity}\"><path d=\"{line}\"{dashes}/>\
         <path d=\"M{:.1} {:.1}L{x2:.1} {y2:.1}L{:.1} {:.1}\"/></g>",
        bx - dy * 4.0,
        by + dx * 4.0,
        bx + dy * 4.0,
        by - dx * 4.0,
    )
}

fn layout_gap(layout: Layout) -> f64 {
    match layout {
        Layout::Wide => 20.0,
        Layout::Narrow => 12.0,
    }
}

/// What happens above the arrow's middle, and what is sent below it.
fn label(
    layout: Layout,
    from: &str,
    to: &str,
    event: &str,
    sent: &str,
) -> String {
    let ((x1, y1), (x2, y2)) = ends(layout, from, to);
    let middle = ((x1 + x2) / 2.0, (y1 + y2) / 2.0);
    let text = match sent {
        "" => event.to_owned(),
        sent => format!("{event} / {sent}"),
    };
    let (x, y, anchor) = match (from, to) {
        ("FIN-WAIT-1", "TIME-WAIT") => (x1 - 24.0, middle.1 + 4.0, "end"),
        ("LISTEN", "SYN-SENT") => (middle.0, middle.1 - 5.0, "middle"),
        ("SYN-RECEIVED", "FIN-WAIT-1") => (x1 - 24.0, middle.1 + 4.0, "end"),
        _ if x1 == x2 => (x1 + 8.0, middle.1 + 4.0, "start"),
        _ if (x2 > x1) == (y2 > y1) => {
            (middle.0 + 8.0, middle.1 - 6.0, "start")
        }
        _ => (middle.0 - 8.0, middle.1 - 6.0, "end"),
    };
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" \
         class=\"faint\">{text}</text>"
    )
}
