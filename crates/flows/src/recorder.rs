//! Runs a scenario's programs, and writes down what is seen.
//!
//! It needs namespaces of its own, in which the ports of the figures are free
//! and nobody else speaks: [`isolated`] starts it there.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::process::{self, Command};
use std::{env, io};

use anyhow::{Context, Result, bail, ensure};
use harness::trace::{Capture, States, strace};
use harness::{Lab, Scratch, proc, tasks};

use crate::calls::Calls;
use crate::merge::{Ports, merge};
use crate::recording::{Act, Recording};
use crate::scenario::{self, Action, Awaited, Scenario, What};
use crate::{Side, Snapshot, Socket, Waiting};

/// The ports that the figures show: the server's, and the first client's.
const SERVER_PORT: u16 = 9006;
const CLIENT_PORT: u16 = 50001;
/// What a socket of nobody else gets: a server's that connects to itself.
const OTHER_PORTS: &str = "40000 40000";
const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Records a scenario by starting this program again, with the arguments
/// `recorder NAME`, as root and in namespaces of its own. If the programs do
/// something else than the scenario says: why, and what was seen up to there.
///
/// # Errors
/// Something is missing.
pub fn isolated(scenario: &Scenario) -> Result<(Recording, Option<String>)> {
    ensure!(
        cfg!(target_os = "linux"),
        "only Linux shows its tables: record there"
    );
    let missing: Vec<_> = ["strace", "tcpdump", "unshare", "ip", "ss"]
        .into_iter()
        .filter(|tool| !is_installed(tool))
        .collect();
    ensure!(
        missing.is_empty(),
        "to record, install {}",
        missing.join(", ")
    );
    for program in &scenario.programs {
        harness::binary(&program.package, &program.binary)?;
    }
    let mut output = unshare("unshare", &[], &scenario.name)?;
    if is_refused(&output) && is_installed("sudo") {
        output = unshare("sudo", &["-n", "unshare"], &scenario.name)?;
    }
    ensure!(
        !is_refused(&output),
        "to record, be root, or let sudo ask for no password: only root sees \
         packets and states"
    );
    let said = String::from_utf8_lossy(&output.stderr);
    let failure = format!("{}: {}", scenario.name, said.trim());
    match serde_json::from_slice(&output.stdout) {
        Ok(recording) if output.status.success() => Ok((recording, None)),
        Ok(recording) => Ok((recording, Some(failure))),
        Err(_) => bail!(failure),
    }
}

fn unshare(
    program: &str,
    args: &[&str],
    scenario: &str,
) -> io::Result<process::Output> {
    Command::new(program)
        .args(args)
        .args(["-n", "-m", "--", "sh", "-c"])
        .arg("ip link set lo up && exec \"$0\" recorder \"$1\"")
        .arg(env::current_exe()?)
        .arg(scenario)
        .output()
}

fn is_refused(output: &process::Output) -> bool {
    let said = String::from_utf8_lossy(&output.stderr);
    said.starts_with("unshare: ") || said.starts_with("sudo: ")
}

fn is_installed(tool: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    // Where a user does not look, but root does.
    let folders = env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders
        .into_iter()
        .any(|folder| folder.join(tool).is_file())
}

/// Records a scenario, in the namespaces of [`isolated`], into `recording`,
/// which has what was seen up to an error.
///
/// # Errors
/// Something is missing, or the programs do something else.
pub fn record(scenario: &Scenario, recording: &mut Recording) -> Result<()> {
    let lab = Lab::new();
    let folder = Scratch::new(&env::temp_dir(), "flows")?;
    fs::write(PORT_RANGE, OTHER_PORTS)?;
    let mut recorder = Recorder {
        scenario,
        capture: Capture::start(&lab, folder.path())?,
        states: States::start(&lab, folder.path(), Some(SERVER_PORT))?,
        lab,
        folder,
        processes: Vec::new(),
        ports: BTreeMap::new(),
        free_port: None,
        backlog: None,
        snapshot: Snapshot::default(),
    };
    for (act, number) in scenario.acts.iter().zip(1..) {
        let place = format!("{}: act {number}", act.place);
        let rested = recorder.play(act);
        recording.acts.push(recorder.cut(number)?);
        rested.context(place)?;
        recorder.compare_with_ss()?;
    }
    Ok(())
}

