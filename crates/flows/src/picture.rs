//! The picture: lanes side by side, time downwards.
//!
//! It is one piece of HTML for every width. Here stands what belongs where:
//! in which lane, on which track, in which row. How wide a lane is, and where
//! a text breaks, the browser knows, from `docs/assets/player.css`.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::{Code, Event, Flow, Phase, Seen, Side, Snapshot, Socket, Step};

/// Of a longer queue so many squares are drawn, beside the number.
const SQUARES: usize = 8;
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
        let _ = write!(
            out,
            "\n<div class=\"flow-step\" style=\"--rows:{rows}\">{cells}</div>"
        );
    }
    out + "\n</div>\n"
}

/// A row of a step. The first is the step's upper edge, and is empty.
type Row = usize;
const EDGE: Row = 1;

/// Where the lines of an actor begin in this step, if they are there.
#[derive(Clone, Copy, Default)]
struct Track {
    life: Option<Row>,
    wait: Option<Row>,
}

/// Draws step after step, and knows how far down it is.
struct Pen<'a> {
    flow: &'a Flow,
    /// Several clients have connections, so that a state names its client.
    several: bool,
    row: Row,
    /// The lines of the step's code that are not drawn yet.
    code: Vec<&'a Code>,
    tracks: Vec<Track>,
    /// Whose words stand last in the lane of each side, in this step.
    owner: [Option<usize>; 2],
    cells: String,
}

impl<'a> Pen<'a> {
    fn new(flow: &'a Flow) -> Self {
        let events = flow.steps.iter().flat_map(|step| &step.events);
        let clients: BTreeSet<_> = events
            .filter_map(|event| match event {
                Event::Packet { client, .. } => Some(client),
                _ => None,
            })
            .collect();
        Self {
            flow,
            several: clients.len() > 1,
            row: EDGE,
            code: Vec::new(),
            tracks: vec![Track::default(); flow.actors.len()],
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
        for actor in 0..self.tracks.len() {
            let Track { life, wait } = self.tracks[actor];
            let go_on = |from: Option<Row>| from.map(|_| EDGE);
            self.line("life", actor, life, None);
            self.line("wait", actor, wait, None);
            self.tracks[actor] = Track {
                life: go_on(life),
                wait: go_on(wait),
            };
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
                        1 => format!("{flags}: 1 byte"),
                        _ => format!("{flags}: {bytes} bytes"),
                    };
                    let label = escape(&self.named(client, &label));
                    let place = format!("wire {from}");
                    self.cell(&place, &format!("{label}{ARROW}"));
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
            if !tags.is_empty() {
                let sends = if sender == Some(side) { " sends" } else { "" };
                let place = format!("kernel {side}{sends}");
                self.cell(&place, &tags);
            }
        }
    }

