//! The acts of a check: what happened between two rests.

use std::collections::VecDeque;

use harness::What;

use crate::recorder::{Entry, Failed, Rest};

/// So many acts a figure has at most: the one in which the check fails, so
/// many before it, and so many behind it.
const ACTS: usize = 15;
const BEFORE: usize = 8;
const BEHIND: usize = ACTS - BEFORE - 1;
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
    pub(crate) failures: Vec<Failed>,
    /// Whether it is the one in which the check fails, or comes behind it.
    pub(crate) fails: bool,
    pub(crate) is_after: bool,
    pub(crate) rest: Rest,
}

/// The last acts of a check, which fails because `who` wanted something.
pub(crate) fn acts(
    entries: &VecDeque<Entry>,
    failure: Option<(&str, &str)>,
) -> Vec<Act> {
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
            Entry::Failure(failed) => act.failures.push(failed.clone()),
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
            !act.rest.is_tcp()
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
    if let Some((who, wanted)) = failure {
        mark(&mut acts, who, wanted);
    }
    leave_out(&mut acts, failure.map_or("", |(who, _)| who));
    acts
}

/// Finds the act in which the check fails. A script may say in other words
/// what somebody wanted.
fn mark(acts: &mut [Act], who: &str, wanted: &str) {
    let find = |is_it: &dyn Fn(&Failed) -> bool| {
        acts.iter().position(|act| act.failures.iter().any(is_it))
    };
    let found = find(&|f| f.who == who && f.wanted == wanted)
        .or_else(|| find(&|f| f.who == who))
        .or_else(|| find(&|_| true));
    if let Some(found) = found {
        acts[found].fails = true;
        acts[found + 1..].iter_mut().for_each(|a| a.is_after = true);
    }
}

/// Of too many acts those of `who` are shown, and the last ones.
fn leave_out(acts: &mut Vec<Act>, who: &str) {
    let (end, most) = match acts.iter().position(|act| act.fails) {
        Some(fails) => (fails, BEFORE),
        None => (acts.len(), ACTS),
    };
    acts.truncate(end + 1 + BEHIND);
    let too_many = end.saturating_sub(most);
    let last = end.saturating_sub(most / 2);
    let (kept, others): (Vec<_>, Vec<_>) = (0..last).partition(|&n| {
        acts[n].events.iter().any(|(_, actor, _)| actor == who)
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