struct Recorder<'a> {
    scenario: &'a Scenario,
    lab: Lab,
    capture: Capture,
    states: States,
    processes: Vec<Process>,
    /// Which client is behind a port.
    ports: BTreeMap<u16, String>,
    /// The port that the next socket of the client started last gets.
    free_port: Option<u16>,
    backlog: Option<usize>,
    snapshot: Snapshot,
    /// Dropped last: the others have files in it.
    folder: Scratch,
}

struct Process {
    name: String,
    side: Side,
    program: harness::Program,
    calls: Calls,
}

impl Recorder<'_> {
    /// Does what the act says, and waits for its rest.
    fn play(&mut self, act: &scenario::Act) -> Result<()> {
        for action in act.actions.iter().chain(&act.until) {
            self.act_on(action)?;
        }
        self.rest(act)
    }

    /// What was seen since the last time.
    fn cut(&mut self, number: usize) -> Result<Act> {
        let ports = Ports {
            server: SERVER_PORT,
            clients: &self.ports,
        };
        let mut causes = Vec::new();
        for process in &mut self.processes {
            let main = process.program.id();
            let folder = self.folder.path();
            let traces = strace::read(folder, &process.name, main)?;
            causes.extend(process.calls.next(main, &traces, &ports));
            let mut calls = traces.iter().flat_map(|trace| &trace.calls);
            let listen = calls.find(|call| call.name == "listen");
            self.backlog = listen
                .and_then(|call| call.args.get(1)?.parse().ok())
                .or(self.backlog);
        }
        for socket in &mut self.snapshot.sockets {
            if socket.state == "LISTEN" {
                socket.backlog = self.backlog;
            }
        }
        let packets = self.capture.until_mark(number - 1)?;
        let changes = self.states.until_mark(number - 1)?;
        let packets = packets.into_iter().filter_map(|p| ports.packet(p));
        let changes = changes.into_iter().filter_map(|change| {
            let mut clients = self.processes.iter();
            let owner = clients.find(|process| {
                process.side == Side::Client && process.calls.has(change.thread)
            });
            ports.change(change, owner.map(|process| process.name.clone()))
        });
        let effects = packets.chain(changes).collect();
        let snapshot = self.snapshot.clone();
        let events = merge(causes, effects, &snapshot)?;
        Ok(Act { events, snapshot })
    }

    fn act_on(&mut self, Action { who, what }: &Action) -> Result<()> {
        if *what == What::Start {
            return self.start(who);
        }
        let mut processes = self.processes.iter_mut();
        let program = processes
            .find(|process| process.name == *who)
            .map(|process| &mut process.program)
            .with_context(|| format!("{who} was not started"))?;
        match what {
            What::Start => {}
            What::Kill => program.kill()?,
            What::Interrupt => program.interrupt(),
            What::Types(line) => program.type_line(line),
            What::EndsInput => program.end_input(),
            What::Exits(code) => program.expect_exit(*code)?,
            What::Shows(text) => {
                // A UDP client's ports go by as long as it tries.
                let lab = self.lab.clone();
                let wanted = format!("{who} shows {text}");
                lab.wait_until(&wanted, || {
                    self.give_ports();
                    self.shown(who).contains(text.as_str())
                })?;
            }
        }
        Ok(())
    }

    fn shown(&self, who: &str) -> String {
        let mut processes = self.processes.iter();
        let process = processes.find(|process| process.name == who);
        let bytes = process.map(|process| process.program.stdout());
        String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
    }

    fn start(&mut self, name: &str) -> Result<()> {
        let Some(program) = self.scenario.program(name) else {
            bail!("nobody is called {name}");
        };
        let path = env::current_exe()?.with_file_name(&program.binary);
        if program.side == Side::Client {
            let clients = self.processes.iter();
            let clients = clients.filter(|p| p.side == Side::Client).count();
            self.offer(CLIENT_PORT + clients as u16, name)?;
        }
        let mut command = strace::command(&path, self.folder.path(), name);
        let is_addr = |arg: &String| arg.parse::<SocketAddr>().is_ok();
        if !program.args.first().is_some_and(is_addr) {
            command.arg(format!("127.0.0.1:{SERVER_PORT}"));
        }
        command.args(&program.args);
        let started = self.lab.start_command(name, command)?;
        self.processes.push(Process {
            name: name.to_owned(),
            side: program.side,
            program: started,
            calls: Calls::new(name, program.side, &program.threads),
        });
        Ok(())
    }

    /// Lets the next socket have `port`, which will be `client`'s.
    fn offer(&mut self, port: u16, client: &str) -> Result<()> {
        fs::write(PORT_RANGE, format!("{port} {port}"))?;
        self.ports.insert(port, client.to_owned());
        self.free_port = Some(port);
        Ok(())
    }

    /// Once a client is connected from its port, other sockets get others: it
    /// may have been refused before. A UDP client makes a socket for each try.
    fn give_ports(&mut self) {
        let Some(port) = self.free_port else { return };
        let tcp = proc::tcp_rows(port)
            .is_some_and(|rows| rows.iter().any(|row| row.state != "SYN-SENT"));
        let udp = proc::udp_table().is_some_and(|rows| {
            rows.iter().any(|row| row.local.port() == port)
        });
        if !tcp && !udp {
            return;
        }
        self.free_port = None;
        let client = self.ports.get(&port).cloned().unwrap_or_default();
        let given = match tcp {
            true => fs::write(PORT_RANGE, OTHER_PORTS).map_err(Into::into),
            false => self.offer(port + 1, &client),
        };
        // Without it the next socket gets no port, which will be seen.
        let _: Result<()> = given;
    }

    /// Waits until all of them rest, and the tables are as they must be.
    fn rest(&mut self, act: &scenario::Act) -> Result<()> {
        let lab = self.lab.clone();
        let waited = lab.wait_until("the scenario's rest", || {
            self.give_ports();
            let (waiting, all) = self.waiting(&act.rest);
            let sockets = self.sockets();
            let is_rest = all && matches(&sockets, &act.sockets);
            self.snapshot = Snapshot { waiting, sockets };
            is_rest && self.is_written().unwrap_or(false)
        });
        waited.with_context(|| {
            format!(
                "waited for {:?} and {:?}, but found {:?}",
                act.rest, act.sockets, self.snapshot
            )
        })
    }

    fn waiting(&self, rest: &[(String, Vec<String>)]) -> (Vec<Waiting>, bool) {
        let mut waiting = Vec::new();
        let mut all = true;
        for (who, wanted) in rest {
            let mut processes = self.processes.iter();
            let process = processes.find(|process| process.name == *who);
            let threads = process
                .and_then(|process| tasks::thread_ids(process.program.id()))
                .unwrap_or_default();
            let mut calls: Vec<_> = threads
                .into_iter()
                .map(|thread| match tasks::blocked_in(thread) {
                    Some(("futex", _)) => "futex".to_owned(),
                    Some((name, fd)) => format!("{name}({fd})"),
                    None => "running".to_owned(),
                })
                .collect();
            calls.sort();
            all &= calls == *wanted;
            waiting.extend(calls.into_iter().map(|call| Waiting {
                who: who.clone(),
                call,
            }));
        }
        (waiting, all)
    }

    /// Whether strace has written down the end of each thread that is gone.
    fn is_written(&self) -> Result<bool> {
        for process in &self.processes {
            let id = process.program.id();
            let threads = match process.program.status() {
                None => tasks::thread_ids(id).unwrap_or_default(),
                Some(_) => Vec::new(),
            };
            let traces = strace::read(self.folder.path(), &process.name, id)?;
            let is_gone = |t: &strace::Trace| !threads.contains(&t.thread);
            if traces.iter().any(|t| is_gone(t) && t.end.is_none()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The rows of the listener and of its connections, or of the UDP sockets.
    fn sockets(&self) -> Vec<Socket> {
        let mut sockets: Vec<Socket> = match self.scenario.protocol.as_str() {
            // The queue's length there is memory, not data: left out.
            "udp" => proc::udp_table()
                .unwrap_or_default()
                .into_iter()
                .filter_map(|row| {
                    let state = match row.remote.port() {
                        0 => "UNCONN",
                        _ => "ESTABLISHED",
                    };
                    self.socket(row.local, row.remote, state)
                })
                .collect(),
            _ => proc::tcp_rows(SERVER_PORT)
                .unwrap_or_default()
                .into_iter()
                .filter_map(|row| {
                    Some(Socket {
                        receive_queue: row.receive_queue,
                        send_queue: row.send_queue,
                        ..self.socket(row.local, row.remote, row.state)?
                    })
                })
                .collect(),
        };
        sockets
            .sort_by_key(|s| (s.state != "LISTEN", s.client.clone(), s.side));
        sockets
    }

    fn socket(
        &self,
        local: SocketAddr,
        remote: SocketAddr,
        state: &str,
    ) -> Option<Socket> {
        let (side, client) = match local.port() {
            SERVER_PORT => (Side::Server, self.ports.get(&remote.port())),
            port => (Side::Client, Some(self.ports.get(&port)?)),
        };
        Some(Socket {
            side,
            client: client.cloned().unwrap_or_default(),
            local: as_ss(local),
            peer: as_ss(remote),
            state: state.to_owned(),
            receive_queue: 0,
            send_queue: 0,
            backlog: None,
        })
    }

    /// The figures show what `ss` would print: here it is asked.
    fn compare_with_ss(&self) -> Result<()> {
        let option = match self.scenario.protocol.as_str() {
            "udp" => "-uanH",
            _ => "-tanH",
        };
        let output = Command::new("ss").arg(option).output()?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let row = |line: &str| -> Vec<String> {
            line.split_whitespace().take(5).map(str::to_owned).collect()
        };
        let mut rows: Vec<_> = printed.lines().map(row).collect();
        let ours = |address: &String| {
            let port = address.rsplit(':').next().and_then(|p| p.parse().ok());
            port.is_some_and(|port| {
                port == SERVER_PORT || self.ports.contains_key(&port)
            })
        };
        rows.retain(|row| row.get(3).is_some_and(ours));
        let sockets = self.snapshot.sockets.iter();
        let mut drawn: Vec<_> = sockets.map(|s| row(&s.ss())).collect();
        rows.sort();
        drawn.sort();
        ensure!(rows == drawn, "ss prints {rows:?}, not {drawn:?}");
        Ok(())
    }
}

/// As `ss` prints it: `*` is every address, and no port.
fn as_ss(addr: SocketAddr) -> String {
    let ip = match addr {
        SocketAddr::V4(v4) => v4.ip().to_string(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => "*".to_owned(),
        SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
    };
    match addr.port() {
        0 => format!("{ip}:*"),
        port => format!("{ip}:{port}"),
    }
}

fn matches(seen: &[Socket], awaited: &[Awaited]) -> bool {
    seen.len() == awaited.len()
        && awaited.iter().all(|a| {
            seen.iter().any(|s| {
                s.side == a.side
                    && s.client == a.client
                    && s.state == a.state
                    && s.receive_queue == a.receive_queue
                    && s.send_queue == 0
            })
        })
}
