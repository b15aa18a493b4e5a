//! What only Linux tells: `/proc`, see proc(5). Elsewhere each is `None`.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

/// One row of `/proc/net/tcp` or `tcp6`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TcpRow {
    /// This end.
    pub local: SocketAddr,
    /// The other end; all zeros for a listener.
    pub remote: SocketAddr,
    /// The state's name in RFC 9293, for example `TIME-WAIT`.
    pub state: &'static str,
    /// Bytes sent and not yet acknowledged.
    pub send_queue: usize,
    /// Bytes received and not yet read (an unread FIN counts as one); for a
    /// listener, the connections not yet accepted.
    pub receive_queue: usize,
}

/// The processor time that a process has used so far, in user and system
/// mode, in steps of 10 ms.
pub fn cpu_time(process: u32) -> Option<Duration> {
    let stat = stat(process)?;
    // utime and stime are fields 14 and 15; the first one here is field 3.
    let mut times = stat.split(' ').skip(11).map(str::parse::<u64>);
    let ticks = times.next()?.ok()? + times.next()?.ok()?;
    Some(Duration::from_millis(ticks * 10))
}

/// What the system says of a process or thread behind its name, which may hold
/// spaces: the first letter is its state.
pub(crate) fn stat(process: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    Some(stat.rsplit_once(") ")?.1.to_owned())
}

/// How long a process has used the processor, and how long its threads have
/// waited for it while others did.
pub fn wanted_time(process: u32) -> Option<Duration> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let waited = tasks.filter_map(|task| {
        let path = task.ok()?.path().join("schedstat");
        let text = fs::read_to_string(path).ok()?;
        text.split(' ').nth(1)?.parse::<u64>().ok()
    });
    let waited = Duration::from_nanos(waited.sum());
    Some(cpu_time(process)? + waited)
}

/// How many threads a process has.
pub fn threads(process: u32) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{process}/task")).ok()?.count())
}

/// How many file descriptors a process has open.
pub fn descriptors(process: u32) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{process}/fd")).ok()?.count())
}

/// The largest amount of physical memory that a process had so far, in bytes.
pub fn peak_memory(process: u32) -> Option<usize> {
    status(process, "VmHWM:").map(|kib| (kib as usize) << 10)
}

pub(crate) fn status(process: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    field(&status, name)
}

/// Lets a running process have `most` file descriptors, up to the hard limit.
///
/// # Errors
/// The system refuses, or it is not Linux, which alone has prlimit(1).
pub fn limit_descriptors(process: u32, most: u64) -> io::Result<()> {
    limit(process, "nofile", Some(most))
}

/// Lets a running process reserve `most` bytes of address space; with `None`,
/// all there is.
pub fn limit_address_space(process: u32, most: Option<u64>) -> io::Result<()> {
    limit(process, "as", most)
}

/// Leaves a process `more` file descriptors beyond those that it has open.
/// (It may have inherited some that nobody expects.)
///
/// # Errors
/// As for [`limit_descriptors`], or when there is no `/proc`.
pub fn leave_descriptors(process: u32, more: usize) -> io::Result<()> {
    let open: Vec<u64> = fs::read_dir(format!("/proc/{process}/fd"))?
        .filter_map(|fd| fd.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    let most = (0..).filter(|fd| !open.contains(fd)).nth(more);
    limit_descriptors(process, most.unwrap_or_default())
}

/// Sets a soft limit, by the name that prlimit(1) has for it.
fn limit(process: u32, what: &str, most: Option<u64>) -> io::Result<()> {
    let most = most.map_or("unlimited".to_owned(), |most| most.to_string());
    let said = Command::new("prlimit")
        .args(["--pid", &process.to_string()])
        .arg(format!("--{what}={most}:"))
        .output()?;
    match said.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&said.stderr))),
    }
}

/// The processes that were started with `variable` (as `NAME=value`) in their
/// environment and still run; a zombie does not count.
pub fn with_environment(variable: &str) -> Option<Vec<u32>> {
    let has = |process: &u32| {
        fs::read(format!("/proc/{process}/environ")).is_ok_and(|all| {
            all.split(|&b| b == 0).any(|one| one == variable.as_bytes())
        })
    };
    let processes = fs::read_dir("/proc").ok()?.filter_map(|entry| {
        entry.ok()?.file_name().to_str()?.parse::<u32>().ok()
    });
    let found: Vec<_> = processes.filter(has).collect();
    // macOS may have an empty `/proc`: then nothing was looked at.
    cfg!(target_os = "linux").then_some(found)
}

/// True if a process is stopped (as by Ctrl-Z), also if a tracer watches it.
pub fn is_stopped(process: u32) -> Option<bool> {
    Some(stat(process)?.starts_with(['T', 't']))
}

