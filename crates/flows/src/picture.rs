//! The picture: lanes side by side, time downwards.
//!
//! It is one piece of HTML for every width. Here stands what belongs where:
//! in which lane, on which track, in which row. How wide a lane is, and where
//! a text breaks, the browser knows, from `docs/assets/player.css`.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::{
    Code, Event, Flow, Phase, Seen, Side, Snapshot, Socket, Step, Waiting,
};

/// So many marks stand for a longer queue; the words say the number.
const MARKS: usize = 8;
/// It points to the right, and is as wide as its lane.
const ARROW: &str = "<svg viewBox=\"0 0 100 14\" preserveAspectRatio=\"none\">\
     <path d=\"M0 1 97 11\"/><path d=\"m90 5 8 6-9 3\"/></svg>";
const SIDES: [Side; 2] = [Side::Client, Side::Server];

/// The picture of a flow: the heads of its lanes, then step after step.
pub fn picture(flow: &Flow) -> String {
    let [clients, servers] =
        SIDES.map(|side| flow.actors.iter().filter(|a| a.side == side).count());
    let (client, its) = match flow.programs(Side::Client) {
        1 => ("client", "its"),
        _ => ("clients", "their"),
    };
    let mut out = format!(
        "<div class=\"flow-picture flow-lanes\" aria-hidden=\"true\" \
         style=\"--clients:{clients};--servers:{servers}\">\n\
         <div class=\"flow-head\"><b class=\"says client\">{client}</b>\
         <b class=\"kernel client\">{its} kernel</b>\
         <b class=\"kernel server\">its kernel</b>\
         <b class=\"says server\">server</b></div>"
    );
    let mut pen = Pen::new(flow);
    for step in &flow.steps {
        let cells = pen.step(step);
        let rows = pen.row - EDGE;
        let (fails, mark) = match step.fails {
            true => {
                (" flow-fails", "<b class=\"fails\">the check fails here</b>")
            }
            false => ("", ""),
        };
        let _ = write!(
            out,
            "\n<div class=\"flow-step{fails}\" style=\"--rows:{rows}\">\
             {mark}{cells}</div>"
        );
    }
    out + "\n</div>\n"
}

/// A row of a step. The first is the step's upper edge, and is empty.
type Row = usize;
const EDGE: Row = 1;

/// So many sockets of one client, or calls for it, are told one by one.
pub const MOST_ALIKE: usize = 5;

/// The lines on an actor's track: thin while it lives, a bar while it waits.
const KINDS: [&str; 2] = ["life", "wait"];
const LIFE: usize = 0;
const WAIT: usize = 1;

/// Draws step after step, and knows how far down it is.
struct Pen<'a> {
    flow: &'a Flow,
    /// Several clients have connections, so that a state names its client.
    several: bool,
    row: Row,
    /// The lines of the step's code that are not drawn yet.
    code: Vec<&'a Code>,
    /// Where the lines of each actor begin in this step, if they are there.
    lines: Vec<[Option<Row>; 2]>,
    /// Whose words stand last in the lane of each side, in this step.
    owner: [Option<usize>; 2],
    cells: String,
}

impl<'a> Pen<'a> {
    fn new(flow: &'a Flow) -> Self {
        let events = flow.steps.iter().flat_map(|step| &step.events);
        let of_packets = events.filter_map(|event| match event {
            Event::Packet { client, .. } => Some(client),
            _ => None,
        });
        let tables = flow.snapshots().into_iter();
        let sockets = tables.flat_map(|snapshot| &snapshot.sockets);
        let of_sockets = sockets.map(|socket| &socket.client);
        let clients: BTreeSet<_> = of_packets
            .chain(of_sockets)
            .filter(|client| !client.is_empty())
            .collect();
        Self {
            flow,
            several: clients.len() > 1,
            row: EDGE,
            code: Vec::new(),
            lines: vec![[None; 2]; flow.actors.len()],
            owner: [None; 2],
            cells: String::new(),
        }
    }

