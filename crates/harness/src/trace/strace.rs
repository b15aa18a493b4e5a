//! Reads what strace wrote: one file for each thread, see strace(1), `-ff`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use crate::timeline::escape;
use crate::{Failure, Lab, Result, strace};

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
#[derive(Clone, Debug)]
pub struct Trace {
    /// The thread's number in the system.
    pub thread: u32,
    /// When its first call began, whatever it was.
    pub began: u64,
    /// From its first call about a socket on.
    pub calls: Vec<Call>,
    /// How it ended, such as `exited with 0`, and when.
    pub end: Option<(u64, String)>,
}

/// What stands in front of a program to run it under strace, which writes
/// `DIR/NAME.THREAD`.
///
/// Of the signals it tells those that may end a program. With `-DD`
/// the program stays our child and strace is its companion, in a group of its
/// own: so a signal, and the wait for the end, mean the program. With `-yy` it
/// says what is behind a descriptor. A call with `?` is not known on every processor.
pub fn words(dir: &Path, name: &str) -> Vec<OsString> {
    let options = "strace -DD -f -ff -ttt -T -yy -s 30 \
        -e signal=kill,abrt,segv,bus,ill,fpe,term,int,pipe \
        -e trace=%net,close,read,write,readv,writev,?poll,ppoll,?select,\
        pselect6,?epoll_wait,epoll_pwait,?epoll_pwait2 -o";
    let options = options.split(' ').map(OsString::from);
    options.chain([dir.join(name).into()]).collect()
}

/// `program`, run under strace: see [`words`].
pub fn command(program: &Path, dir: &Path, name: &str) -> Command {
    let words = words(dir, name);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).arg(program);
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
        let mut calls: Vec<Call> = Vec::new();
        for mut call in text.lines().filter_map(parse) {
            // What did not return was interrupted by a signal, and begun again
            // by the kernel: signal(7), SA_RESTART.
            let interrupted = calls.pop_if(|before| before.ended.is_none());
            if let Some(before) = interrupted
                && before.shown() == call.shown()
            {
                call.began = before.began;
            }
            calls.push(call);
        }
        let began = text.lines().next().and_then(|line| line.split_once(' '));
        let began = began.and_then(|(time, _)| nanoseconds(time));
        let is_main = thread == main;
        traces.push(Trace {
            thread,
            began: began.unwrap_or(u64::MAX),
            calls: calls
                .into_iter()
                .skip_while(|call| is_main && call.is_of_the_start())
                .filter(Call::is_told)
                .collect(),
            end: text.lines().next_back().and_then(parse_end),
        });
    }
    traces.sort_by_key(|trace| {
        let first = trace.calls.first().map(|call| call.began);
        (trace.thread != main, first.is_none(), first)
    });
    Ok(traces)
}

impl Trace {
    /// What was known of it at `time`.
    pub fn until(&self, time: u64) -> Self {
        let calls = self.calls.iter().filter(|call| call.began <= time);
        Self {
            calls: calls.map(|call| call.until(time)).collect(),
            end: self.end.clone().filter(|(at, _)| *at <= time),
            ..self.clone()
        }
    }
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
    let strace::Call { name, args, result } = strace::call(line)?;
    let returned = result.and_then(|result| {
        let (result, took) = result.rsplit_once(" <")?;
        let took = nanoseconds(took.trim_end_matches('>'))?;
        Some((result.to_owned(), began + took))
    });
    let (result, ended) = returned.unzip();
    Some(Call {
        name,
        args,
        result,
        began,
        ended,
    })
}

impl Call {
    fn arg(&self, index: usize) -> &str {
        self.args.get(index).map_or("", String::as_str)
    }

    /// What was known of it at `time`.
    fn until(&self, time: u64) -> Self {
        let ended = self.ended.filter(|ended| *ended <= time);
        Self {
            result: self.result.clone().filter(|_| ended.is_some()),
            ended,
            ..self.clone()
        }
    }

    /// The file descriptor that it is about.
    pub fn descriptor(&self) -> &str {
        bare(self.arg(0))
    }

    /// The number that it returned.
    pub fn number(&self) -> Option<String> {
        let result = self.result.as_deref()?;
        Some(bare(result.split(' ').next()?).to_owned())
    }

