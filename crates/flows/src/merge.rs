//! Puts calls, packets and changes of state into one order.
//!
//! A packet stands behind the call that caused it: what an end begins by
//! itself, behind the last call of this end that sends; what answers a packet,
//! behind the cause of that packet. strace and tcpdump have one clock: a call
//! begins before what it causes. When it ends, strace sees too late to say.
//! A change of state stands at the packet that it belongs to.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
#[cfg(feature = "capture")]
use harness::trace::{Change, Packet};

use crate::{Event, Seen, Side, Snapshot};

/// A call, or the end of a program, that may cause packets.
#[derive(Clone, Debug)]
pub struct Cause {
    /// When it began.
    pub at: u64,
    /// When it ended, as far as strace can say.
    pub ended: u64,
    /// Whose side it is on.
    pub side: Side,
    /// The client at the one end of its connection; empty for a listener.
    pub client: String,
    /// Whether it can make the kernel send something, or change a state.
    pub sends: bool,
    /// The event.
    pub event: Event,
}

/// A packet or a change of state, and whose.
#[derive(Clone, Debug)]
pub struct Effect {
    at: u64,
    side: Side,
    client: String,
    event: Event,
}

/// Who is behind a port.
pub struct Ports<'a> {
    /// The server's.
    pub server: u16,
    /// The clients'.
    pub clients: &'a BTreeMap<u16, String>,
}

#[cfg(feature = "capture")]
impl Ports<'_> {
    fn client(&self, [from, to]: [u16; 2]) -> Option<(Side, String)> {
        let client = |port| self.clients.get(&port).cloned();
        // The server may have connected to one of the clients, too.
        match client(from).filter(|_| from != self.server) {
            Some(client) => Some((Side::Client, client)),
            None => Some((Side::Server, client(to)?)),
        }
    }

    /// A packet between a client and the server; `None` for another one.
    pub fn packet(&self, packet: Packet) -> Option<Effect> {
        let (from, client) = self.client([packet.from, packet.to])?;
        Some(Effect {
            at: packet.at,
            side: from,
            client: client.clone(),
            event: Event::Packet {
                client,
                from,
                flags: packet.flags,
                bytes: packet.bytes,
                seq: packet.seq,
                ack: packet.ack,
            },
        })
    }

    /// A change of state of one of our sockets. `connect` has not chosen a
    /// port yet when it tells of the first one: `owner` is whose thread it is.
    pub fn change(
        &self,
        change: Change,
        owner: Option<String>,
    ) -> Option<Effect> {
        let (side, client) = match (change.local, change.remote) {
            (0, _) => (Side::Client, owner?),
            (local, 0) if local == self.server => (Side::Server, String::new()),
            (_, 0) => return None,
            (local, remote) => self.client([local, remote])?,
        };
        let seen = match change.to.as_str() {
            "SYN-RECEIVED" => Seen::Late,
            _ => Seen::There,
        };
        Some(Effect {
            at: change.at,
            side,
            client: client.clone(),
            event: Event::State {
                client,
                side,
                from: change.from,
                state: change.to,
                seen,
            },
        })
    }
}

impl Effect {
    /// The flags of a packet.
    fn flags(&self) -> Option<&str> {
        match &self.event {
            Event::Packet { flags, .. } => Some(flags),
            _ => None,
        }
    }

    /// Whether the same client begins to connect here.
    fn is_attempt(&self, of: &Effect) -> bool {
        let Event::State { state, .. } = &self.event else {
            return false;
        };
        state == "SYN-SENT" && self.client == of.client
    }

    /// Whether the end sends it by itself, and not because of a packet.
    fn is_begun(&self) -> bool {
        let answers = ["SYN, ACK", "ICMP: port unreachable"];
        !self.event.is_pure_ack()
            && self.flags().is_some_and(|flags| !answers.contains(&flags))
    }
}

