//! A program under observation: its standard streams, its end.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use shared_child::SharedChild;

use crate::group::{self, Group, Signal};
use crate::proc;
use crate::{Failure, Fault, Lab, Result, What};

/// The start of a server's first line, before the address.
const LISTENING: &str = "listening on ";

/// A running program. Killed and waited for on drop.
pub struct Program {
    name: String,
    lab: Lab,
    child: Arc<SharedChild>,
    input: Option<Sender<Vec<u8>>>,
    observed: Arc<Observed>,
    group: Option<Group>,
}

/// Tells whether a program has ended.
pub struct Ending(Arc<Observed>);

impl Ending {
    /// As [`Program::is_over`].
    pub(crate) fn is_over(&self) -> bool {
        self.0.lock().ended()
    }
}

/// What the threads that read the program's outputs, and the one that waits
/// for its end, have seen.
struct Observed {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stdout: Output,
    stderr: Output,
    screen: Vec<u8>,
    exit: Option<ExitStatus>,
}

#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    /// So many of them belong to what was expected, and has come.
    taken: usize,
    ended: bool,
    flooded: bool,
}

#[derive(Clone, Copy)]
enum Pipe {
    Stdout,
    Stderr,
}

impl State {
    fn output(&mut self, pipe: Pipe) -> &mut Output {
        match pipe {
            Pipe::Stdout => &mut self.stdout,
            Pipe::Stderr => &mut self.stderr,
        }
    }

    fn ended(&self) -> bool {
        self.exit.is_some() && self.stdout.ended && self.stderr.ended
    }

    fn flooded(&self) -> bool {
        self.stdout.flooded || self.stderr.flooded
    }
}

impl Output {
    fn not_taken(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }
}

impl Observed {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

impl Lab {
    /// Starts `command`, its three standard streams in the harness's hand, and
    /// without `RUST_BACKTRACE` unless the command says otherwise. Does not
    /// wait for anything.
    ///
    /// # Errors
    /// [`Fault::Io`] if it cannot be started.
    pub fn start_command(
        &self,
        name: &str,
        command: Command,
    ) -> Result<Program> {
        let shown = command_line(&command);
        self.start_as(name, command, shown)
    }

    /// As [`Lab::start_command`], in a process group of its own (on Unix):
    /// what the program starts is killed with it, and looked for when it has
    /// ended (on Linux, also if it has left the group). Ctrl-C reaches none
    /// of them: see [`crate::kill_all_groups`].
    pub fn start_in_group(
        &self,
        name: &str,
        command: Command,
    ) -> Result<Program> {
        let shown = command_line(&command);
        let mut command = group::tied(command);
        let mark = group::prepare(&mut command);
        let mut program = self.start_as(name, command, shown)?;
        program.group = Some(Group::register(program.id(), mark));
        Ok(program)
    }

    fn start_as(
        &self,
        name: &str,
        mut command: Command,
        shown: String,
    ) -> Result<Program> {
        if !command.get_envs().any(|(name, _)| name == "RUST_BACKTRACE") {
            command.env_remove("RUST_BACKTRACE");
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = SharedChild::spawn(&mut command)
            .map_err(|e| self.failure(name, format!("start {shown}"), e))?;
        self.timeline.add(name, What::Started(shown));
        let mut program = Program {
            name: name.to_owned(),
            lab: self.clone(),
            child: Arc::new(child),
            input: None,
            observed: Arc::new(Observed {
                state: Mutex::default(),
                changed: Condvar::new(),
            }),
            group: None,
        };
        program.input = program.child.take_stdin().map(write_in_background);
        if let Some(stdout) = program.child.take_stdout() {
            program.watch(Pipe::Stdout, stdout);
        }
        if let Some(stderr) = program.child.take_stderr() {
            program.watch(Pipe::Stderr, stderr);
        }
        program.watch_exit();
        Ok(program)
    }
}

impl Program {
    fn watch(&self, pipe: Pipe, mut output: impl Read + Send + 'static) {
        let observed = Arc::clone(&self.observed);
        let (lab, name) = (self.lab.clone(), self.name.clone());
        thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            let mut flooded = false;
            while !flooded && let Ok(count @ 1..) = output.read(&mut buffer) {
                let bytes = &buffer[..count];
                let what = match pipe {
                    Pipe::Stdout => What::Printed(bytes.into()),
                    Pipe::Stderr => What::Complained(bytes.into()),
                };
                lab.timeline.add(&name, what);
                observed.change(|state| {
                    state.screen.extend_from_slice(bytes);
                    let output = state.output(pipe);
                    output.bytes.extend_from_slice(bytes);
                    flooded = output.bytes.len() > lab.output_limit;
                    output.flooded = flooded;
                });
            }
            observed.change(|state| state.output(pipe).ended = !flooded);
            if flooded {
                // Closing the pipe would tell the program; leave it full.
                std::mem::forget(output);
            }
        });
    }