    /// The name in front of a state or packet, if there are several clients.
    fn named(&self, client: &str, text: &str) -> String {
        if !self.several || client.is_empty() {
            return text.to_owned();
        }
        // `client 2` is 2, and `connected client` is connected.
        let short = client.replace("client", "");
        format!("{}: {text}", short.trim())
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
            Phase::Whole => self.mark("dot", actor),
            Phase::Waits => self.tracks[actor].wait = Some(self.row),
            Phase::Returns => {
                let from = self.tracks[actor].wait.take();
                self.line("wait", actor, from, Some(self.row));
            }
        }
    }

    fn happens(&mut self, who: &str, what: &str) {
        let actor = self.index(who);
        self.says(actor, &escape(what));
        if ["exits", "is killed"].iter().any(|e| what.starts_with(e)) {
            let Track { life, wait } = std::mem::take(&mut self.tracks[actor]);
            self.line("wait", actor, wait, Some(self.row));
            self.line("life", actor, life, Some(self.row));
            self.mark("end", actor);
        }
    }

    /// Words in a program's lane, under the name of the actor if it is one of
    /// several.
    fn says(&mut self, actor: usize, words: &str) {
        let side = self.flow.actors[actor].side;
        self.tracks[actor].life.get_or_insert(self.row);
        let told = self.owner[side as usize].replace(actor) == Some(actor);
        let alone =
            self.flow.actors.iter().filter(|a| a.side == side).count() == 1;
        let owner = match told || alone {
            true => String::new(),
            false => {
                format!("<b>{}</b>", escape(&self.flow.actors[actor].name))
            }
        };
        let place = format!("says {side}");
        self.cell(&place, &(owner + words));
    }

    fn snapshot(&mut self, snapshot: &Snapshot) {
        self.cell("wire read", "tables read here");
        for side in SIDES {
            let mut waits = String::new();
            for line in self.waits(snapshot, side) {
                let _ = write!(waits, "<span>{}</span>", escape(&line));
            }
            if !waits.is_empty() {
                self.cell(&format!("says {side}"), &waits);
            }
            let sockets = snapshot.sockets.iter().filter(|s| s.side == side);
            let sockets: String = sockets.map(|s| self.socket(s)).collect();
            if !sockets.is_empty() {
                self.cell(&format!("kernel read {side}"), &sockets);
            }
        }
    }

    /// Who waits on a side, and in what: a line for each call, and one for all
    /// threads that wait in the same.
    fn waits(&self, snapshot: &Snapshot, side: Side) -> Vec<String> {
        let mut lines: Vec<(String, usize)> = Vec::new();
        for waiting in &snapshot.waiting {
            if self.flow.side(&waiting.who) != side {
                continue;
            }
            let text = match self.flow.programs(side) {
                1 => format!("waits in {}", waiting.call),
                _ => format!("{} in {}", waiting.who, waiting.call),
            };
            match lines.iter_mut().find(|(line, _)| *line == text) {
                Some((_, threads)) => *threads += 1,
                None => lines.push((text, 1)),
            }
        }
        let line = |(line, threads)| match threads {
            1 => line,
            _ => format!("{threads} × {line}"),
        };
        lines.into_iter().map(line).collect()
    }

    fn socket(&self, socket: &Socket) -> String {
        let state = escape(&self.named(&socket.client, &socket.state));
        let mut out = format!("<span class=\"state\">{state}</span>");
        if socket.state == "LISTEN" {
            out += &queue("connection", socket.unaccepted(), "to accept");
        }
        match socket.unread_bytes() {
            0 => {}
            1 => out += &queue("byte", 1, "byte unread"),
            bytes => out += &queue("byte", bytes, "bytes unread"),
        }
        if socket.unread_fin() {
            out += "<span><i class=\"fin\"></i></span><span>FIN unread</span>";
        }
        out
    }

    fn cell(&mut self, place: &str, content: &str) {
        let row = self.row;
        let _ = write!(
            self.cells,
            "<div class=\"{place}\" style=\"--row:{row}\">{content}</div>"
        );
    }

    /// A line down an actor's track, if it has begun: to the middle of a row's
    /// first line, or to the end of the step.
    fn line(
        &mut self,
        kind: &str,
        actor: usize,
        from: Option<Row>,
        to: Option<Row>,
    ) {
        if let Some(from) = from {
            let begins = if from == EDGE { "" } else { " begins" };
            let (ends, to) = match to {
                Some(row) => (" ends", row.to_string()),
                None => ("", "-1".to_owned()),
            };
            let rows = format!("{from}/{to}");
            self.track(&format!("{kind}{begins}{ends}"), actor, &rows);
        }
    }

    /// A mark on an actor's track.
    fn mark(&mut self, kind: &str, actor: usize) {
        let row = self.row.to_string();
        self.track(kind, actor, &row);
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

fn samp(code: &str) -> String {
    match code {
        "" => String::new(),
        _ => format!("<samp>{}</samp>", breakable(code)),
    }
}

fn queue(kind: &str, count: usize, words: &str) -> String {
    let squares =
        format!("<i class=\"{kind}\"></i>").repeat(count.min(SQUARES));
    match count {
        0 => "<span>queue empty</span>".to_owned(),
        _ => format!("<span>{squares}</span><span>{count} {words}</span>"),
    }
}

/// Code that may break where a narrow lane needs it: behind `::`, a comma or
/// the opening parenthesis of a long list, and before a method or a port.
fn breakable(code: &str) -> String {
    let mut out = String::new();
    for (at, c) in code.char_indices() {
        let (before, rest) = code.split_at(at);
        let follows = |starts: fn(&char) -> bool| {
            rest.chars().nth(1).is_some_and(|next| starts(&next))
        };
        let is_method = c == '.' && follows(char::is_ascii_lowercase);
        let is_argument = before.ends_with('(') && !before.ends_with(" (");
        let is_short = rest.find(')').is_some_and(|end| end < 3);
        if c == ':' && follows(char::is_ascii_digit) {
            out.push_str("<wbr class=\"port\">");
        } else if before.ends_with("::")
            || before.ends_with(',')
            || is_argument && !is_short
            || is_method && !before.is_empty() && !before.ends_with('.')
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