/// True if the kernel has nearly as many connections in TIME-WAIT as it may:
/// then it drops each new one at once (`tcp_max_tw_buckets` in tcp(7)).
pub fn time_wait_is_full() -> Option<bool> {
    let read = |file| fs::read_to_string(file).ok();
    let most = read("/proc/sys/net/ipv4/tcp_max_tw_buckets")?;
    let now = read("/proc/net/sockstat")?;
    let now = now.lines().find_map(|line| line.strip_prefix("TCP: "))?;
    let mut words = now.split(' ').skip_while(|&word| word != "tw");
    let now: usize = words.nth(1)?.parse().ok()?;
    Some(now >= most.trim().parse::<usize>().ok()? / 10 * 9)
}

/// How often the first thread of a process has left the processor by itself,
/// to wait for something. A thread that spins does not.
pub fn pauses(process: u32) -> Option<u64> {
    status(process, "voluntary_ctxt_switches:")
}

/// The memory that a process has written to and shares with nobody, in bytes.
/// (`Private_Dirty` would count the program's own pages, too, as long as the
/// disk does not have them: after each build.)
pub fn private_memory(process: u32) -> Option<u64> {
    let path = format!("/proc/{process}/smaps_rollup");
    let kib = field(&fs::read_to_string(path).ok()?, "Anonymous:")?;
    Some(kib << 10)
}

/// The address space that a process has reserved, used or not, in bytes.
pub fn address_space(process: u32) -> Option<u64> {
    status(process, "VmSize:").map(|kib| kib << 10)
}

/// How many memory mappings a process has.
pub fn mappings(process: u32) -> Option<usize> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).ok()?;
    Some(maps.lines().count())
}

/// The number behind `name` in a file of such lines.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The TCP sockets with `port` at one of their ends, IPv4 and IPv6. Quick
/// where thousands of other sockets are in TIME-WAIT.
pub fn tcp_rows(port: u16) -> Option<Vec<TcpRow>> {
    let port_field = format!(":{port:04X} ");
    let table = table("tcp")?;
    let lines = table.lines().filter(|line| line.contains(&port_field));
    let mut seen = HashSet::new();
    let mut rows: Vec<_> = lines.filter_map(row).collect();
    // The kernel tells of a row twice, now and then, if others change
    // meanwhile; but two listeners may be alike.
    rows.retain(|row| row.state == "LISTEN" || seen.insert(row.clone()));
    Some(rows)
}

/// The kernel's tables of all sockets of `protocol`, IPv4 and IPv6.
pub(crate) fn table(protocol: &str) -> Option<String> {
    let v4 = fs::read_to_string(format!("/proc/net/{protocol}")).ok()?;
    // A kernel without IPv6 has no such file.
    let v6 = fs::read_to_string(format!("/proc/net/{protocol}6"));
    Some(v4 + &v6.unwrap_or_default())
}

/// The connections that the kernel has made at `listener`, and that no
/// program has accepted yet.
pub fn accept_queue(listener: SocketAddr) -> Option<usize> {
    tcp_rows(listener.port())?
        .into_iter()
        .find(|row| row.local == listener && row.state == "LISTEN")
        .map(|row| row.receive_queue)
}

/// How many ask to be connected to `listener`, and have no answer yet.
pub fn unanswered(listener: SocketAddr) -> Option<usize> {
    let rows = tcp_rows(listener.port())?.into_iter();
    let asking = rows.filter(|row| row.remote == listener);
    Some(asking.filter(|row| row.state == "SYN-SENT").count())
}

/// True if each end of a connection on this machine has bytes that its program
/// does not read, and bytes that the other end does not take, and if none of
/// these four amounts changes while `others` do something that succeeds.
pub fn is_stuck(
    a: SocketAddr,
    b: SocketAddr,
    others: impl FnOnce() -> bool,
) -> bool {
    let before = queues(a, b).unwrap_or_default();
    let succeeded = others();
    let after = queues(a, b).unwrap_or_default();
    succeeded && before == after && !after.contains(&0)
}

/// The bytes not read and not taken of a connection on this machine: what its
/// end at `a` has not read, and what the other has not taken from it, and the
/// same for its end at `b`.
pub fn queues(a: SocketAddr, b: SocketAddr) -> Option<[usize; 4]> {
    let rows = tcp_rows(a.port())?;
    let end = |local, remote| {
        rows.iter()
            .find(|row| (row.local, row.remote) == (local, remote))
    };
    let (a, b) = (end(a, b)?, end(b, a)?);
    Some([a.receive_queue, a.send_queue, b.receive_queue, b.send_queue])
}

