//! What a person may ask for, and which combinations make no sense.

use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{ArgGroup, Parser};

use crate::escape;

/// Each client takes up to two threads, and Linux's limit on memory mappings
/// (vm.max_map_count) ends a program with some 16,000 of them.
const MOST_CLIENTS: u64 = 5_000;

/// A chunk is held in memory by each client.
const BIGGEST_CHUNK: u64 = 16 << 20;

const UDP_TIMEOUT: Duration = Duration::from_millis(1_000);

/// A network client that misbehaves on request. It prints what it does and
/// sees, with the seconds since its start and the number of the client.
///
/// With neither --send, --idle, --half-close nor --rst it is interactive: what
/// you type is sent, line by line and as it is; Ctrl-D (Windows: Ctrl-Z, then
/// Enter) half-closes and shows what still comes.
#[derive(Parser, Debug)]
#[command(version, verbatim_doc_comment, after_help = EXAMPLES)]
#[command(group = any_of("pauses", ["repeat", "chunk", "half_close", "rst"]))]
#[command(group = any_of("task", ["send", "half_close", "rst", "idle"]))]
pub struct Args {
    /// The server's address, as HOST:PORT.
    #[arg(help = ADDR_HELP, value_parser = host_and_port)]
    pub addr: String,

    /// Send TEXT, exactly as given; \n \r \t \0 \xNN \\ are
    /// understood. Then show what comes, until the peer closes.
    /// An empty TEXT is for --udp: TCP sends no empty message
    #[arg(long, value_name = "TEXT", value_parser = text)]
    #[arg(verbatim_doc_comment, requires_if("", "udp"))]
    pub send: Option<Text>,

    /// Send TEXT N times
    #[arg(long, value_name = "N", requires = "send")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub repeat: Option<usize>,

    /// Cut all that is sent into writes of N bytes; each leaves
    /// at once (TCP_NODELAY is always on). At most 16777216
    #[arg(long, value_name = "N", verbatim_doc_comment)]
    #[arg(requires = "send", conflicts_with = "udp")]
    #[arg(value_parser = one_to(BIGGEST_CHUNK))]
    pub chunk: Option<usize>,

    /// Pause between writes, and before --half-close or --rst
    #[arg(long, value_name = "MS", value_parser = millis, requires = "pauses")]
    pub delay: Option<Duration>,

    /// After sending, end this direction (FIN); then show what
    /// still comes until the end
    #[arg(long, verbatim_doc_comment)]
    #[arg(conflicts_with_all = ["rst", "idle", "udp"])]
    pub half_close: bool,

    /// After sending, reset the connection (RST); what the peer
    /// has not received by then may be lost
    #[arg(long, verbatim_doc_comment)]
    #[arg(conflicts_with_all = ["idle", "udp"])]
    pub rst: bool,

    /// Read nothing and stay until the peer closes, or Ctrl-C.
    /// A close that follows unread bytes cannot be seen
    /// without reading them; a reset can
    #[arg(long, verbatim_doc_comment, conflicts_with = "udp")]
    pub idle: bool,

    /// Run N clients at once, all doing the same (at most 5000)
    #[arg(long, value_name = "N", default_value_t = 1, requires = "task")]
    #[arg(hide_default_value = true, value_parser = one_to(MOST_CLIENTS))]
    pub clients: usize,

    /// Send datagrams, one for each write, and expect one answer
    /// to each; a typed line is a datagram too. There is no
    /// connection to half-close, to reset or to hold
    #[arg(long, verbatim_doc_comment)]
    pub udp: bool,

    /// Give up after MS milliseconds in which nothing moved: no
    /// connection, no answer, no bytes taken by the peer.
    /// With --idle: stay this long. UDP: 1000 unless told;
    /// TCP: no limit unless told
    #[arg(long, value_name = "MS", value_parser = millis)]
    #[arg(verbatim_doc_comment)]
    pub timeout: Option<Duration>,
}

const ADDR_HELP: &str = "The server: HOST:PORT, such as 127.0.0.1:9006,
localhost:9006 or [::1]:9006";

const EXAMPLES: &str = r#"Examples:
  Hold a conversation, line by line
      probe 127.0.0.1:9006
  Send one line, show the answers for a second
      probe localhost:9006 --send "hello\n" --timeout 1000
  Send three lines in three writes
      probe 127.0.0.1:9006 --send "hello\n" --repeat 3
  Send 8 MiB in chunks of 64 KiB, and count what comes back
      probe 127.0.0.1:9006 --send x --repeat 8388608 --chunk 65536 --half-close
  Send slowly: one byte every 200 ms
      probe 127.0.0.1:9006 --send "hello\n" --chunk 1 --delay 200
  End the sending direction, and wait for the answer and the end
      probe 127.0.0.1:9006 --send "hello\n" --half-close
  Reset the connection in the middle of a line
      probe 127.0.0.1:9006 --send "hel" --rst
  Hold four connections for ten seconds and stay silent
      probe 127.0.0.1:9006 --idle --clients 4 --timeout 10000
  Send a datagram, then an empty one
      probe 127.0.0.1:9006 --udp --send "hello"
      probe 127.0.0.1:9006 --udp --send ""

In this workspace: cargo run -p probe -- 127.0.0.1:9006 --send "hello\n"

With --timeout and neither --half-close nor --idle, silence after an answer is
a normal end; silence without any answer is a failure. Ctrl-C ends the program
at once, without the summary.

Exit code: 0 all went as asked; 1 something failed (refused, reset by the peer,
no answer in time); 2 the arguments make no sense."#;

fn any_of<const N: usize>(
    name: &'static str,
    args: [&'static str; N],
) -> ArgGroup {
    ArgGroup::new(name).args(args).multiple(true)
}

fn one_to(most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=most)
}

/// The bytes of --send.
#[derive(Clone, Debug)]
pub struct Text(pub Vec<u8>);

fn text(typed: &str) -> Result<Text, String> {
    escape::parse(typed).map(Text)
}

fn millis(typed: &str) -> Result<Duration, String> {
    let millis = typed.parse().map_err(|_| "give whole milliseconds")?;
    match millis {
        0 => Err("0 is no time: give 1 or more, or leave it out".into()),
        _ => Ok(Duration::from_millis(millis)),
    }
}

fn host_and_port(typed: &str) -> Result<String, String> {
    let example = "write HOST:PORT, such as 127.0.0.1:9006";
    let Some((host, port)) = typed.rsplit_once(':') else {
        return Err(format!("the port is missing: {example}"));
    };
    if host.is_empty() {
        return Err(format!("the host is missing: {example}"));
    }
    if host.contains(':') && !host.starts_with('[') {
        return Err("an IPv6 address needs brackets: [::1]:9006".into());
    }
    match port.parse::<u16>() {
        Ok(port) if port != 0 => Ok(typed.into()),
        _ => Err("the port must be a number from 1 to 65535".into()),
    }
}

impl Args {
    /// Whether the person at the keyboard decides what is sent.
    pub fn interactive(&self) -> bool {
        let told = self.send.is_some() || self.idle;
        !(told || self.half_close || self.rst)
    }

    /// How long to wait for something to move; `None`: without a limit.
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.timeout.or(self.udp.then_some(UDP_TIMEOUT))
    }
}