    fn step(&mut self, step: &'a Step) -> String {
        self.row = EDGE;
        self.owner = [None; 2];
        self.code = step.code.iter().collect();
        let mut rest = step.events.as_slice();
        while !rest.is_empty() {
            let (row, below) = rest.split_at(row_length(rest));
            self.row += 1;
            self.draw(row);
            rest = below;
        }
        if let Some(snapshot) = &step.snapshot {
            self.row += 1;
            self.snapshot(snapshot);
            // A narrow picture has the kernels below their programs.
            self.row += 1;
        }
        for actor in 0..self.lines.len() {
            self.line(LIFE, actor, None);
            self.line(WAIT, actor, None);
        }
        std::mem::take(&mut self.cells)
    }

    /// One row: a call, or something that happens, or a packet with the
    /// states at its ends.
    fn draw(&mut self, row: &[Event]) {
        let mut sender = None;
        let mut tags = [String::new(), String::new()];
        for event in row {
            match event {
                Event::Call {
                    who,
                    call,
                    result,
                    phase,
                } => {
                    let result = match result.as_str() {
                        "" => " waits".to_owned(),
                        result => format!(" =\u{a0}{result}"),
                    };
                    self.call(who, call, &result, *phase);
                }
                Event::Happens { who, what } => self.happens(who, what),
                Event::Packet {
                    client,
                    from,
                    flags,
                    bytes,
                    ..
                } => {
                    sender = Some(*from);
                    let label = match bytes {
                        0 => flags.clone(),
                        _ => format!("{flags}: {}", bytes_of(*bytes)),
                    };
                    let label = escape(&self.named(client, &label));
                    self.cell(&format!("wire {from}"), &(label + ARROW));
                }
                Event::State {
                    client,
                    side,
                    state,
                    seen,
                    ..
                } => {
                    let seen = match seen {
                        Seen::There => "",
                        Seen::Late | Seen::Table => " later",
                    };
                    let state = escape(&self.named(client, state));
                    let tag =
                        format!("<span class=\"state{seen}\">{state}</span>");
                    tags[*side as usize].push_str(&tag);
                }
            }
        }
        for (side, tags) in SIDES.into_iter().zip(tags) {
            let sends = if sender == Some(side) { " sends" } else { "" };
            self.cell(&format!("kernel {side}{sends}"), &tags);
        }
    }

    /// The name in front of a state or packet, if there are several clients.
    fn named(&self, client: &str, text: &str) -> String {
        if !self.several || client.is_empty() {
            return text.to_owned();
        }
        // `client 2` is 2, and `connected client` is connected.
        let short = match client.replace("client", "").trim() {
            "" => client.to_owned(),
            short => short.to_owned(),
        };
        format!("{short}: {text}")
    }

    fn index(&self, who: &str) -> usize {
        let at = self.flow.actors.iter().position(|a| a.name == who);
        at.unwrap_or_default()
    }

    /// A call; below the first call of a line of code, the line.
    fn call(&mut self, who: &str, call: &str, result: &str, phase: Phase) {
        let actor = self.index(who);
        let mut words = samp(&format!("{call}{result}"));
        let name = call.split('(').next().unwrap_or_default();
        let makes = |line: &&Code| line.who == who && line.call == name;
        if let Some(line) = self.code.iter().copied().find(makes) {
            words += &samp(&line.rust);
            self.code
                .retain(|other| other.who != who || other.rust != line.rust);
        }
        self.says(actor, &words);
        match phase {
            Phase::Whole => self.track("dot", actor, &self.row.to_string()),
            Phase::Waits => self.lines[actor][WAIT] = Some(self.row),
            Phase::Returns => self.line(WAIT, actor, Some(self.row)),
        }
    }

    fn happens(&mut self, who: &str, what: &str) {
        let actor = self.index(who);
        self.says(actor, &escape(what));
        if ["exits", "is killed"].iter().any(|e| what.starts_with(e)) {
            self.line(LIFE, actor, Some(self.row));
            self.line(WAIT, actor, Some(self.row));
            self.track("end", actor, &self.row.to_string());
        }
    }

