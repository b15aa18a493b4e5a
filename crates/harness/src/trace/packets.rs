//! Packets on the loopback interface, by tcpdump.

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;

use etherparse::{SlicedPacket, TcpSlice, TransportSlice};
use pcap_parser::LegacyPcapSlice;
use pcap_parser::PcapBlockOwned::Legacy;

use crate::{Lab, Program, Result};

/// The port to which a [`Capture`] sends its marks.
const MARK_PORT: u16 = 9;

/// tcpdump, which writes down each packet of the loopback interface.
pub struct Capture {
    lab: Lab,
    file: PathBuf,
    marks: UdpSocket,
    _tcpdump: Program,
}

/// A packet between two ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// When it was sent.
    pub at: u64,
    /// The port that it comes from.
    pub from: u16,
    /// The port that it goes to.
    pub to: u16,
    /// `SYN, ACK` and the like; `UDP`; `ICMP: port unreachable`.
    pub flags: String,
    /// How many bytes of data it carries.
    pub bytes: usize,
    /// TCP's sequence number, counted from this end's SYN.
    pub seq: Option<u32>,
    /// TCP's acknowledgement number, counted from the other end's SYN.
    pub ack: Option<u32>,
}

/// It writes to its standard output: a file it would open as another user, or
/// not at all. Without immediate mode the last packets come late.
const TCPDUMP: &str = "exec tcpdump -i lo -n -U --immediate-mode \
    --time-stamp-precision=nano -w - > \"$0\"";

impl Capture {
    /// Starts tcpdump, which writes to a file in `dir`, and waits until it
    /// listens.
    ///
    /// # Errors
    /// It cannot be started, or may not look at packets; or port 9 is taken.
    pub fn start(lab: &Lab, dir: &Path) -> Result<Self> {
        let io = |error| lab.failure("tcpdump", "write its file", error);
        let file = dir.join("packets.pcap");
        let mut command = Command::new("sh");
        command.arg("-c").arg(TCPDUMP).arg(&file);
        let mut tcpdump = lab.start_command("tcpdump", command)?;
        tcpdump.expect_error("listening on")?;
        let marks = UdpSocket::bind(("127.0.0.1", MARK_PORT)).map_err(io)?;
        Ok(Self {
            lab: lab.clone(),
            file,
            marks,
            _tcpdump: tcpdump,
        })
    }

    /// Sends a mark, waits until the capture has it, and gives the packets
    /// between it and the mark before, which is how often this was called.
    ///
    /// # Errors
    /// The mark does not come.
    pub fn until_mark(&self, before: usize) -> Result<Vec<Packet>> {
        let io = |error| self.lab.failure("tcpdump", "see a mark", error);
        self.marks
            .send_to(b"mark", ("127.0.0.1", MARK_PORT))
            .map_err(io)?;
        let mut found = Vec::new();
        self.lab.wait_until("a mark among the packets", || {
            let packets = fs::read(&self.file).map(|bytes| packets(&bytes));
            found = packets.unwrap_or_default();
            found.iter().filter(|p| p.is_mark()).count() > before
        })?;
        let acts = found.split(Packet::is_mark);
        Ok(acts.skip(before).take(1).flatten().cloned().collect())
    }
}

impl Packet {
    fn is_mark(&self) -> bool {
        self.to == MARK_PORT
    }
}

/// The packets in a file of tcpdump; a last one that is not whole yet is left
/// out.
fn packets(file: &[u8]) -> Vec<Packet> {
    let mut first: BTreeMap<(u16, u16), u32> = BTreeMap::new();
    let Ok(capture) = LegacyPcapSlice::from_slice(file) else {
        return Vec::new();
    };
    let blocks = capture.map_while(|block| match block {
        Ok(Legacy(block)) => Some(block),
        _ => None,
    });
    blocks
        .filter_map(|block| {
            // In a file of this precision the microseconds are nanoseconds.
            let at = u64::from(block.ts_sec) * 1_000_000_000
                + u64::from(block.ts_usec);
            let sliced = SlicedPacket::from_ethernet(block.data).ok()?;
            packet(at, &sliced.transport?, &mut first)
        })
        .collect()
}

fn packet(
    at: u64,
    transport: &TransportSlice<'_>,
    first: &mut BTreeMap<(u16, u16), u32>,
) -> Option<Packet> {
    let plain = |from, to, flags: &str, bytes| Packet {
        at,
        from,
        to,
        flags: flags.to_owned(),
        bytes,
        seq: None,
        ack: None,
    };
    match transport {
        TransportSlice::Udp(udp) => Some(plain(
            udp.source_port(),
            udp.destination_port(),
            "UDP",
            udp.payload().len(),
        )),
        // Type 3, code 3: it brings back the datagram that it is about.
        TransportSlice::Icmpv4(icmp)
            if (icmp.type_u8(), icmp.code_u8()) == (3, 3) =>
        {
            let about = SlicedPacket::from_ip(icmp.payload()).ok()?;
            let TransportSlice::Udp(udp) = about.transport? else {
                return None;
            };
            let [from, to] = [udp.destination_port(), udp.source_port()];
            Some(plain(from, to, "ICMP: port unreachable", 0))
        }
        TransportSlice::Tcp(tcp) => {
            let [from, to] = [tcp.source_port(), tcp.destination_port()];
            let seq = tcp.sequence_number();
            if tcp.syn() {
                first.insert((from, to), seq);
            }
            let base = |ends| first.get(&ends).copied().unwrap_or_default();
            let ack = tcp.acknowledgment_number();
            Some(Packet {
                seq: Some(seq.wrapping_sub(base((from, to)))),
                ack: tcp.ack().then(|| ack.wrapping_sub(base((to, from)))),
                ..plain(from, to, &flags(tcp), tcp.payload().len())
            })
        }
        _ => None,
    }
}

fn flags(tcp: &TcpSlice<'_>) -> String {
    let flags = [
        (tcp.syn(), "SYN"),
        (tcp.fin(), "FIN"),
        (tcp.rst(), "RST"),
        (tcp.psh(), "PSH"),
        (tcp.ack(), "ACK"),
    ];
    let set = flags.iter().filter(|(is_set, _)| *is_set);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
}
