//! Puts calls, packets and changes of state into one order.
//!
//! A packet and a change of state stand behind the call that caused them: what
//! an end begins by itself, behind the last call of this end that sends; what
//! answers a packet, behind the cause of that packet. The clocks of strace,
//! tcpdump and the kernel are one: a call begins before what it causes. When
//! it ends, strace sees too late to say.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use harness::trace::{Change, Packet};

use crate::{Event, Seen, Side, Snapshot};

/// A call, or the end of a program, that may cause packets.
#[derive(Clone, Debug)]
pub struct Cause {
    /// When it began.
    pub at: u64,
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

impl Ports<'_> {
    fn client(&self, [from, to]: [u16; 2]) -> Option<(Side, String)> {
        let client = |port| self.clients.get(port).cloned();
        match self.server {
            server if server == from => Some((Side::Server, client(&to)?)),
            server if server == to => Some((Side::Client, client(&from)?)),
            _ => None,
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
    /// Whether the end begins it by itself, and not because of a packet.
    fn is_begun(&self) -> bool {
        match &self.event {
            Event::Packet { flags, .. } => {
                !flags.starts_with("ICMP")
                    && !self.event.is_pure_ack()
                    && flags != "SYN, ACK"
            }
            Event::State { from, state, .. } => {
                ["SYN-SENT", "FIN-WAIT-1", "LAST-ACK", "LISTEN"]
                    .contains(&state.as_str())
                    || from == "LISTEN" && state == "CLOSED"
            }
            _ => false,
        }
    }

    fn is_packet(&self) -> bool {
        matches!(self.event, Event::Packet { .. })
    }

    /// Tracefs keeps microseconds. In one of them an end changes its state
    /// before it sends, and after it has received.
    fn order(&self) -> (u64, u8) {
        let rank = match self.is_packet() {
            true => 1,
            false if self.is_begun() => 0,
            false => 2,
        };
        (self.at / 1000, rank)
    }
}

/// The events of one act: each cause, and behind it what it caused.
///
/// # Errors
/// Something was caused by nobody.
pub fn merge(
    mut causes: Vec<Cause>,
    mut effects: Vec<Effect>,
    snapshot: &Snapshot,
) -> Result<Vec<Event>> {
    find_time_waits(&mut effects, snapshot);
    causes.sort_by_key(|cause| cause.at);
    effects.sort_by_key(Effect::order);
    let mut caused: Vec<Vec<Event>> = vec![Vec::new(); causes.len()];
    // Of the packets so far: the connection, the side, and the cause.
    let mut packets: Vec<(String, Side, usize)> = Vec::new();
    for effect in effects {
        let begun = || {
            causes.iter().rposition(|cause| {
                cause.sends
                    && cause.at / 1000 <= effect.at / 1000
                    && cause.side == effect.side
                    && cause.client == effect.client
            })
        };
        let answered = || {
            let packet = packets.iter().rev().find(|(client, side, _)| {
                *client == effect.client
                    && !(effect.is_packet() && *side == effect.side)
            });
            packet.map(|(.., cause)| *cause)
        };
        // The end of a program closes what it has left open.
        let ended = || {
            causes.iter().position(|cause| {
                matches!(cause.event, Event::Happens { .. })
                    && cause.side == effect.side
            })
        };
        let cause = match effect.is_begun() {
            true => begun().or_else(answered),
            false => answered().or_else(begun),
        };
        let cause = cause
            .or_else(ended)
            .with_context(|| format!("nobody caused {:?}", effect.event))?;
        if effect.is_packet() {
            packets.push((effect.client, effect.side, cause));
        }
        caused[cause].push(effect.event);
    }
    let events = causes
        .into_iter()
        .zip(caused)
        .flat_map(|(cause, caused)| std::iter::once(cause.event).chain(caused));
    Ok(events.collect())
}

/// Linux frees a socket that goes to TIME-WAIT, sometimes even before the
/// other end's FIN has come, and keeps a row in the table: that is where the
/// state is seen, and it begins with that FIN (RFC 9293, section 3.6).
fn find_time_waits(effects: &mut [Effect], snapshot: &Snapshot) {
    let fin = |effects: &[Effect], client: &str, side: Side| {
        let mut effects = effects.iter().rev();
        effects
            .find(|effect| {
                let Event::Packet { flags, .. } = &effect.event else {
                    return false;
                };
                effect.client == client
                    && effect.side != side
                    && flags.contains("FIN")
            })
            .map_or(0, |effect| effect.at)
    };
    for index in 0..effects.len() {
        let (side, client) =
            (effects[index].side, effects[index].client.clone());
        let fin = fin(effects, &client, side);
        let effect = &mut effects[index];
        let Event::State {
            from, state, seen, ..
        } = &mut effect.event
        else {
            continue;
        };
        let is_kept = snapshot.sockets.iter().any(|row| {
            (row.side, &row.client) == (side, &client)
                && row.state == "TIME-WAIT"
        });
        if is_kept
            && state == "CLOSED"
            && ["FIN-WAIT-2", "CLOSING"].contains(&from.as_str())
        {
            *state = "TIME-WAIT".to_owned();
            *seen = Seen::Table;
            effect.at = effect.at.max(fin);
        }
    }
}
