//! A scenario: `docs/flows/NAME.toml`, which says which programs take part,
//! what is done to them, when they rest, and the words for each step.
//!
//! `shared.toml` beside it has the acts and steps that several scenarios
//! share, and `code.toml` the lines of Rust and of Python for each call of each
//! program.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Spanned;

use crate::Side;
use crate::recording::folder;

/// A scenario, read and checked.
#[derive(Debug)]
pub struct Scenario {
    /// The name of its files, such as `01-conversation`.
    pub name: String,
    /// What the figure is called.
    pub title: String,
    /// One or two sentences for a reader who cannot see the figure.
    pub summary: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Who takes part.
    pub programs: Vec<Program>,
    /// What happens, from rest to rest.
    pub acts: Vec<Act>,
}

/// A program that takes part.
#[derive(Debug)]
pub struct Program {
    /// What the figure calls it.
    pub name: String,
    /// Its side.
    pub side: Side,
    /// The package that it belongs to.
    pub package: String,
    /// The executable.
    pub binary: String,
    /// Its arguments behind the address; if the first of them is an address,
    /// it stands for the usual one.
    pub args: Vec<String>,
    /// What its threads are called, beside the main one, in the order of
    /// their first call.
    pub threads: Vec<String>,
    /// The line of Rust and of Python that makes each call.
    pub calls: BTreeMap<String, [String; 2]>,
}

/// What happens between two rests.
#[derive(Debug)]
pub struct Act {
    /// Its file and line.
    pub place: String,
    /// What is done.
    pub actions: Vec<Action>,
    /// What is waited for before the rest.
    pub until: Vec<Action>,
    /// Who rests, and the calls in which its threads wait, sorted.
    pub rest: Vec<(String, Vec<String>)>,
    /// The rows of the kernel's tables, and no others.
    pub sockets: Vec<Awaited>,
    /// The words.
    pub steps: Vec<Step>,
    /// The words for the tables; without them they are not shown.
    pub table: Option<Table>,
}

/// Something that is done to a program, or expected of it.
#[derive(Debug)]
pub struct Action {
    /// The program.
    pub who: String,
    /// What.
    pub what: What,
}

/// What is done to a program, or expected of it.
#[derive(Debug, PartialEq, Eq)]
pub enum What {
    /// `start NAME`.
    Start,
    /// `kill NAME`.
    Kill,
    /// `interrupt NAME`, as Ctrl-C does.
    Interrupt,
    /// `NAME types TEXT`.
    Types(String),
    /// `NAME types Ctrl-D`.
    EndsInput,
    /// `NAME shows TEXT`.
    Shows(String),
    /// `NAME exits CODE`.
    Exits(i32),
}

/// A row of the kernel's tables: `server: LISTEN 1`, `client: FIN-WAIT-2`, or
/// `server for client: CLOSE-WAIT 5`; `both ends of client 1, client 2:
/// ESTABLISHED` are four. The number is that of the receive queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Awaited {
    /// Whose kernel keeps it.
    pub side: Side,
    /// The client at the one end.
    pub client: String,
    /// The state.
    pub state: String,
    /// Bytes that are not read, or connections that are not accepted.
    pub receive_queue: usize,
}

/// The words of a step, and the calls that it tells.
#[derive(Debug)]
pub struct Step {
    /// Its file and line.
    pub place: String,
    /// A few words.
    pub title: String,
    /// What happens, and why.
    pub text: String,
    /// The calls, in the order in which they are told.
    pub calls: Vec<Told>,
    /// The lines of Rust and Python, if not those of the calls.
    pub code: Option<[String; 2]>,
    /// The step is about a segment that only acknowledges: it must be there.
    pub acknowledged: bool,
}

/// A call that a step tells: `NAME CALL`, or `NAME CALL begins`. The end of a
/// program or a thread is called `exits`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its file and line.
    pub place: String,
    /// The actor.
    pub who: String,
    /// The call's name.
    pub name: String,
    /// Only its beginning: a later step tells its end.
    pub begins: bool,
}

/// The words for the kernel's tables.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// A few words; if there are none, what it is.
    #[serde(default = "the_table")]
    pub title: String,
    /// What there is to see.
    pub text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScenarioFile {
    title: String,
    summary: String,
    #[serde(default = "tcp")]
    protocol: String,
    /// The shared acts that come first.
    #[serde(default)]
    begins: Vec<Spanned<String>>,
    servers: Spanned<BTreeMap<String, String>>,
    clients: Spanned<BTreeMap<String, String>>,
    #[serde(default)]
    threads: BTreeMap<String, Vec<String>>,
    act: Vec<Spanned<ActFile>>,
}

