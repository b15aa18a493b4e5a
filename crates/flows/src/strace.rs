//! Reads what strace wrote: one file for each thread, see strace(1), `-ff`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// A system call, as strace printed it.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Its name, such as `accept4`.
    pub name: String,
    /// Its arguments, each as printed.
    pub args: Vec<String>,
    /// What it returned, with the words behind it; `None` while it waits.
    pub result: Option<String>,
    began: f64,
}

/// The calls of one thread.
#[derive(Debug)]
pub struct Trace {
    /// The thread's number in the system.
    pub thread: u32,
    /// From its first call about a socket on.
    pub calls: Vec<Call>,
}

/// `program`, run under strace, which writes `DIR/NAME.THREAD`.
///
/// With `-D` the program stays our child and strace is its companion: so a
/// signal, and the wait for the end, mean the program.
pub fn command(program: &Path, dir: &Path, name: &str) -> Command {
    let mut command = Command::new("strace");
    command
        .args(["-D", "-f", "-ff", "-ttt", "-s", "200", "-e", "signal=none"])
        .args(["-e", "trace=%net,close,read", "-o"])
        .arg(dir.join(name))
        .arg(program);
    command
}

/// Whether strace is installed.
pub fn is_there() -> bool {
    Command::new("strace").arg("-V").output().is_ok()
}

/// The calls of the program `name` so far, by thread: the main thread, then
/// the others in the order of their first call.
///
/// # Errors
/// The files cannot be read.
pub fn read(dir: &Path, name: &str, main: u32) -> Result<Vec<Trace>> {
    let mut traces = Vec::new();
    for path in files(dir, name)? {
        let text = fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let thread = path.extension().and_then(|end| end.to_str());
        let Some(thread) = thread.and_then(|end| end.parse().ok()) else {
            continue;
        };
        let calls = text.lines().filter_map(parse).collect();
        traces.push(Trace { thread, calls });
    }
    let sockets: BTreeSet<String> = traces
        .iter()
        .flat_map(|trace| &trace.calls)
        .filter(|call| ["socket", "accept4"].contains(&call.name.as_str()))
        .filter_map(|call| call.number())
        .collect();
    for trace in &mut traces {
        let is_main = trace.thread == main;
        let calls = std::mem::take(&mut trace.calls).into_iter();
        trace.calls = calls
            .skip_while(|call| is_main && call.is_of_the_start())
            .filter(|call| call.is_told(&sockets))
            .collect();
    }
    traces.retain(|trace| !trace.calls.is_empty());
    traces.sort_by(|a, b| {
        let key = |t: &Trace| (t.thread != main, t.calls[0].began);
        key(a)
            .partial_cmp(&key(b))
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    Ok(traces)
}

fn files(dir: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir)
        .with_context(|| format!("cannot read {}", dir.display()))?;
    Ok(entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_stem().is_some_and(|stem| stem == name))
        .collect())
}

/// One line: `1795445751.164794 listen(3, 128)   = 0`, or its beginning.
fn parse(line: &str) -> Option<Call> {
    let (began, line) = line.split_once(' ')?;
    let began = began.parse().ok()?;
    let (name, rest) = line.split_once('(')?;
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return None;
    }
    let (args, end) = split(rest);
    let result = end.and_then(|end| {
        let result = end.trim_start().strip_prefix('=')?.trim();
        // A call in which the program was killed never returned.
        (!result.starts_with('?')).then(|| result.to_owned())
    });
    Some(Call {
        name: name.to_owned(),
        args,
        result,
        began,
    })
}

/// The arguments up to the bracket that closes the call, and what is behind.
fn split(text: &str) -> (Vec<String>, Option<&str>) {
    let mut args = vec![String::new()];
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => return (trimmed(args), Some(&text[at + 1..])),
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                args.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(arg) = args.last_mut() {
            arg.push(c);
        }
    }
    (trimmed(args), None)
}

fn trimmed(args: Vec<String>) -> Vec<String> {
    args.into_iter()
        .map(|arg| arg.trim().to_owned())
        .filter(|arg| !arg.is_empty())
        .collect()
}

impl Call {
    fn arg(&self, index: usize) -> &str {
        self.args.get(index).map_or("", String::as_str)
    }

    /// The number that it returned.
    fn number(&self) -> Option<String> {
        let result = self.result.as_deref()?;
        Some(result.split(' ').next()?.to_owned())
    }

    /// What happens before a program does anything: its libraries are read.
    fn is_of_the_start(&self) -> bool {
        self.name != "socket" && (self.name != "read" || self.arg(0) != "0")
    }

    /// Calls that say nothing about the flow stay out: asking for an address,
    /// and the files and pipes that every program has.
    fn is_told(&self, sockets: &BTreeSet<String>) -> bool {
        match self.name.as_str() {
            "getsockname" | "getpeername" | "socketpair" => false,
            "read" => self.arg(0) == "0",
            "close" => sockets.contains(self.arg(0)),
            _ => true,
        }
    }

