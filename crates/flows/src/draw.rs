//! The sequence figure, as SVG: lanes side by side, time downwards.
//!
//! It is drawn twice, wide for a desktop and narrow for a phone, where a
//! program and its kernel share a column. Solid is what was seen, dashed what
//! is deduced. All strokes and texts take the colour of the page.

use std::fmt::Write;

use crate::{Actor, Event, Flow, Phase, Side, Snapshot, Socket, Step};

const LINE: f64 = 15.0;
/// Above this many bytes a queue shows a number beside its first squares.
const SQUARES: usize = 8;

/// Where the lanes stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Four lanes side by side.
    Wide,
    /// Each program above its kernel, in one column.
    Narrow,
}

impl Layout {
    /// Both, and the class of each in the page.
    pub const ALL: [(Self, &'static str); 2] =
        [(Self::Wide, "wide"), (Self::Narrow, "narrow")];

    /// The width of the figure, in its own units (about a pixel).
    pub fn width(self) -> f64 {
        self.pick(740.0, 384.0)
    }

    fn pick(self, wide: f64, narrow: f64) -> f64 {
        match self {
            Self::Wide => wide,
            Self::Narrow => narrow,
        }
    }
}

/// The heads of the lanes: a figure of their own, so that a page can keep
/// them in sight.
pub fn head(flow: &Flow, layout: Layout) -> String {
    let pen = Pen::new(flow, layout);
    let width = layout.width();
    let mut out = format!(
        "<svg class=\"flow-head\" fill=\"currentColor\" viewBox=\"0 0 {width} 22\" \
         aria-hidden=\"true\">"
    );
    let plural = |side| flow.programs(side) > 1;
    let client = if plural(Side::Client) {
        "clients"
    } else {
        "client"
    };
    let names = match layout {
        Layout::Wide => vec![
            (pen.program_x(Side::Client) - 4.0, "end", client),
            (pen.kernel_x(Side::Client), "end", "its kernel"),
            (pen.kernel_x(Side::Server), "start", "its kernel"),
            (pen.program_x(Side::Server) + 4.0, "start", "server"),
        ],
        Layout::Narrow => vec![
            (4.0, "start", "client, its kernel"),
            (width - 4.0, "end", "its kernel, server"),
        ],
    };
    for (x, anchor, name) in names {
        let name = match (name, plural(Side::Client), x < width / 2.0) {
            ("its kernel", true, true) => "their kernel",
            ("client, its kernel", true, _) => "clients, their kernel",
            _ => name,
        };
        let _ = write!(
            out,
            "<text x=\"{x}\" y=\"15\" text-anchor=\"{anchor}\" \
             font-weight=\"bold\">{name}</text>"
        );
    }
    out + "</svg>"
}

/// The figure without its heads.
pub fn body(flow: &Flow, layout: Layout, id: &str) -> String {
    let mut pen = Pen::new(flow, layout);
    let mut steps = String::new();
    for (number, step) in flow.steps.iter().enumerate() {
        let drawn = pen.step(step);
        let _ = write!(
            steps,
            "\n<g class=\"flow-step\" data-step=\"{}\">{drawn}</g>",
            number + 1
        );
    }
    let (width, height) = (layout.width(), pen.y);
    let title = escape(&flow.title);
    let desc = escape(&flow.summary);
    format!(
        "<svg class=\"flow-body\" fill=\"currentColor\" role=\"img\" viewBox=\"0 0 {width} \
         {height}\" aria-labelledby=\"{id}-title {id}-desc\">\
         <title id=\"{id}-title\">{title}</title>\
         <desc id=\"{id}-desc\">{desc} The list of steps below tells \
         the same in words.</desc>{steps}\n</svg>"
    )
}

/// Draws step after step, and knows how far down it is.
struct Pen<'a> {
    layout: Layout,
    flow: &'a Flow,
    actors: &'a [Actor],
    /// Several clients have connections, so that a state names its client.
    several: bool,
    y: f64,
    /// Where the column of each side is free of a kernel's text.
    free: [f64; 2],
    /// Whose lines stand last in the column of each side, in this step.
    owner: [Option<usize>; 2],
    /// From where the actor's line and bar go down in this step.
    life: Vec<Option<f64>>,
    bar: Vec<Option<f64>>,
    ink: String,
}

impl<'a> Pen<'a> {
    fn new(flow: &'a Flow, layout: Layout) -> Self {
        let clients: std::collections::BTreeSet<_> = flow
            .steps
            .iter()
            .flat_map(|step| &step.events)
            .filter_map(|event| match event {
                Event::Packet { client, .. } => Some(client),
                _ => None,
            })
            .collect();
        Self {
            layout,
            flow,
            actors: &flow.actors,
            several: clients.len() > 1,
            y: 0.0,
            free: [0.0; 2],
            owner: [None; 2],
            life: vec![None; flow.actors.len()],
            bar: vec![None; flow.actors.len()],
            ink: String::new(),
        }
    }

