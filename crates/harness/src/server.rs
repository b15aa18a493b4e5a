//! What tests do with a server again and again: start it, be a good client,
//! be refused.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::thread::JoinHandle;

use crate::{Fault, Lab, Peer, Program, Result, strace};

const REFUSED: i32 = 1;

impl Lab {
    /// Starts a server, and waits until it says where it listens.
    pub fn start_server(
        &self,
        path: &Path,
        args: &[&str],
    ) -> Result<(Program, SocketAddr)> {
        let mut command = Command::new(path);
        command.args(args);
        self.start_server_command(command)
    }

    /// As [`Lab::start_server`], for a command with more than arguments.
    ///
    /// # Errors
    /// As for [`Lab::start_server`].
    pub fn start_server_command(
        &self,
        command: Command,
    ) -> Result<(Program, SocketAddr)> {
        let mut server = self.start_command("server", command)?;
        let addr = server.wait_until_listening()?;
        Ok((server, addr))
    }

    /// As [`Lab::start_server`], under strace with `options`: see
    /// [`strace::command`].
    ///
    /// # Errors
    /// As for [`Lab::start_server`].
    pub fn trace_server(
        &self,
        options: &[&str],
        path: &Path,
        args: &[&str],
    ) -> Result<(Program, SocketAddr)> {
        self.start_server_command(strace::command(options, path, args))
    }

    /// Starts lesson 01's client, which is to connect to `addr`.
    ///
    /// # Errors
    /// As for [`crate::binary`] and [`Lab::start`].
    pub fn start_client(
        &self,
        name: &str,
        addr: SocketAddr,
    ) -> Result<Program> {
        let path = crate::binary("lesson-01-single-client", "client")?;
        self.start(name, &path, &[&addr.to_string()])
    }

    /// Runs a program that has to refuse its arguments, with `RUST_BACKTRACE`
    /// set: nothing on standard output, one line on standard error, no panic,
    /// exit code 1. Gives the line.
    ///
    /// # Errors
    /// [`Fault::Unexpected`] with what it printed instead; or as for
    /// [`Program::expect_exit`].
    pub fn refusal(&self, path: &Path, args: &[&str]) -> Result<String> {
        let mut command = Command::new(path);
        command.args(args);
        self.refusal_of(command)
    }

    /// As [`Lab::refusal`], for a command with more than arguments.
    pub fn refusal_of(&self, mut command: Command) -> Result<String> {
        command.env("RUST_BACKTRACE", "1");
        let mut program = self.start_command("refused", command)?;
        program.end_input();
        program.expect_exit(REFUSED)?;
        let printed = program.stdout();
        let said = String::from_utf8_lossy(&program.stderr()).into_owned();
        let refused = match said.strip_suffix('\n') {
            Some(line) if !line.contains('\n') => Some(line.to_owned()),
            _ => None,
        };
        refused
            .filter(|line| printed.is_empty() && !line.contains("panicked"))
            .ok_or_else(|| {
                let printed = String::from_utf8_lossy(&printed);
                let fault = Fault::Unexpected(format!("{printed}{said}"));
                let wanted = "refuse in one line on stderr";
                self.failure(program.name(), wanted, fault)
            })
    }

    /// A good client of a server that echoes: it comes, says something, gets
    /// it back, and leaves.
    pub fn good_client_gets_echo(&self, addr: SocketAddr) -> Result {
        let mut good = self.connect("good", addr)?;
        good.gets_echo("are you there\n")?;
        good.half_close()?;
        good.expect_end()
    }

    /// A good client of a server whose answers are typed: it comes, says
    /// something, gets an answer, and leaves.
    pub fn good_client_gets_reply(
        &self,
        server: &mut Program,
        addr: SocketAddr,
    ) -> Result {
        let mut good = self.connect("good", addr)?;
        let local = good.local_addr()?;
        server.expect(&format!("{local} connected\n"))?;
        good.send("are you there\n")?;
        server.expect("received: are you there\nreply> ")?;
        server.type_line("yes");
        good.expect("yes\n")?;
        good.half_close()?;
        server.expect(&format!("{local} closed the connection\n"))?;
        good.expect_end()
    }

    /// A good client of a server that sends datagrams back.
    pub fn good_client_gets_datagram(&self, addr: SocketAddr) -> Result {
        self.udp("good", addr)?.gets_echo("are you there?")
    }
}

impl Program {
    /// Waits for the next line on standard error, which has to be about the
    /// client at `peer`: it begins with that address.
    ///
    /// # Errors
    /// [`Fault::Unexpected`] for another line; or as for
    /// [`Program::error_line`].
    pub fn expect_complaint_about(&mut self, peer: SocketAddr) -> Result {
        let line = self.error_line()?;
        if line.starts_with(&format!("{peer}: ")) {
            return Ok(());
        }
        let wanted = format!("complain about {peer}");
        Err(self.failure(wanted, Fault::Unexpected(line)))
    }
}

impl Peer {
    /// Sends `bytes`, and receives them back. They have to fit into what the
    /// kernels keep for the connection.
    pub fn gets_echo(&mut self, bytes: impl AsRef<[u8]>) -> Result {
        self.send(&bytes)?;
        self.expect(bytes)
    }
}

/// `count` bytes in which a lost, doubled or moved byte shows.
pub fn bytes(count: usize) -> Vec<u8> {
    let block: Vec<u8> = (0..=255).chain(1..=250).collect();
    let mut bytes = block.repeat(count / block.len() + 1);
    bytes.truncate(count);
    bytes
}

/// Raises this process's soft limit of descriptors to `count`, or as far as it
/// may, and gives how many it may have now, up to `count`. What it starts may
/// have as many. (Windows has no such limit.)
pub fn raise_descriptor_limit(count: usize) -> usize {
    #[cfg(unix)]
    {
        use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
        let (nofile, count) = (Resource::RLIMIT_NOFILE, count as rlim_t);
        let (soft, hard) = getrlimit(nofile).unwrap_or((0, 0));
        let wanted = count.min(hard);
        let raised = soft < wanted && setrlimit(nofile, wanted, hard).is_ok();
        count.min(if raised { wanted } else { soft }) as usize
    }
    #[cfg(not(unix))]
    count
}

/// True if this process, and what it starts, may have `count` descriptors;
/// raises the limit where that is allowed, and says so if it is not.
pub fn can_open(count: usize) -> bool {
    let able = raise_descriptor_limit(count) >= count;
    if !able {
        eprintln!("skipped: no {count} descriptors for this process");
    }
    able
}

/// What no program takes for `HOST:PORT`. An empty host is this machine on
/// Windows, and nothing elsewhere.
pub fn bad_addresses() -> impl Iterator<Item = &'static str> {
    let bad = ["", "nonsense", "127.0.0.1", "127.0.0.1:99999", "::1", ":1"];
    bad.into_iter()
        .filter(|&bad| cfg!(not(windows)) || bad != ":1")
}

/// True if this machine has IPv6 on its loopback; says so if it has not.
pub fn has_ipv6() -> bool {
    let has_ipv6 = UdpSocket::bind("[::1]:0").is_ok();
    if !has_ipv6 {
        eprintln!("skipped: no IPv6 on this machine's loopback");
    }
    has_ipv6
}

/// How many lines a program has printed, of what it printed.
pub fn lines(output: &[u8]) -> usize {
    output.iter().filter(|&&byte| byte == b'\n').count()
}

/// What a thread has returned; if it panicked, this one does, too.
pub fn joined<T>(thread: JoinHandle<T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
