//! Reads what strace wrote: one file for each thread, see strace(1), `-ff`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use crate::{Failure, Lab, Result};

/// A system call, as strace printed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name, such as `accept4`.
    pub name: String,
    /// Its arguments, each as printed.
    pub args: Vec<String>,
    /// What it returned, with the words behind it; `None` while it waits.
    pub result: Option<String>,
    /// When it began, in nanoseconds since 1970.
    pub began: u64,
    /// When strace saw its end, which may be before what it caused.
    pub ended: Option<u64>,
}

/// The calls of one thread.
#[derive(Debug)]
pub struct Trace {
    /// The thread's number in the system.
    pub thread: u32,
    /// From its first call about a socket on.
    pub calls: Vec<Call>,
    /// How it ended, such as `exited with 0`, and when.
    pub end: Option<(u64, String)>,
}

/// `program`, run under strace, which writes `DIR/NAME.THREAD`.
///
/// Of the signals it tells the one that ends a program in any case. With `-D`
/// the program stays our child and strace is its companion: so a
/// signal, and the wait for the end, mean the program.
pub fn command(program: &Path, dir: &Path, name: &str) -> Command {
    let mut command = Command::new("strace");
    command
        .args([
            "-D",
            "-f",
            "-ff",
            "-ttt",
            "-T",
            "-s",
            "30",
            "-e",
            "signal=kill",
        ])
        .args(["-e", "trace=%net,close,read", "-o"])
        .arg(dir.join(name))
        .arg(program);
    command
}

