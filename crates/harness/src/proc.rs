//! What only Linux tells: `/proc`, see proc(5). Elsewhere each is `None`.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// One row of `/proc/net/tcp` or `tcp6`.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second field, the name, may hold spaces: start behind its bracket.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split(' ').collect();
    // utime and stime are fields 14 and 15; field 3 is at index 1 here.
    let ticks: u64 = fields.get(12)?.parse::<u64>().ok()?
        + fields.get(13)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
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
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib << 10)
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

/// True if a process is stopped (as by Ctrl-Z).
pub fn is_stopped(process: u32) -> Option<bool> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    Some(stat.rsplit_once(") ")?.1.starts_with('T'))
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

/// All TCP sockets of this machine, IPv4 and IPv6.
pub fn tcp_table() -> Option<Vec<TcpRow>> {
    let v4 = fs::read_to_string("/proc/net/tcp").ok()?;
    // A kernel without IPv6 has no such file.
    let v6 = fs::read_to_string("/proc/net/tcp6").unwrap_or_default();
    Some([v4, v6].iter().flat_map(|table| rows(table)).collect())
}

fn rows(table: &str) -> impl Iterator<Item = TcpRow> {
    table.lines().skip(1).filter_map(row)
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
fn address(text: &str) -> Option<SocketAddr> {
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
    fn an_ipv6_address_is_read() {
        let addr = address("00000000000000000000000001000000:232E");
        assert_eq!(addr, Some("[::1]:9006".parse().unwrap()));
    }
}