    /// What is behind its file descriptor: `TCP:[...]`, `UNIX-STREAM:[...]`,
    /// a file's path.
    fn behind(&self) -> &str {
        let behind = self.arg(0).split_once('<');
        behind.map_or("", |(_, behind)| behind)
    }

    /// The port at the other end of the connection that it is about, if
    /// strace could say.
    pub fn peer(&self) -> Option<u16> {
        let (_, peer) = self.behind().split_once("->")?;
        let (_, port) = peer.rsplit_once(':')?;
        port.trim_end_matches([']', '>']).parse().ok()
    }

    fn reads_the_keyboard(&self) -> bool {
        self.name == "read" && self.descriptor() == "0"
    }

    fn makes_a_socket(&self) -> bool {
        self.name == "socket" && self.arg(0).starts_with("AF_INET")
    }

    /// What happens before a program does anything: its libraries are read.
    fn is_of_the_start(&self) -> bool {
        !self.makes_a_socket() && !self.reads_the_keyboard()
    }

    /// Calls that say nothing about the flow stay out: asking for an address,
    /// and the files, pipes and local sockets that a program has.
    fn is_told(&self) -> bool {
        let is_local = ["UNIX", "NETLINK"]
            .iter()
            .any(|kind| self.behind().starts_with(kind));
        match self.name.as_str() {
            "getsockname" | "getpeername" | "socketpair" => false,
            // How a `connect` with a timeout waits: the time that is left for
            // it differs from run to run.
            "poll" if self.arg(0).contains("events=POLLOUT}") => false,
            "socket" => self.makes_a_socket(),
            "close" | "read" | "write" | "readv" | "writev" => {
                ["TCP", "UDP", "socket:"]
                    .iter()
                    .any(|kind| self.behind().starts_with(kind))
                    || self.reads_the_keyboard()
            }
            _ => !is_local,
        }
    }

    /// The address among its arguments, such as the peer of a `connect`, or of
    /// the connection that an `accept4` returned.
    pub fn address(&self) -> Option<SocketAddr> {
        self.args.iter().find_map(|arg| address(arg).parse().ok())
    }

    /// The call as C would write it, without what is the same every time.
    pub fn shown(&self) -> String {
        let fd = self.descriptor();
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
            "accept4" | "accept" | "close" => fd.to_owned(),
            "read" if fd == "0" => fd.to_owned(),
            "recvfrom" | "read" => format!("{fd}, {}", self.length()),
            "readv" | "writev" | "recvmsg" | "sendmsg" => format!("{fd}, ..."),
            "poll" | "ppoll" => {
                format!("{}{}", polled(fd), within(self.arg(2)))
            }
            "epoll_wait" | "epoll_pwait" | "epoll_pwait2" => {
                format!("{fd}{}", within(self.arg(3)))
            }
            "select" | "pselect6" => {
                format!("{}{}", polled(self.arg(1)), within(self.arg(4)))
            }
            "sendto" => {
                let to = address(4);
                let to = match to.as_str() {
                    "" => to,
                    _ => format!(", {to}"),
                };
                format!("{fd}, {}, {}{to}", text(self.arg(1)), self.arg(2))
            }
            _ => {
                let args = self.args.iter().map(|arg| text(bare(arg)));
                args.collect::<Vec<_>>().join(", ")
            }
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
        let result = bare(result);
        let from = match self.name.as_str() {
            _ if result.starts_with('-') => String::new(),
            "accept4" | "accept" => address(self.arg(1)),
            "recvfrom" => match address(self.arg(4)) {
                from if from.is_empty() => text(self.arg(1)),
                from => format!("{}, {from}", text(self.arg(1))),
            },
            "read" => text(self.arg(1)),
            _ => String::new(),
        };
        match from.as_str() {
            "" | "\"\"" => result.to_owned(),
            _ => format!("{result} ({from})"),
        }
    }
}

/// `3<TCP:[127.0.0.1:9006]>` as `3`.
fn bare(arg: &str) -> &str {
    match arg.split_once('<') {
        Some((number, _)) if number.parse::<u32>().is_ok() => number,
        _ => arg,
    }
}