fn row(line: &str) -> Option<TcpRow> {
    let mut fields = line.split_whitespace().skip(1);
    let local = address(fields.next()?)?;
    let remote = address(fields.next()?)?;
    let state = match fields.next()? {
        "01" => "ESTABLISHED",
        "02" => "SYN-SENT",
        "03" => "SYN-RECEIVED",
        "04" => "FIN-WAIT-1",
        "05" => "FIN-WAIT-2",
        "06" => "TIME-WAIT",
        "07" => "CLOSED",
        "08" => "CLOSE-WAIT",
        "09" => "LAST-ACK",
        "0A" => "LISTEN",
        "0B" => "CLOSING",
        _ => return None,
    };
    let (send, receive) = fields.next()?.split_once(':')?;
    Some(TcpRow {
        local,
        remote,
        state,
        send_queue: usize::from_str_radix(send, 16).ok()?,
        receive_queue: usize::from_str_radix(receive, 16).ok()?,
    })
}

/// `0100007F:232E` is 127.0.0.1:9006: 32-bit words in the machine's order.
pub(crate) fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let bytes: Vec<u8> = ip
        .as_bytes()
        .chunks(8)
        .map(|word| u32::from_str_radix(str::from_utf8(word).ok()?, 16).ok())
        .collect::<Option<Vec<_>>>()?
        .into_iter()
        .flat_map(u32::to_ne_bytes)
        .collect();
    let ip: IpAddr = match bytes.len() {
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into(),
        _ => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// One row of `/proc/net/udp` or `udp6`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpRow {
    /// This end.
    pub local: SocketAddr,
    /// The address it is connected to; all zeros if it is not.
    pub remote: SocketAddr,
    /// What waits unread, in bytes of kernel memory, not of data.
    pub receive_queue: usize,
    /// How many datagrams the kernel threw away because they did not fit.
    pub drops: usize,
}

/// All UDP sockets of this machine, IPv4 and IPv6.
pub fn udp_table() -> Option<Vec<UdpRow>> {
    let table = table("udp")?;
    // Here, too, a row may come twice; its tenth field is its socket's inode.
    let mut seen = HashSet::new();
    let socket = |line: &str| line.split_whitespace().nth(9).map(String::from);
    let lines = table.lines().filter(|line| seen.insert(socket(line)));
    Some(lines.filter_map(udp_row).collect())
}

fn udp_row(line: &str) -> Option<UdpRow> {
    let mut fields = line.split_whitespace().skip(1);
    let local = address(fields.next()?)?;
    let remote = address(fields.next()?)?;
    let (_, receive) = fields.nth(1)?.split_once(':')?;
    Some(UdpRow {
        local,
        remote,
        receive_queue: usize::from_str_radix(receive, 16).ok()?,
        drops: fields.last()?.parse().ok()?,
    })
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_the_kernels_table_is_read() {
        let line = "   0: 0100007F:232E 00000000:0000 0A \
            00000000:00000002 00:00000000 00000000     0        0 1 1";
        assert_eq!(
            row(line),
            Some(TcpRow {
                local: "127.0.0.1:9006".parse().unwrap(),
                remote: "0.0.0.0:0".parse().unwrap(),
                state: "LISTEN",
                send_queue: 0,
                receive_queue: 2,
            })
        );
    }

    #[test]
    fn a_field_of_a_status_file_is_read() {
        let status = "Name:\tserver\nVmSize:\t    3148 kB\n";
        assert_eq!(field(status, "VmSize:"), Some(3148));
        assert_eq!(field(status, "VmRSS:"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_rows_of_one_port_are_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(addr).unwrap();
        let rows = tcp_rows(addr.port()).unwrap();
        let found = |local, remote, state| {
            rows.iter().any(|row| {
                (row.local, row.remote, row.state) == (local, remote, state)
            })
        };
        let client = client.local_addr().unwrap();
        assert!(found(addr, "0.0.0.0:0".parse().unwrap(), "LISTEN"));
        assert!(found(addr, client, "ESTABLISHED"));
        assert!(found(client, addr, "ESTABLISHED"));
    }

    #[test]
    fn an_ipv6_address_is_read() {
        let addr = address("00000000000000000000000001000000:232E");
        assert_eq!(addr, Some("[::1]:9006".parse().unwrap()));
    }

    #[test]
    fn a_row_of_the_udp_table_is_read() {
        let line = " 4077: 0100007F:232E 00000000:0000 07 \
            00000000:00034200 00:00000000 00000000 0 0 6148 2 0 723";
        assert_eq!(
            udp_row(line),
            Some(UdpRow {
                local: "127.0.0.1:9006".parse().unwrap(),
                remote: "0.0.0.0:0".parse().unwrap(),
                receive_queue: 0x34200,
                drops: 723,
            })
        );
    }
}