    /// Words in a program's lane, under the name of the actor if it is one of
    /// several.
    fn says(&mut self, actor: usize, words: &str) {
        let side = self.flow.actors[actor].side;
        self.lines[actor][LIFE].get_or_insert(self.row);
        let told = self.owner[side as usize].replace(actor) == Some(actor);
        let on_side = self.flow.actors.iter().filter(|a| a.side == side);
        let owner = match told || on_side.count() == 1 {
            true => String::new(),
            false => {
                format!("<b>{}</b>", escape(&self.flow.actors[actor].name))
            }
        };
        self.cell(&format!("says {side}"), &(owner + words));
    }

    fn snapshot(&mut self, snapshot: &Snapshot) {
        self.cell("wire read", "tables read here");
        for side in SIDES {
            let mut words = String::new();
            for (waiting, times) in waits(snapshot) {
                let who = match self.flow.programs(side) {
                    1 => "waits",
                    _ => &waiting.who,
                };
                if self.flow.side(&waiting.who) == side {
                    let line =
                        escape(&format!("{times}{who} in {}", waiting.call));
                    words += &format!("<span>{line}</span>");
                }
            }
            self.cell(&format!("says {side}"), &words);
            let mut boxes = String::new();
            for alike in alike(&snapshot.sockets) {
                match alike {
                    [socket, ..] if socket.side != side => {}
                    [socket, ..] if alike.len() > MOST_ALIKE => {
                        boxes += &self.socket(socket, alike.len());
                    }
                    few => boxes.extend(few.iter().map(|s| self.socket(s, 1))),
                }
            }
            self.cell(&format!("kernel read {side}"), &boxes);
        }
    }

    /// A socket, or `count` that are alike.
    fn socket(&self, socket: &Socket, count: usize) -> String {
        let state = match (self.flow.protocol.as_str(), socket.state.as_str()) {
            // Of TCP that is a state, with a handshake before it.
            ("udp", "ESTABLISHED") => "connected",
            ("udp", _) => "not connected",
            (_, state) => state,
        };
        let mut name = self.named(&socket.client, state);
        if count > 1 {
            name += &format!(", {count} of them");
        }
        let mut out = state_box(&name);
        if socket.state == "LISTEN" {
            let words = match socket.unaccepted() {
                0 => "queue empty".to_owned(),
                count => format!("{count} to accept"),
            };
            out += &queue("connection", socket.unaccepted(), &words);
        }
        let unread = socket.unread_bytes();
        if unread > 0 {
            out +=
                &queue("byte", unread, &format!("{} unread", bytes_of(unread)));
        }
        if socket.unread_fin() {
            out += &queue("fin", 1, "FIN unread");
        }
        out
    }

    /// Something in a lane of this row, if there is something.
    fn cell(&mut self, place: &str, content: &str) {
        let row = self.row;
        if !content.is_empty() {
            let _ = write!(
                self.cells,
                "<div class=\"{place}\" style=\"--row:{row}\">{content}</div>"
            );
        }
    }

    /// A line down an actor's track, if it has begun: to the middle of a row's
    /// first line, or to the end of the step, and on in the next.
    fn line(&mut self, kind: usize, actor: usize, to: Option<Row>) {
        let Some(from) = self.lines[actor][kind] else {
            return;
        };
        self.lines[actor][kind] = to.is_none().then_some(EDGE);
        let begins = if from == EDGE { "" } else { " begins" };
        let (ends, to) = match to {
            Some(row) => (" ends", row.to_string()),
            None => ("", "-1".to_owned()),
        };
        let kind = format!("{}{begins}{ends}", KINDS[kind]);
        self.track(&kind, actor, &format!("{from}/{to}"));
    }

    fn track(&mut self, kind: &str, actor: usize, rows: &str) {
        let side = self.flow.actors[actor].side;
        let before = &self.flow.actors[..actor];
        let track = before.iter().filter(|a| a.side == side).count();
        let _ = write!(
            self.cells,
            "<i class=\"{kind} {side}\" \
             style=\"--track:{track};grid-row:{rows}\"></i>"
        );
    }
}