/// `"\\303\\251\\n"` as `"é\\n"`, the way a timeline shows the same bytes.
fn text(arg: &str) -> String {
    let whole = arg.strip_prefix('"').and_then(|rest| rest.rsplit_once('"'));
    let Some((quoted, dots)) = whole else {
        return arg.to_owned();
    };
    let mut bytes = Vec::new();
    let mut rest = quoted.bytes().peekable();
    while let Some(byte) = rest.next() {
        bytes.push(match (byte, rest.next_if(|_| byte == b'\\')) {
            (_, Some(b'n')) => b'\n',
            (_, Some(b'r')) => b'\r',
            (_, Some(b't')) => b'\t',
            (_, Some(b'v')) => 0x0b,
            (_, Some(b'f')) => 0x0c,
            (_, Some(digit @ b'0'..=b'7')) => {
                let mut code = digit - b'0';
                for _ in 0..2 {
                    let next = rest.next_if(|b| (b'0'..=b'7').contains(b));
                    code = next.map_or(code, |b| code << 3 | (b - b'0'));
                }
                code
            }
            (_, Some(escaped)) => escaped,
            (byte, None) => byte,
        });
    }
    format!("\"{}\"{dots}", escape(&bytes))
}

/// The descriptors of `[{fd=3<TCP:[127.0.0.1:9006]>, events=POLLIN}]` and of
/// `[3<TCP:[127.0.0.1:9006]>]`.
fn polled(text: &str) -> String {
    let fields = text.trim_matches(['[', ']']).split([' ', '{']);
    let numbers = fields.filter_map(|field| {
        let field = field.strip_prefix("fd=").unwrap_or(field);
        let number = bare(field.trim_end_matches(','));
        number.parse::<u32>().is_ok().then_some(number)
    });
    let numbers: Vec<_> = numbers.collect();
    match numbers.is_empty() {
        true => "...".to_owned(),
        false => numbers.join(" "),
    }
}

/// How long a call waits at most, as its last argument says.
fn within(text: &str) -> String {
    let number = |name: &str| {
        let (_, rest) = text.split_once(name)?;
        let end = rest.find(|c: char| !c.is_ascii_digit());
        rest[..end.unwrap_or(rest.len())].parse::<u64>().ok()
    };
    let fraction = number("tv_usec=").map(|micros| micros / 1_000);
    let fraction = fraction.or(number("tv_nsec=").map(|n| n / 1_000_000));
    let time = number("tv_sec=").map(|s| s * 1000 + fraction.unwrap_or(0));
    match time.or(text.parse().ok()) {
        Some(time) => format!(", {time} ms"),
        None => String::new(),
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
        let bytes = r#"sendto(3, "\0\20\303\251\\\3771"..., 9, 0, NULL, 0"#;
        let shown = r#"sendto(3, "\0\x10é\\\xff1"..., 9)"#;
        assert_eq!(call(bytes).0, shown);
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
    fn what_is_behind_a_descriptor_decides_and_is_not_shown() {
        let told =
            |line: &str| parse(&format!("1.5 {line}")).unwrap().is_told();
        let tcp = "4<TCP:[127.0.0.1:9006->127.0.0.1:50001]>";
        let read = format!(r#"read({tcp}, "hi", 10) = 2 <0.000017>"#);
        assert!(told(&read));
        let peer = parse(&format!("1.5 {read}")).and_then(|call| call.peer());
        assert_eq!(peer, Some(50001));
        assert_eq!(call(&read), ("read(4, 10)".into(), "2 (\"hi\")".into()));
        assert!(!told("read(4</a/file>, \"hi\", 10) = 2 <0.000017>"));
        assert!(!told("recvfrom(6<UNIX-STREAM:[1->2]>, "));
        let socket = "socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_IP) \
            = 3<TCP:[7]> <0.000017>";
        assert_eq!(call(socket).1, "3");
        let poll = "poll([{fd=3<TCP:[127.0.0.1:9006]>, events=POLLIN}, \
            {fd=5<UNIX-STREAM:[1->2]>, events=POLLIN}], 2, 500) = 0 (Timeout) \
            <0.500017>";
        assert_eq!(call(poll), ("poll(3 5, 500 ms)".into(), "0".into()));
        let wait =
            "epoll_wait(3<anon_inode:[eventpoll]>, [], 64, -1) = 0 <1.0>";
        assert_eq!(call(wait).0, "epoll_wait(3)");
        let select = "pselect6(4, [3<TCP:[127.0.0.1:9006]>], NULL, NULL, \
            {tv_sec=0, tv_nsec=500000000}, NULL) = 0 (Timeout) <0.500017>";
        assert_eq!(call(select).0, "pselect6(3, 500 ms)");
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