    fn on_side(&self, side: Side) -> usize {
        self.actors.iter().filter(|a| a.side == side).count()
    }

    /// The lifeline next to the kernel's lane.
    fn program_x(&self, side: Side) -> f64 {
        let width = self.layout.width();
        let x = self.layout.pick(184.0, 8.0);
        match side {
            Side::Client => x,
            Side::Server => width - x,
        }
    }

    fn kernel_x(&self, side: Side) -> f64 {
        let x = self.layout.pick(302.0, 154.0);
        match side {
            Side::Client => x,
            Side::Server => self.layout.width() - x,
        }
    }

    fn index(&self, who: &str) -> usize {
        let at = self.actors.iter().position(|actor| actor.name == who);
        at.unwrap_or_default()
    }

    /// The lifeline of an actor: the first of its side is next to the kernel
    /// when wide, and at the edge when narrow.
    fn track(&self, index: usize) -> f64 {
        let side = self.actors[index].side;
        let before = self.actors[..index].iter();
        let rank = before.filter(|a| a.side == side).count() as f64;
        let outwards = match side {
            Side::Client => -1.0,
            Side::Server => 1.0,
        };
        let step = self.layout.pick(outwards * 11.0, outwards * -6.0);
        self.program_x(side) + rank * step
    }

    /// Where a program's text starts, how it is anchored, how wide it may be.
    fn program_text(&self, side: Side) -> (f64, &'static str, f64) {
        let tracks = self.on_side(side) as f64 - 1.0;
        let inset = tracks * self.layout.pick(11.0, 6.0) + 9.0;
        let (x, room) = match self.layout {
            Layout::Wide => {
                let x = self.program_x(Side::Client) - inset;
                (x, x - 2.0)
            }
            Layout::Narrow => {
                let x = self.program_x(Side::Client) + inset;
                (x, self.kernel_x(Side::Client) - 6.0 - x)
            }
        };
        match (side, self.layout) {
            (Side::Client, Layout::Wide) => (x, "end", room),
            (Side::Client, Layout::Narrow) => (x, "start", room),
            (Side::Server, Layout::Wide) => {
                (self.layout.width() - x, "start", room)
            }
            (Side::Server, Layout::Narrow) => {
                (self.layout.width() - x, "end", room)
            }
        }
    }

    /// Where a kernel's text starts and how it is anchored.
    fn kernel_text(&self, side: Side) -> (f64, &'static str) {
        match side {
            Side::Client => (self.kernel_x(side) - 8.0, "end"),
            Side::Server => (self.kernel_x(side) + 8.0, "start"),
        }
    }