    fn watch_exit(&self) {
        let observed = Arc::clone(&self.observed);
        let child = Arc::clone(&self.child);
        let (lab, name) = (self.lab.clone(), self.name.clone());
        thread::spawn(move || {
            if let Ok(status) = child.wait() {
                lab.timeline.add(&name, What::Exited(status.to_string()));
                observed.change(|state| state.exit = Some(status));
            }
        });
    }

    /// The name that the test gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process identifier.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// From now on each of its waits may take `timeout`.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.lab.timeout = timeout;
    }

    /// Tells whether it has ended, wherever the program itself is by then.
    pub fn ending(&self) -> Ending {
        Ending(Arc::clone(&self.observed))
    }

    /// Waits for the line `listening on IP:PORT`, and gives that address.
    ///
    /// # Errors
    /// A program that ends, prints another line first, or stays silent.
    pub fn wait_until_listening(&mut self) -> Result<SocketAddr> {
        let line = self.line()?;
        line.strip_prefix(LISTENING)
            .and_then(|addr| addr.parse().ok())
            .ok_or_else(|| {
                let wanted = format!("first line `{LISTENING}IP:PORT`");
                self.failure(wanted, Fault::Unexpected(line))
            })
    }

    /// Waits for `text` on standard output, and gives what came before it
    /// and was not taken yet. Both are taken: the next wait starts behind.
    ///
    /// # Errors
    /// [`Fault::Exited`], [`Fault::Flooded`], or [`Fault::TimedOut`].
    pub fn expect(&mut self, text: &str) -> Result<String> {
        self.take(Pipe::Stdout, text, format!("print {text:?}"))
    }

    /// The same on standard error.
    pub fn expect_error(&mut self, text: &str) -> Result<String> {
        self.take(Pipe::Stderr, text, format!("print on stderr {text:?}"))
    }

    /// Waits for the next whole line on standard output. A `\r` before its
    /// newline is a part of the line's end, as many languages print it on
    /// Windows.
    pub fn line(&mut self) -> Result<String> {
        let mut line =
            self.take(Pipe::Stdout, "\n", "print a line".to_owned())?;
        if line.ends_with('\r') {
            line.pop();
        }
        Ok(line)
    }

    /// Waits for the next line on standard output, which must be `wanted`.
    ///
    /// # Errors
    /// [`Fault::Unexpected`] for another line; or as for [`Program::expect`].
    pub fn expect_line(&mut self, wanted: &str) -> Result {
        let line = self.line()?;
        if line == wanted {
            return Ok(());
        }
        let step = format!("print the line {wanted:?}");
        Err(self.failure(step, Fault::Unexpected(line)))
    }

    /// Waits for the next whole line on standard error. (Its beginning alone
    /// proves less: standard error is not buffered, and comes in pieces.)
    pub fn error_line(&mut self) -> Result<String> {
        let wanted = "print a line on stderr".to_owned();
        self.take(Pipe::Stderr, "\n", wanted)
    }

    fn take(
        &mut self,
        pipe: Pipe,
        text: &str,
        wanted: String,
    ) -> Result<String> {
        let mut searched = 0;
        self.wait(&wanted, |state| {
            let output = state.output(pipe);
            let bytes = output.not_taken();
            let Some(at) = find(&bytes[searched..], text.as_bytes()) else {
                // What is left may still hold the beginning of the text.
                let whole = bytes.len().saturating_sub(text.len());
                searched = searched.max(whole);
                return None;
            };
            let (before, _) = bytes.split_at(searched + at);
            let before = String::from_utf8_lossy(before).into_owned();
            output.taken += searched + at + text.len();
            Some(before)
        })
    }

    /// Waits until `look` finds something, or it never will.
    fn wait<T>(
        &self,
        wanted: &str,
        mut look: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<T> {
        let until = Instant::now() + self.lab.timeout;
        let mut state = self.observed.lock();
        let fault = loop {
            if let Some(found) = look(&mut state) {
                return Ok(found);
            }
            if state.flooded() {
                break Fault::Flooded(self.lab.output_limit);
            }
            let left = until.saturating_duration_since(Instant::now());
            match state.exit {
                Some(status) if state.ended() || left.is_zero() => {
                    let stderr = state.stderr.not_taken();
                    break Fault::Exited {
                        status: status.to_string(),
                        stderr: String::from_utf8_lossy(stderr).into_owned(),
                    };
                }
                _ if left.is_zero() => {
                    break Fault::TimedOut(self.lab.timeout);
                }
                _ => {}
            }
            state = self
                .observed
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        };
        drop(state);
        Err(self.failure(wanted, fault))
    }

    /// Everything on standard output so far. Does not wait.
    pub fn stdout(&self) -> Vec<u8> {
        self.observed.lock().stdout.bytes.clone()
    }

    /// Everything on standard error so far. Does not wait.
    pub fn stderr(&self) -> Vec<u8> {
        self.observed.lock().stderr.bytes.clone()
    }

    /// How it ended, if it has. Does not wait.
    pub fn status(&self) -> Option<ExitStatus> {
        self.observed.lock().exit
    }

    /// True if it has ended, and so have its outputs: a process that it left
    /// behind may keep them open. Does not wait.
    pub fn is_over(&self) -> bool {
        self.observed.lock().ended()
    }

    /// True if it printed more than the lab keeps; what came behind that was
    /// not read, so the program waits. Does not wait.
    pub fn has_flooded(&self) -> bool {
        self.observed.lock().flooded()
    }

    /// How many processes that it started still run; 0 if it was not started
    /// in a group, or if the system does not tell (it does on Linux).
    pub fn descendants(&self) -> usize {
        let others = self.group.as_ref().and_then(Group::others);
        others.unwrap_or_default().len()
    }

    /// How many threads it has, with those of the processes that it started in
    /// its group; `None` if the system does not tell (it does on Linux).
    pub fn threads(&self) -> Option<usize> {
        let others = self.group.as_ref().and_then(Group::others);
        let others = others.unwrap_or_default();
        let all = others.into_iter().filter_map(proc::threads);
        Some(proc::threads(self.id())? + all.sum::<usize>())
    }

    /// Stops it, and its group if it has one, as Ctrl-Z does;
    /// [`Program::resume`] lets it go on. A blocking call may then end early:
    /// signal(7). Does not wait. Nothing happens on Windows.
    pub fn suspend(&self) {
        self.signal(Signal::Stop);
    }

    /// Lets it go on after [`Program::suspend`].
    pub fn resume(&self) {
        self.signal(Signal::Continue);
    }

    /// Waits until it is stopped, or until it is not. Linux alone tells.
    ///
    /// # Errors
    /// [`Fault::TimedOut`] at the deadline.
    pub fn wait_until_stopped(&self, stopped: bool) -> Result {
        let wanted = format!("be stopped: {stopped}");
        self.lab.wait_until(&wanted, || {
            crate::proc::is_stopped(self.id()) == Some(stopped)
        })
    }

    /// Waits until its main thread waits in one of these system calls. Linux
    /// alone tells.
    ///
    /// # Errors
    /// [`Fault::TimedOut`] at the deadline.
    pub fn wait_until_blocked_in(&self, calls: &[&str]) -> Result {
        let wanted = format!("wait in {calls:?}");
        self.lab.wait_until(&wanted, || {
            crate::tasks::blocked_in(self.id())
                .is_some_and(|(call, _)| calls.contains(&call))
        })
    }

    /// Presses Ctrl-C (SIGINT). Does not wait. Nothing happens on Windows.
    /// See [`crate::takes_ctrl_c`].
    pub fn interrupt(&self) {
        self.lab.timeline.add(&self.name, What::Signalled("SIGINT"));
        self.observed
            .change(|state| state.screen.extend_from_slice(b"^C"));
        self.signal(Signal::Interrupt);
    }

    /// Asks it to end as service managers do (SIGTERM). Does not wait.
    /// Nothing happens on Windows.
    pub fn terminate(&self) {
        self.lab
            .timeline
            .add(&self.name, What::Signalled("SIGTERM"));
        self.signal(Signal::Terminate);
    }

    fn signal(&self, signal: Signal) {
        match &self.group {
            Some(group) => group.signal(signal),
            None => signal.send_to(self.id()),
        }
    }

    /// What its terminal would show: both outputs and what was typed, in the
    /// order seen; `^D` where the input ended, `^C` where it was interrupted.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.observed.lock().screen).into_owned()
    }

    /// Types `text` and a newline. Does not wait until it is read.
    pub fn type_line(&self, text: &str) {
        self.type_bytes(format!("{text}\n").as_bytes());
    }

    /// Types `bytes`, nothing else. Does not wait until they are read.
    pub fn type_bytes(&self, bytes: &[u8]) {
        self.lab.timeline.add(&self.name, What::Typed(bytes.into()));
        self.observed
            .change(|state| state.screen.extend_from_slice(bytes));
        if let Some(input) = &self.input {
            // Fails only if the program takes no more input: what that means
            // is for the next expectation to say.
            let _ = input.send(bytes.to_vec());
        }
    }

    /// Ends its standard input, as Ctrl-D does, behind what was typed.
    pub fn end_input(&mut self) {
        self.lab.timeline.add(&self.name, What::EndedInput);
        self.observed
            .change(|state| state.screen.extend_from_slice(b"^D"));
        self.input = None;
    }

    /// Waits for its end, and for the end of its outputs.
    ///
    /// # Errors
    /// [`Fault::TimedOut`] if it is still running at the deadline.
    pub fn exit(&mut self) -> Result<ExitStatus> {
        self.wait("exit", |state| state.exit.filter(|_| state.ended()))
    }

    /// Waits for its end, which must come with exit code `code`.
    ///
    /// # Errors
    /// [`Fault::Exited`] with another code; [`Fault::TimedOut`].
    pub fn expect_exit(&mut self, code: i32) -> Result {
        let status = self.exit()?;
        if status.code() == Some(code) {
            return Ok(());
        }
        let stderr = String::from_utf8_lossy(&self.stderr()).into_owned();
        let status = status.to_string();
        let wanted = format!("exit with code {code}");
        Err(self.failure(wanted, Fault::Exited { status, stderr }))
    }

    /// Kills it (SIGKILL on Unix), and its group, and waits for its end.
    ///
    /// # Errors
    /// [`Fault::Io`] if the system refuses.
    pub fn kill(&mut self) -> Result {
        self.lab.timeline.add(&self.name, What::Killed);
        if let Some(group) = &self.group {
            group.signal(Signal::Kill);
        }
        self.child
            .kill()
            .map_err(|error| self.failure("be killed", error))?;
        self.wait("end when killed", |state| state.exit)?;
        Ok(())
    }

    pub(crate) fn failure(
        &self,
        wanted: impl Into<String>,
        fault: impl Into<Fault>,
    ) -> Failure {
        self.lab.failure(&self.name, wanted, fault)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(group) = &self.group {
            group.end();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `program`, so that Ctrl-C ends it wherever the tests run: a job in a
/// shell's background ignores SIGINT, and so does what it starts, and these
/// tests may be such a job. On Unix with GNU's env(1).
pub fn takes_ctrl_c(program: &std::path::Path) -> Command {
    let mut command = Command::new("env");
    command.arg("--default-signal=INT").arg(program);
    command
}

/// A thread writes, so that a program that does not read blocks only it.
fn write_in_background(mut stdin: ChildStdin) -> Sender<Vec<u8>> {
    let (sender, typed) = mpsc::channel::<Vec<u8>>();
    thread::spawn(move || {
        for bytes in typed {
            if stdin.write_all(&bytes).is_err() {
                return;
            }
        }
    });
    sender
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    // Quick also where nothing is optimised: a flood has no newline.
    if !bytes.contains(wanted.first()?) {
        return None;
    }
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

/// The command as a person would type it, the program without its folder.
fn command_line(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let name = program.file_stem().unwrap_or(program.as_os_str());
    std::iter::once(name)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