/// The calls of the program `name` so far, by thread: the main thread, then
/// the others in the order of their first call.
///
/// # Errors
/// [`crate::Fault::Io`] if the files cannot be read.
pub fn read(dir: &Path, name: &str, main: u32) -> Result<Vec<Trace>> {
    let mut traces = Vec::new();
    for path in files(dir, name).map_err(unreadable)? {
        let text = fs::read_to_string(&path).map_err(unreadable)?;
        let thread = path.extension().and_then(|end| end.to_str());
        let Some(thread) = thread.and_then(|end| end.parse().ok()) else {
            continue;
        };
        let calls = text.lines().filter_map(parse).collect();
        let end = text.lines().next_back().and_then(parse_end);
        traces.push(Trace { thread, calls, end });
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
    traces.sort_by_key(|trace| {
        let first = trace.calls.first().map(|call| call.began);
        (trace.thread != main, first.is_none(), first)
    });
    Ok(traces)
}

fn unreadable(error: io::Error) -> Failure {
    Lab::new().failure("strace", "write its files", error)
}

fn files(dir: &Path, name: &str) -> io::Result<Vec<PathBuf>> {
    let files = fs::read_dir(dir)?.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(files
        .filter(|path| path.file_stem().is_some_and(|stem| stem == name))
        .collect())
}

/// `1795445751.164794` in nanoseconds.
pub(super) fn nanoseconds(time: &str) -> Option<u64> {
    let (seconds, fraction) = time.split_once('.')?;
    let fraction: u64 = format!("{fraction:0<9}").parse().ok()?;
    Some(seconds.parse::<u64>().ok()? * 1_000_000_000 + fraction)
}

/// The last line of a thread: `1795445751.164794 +++ exited with 0 +++`.
fn parse_end(line: &str) -> Option<(u64, String)> {
    let (at, rest) = line.split_once(" +++ ")?;
    let how = rest.strip_suffix(" +++")?;
    Some((nanoseconds(at)?, how.to_owned()))
}

/// One line: `1795445751.164794 listen(3, 128)   = 0 <0.000017>`, or its
/// beginning.
fn parse(line: &str) -> Option<Call> {
    let (began, line) = line.split_once(' ')?;
    let began = nanoseconds(began)?;
    let (name, rest) = line.split_once('(')?;
    if !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return None;
    }
    let (args, end) = split(rest);
    let returned = end.and_then(|end| {
        let end = end.trim_start().strip_prefix('=')?;
        let (result, took) = end.trim().rsplit_once(" <")?;
        let took = nanoseconds(took.trim_end_matches('>'))?;
        // A call in which the program was killed never returned.
        (!result.starts_with('?')).then(|| (result.to_owned(), began + took))
    });
    let (result, ended) = returned.unzip();
    Some(Call {
        name: name.to_owned(),
        args,
        result,
        began,
        ended,
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

    /// The file descriptor that it is about.
    pub fn descriptor(&self) -> &str {
        self.arg(0)
    }

    /// The number that it returned.
    pub fn number(&self) -> Option<String> {
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

    /// The address among its arguments, such as the peer of a `connect`, or of
    /// the connection that an `accept4` returned.
    pub fn address(&self) -> Option<SocketAddr> {
        self.args.iter().find_map(|arg| address(arg).parse().ok())
    }

    /// The call as C would write it, without what is the same every time.
    pub fn shown(&self) -> String {
        let fd = self.arg(0);
        let address = |index| address(self.arg(index));
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
    pub fn shown_result(&self) -> String {
        let Some(result) = &self.result else {
            return String::new();
        };
        // `-1 EADDRINUSE (Address already in use)`: the words say the same.
        let result = result.split(" (").next().unwrap_or_default();
        let from = match self.name.as_str() {
            _ if result.starts_with('-') => String::new(),
            "accept4" | "accept" => address(self.arg(1)),
            "recvfrom" => match address(self.arg(4)) {
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
/// as `1.2.3.4:9006`, and an IPv6 one as `[::1]:9006`; empty for anything else.
fn address(text: &str) -> String {
    let field = |from: &str, to: char| {
        let (_, rest) = text.split_once(from)?;
        rest.split(to).next()
    };
    let Some(port) = field("htons(", ')') else {
        return String::new();
    };
    let v4 = field("inet_addr(\"", '"').map(|ip| format!("{ip}:{port}"));
    let v6 = field("inet_pton(AF_INET6, \"", '"');
    v4.or_else(|| Some(format!("[{}]:{port}", v6?)))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str) -> (String, String) {
        let call = parse(&format!("1.5 {line}")).unwrap();
        (call.shown(), call.shown_result())
    }

    #[test]
    fn a_call_is_shortened_to_what_matters() {
        let accept = "accept4(3, {sa_family=AF_INET, sin_port=htons(7), \
            sin_addr=inet_addr(\"127.0.0.1\")}, [128 => 16], SOCK_CLOEXEC) = \
            4 <0.000017>";
        assert_eq!(call(accept).0, "accept4(3)");
        assert_eq!(call(accept).1, "4 (127.0.0.1:7)");
        let send = r#"sendto(3, "a(\"\n", 4, 0, NULL, 0) = 4 <0.000017>"#;
        assert_eq!(call(send).0, r#"sendto(3, "a(\"\n", 4)"#);
        assert_eq!(call(send).1, "4");
    }

    #[test]
    fn an_ipv6_address_stands_in_brackets() {
        let connect = "connect(3, {sa_family=AF_INET6, sin6_port=htons(9006), \
            sin6_flowinfo=htonl(0), inet_pton(AF_INET6, \"::1\", &sin6_addr), \
            sin6_scope_id=0}, 28) = 0 <0.000017>";
        assert_eq!(call(connect).0, "connect(3, [::1]:9006)");
    }

    #[test]
    fn errors_keep_their_name() {
        let bind = "bind(3, {sa_family=AF_INET, sin_port=htons(9006), \
            sin_addr=inet_addr(\"127.0.0.1\")}, 16) = -1 EADDRINUSE (Address \
            already in use) <0.000017>";
        assert_eq!(call(bind).0, "bind(3, 127.0.0.1:9006)");
        assert_eq!(call(bind).1, "-1 EADDRINUSE");
    }

    #[test]
    fn a_call_that_waits_has_no_result() {
        assert_eq!(call("accept4(3, ").0, "accept4(3)");
        assert_eq!(call("accept4(3, ").1, "");
    }

    #[test]
    fn times_are_in_nanoseconds() {
        let call = parse("1.5 listen(3, 128)     = 0 <0.000017>").unwrap();
        assert_eq!(call.began, 1_500_000_000);
        assert_eq!(call.ended, Some(1_500_017_000));
        let end = parse_end("2.5 +++ exited with 0 +++").unwrap();
        assert_eq!(end, (2_500_000_000, "exited with 0".to_owned()));
    }
}
