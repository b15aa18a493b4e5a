//! The acts of a check: what happened between two rests.

use std::collections::VecDeque;

use harness::What;

use crate::recorder::{Entry, Rest};

/// So many acts a figure has at most: the last ones.
const ACTS: usize = 15;
/// So many parts of a check: the one that failed, and the one before.
const CHAPTERS: usize = 2;

/// What happened between two rests.
#[derive(Default)]
pub(crate) struct Act {
    pub(crate) chapter: String,
    pub(crate) from: u64,
    /// So many acts before it are left out; or it is one of these.
    pub(crate) left_out: usize,
    pub(crate) is_left_out: bool,
    pub(crate) events: Vec<(u64, String, What)>,
    pub(crate) failures: Vec<(u64, String, String)>,
    pub(crate) rest: Rest,
}

/// The last acts of a check.
pub(crate) fn acts(entries: &VecDeque<Entry>) -> Vec<Act> {
    let mut acts = vec![Act::default()];
    // What a client does is seen before or after; it begins behind what was
    // last seen before it.
    let mut last = 0;
    for entry in entries {
        let Some(act) = acts.last_mut() else { continue };
        match entry {
            Entry::Chapter(name) => act.chapter.clone_from(name),
            Entry::Event { at, who, what } => {
                let is_connect = matches!(what, What::Connected { .. });
                let begins = if is_connect { last + 1 } else { *at };
                act.events.push((begins, who.clone(), what.clone()));
                last = *at;
            }
            Entry::Failure { at, who, words } => {
                act.failures.push((*at, who.clone(), words.clone()));
            }
            Entry::Rest(rest) => {
                last = rest.at;
                act.rest = rest.clone();
                let (chapter, from) = (act.chapter.clone(), rest.at);
                acts.push(Act {
                    chapter,
                    from,
                    ..Act::default()
                });
            }
        }
    }
    // A failure is noticed at the rest: it belongs to the act before.
    for n in 1..acts.len() {
        let early = std::mem::take(&mut acts[n].failures);
        acts[n - 1].failures.splice(0..0, early);
    }
    // What comes behind the last rest is the checker's cleaning up.
    acts.pop();
    acts.dedup_by(|next, act| {
        let nothing = next.events.is_empty() && next.failures.is_empty();
        nothing && act.rest.is_like(&next.rest)
    });
    // A datagram's socket says nothing to anybody when it is made.
    for n in (1..acts.len()).rev() {
        let made = |act: &Act| {
            let made = |what: &What| matches!(what, What::Connected { .. });
            act.rest.tcp.is_empty()
                && act.failures.is_empty()
                && act.events.iter().all(|(_, _, what)| made(what))
        };
        if made(&acts[n - 1]) && !acts[n - 1].rest.udp.is_empty() {
            let before = acts.remove(n - 1);
            acts[n - 1].events.splice(0..0, before.events);
            acts[n - 1].from = before.from;
        }
    }
    let mut chapters: Vec<_> = acts.iter().map(|a| &a.chapter).collect();
    chapters.dedup();
    let shown = chapters.len().saturating_sub(CHAPTERS);
    let first = chapters.get(shown).map_or(String::new(), |&c| c.clone());
    let first = acts.iter().position(|act| act.chapter == first);
    let mut acts = acts.split_off(first.unwrap_or(0));
    leave_out(&mut acts);
    acts
}

/// Of too many acts those of who failed are shown, and the last ones.
fn leave_out(acts: &mut [Act]) {
    let too_many = acts.len().saturating_sub(ACTS);
    let failures = acts.iter().flat_map(|act| &act.failures);
    let failed = failures.last().map(|(_, who, _)| who.clone());
    let last = acts.len().saturating_sub(ACTS / 2);
    let (kept, others): (Vec<_>, Vec<_>) = (0..last).partition(|&n| {
        let mut who = acts[n].events.iter().map(|(_, who, _)| who);
        who.any(|who| Some(who) == failed.as_ref())
    });
    for n in others.into_iter().chain(kept).take(too_many) {
        acts[n].is_left_out = true;
    }
    let mut left_out = 0;
    for act in acts {
        act.left_out =
            std::mem::take(&mut left_out) + usize::from(act.is_left_out);
        if act.is_left_out {
            left_out = act.left_out;
        }
    }
}
