//! A program and all that it starts, so that none of it outlives the test.

use std::collections::BTreeSet;
#[cfg(unix)]
use std::env;
use std::ffi::OsStr;
#[cfg(unix)]
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

#[cfg(unix)]
use nix::sys::signal;
#[cfg(unix)]
use nix::unistd::Pid;

use crate::proc;

/// Marks a program's environment, which all that it starts inherits.
const MARK: &str = "HARNESS_GROUP";

/// How long what was killed may take to disappear.
const PATIENCE: Duration = Duration::from_secs(2);

/// The groups that run now.
static RUNNING: Mutex<BTreeSet<Group>> = Mutex::new(BTreeSet::new());

/// A process group, and the mark that a process keeps if it leaves the group.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Group {
    leader: u32,
    mark: String,
}

/// What happens to a process, or to all of a group.
#[derive(Clone, Copy)]
pub(crate) enum Signal {
    Kill,
    Stop,
    Continue,
    Interrupt,
    Terminate,
}

impl Signal {
    /// Nothing happens on Windows.
    pub(crate) fn send_to(self, process: u32) {
        #[cfg(unix)]
        if let Some(process) = pid(process) {
            // Fails only if it is gone.
            let _ = signal::kill(process, self.number());
        }
        #[cfg(not(unix))]
        let _ = process;
    }

    #[cfg(unix)]
    fn number(self) -> signal::Signal {
        match self {
            Self::Kill => signal::SIGKILL,
            Self::Stop => signal::SIGSTOP,
            Self::Continue => signal::SIGCONT,
            Self::Interrupt => signal::SIGINT,
            Self::Terminate => signal::SIGTERM,
        }
    }
}

/// Lets `command` start as the leader of a group of its own, and gives the
/// mark to hand to [`Group::register`].
pub(crate) fn prepare(command: &mut Command) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mark = format!("{}-{number}", std::process::id());
    command.env(MARK, &mark);
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    mark
}

/// `command`, so that the kernel kills it should this process be killed and
/// have no time to: by setpriv(1), where it can do that.
pub(crate) fn tied(command: Command) -> Command {
    static WORKS: LazyLock<bool> = LazyLock::new(|| {
        let tried = tie(Command::new("true")).output();
        cfg!(target_os = "linux") && tried.is_ok_and(|o| o.status.success())
    });
    // A program that cannot be started is to say so itself.
    if is_executable(command.get_program()) && *WORKS {
        tie(command)
    } else {
        command
    }
}

fn tie(command: Command) -> Command {
    let mut tied = Command::new("setpriv");
    tied.args(["--pdeathsig", "KILL", "--"])
        .arg(command.get_program())
        .args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => tied.env(key, value),
            None => tied.env_remove(key),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        tied.current_dir(folder);
    }
    tied
}

#[cfg(unix)]
fn is_executable(program: &OsStr) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let is_one = |path: PathBuf| {
        let data = path.metadata();
        data.is_ok_and(|d| d.is_file() && d.permissions().mode() & 0o111 != 0)
    };
    if Path::new(program).components().count() > 1 {
        return is_one(program.into());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| is_one(folder.join(program)))
}

#[cfg(not(unix))]
fn is_executable(_: &OsStr) -> bool {
    false
}

impl Group {
    pub(crate) fn register(leader: u32, mark: String) -> Self {
        let group = Self { leader, mark };
        lock().insert(group.clone());
        group
    }

    /// Signals the group. Nothing happens on Windows, which has no groups.
    pub(crate) fn signal(&self, signal: Signal) {
        #[cfg(unix)]
        if let Some(leader) = pid(self.leader) {
            // Fails only if nobody is left in the group.
            let _ = signal::killpg(leader, signal.number());
        }
        #[cfg(not(unix))]
        let _ = signal;
    }

    /// The processes that the leader started and that still run, wherever
    /// they hide. `None` where the system does not tell: not on Linux.
    pub(crate) fn others(&self) -> Option<Vec<u32>> {
        let marked = proc::with_environment(&format!("{MARK}={}", self.mark))?;
        Some(marked.into_iter().filter(|&p| p != self.leader).collect())
    }

    /// Kills the group, and who left it, and forgets it.
    pub(crate) fn end(&self) {
        self.signal(Signal::Kill);
        // Who is killed may just have started another one; but nothing may
        // keep a test for ever.
        let until = Instant::now() + PATIENCE;
        while let Some(others) = self.others().filter(|o| !o.is_empty())
            && Instant::now() < until
        {
            for process in others {
                Signal::Kill.send_to(process);
            }
            std::thread::yield_now();
        }
        lock().remove(self);
    }
}

/// Kills every program that was started in a group and still runs, and all
/// that they started: for a handler of Ctrl-C, which they do not get.
pub fn kill_all_groups() {
    let running = lock().clone();
    for group in running {
        Signal::Kill.send_to(group.leader);
        group.end();
    }
}

fn lock() -> std::sync::MutexGuard<'static, BTreeSet<Group>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(unix)]
fn pid(process: u32) -> Option<Pid> {
    // 0 and less are groups, to kill(2).
    Some(process.cast_signed())
        .filter(|&id| id > 0)
        .map(Pid::from_raw)
}