fn tcp() -> String {
    "tcp".to_owned()
}

fn the_table() -> String {
    "The kernel's table".to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SharedFile {
    act: BTreeMap<String, Spanned<ActFile>>,
    step: BTreeMap<String, SharedStep>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ActFile {
    #[serde(rename = "do")]
    actions: Vec<Spanned<String>>,
    #[serde(default)]
    until: Vec<Spanned<String>>,
    rest: BTreeMap<Spanned<String>, String>,
    sockets: Vec<Spanned<String>>,
    step: Vec<Spanned<StepFile>>,
    table: Option<Table>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct StepFile {
    #[serde(rename = "use")]
    shared: Option<String>,
    client: Option<String>,
    server: Option<String>,
    title: Option<String>,
    text: Option<String>,
    #[serde(default)]
    calls: Vec<Spanned<String>>,
    rust: Option<String>,
    python: Option<String>,
    #[serde(default)]
    acknowledged: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SharedStep {
    title: Option<String>,
    text: Option<String>,
    calls: Vec<String>,
    rust: Option<String>,
    python: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProgramFile {
    package: Option<String>,
    like: Option<String>,
    calls: BTreeMap<String, [String; 2]>,
}

/// Text of a file, for the numbers of its lines.
struct Source {
    file: String,
    text: String,
}

impl Source {
    fn open(file: &str) -> Result<Self> {
        let path = folder().join(file);
        let text = fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let file = format!("docs/flows/{file}");
        Ok(Self { file, text })
    }

    fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        toml::from_str(&self.text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            anyhow!("{}: {}", self.place(at), error.message())
        })
    }

    /// The file and the line of the byte `at`.
    fn place(&self, at: usize) -> String {
        let line = self.text[..at].matches('\n').count() + 1;
        format!("{}:{line}", self.file)
    }
}

/// The names of the scenarios, in the order of the book.
pub fn names() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder())? {
        let file = entry?.file_name().to_string_lossy().into_owned();
        let stem = file.strip_suffix(".toml");
        if let Some(stem) = stem.filter(|s| s.starts_with(char::is_numeric)) {
            names.push(stem.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

impl Scenario {
    /// Reads the scenario `name` and what it refers to.
    ///
    /// # Errors
    /// A file is missing or misspelt: its name and the line.
    pub fn load(name: &str) -> Result<Self> {
        let source = Source::open(&format!("{name}.toml"))?;
        let code = Source::open("code.toml")?.parse()?;
        Self::read(name, &source, code, &Source::open("shared.toml")?)
    }

    fn read(
        name: &str,
        source: &Source,
        code: BTreeMap<String, ProgramFile>,
        shared_source: &Source,
    ) -> Result<Self> {
        let file: ScenarioFile = source.parse()?;
        let shared: SharedFile = shared_source.parse()?;
        let mut scenario = Self {
            name: name.to_owned(),
            title: file.title,
            summary: words(&file.summary),
            protocol: file.protocol,
            programs: Vec::new(),
            acts: Vec::new(),
        };
        let find = |place: &str, program: &String| {
            code.get(program)
                .with_context(|| format!("{place}: code.toml has no {program}"))
        };
        let mut threads = file.threads;
        let sides =
            [(Side::Client, file.clients), (Side::Server, file.servers)];
        for (side, programs) in sides {
            let place = source.place(programs.span().start);
            for (names, command) in programs.into_inner() {
                let mut command = command.split(' ').map(str::to_owned);
                let binary = command.next().unwrap_or_default();
                let known = find(&place, &binary)?;
                let mut calls = BTreeMap::new();
                if let Some(like) = &known.like {
                    calls.extend(find(&place, like)?.calls.clone());
                }
                calls.extend(known.calls.clone());
                let args: Vec<_> = command.collect();
                let package = known.package.as_ref().unwrap_or(&binary);
                for name in names.split(", ") {
                    scenario.programs.push(Program {
                        name: name.to_owned(),
                        side,
                        package: package.clone(),
                        binary: binary.clone(),
                        args: args.clone(),
                        threads: threads.remove(name).unwrap_or_default(),
                        calls: calls.clone(),
                    });
                }
            }
        }
        if let Some(name) = threads.keys().next() {
            bail!("{}: [threads]: nobody is called {name}", source.file);
        }
        for name in &file.begins {
            let Some(act) = shared.act.get(name.get_ref()) else {
                let place = source.place(name.span().start);
                bail!("{place}: shared.toml has no act {}", name.get_ref());
            };
            let act = scenario.act(act.clone(), shared_source, &shared)?;
            scenario.acts.push(act);
        }
        for act in file.act {
            let act = scenario.act(act, source, &shared)?;
            scenario.acts.push(act);
        }
        Ok(scenario)
    }

    /// The program that is called `name`.
    pub fn program(&self, name: &str) -> Option<&Program> {
        self.programs.iter().find(|program| program.name == name)
    }

    /// The program that is called `actor`, or has a thread of that name.
    pub fn owner(&self, actor: &str) -> Option<&Program> {
        self.programs.iter().find(|program| {
            program.name == actor || program.threads.iter().any(|t| t == actor)
        })
    }

    fn act(
        &self,
        act: Spanned<ActFile>,
        source: &Source,
        shared: &SharedFile,
    ) -> Result<Act> {
        let place = source.place(act.span().start);
        let act = act.into_inner();
        let at = |text: &Spanned<String>, error: &str| {
            let place = source.place(text.span().start);
            anyhow!("{place}: {error}: {}", text.get_ref())
        };
        let actions = |texts: &[Spanned<String>]| {
            let read = |text: &Spanned<String>| {
                self.action(text.get_ref())
                    .ok_or_else(|| at(text, "nobody can do this"))
            };
            texts.iter().map(read).collect::<Result<Vec<_>>>()
        };
        let mut sockets = Vec::new();
        for text in &act.sockets {
            sockets.extend(
                self.awaited(text.get_ref())
                    .ok_or_else(|| at(text, "this is no socket"))?,
            );
        }
        let mut rest = Vec::new();
        for (all, calls) in &act.rest {
            let mut calls: Vec<_> =
                calls.split(' ').map(str::to_owned).collect();
            calls.sort();
            for who in all.get_ref().split(", ") {
                if self.program(who).is_none() {
                    return Err(at(all, "nobody is called so"));
                }
                rest.push((who.to_owned(), calls.clone()));
            }
        }
        rest.sort_by_key(|(who, _)| {
            let side = self.program(who).map(|program| program.side);
            (side != Some(Side::Server), who.clone())
        });
        let mut steps = Vec::new();
        for step in act.step {
            steps.push(self.step(step, source, shared)?);
        }
        Ok(Act {
            place,
            actions: actions(&act.actions)?,
            until: actions(&act.until)?,
            rest,
            sockets,
            steps,
            table: act.table.map(|table| Table {
                title: table.title,
                text: words(&table.text),
            }),
        })
    }

    fn action(&self, text: &str) -> Option<Action> {
        let found = |who: &str, what| {
            let who = self.program(who)?.name.clone();
            Some(Action { who, what })
        };
        if let Some(who) = text.strip_prefix("start ") {
            return found(who, What::Start);
        }
        if let Some(who) = text.strip_prefix("kill ") {
            return found(who, What::Kill);
        }
        if let Some(who) = text.strip_prefix("interrupt ") {
            return found(who, What::Interrupt);
        }
        if let Some((who, typed)) = text.split_once(" types ") {
            let what = match typed {
                "Ctrl-D" => What::EndsInput,
                typed => What::Types(typed.to_owned()),
            };
            return found(who, what);
        }
        if let Some((who, shown)) = text.split_once(" shows ") {
            return found(who, What::Shows(shown.to_owned()));
        }
        let (who, code) = text.split_once(" exits ")?;
        found(who, What::Exits(code.parse().ok()?))
    }

    fn awaited(&self, text: &str) -> Option<Vec<Awaited>> {
        let (whose, state) = text.split_once(": ")?;
        let (state, queue) = state.split_once(' ').unwrap_or((state, "0"));
        let receive_queue = queue.parse().ok()?;
        let row = |side, client: &str| Awaited {
            side,
            client: client.to_owned(),
            state: state.to_owned(),
            receive_queue,
        };
        if ["LISTEN", "UNCONN"].contains(&state) {
            let program = self.program(whose)?;
            return Some(vec![row(program.side, "")]);
        }
        let (clients, sides) = match whose.split_once(" for ") {
            Some(("server", client)) => (client, &[Side::Server][..]),
            Some(_) => return None,
            None => match whose.strip_prefix("both ends of ") {
                Some(all) => (all, &[Side::Client, Side::Server][..]),
                None => (whose, &[Side::Client][..]),
            },
        };
        let mut rows = Vec::new();
        for name in clients.split(", ") {
            self.program(name).filter(|c| c.side == Side::Client)?;
            rows.extend(sides.iter().map(|side| row(*side, name)));
        }
        Some(rows)
    }

    fn step(
        &self,
        step: Spanned<StepFile>,
        source: &Source,
        shared: &SharedFile,
    ) -> Result<Step> {
        let place = source.place(step.span().start);
        let step = step.into_inner();
        let mut calls: Vec<(String, String)> = Vec::new();
        let (mut title, mut text) = (step.title, step.text);
        let (mut rust, mut python) = (step.rust, step.python);
        if let Some(name) = &step.shared {
            let Some(shared) = shared.step.get(name) else {
                bail!("{place}: shared.toml has no step {name}");
            };
            let client = step.client.as_deref().unwrap_or("client");
            let server = step.server.as_deref().unwrap_or("server");
            let named = |text: &String| {
                text.replace("CLIENT", client).replace("SERVER", server)
            };
            title = title.or(shared.title.as_ref().map(named).map(sentence));
            text = text.or(shared.text.clone());
            rust = rust.or(shared.rust.clone());
            python = python.or(shared.python.clone());
            let shared = shared.calls.iter().map(named);
            calls.extend(shared.map(|call| (place.clone(), call)));
        }
        calls.extend(
            step.calls.into_iter().map(|call| {
                (source.place(call.span().start), call.into_inner())
            }),
        );
        let told = |(place, call): (String, String)| {
            let begun = call.strip_suffix(" begins");
            let named = begun.unwrap_or(&call).rsplit_once(' ');
            let Some((who, name)) =
                named.filter(|(who, _)| self.owner(who).is_some())
            else {
                bail!("{place}: nobody can call this: {call}");
            };
            Ok(Told {
                place,
                who: who.to_owned(),
                name: name.to_owned(),
                begins: begun.is_some(),
            })
        };
        let code = match (rust, python) {
            (None, None) => None,
            (rust, python) => {
                Some([rust.unwrap_or_default(), python.unwrap_or_default()])
            }
        };
        let missing = || format!("{place}: a step has a title and a text");
        Ok(Step {
            title: title.with_context(missing)?,
            text: words(&text.with_context(missing)?),
            calls: calls.into_iter().map(told).collect::<Result<_>>()?,
            code,
            acknowledged: step.acknowledged,
            place,
        })
    }
}

/// A title whose first word may have been a name.
fn sentence(title: String) -> String {
    let first = title.chars().take(1).flat_map(char::to_uppercase);
    first.chain(title.chars().skip(1)).collect()
}

/// A text without the line breaks of its file.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
title = "A test"
summary = "A test."
servers = { server = "lesson" }
clients = { client = "lesson" }
[[act]]
do = ["start server"]
rest = { server = "accept4(3)" }
sockets = ["server: LISTEN"]
[[act.step]]
use = "listens"
title = "It listens"
text = "It does."
calls = ["server accept4"]
"#;

    fn read(text: &str) -> Result<Scenario> {
        let code = "[lesson.calls]\n";
        let shared = "[act]\n[step.listens]\ncalls = [\"SERVER listen\"]\n";
        let source = |file: &str, text: &str| Source {
            file: file.to_owned(),
            text: text.to_owned(),
        };
        let code = source("code.toml", code).parse()?;
        let shared = source("shared.toml", shared);
        Scenario::read("test", &source("test.toml", text), code, &shared)
    }

    #[test]
    fn a_shared_step_tells_its_calls_first() {
        let scenario = read(GOOD).unwrap();
        let calls = &scenario.acts[0].steps[0].calls;
        let names: Vec<_> = calls.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["listen", "accept4"]);
    }

    #[test]
    fn what_is_misspelt_is_refused_with_its_line() {
        for (right, wrong, line, word) in [
            ("summary", "sumary", 3, "sumary"),
            ("servers", "begins = [\"sings\"]\nservers", 4, "sings"),
            ("server = \"lesson\"", "server = \"leson\"", 4, "leson"),
            ("start server", "start sever", 7, "sever"),
            ("start server", "server sings la", 7, "sings"),
            ("{ server = \"acc", "{ sever = \"acc", 8, "sever"),
            ("server: LISTEN", "sever: LISTEN", 9, "sever"),
            ("\"listens\"", "\"listen\"", 10, "listen"),
            ("server accept4", "sever accept4", 14, "sever"),
        ] {
            let text = GOOD.replacen(right, wrong, 1);
            let error = read(&text).unwrap_err().to_string();
            let place = format!("test.toml:{line}: ");
            assert!(error.starts_with(&place), "{place}{error}");
            assert!(error.contains(word), "{error}");
        }
    }
}
