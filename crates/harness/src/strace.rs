//! The system calls of a program, as strace(1) tells them. Only on Linux.
//!
//! ```no_run
//! # fn main() -> Result<(), harness::Failure> {
//! use harness::strace;
//! let lab = harness::Lab::new();
//! let path = harness::binary("lesson-03-threaded", "lesson-03-threaded")?;
//! let command = strace::command(&["-e", "trace=%net"], &path, &[]);
//! let mut server = lab.start_command("server", command)?;
//! server.expect_error("accept4(")?;
//! assert_eq!(strace::counts(&server.stderr())["listen"], 1);
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// What std and the C library do to make and to end a thread or to wait for
/// one, which is a little more or less each time; and `fcntl`, by which std
/// looks in a debug build at a descriptor that it closes.
const OF_THREADS: [&str; 16] = [
    "clone",
    "clone3",
    "exit",
    "fcntl",
    "futex",
    "gettid",
    "madvise",
    "mmap",
    "mprotect",
    "munmap",
    "rseq",
    "rt_sigprocmask",
    "sched_getaffinity",
    "set_robust_list",
    "sigaltstack",
    "sched_yield",
];

/// The options with which a program and its threads are followed. With `-D`
/// the program is our child, and strace its companion: so a signal, and the
/// wait for the end, mean the program.
pub const FOLLOW: [&str; 4] = ["-D", "-f", "-e", "signal=none"];

/// A system call, as strace printed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name, such as `accept4`.
    pub name: String,
    /// Its arguments, each as printed.
    pub args: Vec<String>,
    /// What it returned, with the words behind it; `None` while it waits.
    pub result: Option<String>,
}

/// How often each system call was made.
pub type Counts = BTreeMap<String, usize>;

/// `program` under strace, which tells on the program's standard error (if
/// `options` do not say otherwise): so a test can wait for a call.
pub fn command(options: &[&str], program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("strace");
    command
        .args(FOLLOW)
        .args(["-s", "100"])
        .args(options)
        .arg(program)
        .args(args);
    command
}

/// Whether strace is installed.
pub fn is_there() -> bool {
    Command::new("strace").arg("-V").output().is_ok()
}

/// The calls that a trace tells of, in the order in which they began. What
/// else stands there, such as a complaint of the program, is left out.
pub fn calls(trace: &[u8]) -> Vec<Call> {
    let trace = String::from_utf8_lossy(trace);
    let mut calls = Vec::new();
    let mut unfinished = BTreeMap::new();
    for line in trace.lines() {
        let (thread, line) = thread(line);
        if let Some(rest) = resumed(line) {
            if let Some((at, start)) = unfinished.remove(thread)
                && let Some(call) = call(&format!("{start}{rest}"))
            {
                calls[at] = call;
            }
        } else if let Some(call) = call(line) {
            if let Some((start, _)) = line.split_once("<unfinished ...>") {
                unfinished.insert(thread, (calls.len(), start));
            }
            calls.push(call);
        }
    }
    calls
}

/// The names of the calls from the first `socket` on, a space between them.
pub fn flow(trace: &[u8]) -> String {
    let calls = calls(trace).into_iter().map(|call| call.name);
    let flow: Vec<_> = calls.skip_while(|name| name != "socket").collect();
    flow.join(" ")
}

/// How often each call stands in a trace.
pub fn counts(trace: &[u8]) -> Counts {
    let mut counts = Counts::new();
    for call in calls(trace) {
        *counts.entry(call.name).or_default() += 1;
    }
    counts
}

/// Which calls there are more of, and how many more, without those that
/// threads make of themselves.
pub fn increase(few: &Counts, many: &Counts) -> Vec<(String, usize)> {
    let more = |(name, count): (&String, &usize)| {
        let before = few.get(name).copied().unwrap_or_default();
        (name.clone(), count.saturating_sub(before))
    };
    many.iter()
        .map(more)
        .filter(|(name, _)| !OF_THREADS.contains(&name.as_str()))
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// The thread's number, if strace says it, and what stands behind it.
fn thread(line: &str) -> (&str, &str) {
    let words = line
        .strip_prefix("[pid")
        .and_then(|rest| rest.trim_start().split_once("] "))
        .or_else(|| line.split_once(' '));
    match words {
        Some((number, call)) if number.bytes().all(|b| b.is_ascii_digit()) => {
            (number, call.trim_start())
        }
        _ => ("", line),
    }
}

/// The second half of a call: what stands behind `<... NAME resumed>`.
fn resumed(line: &str) -> Option<&str> {
    let (_, rest) = line.strip_prefix("<... ")?.split_once(" resumed>")?;
    Some(rest)
}

/// One line: `listen(3, 128)   = 0`, or its beginning.
pub(crate) fn call(line: &str) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    let is_of_a_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if name.is_empty() || !name.bytes().all(is_of_a_name) {
        return None;
    }
    let rest = rest.trim_end_matches("<unfinished ...>");
    let (args, end) = arguments(rest);
    let result = end.and_then(|end| {
        let result = end.trim_start().strip_prefix('=')?.trim();
        // A call in which the program was killed never returned.
        (!result.starts_with('?')).then(|| result.to_owned())
    });
    Some(Call {
        name: name.to_owned(),
        args,
        result,
    })
}

/// The arguments up to the bracket that closes the call, and what is behind.
fn arguments(text: &str) -> (Vec<String>, Option<&str>) {
    let mut args = vec![String::new()];
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    let mut end = None;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => {
                end = Some(&text[at + 1..]);
                break;
            }
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
    let args = args.into_iter().map(|arg| arg.trim().to_owned());
    (args.filter(|arg| !arg.is_empty()).collect(), end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_its_name_its_arguments_and_its_result() {
        let call = call(r#"sendto(3, "a(\"\n,", 4, {a=1, b=[2]}) = 4 (x)"#);
        let wanted = Call {
            name: "sendto".to_owned(),
            args: ["3", r#""a(\"\n,""#, "4", "{a=1, b=[2]}"]
                .map(str::to_owned)
                .to_vec(),
            result: Some("4 (x)".to_owned()),
        };
        assert_eq!(call, Some(wanted));
    }

    #[test]
    fn a_call_in_two_halves_is_one_call_of_its_thread() {
        let trace = b"accept4(3,  <unfinished ...>\n\
            [pid    12] recvfrom(4,  <unfinished ...>\n\
            [pid    11] futex(0x1) = 0\n\
            [pid    12] <... recvfrom resumed>\"hello\", 1024, 0) = 5\n\
            [pid    12] close(4) = ?\n";
        let calls = calls(trace);
        let names: Vec<_> = calls.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["accept4", "recvfrom", "futex", "close"]);
        assert_eq!(calls[1].args, ["4", "\"hello\"", "1024", "0"]);
        assert_eq!(calls[1].result.as_deref(), Some("5"));
        assert_eq!((&calls[0].result, &calls[3].result), (&None, &None));
    }

    #[test]
    fn what_a_program_prints_is_no_call() {
        let trace = b"127.0.0.1:5: Connection reset by peer (os error 104)\n\
            strace: Process 12 attached\n(os error 1)\n12 write(2, \"x\", 1x) = 1\n";
        assert_eq!(counts(trace), [("write".to_owned(), 1)].into());
    }
}