    fn step(&mut self, step: &Step) -> String {
        let top = self.y;
        let carried = |place: &Option<f64>| place.map(|_| top);
        self.life = self.life.iter().map(carried).collect();
        self.bar = self.bar.iter().map(carried).collect();
        self.free = [top; 2];
        self.owner = [None; 2];
        self.y += 6.0;
        let mut rust = step.code.first().map_or("", |c| c.rust.as_str());
        let mut packet = None;
        for event in &step.events {
            match event {
                Event::Call {
                    who,
                    call,
                    result,
                    phase,
                } => {
                    packet = None;
                    let text = match result.as_str() {
                        "" => format!("{call} waits"),
                        result => format!("{call} = {result}"),
                    };
                    self.call(who, &text, *phase, std::mem::take(&mut rust));
                }
                Event::Happens { who, what } => {
                    packet = None;
                    self.act(who, what);
                }
                Event::Packet {
                    client,
                    from,
                    flags,
                    bytes,
                    ..
                } => {
                    let label = match bytes {
                        0 => flags.clone(),
                        _ => format!("{flags}: {bytes} bytes"),
                    };
                    let at = self.packet(client, *from, &label, "");
                    packet = Some((*from, at));
                }
                Event::State {
                    client,
                    side,
                    state,
                    ..
                } => {
                    let y = match packet {
                        Some((from, (start, _))) if from == *side => start,
                        Some((_, (_, end))) => end,
                        None => self.y + 10.0,
                    };
                    let state = self.named(client, state);
                    self.tag(*side, y - 10.0, &state, None);
                }
            }
        }
        if let Some(reading) = &step.snapshot {
            self.reading(reading);
        }
        self.y = self.y.max(self.free[0]).max(self.free[1]) + 5.0;
        for actor in 0..self.actors.len() {
            let (life, bar) = (self.life[actor], self.bar[actor]);
            if let Some(from) = life {
                self.lifeline(actor, from, self.y);
            }
            if let Some(from) = bar {
                self.wait(actor, from, self.y);
            }
        }
        let (width, height) = (self.layout.width(), self.y - top);
        let mut out = format!(
            "<rect class=\"flow-band\" y=\"{top}\" width=\"{width}\" \
             height=\"{height}\" fill=\"currentColor\" \
             fill-opacity=\"{}\"/>",
            if step.snapshot.is_some() { 0.08 } else { 0.0 }
        );
        for side in [Side::Client, Side::Server] {
            let x = self.kernel_x(side);
            let _ = write!(
                out,
                "<path d=\"M{x} {top}v{height}\" stroke=\"currentColor\" \
                 stroke-width=\"2\"/>"
            );
        }
        out + &std::mem::take(&mut self.ink)
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

    fn call(&mut self, who: &str, text: &str, phase: Phase, rust: &str) {
        let actor = self.index(who);
        let y = self.program_lines(actor, &[(text, CODE), (rust, CODE_FAINT)]);
        let x = self.track(actor);
        match phase {
            Phase::Whole => self.dot(x, y),
            Phase::Waits => self.bar[actor] = Some(y),
            Phase::Returns => {
                if let Some(from) = self.bar[actor].take() {
                    self.wait(actor, from, y);
                }
            }
        }
    }

    fn act(&mut self, who: &str, what: &str) {
        let actor = self.index(who);
        let y = self.program_lines(actor, &[(what, PROSE)]);
        if ["exits", "is killed"]
            .iter()
            .any(|end| what.starts_with(end))
        {
            if let Some(from) = self.bar[actor].take() {
                self.wait(actor, from, y);
            }
            if let Some(from) = self.life[actor].take() {
                self.lifeline(actor, from, y);
            }
            let x = self.track(actor);
            self.stroke(&format!("M{} {y}h10", x - 5.0), 2.0, "");
        }
    }

    /// Writes into a program's lane. Gives the height of the first line's
    /// middle.
    fn program_lines(&mut self, actor: usize, texts: &[(&str, Font)]) -> f64 {
        let Actor { name, side, .. } = &self.actors[actor];
        let (x, anchor, room) = self.program_text(*side);
        if self.layout == Layout::Narrow {
            self.y = self.y.max(self.free[*side as usize]);
        }
        let middle = self.y + 8.0;
        if self.life[actor].is_none() {
            self.life[actor] = Some(middle);
        }
        let told = self.owner[*side as usize] == Some(actor);
        self.owner[*side as usize] = Some(actor);
        let owner = match self.on_side(*side) {
            _ if told => "",
            1 => "",
            _ => name.as_str(),
        };
        for (text, font) in [(owner, BOLD)].iter().chain(texts) {
            for line in wrap(text, font.fits(room)) {
                self.text(x, self.y + 12.0, anchor, &line, *font);
                self.y += LINE;
            }
        }
        self.y += 3.0;
        middle
    }

    fn packet(
        &mut self,
        client: &str,
        from: Side,
        label: &str,
        deduced: &str,
    ) -> (f64, f64) {
        let (start, end) = match from {
            Side::Client => (Side::Client, Side::Server),
            Side::Server => (Side::Server, Side::Client),
        };
        let (x1, x2) = (self.kernel_x(start), self.kernel_x(end));
        let room = (x2 - x1).abs() - 4.0;
        let label = self.named(client, label);
        for line in wrap(&label, PROSE.fits(room)) {
            let middle = self.layout.width() / 2.0;
            self.text(middle, self.y + 12.0, "middle", &line, PROSE);
            self.y += LINE;
        }
        let (y1, y2) = (self.y + 3.0, self.y + 13.0);
        let inwards = if x2 > x1 { -1.0 } else { 1.0 };
        let _ =
            write!(self.ink, "<g><title>Deduced: {}</title>", escape(deduced));
        self.stroke(
            &format!("M{x1} {y1}L{} {y2}", x2 + inwards * 3.0),
            1.5,
            DASHED,
        );
        self.stroke(
            &format!(
                "M{} {}L{} {y2}l{} 3",
                x2 + inwards * 8.0,
                y2 - 5.5,
                x2 + inwards * 2.0,
                inwards * 7.0
            ),
            1.5,
            "",
        );
        self.ink.push_str("</g>");
        self.y += 18.0;
        (y1, y2)
    }

    /// A state in a kernel's lane, framed; dashed if it is deduced.
    fn tag(&mut self, side: Side, y: f64, text: &str, deduced: Option<&str>) {
        let y = y.max(self.free[side as usize]);
        let (x, anchor) = self.kernel_text(side);
        let width = PROSE.width(text) + 8.0;
        let left = match side {
            Side::Client => x - width + 4.0,
            Side::Server => x - 4.0,
        };
        let dashes = match deduced {
            Some(deduced) => {
                let why = escape(deduced);
                let _ = write!(self.ink, "<g><title>Deduced: {why}</title>");
                DASHED
            }
            None => "",
        };
        let _ = write!(
            self.ink,
            "<rect x=\"{left}\" y=\"{}\" width=\"{width}\" height=\"17\" \
             rx=\"3\" fill=\"none\" stroke=\"currentColor\"{dashes}/>",
            y + 1.5
        );
        self.text(x, y + 14.0, anchor, text, PROSE);
        if deduced.is_some() {
            self.ink.push_str("</g>");
        }
        self.free[side as usize] = y + 21.0;
    }

    fn reading(&mut self, reading: &Snapshot) {
        let (start, middle) = (self.y, self.layout.width() / 2.0);
        let words: &[&str] = match self.layout {
            Layout::Wide => &["tables read here"],
            Layout::Narrow => &["tables", "read here"],
        };
        for (line, words) in words.iter().enumerate() {
            let y = start + 12.0 + LINE * line as f64;
            self.text(middle, y, "middle", words, PROSE);
        }
        self.y = start + LINE * words.len() as f64;
        let mut bottom = self.y;
        for side in [Side::Client, Side::Server] {
            self.y = start;
            let (x, anchor, room) = self.program_text(side);
            for text in self.waits(reading, side) {
                for line in wrap(&text, PROSE.fits(room)) {
                    self.text(x, self.y + 12.0, anchor, &line, PROSE);
                    self.y += LINE;
                }
            }
            let top = match self.layout {
                Layout::Wide => start,
                Layout::Narrow => self.y,
            };
            self.free[side as usize] = top;
            for socket in reading.sockets.iter().filter(|s| s.side == side) {
                self.socket(socket);
            }
            bottom = bottom.max(self.y);
        }
        self.y = bottom;
    }

    /// Who waits on a side, and in what: a line for each call, and one for all
    /// threads that wait in the same.
    fn waits(&self, reading: &Snapshot, side: Side) -> Vec<String> {
        let mut lines: Vec<(String, usize)> = Vec::new();
        for waiting in &reading.waiting {
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
        lines
            .into_iter()
            .map(|(line, threads)| match threads {
                1 => line,
                _ => format!("{threads} × {line}"),
            })
            .collect()
    }

    fn socket(&mut self, socket: &Socket) {
        let side = socket.side;
        let state = self.named(&socket.client, &socket.state);
        self.tag(side, self.free[side as usize], &state, None);
        let unread = socket.unread_bytes();
        if socket.state == "LISTEN" {
            let count = socket.unaccepted();
            self.queue(side, count, Shape::Connection, "to accept");
        }
        if unread > 0 {
            let words = if unread == 1 { "byte" } else { "bytes" };
            self.queue(side, unread, Shape::Byte, &format!("{words} unread"));
        }
        if socket.unread_fin() {
            self.queue(side, 1, Shape::Fin, "FIN unread");
        }
    }

    fn queue(&mut self, side: Side, count: usize, shape: Shape, words: &str) {
        let y = self.free[side as usize];
        let (x, anchor) = self.kernel_text(side);
        let outwards = match side {
            Side::Client => -1.0,
            Side::Server => 1.0,
        };
        let text = match (shape, count) {
            (Shape::Fin, _) => words.to_owned(),
            (Shape::Connection, 0) => "queue empty".to_owned(),
            _ => format!("{count} {words}"),
        };
        let shown = count.min(SQUARES);
        for at in 0..shown {
            let x = x + outwards * (at as f64 * 10.0 + 4.0);
            self.shape(shape, x, y + 5.0);
        }
        let mut y = y;
        if shown > 0 {
            y += 11.0;
        }
        self.text(x, y + 11.0, anchor, &text, PROSE);
        self.free[side as usize] = y + 17.0;
    }

    fn shape(&mut self, shape: Shape, x: f64, y: f64) {
        let _ = match shape {
            Shape::Byte => write!(
                self.ink,
                "<rect x=\"{}\" y=\"{}\" width=\"8\" height=\"8\" \
                 fill=\"currentColor\"/>",
                x - 4.0,
                y - 4.0
            ),
            Shape::Connection => write!(
                self.ink,
                "<circle cx=\"{x}\" cy=\"{y}\" r=\"4\" \
                 fill=\"currentColor\"/>"
            ),
            // A mark, not a byte: a bar across the stream.
            Shape::Fin => write!(
                self.ink,
                "<path d=\"M{} {}v10m3 -10v10\" stroke=\"currentColor\" \
                 stroke-width=\"1.5\"/>",
                x - 1.0,
                y - 5.0
            ),
        };
    }

    fn lifeline(&mut self, actor: usize, from: f64, to: f64) {
        let x = self.track(actor);
        self.stroke(&format!("M{x} {from}V{to}"), 1.0, "");
    }

    /// The bar of a call that waits.
    fn wait(&mut self, actor: usize, from: f64, to: f64) {
        let x = self.track(actor);
        let width = self.layout.pick(6.0, 4.0);
        let _ = write!(
            self.ink,
            "<rect class=\"flow-wait\" x=\"{}\" y=\"{from}\" \
             width=\"{width}\" height=\"{}\" fill=\"currentColor\"/>",
            x - width / 2.0,
            to - from
        );
    }

    fn dot(&mut self, x: f64, y: f64) {
        let _ = write!(
            self.ink,
            "<circle cx=\"{x}\" cy=\"{y}\" r=\"3\" fill=\"currentColor\"/>"
        );
    }

    fn stroke(&mut self, path: &str, width: f64, more: &str) {
        let _ = write!(
            self.ink,
            "<path d=\"{path}\" fill=\"none\" stroke=\"currentColor\" \
             stroke-width=\"{width}\"{more}/>"
        );
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str, font: Font) {
        let attributes = font.attributes;
        let text = escape(text);
        let _ = write!(
            self.ink,
            "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\"{attributes}>\
             {text}</text>"
        );
    }
}

const DASHED: &str = " stroke-dasharray=\"4 3\"";

#[derive(Clone, Copy)]
enum Shape {
    Byte,
    Connection,
    Fin,
}

/// The player's style sheet sets the families; the widths are upper bounds.
#[derive(Clone, Copy)]
struct Font {
    attributes: &'static str,
    character: f64,
}

const CODE: Font = Font {
    attributes: " class=\"code\"",
    character: 7.3,
};
const CODE_FAINT: Font = Font {
    attributes: " class=\"code faint\"",
    character: 7.3,
};
const PROSE: Font = Font {
    attributes: "",
    character: 6.6,
};
const BOLD: Font = Font {
    attributes: " font-weight=\"bold\"",
    character: 7.0,
};

impl Font {
    /// How many characters fit.
    fn fits(self, room: f64) -> usize {
        (room / self.character) as usize
    }

    /// How wide a name of a state is; capitals are.
    fn width(self, text: &str) -> f64 {
        let wide = |c: char| match c {
            'D' | 'G' | 'H' | 'M' | 'N' | 'O' | 'Q' | 'U' | 'W' => 9.4,
            'I' | '-' | ' ' | ':' => 4.4,
            _ => 7.4,
        };
        text.chars().map(wide).sum()
    }
}

/// Lines of at most `room` characters, cut where it hurts least.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest: Vec<char> = text.trim().chars().collect();
    while rest.len() > room {
        let best = |cut: fn(char, char) -> bool| {
            (room / 3..=room)
                .rev()
                .find(|&at| cut(rest[at - 1], rest[at]))
        };
        let at = best(|_, next| next == ' ')
            .or_else(|| best(|last, _| "(,:".contains(last)))
            .or_else(|| best(|last, next| next == '.' && last != '.'))
            .or_else(|| best(|last, _| last == '_'))
            .unwrap_or(room);
        let tail = rest.split_off(at);
        lines.push(rest.iter().collect::<String>());
        rest = tail.into_iter().skip_while(|c| *c == ' ').collect();
    }
    if !rest.is_empty() {
        lines.push(rest.into_iter().collect());
    }
    lines
}

/// Text that stands in HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