    /// The call as C would write it, without what is the same every time.
    /// `port` gives the port that the figure shows for a real one.
    pub fn shown(&self, port: &mut impl FnMut(u16) -> u16) -> String {
        let fd = self.arg(0);
        let mut address = |index| address(self.arg(index), port);
        let args = match self.name.as_str() {
            "socket" => {
                let kind = self.arg(1).split('|').next().unwrap_or_default();
                format!("{fd}, {kind}, 0")
            }
            "setsockopt" => {
                let option = self.arg(2).trim_end_matches("_OLD");
                // strace prints a time as the bytes that it is made of.
                let value = match self.arg(3) {
                    bytes if bytes.starts_with('"') => "...",
                    value => value.trim_matches(['[', ']']),
                };
                format!("{fd}, {option}, {value}")
            }
            "bind" | "connect" => format!("{fd}, {}", address(1)),
            "accept4" | "accept" | "close" | "read" => fd.to_owned(),
            "recvfrom" => format!("{fd}, {}", self.length()),
            "sendto" => {
                let to = address(4);
                let to = match to.as_str() {
                    "" => to,
                    _ => format!(", {to}"),
                };
                format!("{fd}, {}, {}{to}", self.arg(1), self.arg(2))
            }
            _ => self.args.join(", "),
        };
        format!("{}({args})", self.name)
    }

    /// The room that a `recvfrom` gives: its third argument, of which strace
    /// prints nothing while the call waits.
    fn length(&self) -> &str {
        match self.arg(2) {
            "" => "...",
            length => length,
        }
    }

    /// What it returned, and what it put where its arguments point to.
    pub fn shown_result(&self, port: &mut impl FnMut(u16) -> u16) -> String {
        let Some(result) = &self.result else {
            return String::new();
        };
        // `-1 EADDRINUSE (Address already in use)`: the words say the same.
        let result = result.split(" (").next().unwrap_or_default();
        let from = match self.name.as_str() {
            _ if result.starts_with('-') => String::new(),
            "accept4" | "accept" => address(self.arg(1), port),
            "recvfrom" => match address(self.arg(4), port) {
                from if from.is_empty() => self.arg(1).to_owned(),
                from => format!("{}, {from}", self.arg(1)),
            },
            "read" => self.arg(1).to_owned(),
            _ => String::new(),
        };
        match from.as_str() {
            "" | "\"\"" => result.to_owned(),
            _ => format!("{result} ({from})"),
        }
    }
}

/// `{sa_family=AF_INET, sin_port=htons(9006), sin_addr=inet_addr("1.2.3.4")}`
/// as `1.2.3.4:9006`; empty for anything else.
fn address(text: &str, port: &mut impl FnMut(u16) -> u16) -> String {
    let field = |from: &str, to: char| {
        let (_, rest) = text.split_once(from)?;
        rest.split(to).next()
    };
    let number = field("htons(", ')').and_then(|port| port.parse().ok());
    match (field("inet_addr(\"", '"'), number) {
        (Some(ip), Some(number)) => format!("{ip}:{}", port(number)),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str) -> (String, String) {
        let call = parse(&format!("1.5 {line}")).unwrap();
        let mut port = |port| if port == 43931 { 9006 } else { port };
        (call.shown(&mut port), call.shown_result(&mut port))
    }

    #[test]
    fn a_call_is_shortened_to_what_matters() {
        let accept = "accept4(3, {sa_family=AF_INET, sin_port=htons(7), \
            sin_addr=inet_addr(\"127.0.0.1\")}, [128 => 16], SOCK_CLOEXEC) = 4";
        assert_eq!(call(accept).0, "accept4(3)");
        assert_eq!(call(accept).1, "4 (127.0.0.1:7)");
        let send = r#"sendto(3, "a(\"\n", 4, MSG_NOSIGNAL, NULL, 0) = 4"#;
        assert_eq!(call(send).0, r#"sendto(3, "a(\"\n", 4)"#);
        assert_eq!(call(send).1, "4");
    }

    #[test]
    fn ports_are_replaced_and_errors_keep_their_name() {
        let bind = "bind(3, {sa_family=AF_INET, sin_port=htons(43931), \
            sin_addr=inet_addr(\"127.0.0.1\")}, 16) = -1 EADDRINUSE (Address \
            already in use)";
        assert_eq!(call(bind).0, "bind(3, 127.0.0.1:9006)");
        assert_eq!(call(bind).1, "-1 EADDRINUSE");
    }

    #[test]
    fn a_call_that_waits_has_no_result() {
        assert_eq!(call("accept4(3, ").0, "accept4(3)");
        assert_eq!(call("accept4(3, ").1, "");
    }
}