/// Where a change of state stands: at which packet, and whether before or
/// after it. An end changes its state before it sends what begins or ends a
/// connection, and after it has received such a packet, or the acknowledgement
/// for its own. (Tracefs has a clock of its own, which can be wrong by some
/// microseconds.) A client that tries a second address sends a second SYN:
/// `earlier` are the changes before this one.
fn place(
    change: &Effect,
    earlier: &[Effect],
    packets: &[Effect],
) -> Option<(usize, Place)> {
    let Event::State { from, state, .. } = &change.event else {
        return None;
    };
    let find = |is_own: bool, first: usize, flag: &str| {
        let mut found = packets.iter().enumerate().skip(first);
        found.find_map(|(index, packet)| {
            let is_it = packet.client == change.client
                && (packet.side == change.side) == is_own
                && packet.flags()?.contains(flag);
            is_it.then_some(index)
        })
    };
    let received = |flag| Some((find(false, 0, flag)?, Place::After));
    let sent = |flag| Some((find(true, 0, flag)?, Place::Before));
    let acknowledged = |flag| {
        Some((find(false, find(true, 0, flag)? + 1, "ACK")?, Place::After))
    };
    match (from.as_str(), state.as_str()) {
        (_, "SYN-SENT") => {
            let mut attempts = earlier.iter().filter(|e| e.is_attempt(change));
            let first = attempts.try_fold(0, |first, _| {
                find(true, first, "SYN").map(|index| index + 1)
            });
            Some((find(true, first?, "SYN")?, Place::Before))
        }
        ("SYN-SENT", "ESTABLISHED") => received("SYN"),
        (_, "SYN-RECEIVED" | "ESTABLISHED") => acknowledged("SYN"),
        (_, "FIN-WAIT-1" | "LAST-ACK") => sent("FIN"),
        (_, "CLOSE-WAIT" | "CLOSING" | "TIME-WAIT") => received("FIN"),
        (_, "FIN-WAIT-2") | ("LAST-ACK", "CLOSED") => acknowledged("FIN"),
        (_, "CLOSED") => received("RST").or(sent("RST")),
        _ => None,
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Before,
    At,
    After,
}

/// The events of one act: each cause, and behind it what it caused.
///
/// # Errors
/// Something was caused by nobody.
pub fn merge(
    mut causes: Vec<Cause>,
    effects: Vec<Effect>,
    snapshot: &Snapshot,
) -> Result<Vec<Event>> {
    causes.sort_by_key(|cause| cause.at);
    let is_packet = |effect: &Effect| effect.flags().is_some();
    let (mut packets, mut changes): (Vec<_>, Vec<_>) =
        effects.into_iter().partition(is_packet);
    packets.sort_by_key(|effect| effect.at);
    changes.sort_by_key(|effect| effect.at);
    find_time_waits(&mut changes, snapshot);
    let mut packets_causes: Vec<usize> = Vec::new();
    for packet in &packets {
        let begun = || begun(packet, &causes);
        let answered = || {
            let before = packets.iter().zip(&packets_causes).rev();
            let mut others = before.filter(|(other, _)| {
                other.client == packet.client && other.side != packet.side
            });
            others.next().map(|(_, cause)| *cause)
        };
        let cause = match packet.is_begun() {
            true => begun().or_else(answered),
            false => answered().or_else(begun),
        };
        packets_causes.push(cause_of(packet, cause, &causes)?);
    }
    let mut caused = Vec::new();
    for (index, change) in changes.iter().enumerate() {
        let place = place(change, &changes[..index], &packets);
        let (cause, place) = match place {
            Some(place) => (packets_causes[place.0], place),
            None => {
                let begun = begun(change, &causes);
                let cause = cause_of(change, begun, &causes)?;
                (cause, (packets.len(), Place::At))
            }
        };
        caused.push((cause, place, change.event.clone()));
    }
    for (index, packet) in packets.into_iter().enumerate() {
        let place = (index, Place::At);
        caused.push((packets_causes[index], place, packet.event));
    }
    caused.sort_by_key(|(cause, place, _)| (*cause, *place));
    let mut caused = caused.into_iter().peekable();
    let mut events = Vec::new();
    for (index, cause) in causes.into_iter().enumerate() {
        events.push(cause.event);
        while let Some((.., event)) =
            caused.next_if(|(cause, ..)| *cause == index)
        {
            events.push(event);
        }
    }
    Ok(events)
}

/// The last call of this end, before the effect, that can send something.
fn begun(effect: &Effect, causes: &[Cause]) -> Option<usize> {
    causes.iter().rposition(|cause| {
        cause.sends
            && cause.at <= effect.at
            && cause.side == effect.side
            && cause.client == effect.client
    })
}

/// What was found, or else the end of a program: it closes what is open.
fn cause_of(
    effect: &Effect,
    found: Option<usize>,
    causes: &[Cause],
) -> Result<usize> {
    let ended = || {
        causes.iter().position(|cause| {
            matches!(cause.event, Event::Happens { .. })
                && cause.side == effect.side
        })
    };
    found
        .or_else(ended)
        .with_context(|| format!("nobody caused: {}", effect.event))
}

/// Linux frees a socket that goes to TIME-WAIT, sometimes even before the
/// other end's FIN has come, and keeps a row in the table: that is where the
/// state is seen. It begins with that FIN (RFC 9293, section 3.6).
fn find_time_waits(changes: &mut [Effect], snapshot: &Snapshot) {
    for change in changes {
        let is_kept = snapshot.sockets.iter().any(|row| {
            (row.side, &row.client) == (change.side, &change.client)
                && row.state == "TIME-WAIT"
        });
        if let Event::State {
            from, state, seen, ..
        } = &mut change.event
            && is_kept
            && state == "CLOSED"
            && ["FIN-WAIT-2", "CLOSING"].contains(&from.as_str())
        {
            *state = "TIME-WAIT".to_owned();
            *seen = Seen::Table;
        }
    }
}

#[cfg(all(test, feature = "capture"))]
mod tests {
    use super::*;
    use crate::Phase;

    fn cause(at: u64, side: Side, call: &str) -> Cause {
        Cause {
            at,
            ended: at,
            side,
            client: "client".to_owned(),
            sends: true,
            event: Event::Call {
                who: side.to_string(),
                call: call.to_owned(),
                result: "0".to_owned(),
                phase: Phase::Whole,
            },
        }
    }

    fn packet(at: u64, from: u16, to: u16, flags: &str) -> Packet {
        Packet {
            at,
            from,
            to,
            flags: flags.to_owned(),
            bytes: 0,
            seq: Some(1),
            ack: Some(1),
        }
    }

    fn change(at: u64, local: u16, remote: u16, states: [&str; 2]) -> Change {
        let [from, to] = states.map(str::to_owned);
        Change {
            at,
            thread: 1,
            local,
            remote,
            from,
            to,
        }
    }

    #[test]
    fn a_change_of_state_stands_at_its_packet_whatever_its_clock_says() {
        let clients = BTreeMap::from([(50001, "client".to_owned())]);
        let ports = Ports {
            server: 9006,
            clients: &clients,
        };
        let causes = vec![
            cause(10, Side::Client, "shutdown(3, SHUT_WR)"),
            cause(20, Side::Server, "close(4)"),
        ];
        let packets = [
            packet(11, 50001, 9006, "FIN, ACK"),
            packet(12, 9006, 50001, "ACK"),
            packet(21, 9006, 50001, "FIN, ACK"),
            packet(22, 50001, 9006, "ACK"),
        ];
        let changes = [
            change(17, 9006, 50001, ["CLOSE-WAIT", "LAST-ACK"]),
            change(18, 9006, 50001, ["LAST-ACK", "CLOSED"]),
            change(19, 50001, 9006, ["FIN-WAIT-1", "FIN-WAIT-2"]),
        ];
        let packets = packets.into_iter().filter_map(|p| ports.packet(p));
        let changes = changes.into_iter();
        let changes = changes.filter_map(|c| ports.change(c, None));
        let effects = packets.chain(changes).collect();
        let events = merge(causes, effects, &Snapshot::default()).unwrap();
        let told: Vec<_> = events.iter().map(Event::to_string).collect();
        assert_eq!(
            told,
            [
                "calls shutdown(3, SHUT_WR) = 0",
                "FIN, ACK, seq 1, ack 1, 0 bytes",
                "ACK, seq 1, ack 1, 0 bytes",
                "FIN-WAIT-1 to FIN-WAIT-2",
                "calls close(4) = 0",
                "CLOSE-WAIT to LAST-ACK",
                "FIN, ACK, seq 1, ack 1, 0 bytes",
                "ACK, seq 1, ack 1, 0 bytes",
                "LAST-ACK to CLOSED",
            ]
        );
    }
}
