//! What the threads of a program wait for, and which ports it holds: `/proc`
//! of Linux, see proc(5). Elsewhere each is `None`.

use std::fs;

use crate::proc::{address, stat, status, table};

/// The threads of a process, the main one first, then the youngest last.
pub fn thread_ids(process: u32) -> Option<Vec<u32>> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let mut ids: Vec<u32> = tasks
        .filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    ids.sort_unstable();
    Some(ids)
}

/// Whether a thread sleeps in a call (and not because a tracer stopped it);
/// `None` if it has ended.
pub fn sleeps(thread: u32) -> Option<bool> {
    let stat = stat(thread)?;
    (!stat.starts_with(['Z', 'X'])).then_some(stat.starts_with('S'))
}

/// The process that a thread belongs to.
pub fn process_of(thread: u32) -> Option<u32> {
    status(thread, "Tgid:")?.try_into().ok()
}

/// The system call in which a thread sleeps, and its first argument, for
/// example `("accept4", 3)`. `None` if it runs, is stopped, or is in a call
/// that has no name here; see proc(5), `/proc/PID/syscall`.
pub fn blocked_in(thread: u32) -> Option<(&'static str, u64)> {
    // Interruptible sleep, and not the stop of a tracer at the call's edge.
    if !sleeps(thread)? {
        return None;
    }
    let call = fs::read_to_string(format!("/proc/{thread}/syscall")).ok()?;
    let mut words = call.split_whitespace();
    let number: u32 = words.next()?.parse().ok()?;
    let (_, name) = CALLS.iter().find(|(call, _)| *call == number)?;
    let argument = words.next()?.trim_start_matches("0x");
    Some((name, u64::from_str_radix(argument, 16).ok()?))
}

/// The thread whose end a thread waits for: pthread_join(3) of glibc sleeps
/// until the number of that thread is gone.
pub fn joins(thread: u32) -> Option<u32> {
    let ("futex", _) = blocked_in(thread)? else {
        return None;
    };
    let call = fs::read_to_string(format!("/proc/{thread}/syscall")).ok()?;
    let value = call.split_whitespace().nth(3)?.trim_start_matches("0x");
    let value = u32::from_str_radix(value, 16).ok()?;
    let others = thread_ids(process_of(thread)?)?;
    (value != thread && others.contains(&value)).then_some(value)
}

/// What is behind a descriptor of a thread, if it is a pipe or a file.
pub fn behind(thread: u32, descriptor: u64) -> Option<String> {
    let link = format!("/proc/{thread}/fd/{descriptor}");
    let path = fs::read_link(link)
        .ok()?
        .into_os_string()
        .into_string()
        .ok()?;
    match path.split_once(':') {
        Some(("pipe", _)) => Some("a pipe".to_owned()),
        Some(_) => None,
        None => Some(path),
    }
}

/// The ports of the sockets that a process holds, each once.
pub fn ports(process: u32) -> Option<Vec<u16>> {
    let held: Vec<String> = fs::read_dir(format!("/proc/{process}/fd"))
        .ok()?
        .filter_map(|fd| fs::read_link(fd.ok()?.path()).ok())
        .filter_map(|target| {
            let target = target.to_str()?.strip_prefix("socket:[")?;
            Some(target.trim_end_matches(']').to_owned())
        })
        .collect();
    let tables = [table("tcp")?, table("udp")?];
    let lines = tables.iter().flat_map(|table| table.lines());
    let mut ports: Vec<u16> =
        lines.filter_map(|line| owned_port(line, &held)).collect();
    ports.sort_unstable();
    ports.dedup();
    Some(ports)
}

fn owned_port(line: &str, inodes: &[String]) -> Option<u16> {
    let mut fields = line.split_whitespace();
    let local = fields.nth(1)?;
    let inode = fields.nth(7)?;
    let held = inodes.iter().any(|held| held == inode);
    held.then(|| address(local)).flatten().map(|a| a.port())
}

/// The numbers of the system calls in which the course's programs block.
#[cfg(target_arch = "x86_64")]
const CALLS: [(u32, &str); 11] = [
    (0, "read"),
    (1, "write"),
    (7, "poll"),
    (42, "connect"),
    (44, "sendto"),
    (45, "recvfrom"),
    (61, "wait4"),
    (202, "futex"),
    (230, "clock_nanosleep"),
    (232, "epoll_wait"),
    (288, "accept4"),
];
/// The same for the architectures that share the newer table.
#[cfg(not(target_arch = "x86_64"))]
const CALLS: [(u32, &str); 11] = [
    (22, "epoll_pwait"),
    (63, "read"),
    (64, "write"),
    (73, "ppoll"),
    (98, "futex"),
    (115, "clock_nanosleep"),
    (203, "connect"),
    (206, "sendto"),
    (207, "recvfrom"),
    (242, "accept4"),
    (260, "wait4"),
];