/// How many of the events stand in the first row. A sender's state stands
/// beside the packet that it sends, a receiver's beside the one that it got.
fn row_length(events: &[Event]) -> usize {
    let states = |events: &[Event], end: Side| {
        let at_end = |event: &&Event| matches!(event, Event::State { side, .. } if *side == end);
        events.iter().take_while(at_end).count()
    };
    match &events[0] {
        Event::Call { .. } | Event::Happens { .. } => 1,
        Event::Packet { from, .. } => 1 + states(&events[1..], from.other()),
        Event::State { side, .. } => {
            let before = states(events, *side);
            match events.get(before) {
                Some(Event::Packet { from, .. }) if from == side => {
                    before + row_length(&events[before..])
                }
                _ => before,
            }
        }
    }
}

/// The sockets that differ in nothing but their port, next to each other.
pub fn alike(sockets: &[Socket]) -> impl Iterator<Item = &[Socket]> {
    let key = |s: &Socket| {
        let queues = (s.receive_queue, s.send_queue);
        (s.side, s.client.clone(), s.state.clone(), queues)
    };
    sockets.chunk_by(move |a, b| key(a) == key(b))
}

/// Who waits, and in which call: once for all threads that wait in the same,
/// and in front how many they are, if several. Many that wait for the same
/// client are told without their descriptors.
pub fn waits(snapshot: &Snapshot) -> Vec<(Waiting, String)> {
    let mut groups: Vec<(Waiting, Vec<&Waiting>)> = Vec::new();
    for waiting in &snapshot.waiting {
        let group = without_arguments(waiting);
        match groups.iter_mut().find(|(other, _)| *other == group) {
            Some((_, group)) => group.push(waiting),
            None => groups.push((group, vec![waiting])),
        }
    }
    let mut lines = Vec::new();
    for (short, group) in groups {
        let times = match group.len() {
            1 => String::new(),
            threads => format!("{threads} × "),
        };
        if group.iter().all(|waiting| *waiting == group[0]) {
            lines.push((group[0].clone(), times));
        } else if group.len() > MOST_ALIKE {
            lines.push((short, times));
        } else {
            let each = group.into_iter().cloned();
            lines.extend(each.map(|waiting| (waiting, String::new())));
        }
    }
    lines
}

fn without_arguments(waiting: &Waiting) -> Waiting {
    let (call, whom) = match waiting.call.rsplit_once(", for ") {
        Some((call, whom)) => (call, format!(", for {whom}")),
        None => (waiting.call.as_str(), String::new()),
    };
    let name = call.split('(').next().unwrap_or(call);
    Waiting {
        who: waiting.who.clone(),
        call: format!("{name}{whom}"),
    }
}

fn samp(code: &str) -> String {
    match code {
        "" => String::new(),
        _ => format!("<samp>{}</samp>", breakable(code)),
    }
}

/// A mark for each thing in a queue, and words.
fn queue(kind: &str, count: usize, words: &str) -> String {
    let marks = format!("<i class=\"{kind}\"></i>").repeat(count.min(MARKS));
    format!("<span>{marks}</span><span>{words}</span>")
}

pub fn bytes_of(count: usize) -> String {
    format!("{count} byte{}", if count == 1 { "" } else { "s" })
}

/// Code that may break where a narrow lane needs it: behind `::`, a comma or
/// the opening parenthesis of a long list, and before a method or a port.
fn breakable(code: &str) -> String {
    let mut out = String::new();
    for (at, c) in code.char_indices() {
        let (before, rest) = code.split_at(at);
        let next = rest.chars().nth(1).unwrap_or_default();
        let is_method = c == '.' && next.is_ascii_lowercase();
        let is_short = rest.find(')').is_some_and(|end| end < 3);
        let ends = |end| before.ends_with(end);
        if c == ':' && next.is_ascii_digit() {
            out.push_str("<wbr class=\"port\">");
        } else if ends("::")
            || ends(",")
            || ends("(") && !ends(" (") && !is_short
            || is_method && at > 0 && !ends(".")
        {
            out.push_str("<wbr>");
        }
        out.push_str(&escape(c.encode_utf8(&mut [0; 4])));
    }
    out
}

/// Text that stands in HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn state_box(words: &str) -> String {
    format!("<span class=\"state\">{}</span>", escape(words))
}
