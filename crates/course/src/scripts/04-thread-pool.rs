//! Exercise 04: three workers, four chairs, and no more.
//!
//! What a client hears tells little of why: who hears nothing may wait for a
//! worker, for a chair, or for a listener that has died. So who hears nothing
//! where `busy` is due is asked in this order: has anybody who should wait been
//! served? is anybody told `busy` at all? has the listener taken all of them
//! in? and when all leave, is the last one served?

use harness::{Fault, Peer, quote};

use crate::check::{Check, Rude, expect_gone, is_silence};
use crate::diagnosis::Symptom::{Closed, Crashed, TimedOut, TimedOutAnyway};
use crate::diagnosis::{Diagnose, Result, StepError};
use crate::scripts::turned;

const WORKERS: [&str; 3] = ["a", "b", "c"];
/// How often something is tried that a lucky moment may hide.
const AGAIN: usize = 20;
const CHAIRS: [&str; 4] = ["d", "e", "f", "g"];
/// More clients than anybody puts up chairs for by mistake (and, elsewhere,
/// fewer than the files that a program may have open).
const MANY: usize = if cfg!(target_os = "linux") { 300 } else { 100 };
/// Fewer than the usual backlog.
const SOME: usize = 50;

pub(crate) fn check(c: &mut Check) -> Result {
    c.begin()?;

    c.step("three clients are served at once");
    let mut served = three_served(c)?;
    served[0].send("aé\n")?;
    served[0].expect(b"\xa9\xc3a\n")?;
    for line in ["panicking", "no panic", "Panic"] {
        served[0].send(format!("{line}\n"))?;
        served[0].expect(answer(line))?;
    }

    c.step("four more wait, and the next one is told `busy`");
    let mut waiting = four_wait(c)?;
    let mut h = c.connect("h")?;
    if let Err(failure) = h.expect("busy\n") {
        return Err(not_busy(c, failure.into(), served, waiting, h));
    }
    h.expect_end()?;
    still_wait(c, &mut served, &mut waiting)?;
    // A queue that somebody empties into his own hands has one chair more.
    let mut i = c.connect("i")?;
    i.expect("busy\n")
        .diagnose_if("chairs-miscounted", |error| error.is(TimedOut))?;
    i.expect_end()?;
    let rude = |c: &mut Check| c.rude(Rude::ResetsAtOnce, "", "", "");
    let busy = |c: &mut Check| {
        let mut next = c.connect("j")?;
        Ok(next.expect("busy\n")?)
    };
    let result = rude(c).and_then(|()| busy(c));
    if let Err(error) = result {
        drop((served, waiting));
        return Err(dies_when_full(c, error));
    }

    c.step("who waited longest is served when a client leaves");
    // Not the one who came first: a queue for each worker would look right.
    for (leaves, comes) in [(2, "k"), (0, "l")] {
        let early = c.word();
        waiting[0].send(format!("{early}\n"))?;
        served.remove(leaves).close();
        let mut d = next_in_turn(c, &mut served, &mut waiting)?;
        d.expect(answer(&early))
            .diagnose_if("loses-early-lines", |error| {
                // What came later is answered in its place, or alone.
                error.is(TimedOut) && asks(c, &mut d).is_ok()
            })?;
        served.push(d);
        // Whose chair is free now sits behind all others.
        waiting.push(c.connect(comes)?);
        still_wait(c, &mut served, &mut waiting)?;
    }
    drop((waiting, served));

    c.step("clients that leave, politely or by a reset, cost no worker");
    all_have_left(c)?;
    full_again(c)?;

    all_have_left(c)?;
    for how in Rude::ALL {
        let rude = |c: &mut Check| {
            let (greeting, line) = ("ready\n", "stressed\n");
            WORKERS
                .iter()
                .try_for_each(|_| c.rude(how, greeting, line, "desserts\n"))
        };
        let good = |c: &mut Check| serve_three(c, "worker-lost-on-reset");
        c.survives(good, rude)?;
    }

    c.step("a panic costs no worker");
    for _ in WORKERS {
        let mut p = is_ready(c, "p")?;
        p.send("panic\n")?;
        expect_gone(&mut p)?;
    }
    serve_three(c, "worker-lost-on-panic")
        .diagnose(Crashed, "worker-lost-on-panic")?;
    all_have_left(c)?;
    full_again(c)
}

/// Three are served and four wait once more. It was right before: what is wrong
/// now was left by those who have gone.
fn full_again(c: &mut Check) -> Result {
    let full = |c: &mut Check| {
        let mut served = three_served(c)?;
        let mut waiting = four_wait(c)?;
        c.connect("h")?.expect("busy\n")?;
        still_wait(c, &mut served, &mut waiting)
    };
    let is_busy = |error: &StepError| error.got() == Some(b"busy\n");
    full(c).map_err(StepError::unnamed).diagnose_if(
        "keeps-the-place",
        |error| {
            // Nor is it late.
            c.pause();
            is_busy(error) && full(c).is_err_and(|error| is_busy(&error))
        },
    )
}

/// A moment may pass until it is known that those who waited have left.
fn all_have_left(c: &Check) -> Result {
    let mut last = is_ready(c, "next").map(drop);
    let free = || {
        let busy = last.as_ref().is_err_and(|e| e.got() == Some(b"busy\n"));
        if busy {
            last = is_ready(c, "next").map(drop);
        }
        !busy
    };
    let _ = c.lab().wait_until("be free again", free);
    last
}

/// The first three clients, each of them served while the others stay.
fn three_served(c: &mut Check) -> Result<Vec<Peer>> {
    let first = is_ready(c, WORKERS[0])
        .diagnose_if("no-queue", |error| is_lucky_without_a_chair(c, error));
    let mut served = vec![first?];
    asks(c, &mut served[0])?;
    for name in &WORKERS[1..] {
        let (client, greeted) = greeted(c, name)?;
        match greeted {
            Ok(()) => served.push(client),
            Err(error) => {
                return Err(not_ready(c, error, &mut served, client));
            }
        }
    }
    for client in &mut served {
        asks(c, client)?;
    }
    Ok(served)
}

fn four_wait(c: &mut Check) -> Result<Vec<Peer>> {
    Ok(CHAIRS
        .iter()
        .map(|name| c.connect(name))
        .collect::<harness::Result<Vec<_>>>()?)
}

/// What it means that a client is not greeted while fewer than three are
/// served.
fn not_ready(
    c: &mut Check,
    error: StepError,
    served: &mut Vec<Peer>,
    mut client: Peer,
) -> StepError {
    if is_lucky_without_a_chair(c, &error) {
        return error.certainly("no-queue");
    }
    if !error.is(TimedOut) || client.expect("ready\n").is_ok() {
        return error;
    }
    // With two at work, the lock is not what keeps the third away.
    let alone = served.len() == 1;
    if alone && has_an_end(c, CHAIRS.len()) {
        return error.certainly("lock-held-while-working");
    }
    c.note("is it served when those before it leave?");
    let id = if alone {
        "one-at-a-time"
    } else {
        "too-few-workers"
    };
    let leave = |_: &mut Peer| {
        served.clear();
        true
    };
    let wait = |client: &mut Peer| client.expect("ready\n");
    if c.is_cured(&mut client, wait, leave) {
        return error.certainly(id).despite_complaint();
    }
    error
}

/// What it means that the client behind those who wait is not told `busy`.
fn not_busy(
    c: &mut Check,
    error: StepError,
    mut served: Vec<Peer>,
    mut waiting: Vec<Peer>,
    mut h: Peer,
) -> StepError {
    if is_served(c, &mut h, &error) {
        return error.certainly("thread-per-client");
    }
    if error.is(Closed) {
        return if sends_all_away(c) {
            error.certainly("sent-away-without-a-word")
        } else {
            error
        };
    }
    // What is late is not missing.
    if !error.is(TimedOut) || h.expect("busy\n").is_ok() {
        return error;
    }
    if waiting.iter_mut().any(|client| {
        client.has_nothing().is_ok_and(|nothing| !nothing)
            && client.expect("ready\n").is_ok()
            && asks(c, client).is_ok()
    }) {
        return error.certainly("thread-per-client");
    }
    c.note("is anybody told `busy`? many clients more try");
    let mut more = Vec::new();
    let (mut is_stuck, mut is_silent) = (false, false);
    while more.len() < MANY && !is_stuck && !is_silent {
        for _ in 0..SOME {
            match c.connect("more") {
                Ok(client) => more.push(client),
                Err(failure) if is_silence(&failure) => {
                    is_silent = true;
                    break;
                }
                Err(_) => return error,
            }
        }
        // Who takes them in late takes them in.
        is_stuck = !are_accepted(c) && !are_accepted(c);
    }
    // Elsewhere nobody tells why a connection takes so long.
    is_stuck |= is_silent && harness::proc::accept_queue(c.addr()).is_none();
    let Some(mut last) = more.pop().filter(|_| is_stuck || !is_silent) else {
        return error;
    };
    let told = last.expect("busy\n").is_ok()
        || more
            .iter()
            .any(|m| m.has_nothing().is_ok_and(|nothing| !nothing));
    if told {
        return error.certainly("chairs-miscounted");
    }
    c.note("is the last one served when all others leave?");
    served.clear();
    waiting.clear();
    drop((more, h));
    if last.expect("ready\n").is_err() || asks(c, &mut last).is_err() {
        return error;
    }
    let id = if is_stuck {
        "listener-waits"
    } else {
        "unbounded"
    };
    error.certainly(id).despite_complaint()
}

/// True if the listener takes in all who have connected, as far as the system
/// tells.
fn are_accepted(c: &Check) -> bool {
    let all =
        || matches!(harness::proc::accept_queue(c.addr()), None | Some(0));
    c.lab().wait_until("be accepted", all).is_ok()
}

fn sends_all_away(c: &Check) -> bool {
    c.connect("i")
        .is_ok_and(|mut i| i.expect("busy\n").fails_with(Closed))
}

/// A client that leaves while all chairs are taken ends the program, if it does
/// so again.
fn dies_when_full(c: &mut Check, error: StepError) -> StepError {
    let full = |c: &mut Check| {
        all_have_left(c)?;
        let served = three_served(c)?;
        let waiting = four_wait(c)?;
        c.connect("h")?.expect("busy\n")?;
        Ok((served, waiting))
    };
    let good = |c: &mut Check| full(c).map(drop);
    let rude = |c: &mut Check| {
        let all = full(c)?;
        c.rude(Rude::ResetsAtOnce, "", "", "")?;
        c.connect("j")?.expect("busy\n")?;
        drop(all);
        Ok(())
    };
    c.ends_with("dies-with-client", error, good, rude)
}

/// The one that has waited longest, served; nobody else may be.
fn next_in_turn(
    c: &mut Check,
    served: &mut [Peer],
    waiting: &mut Vec<Peer>,
) -> Result<Peer> {
    let mut d = waiting.remove(0);
    let Err(failure) = d.expect("ready\n") else {
        return Ok(d);
    };
    let error = StepError::from(failure);
    if !error.is(TimedOut) || d.expect("ready\n").is_ok() {
        return Err(error);
    }
    for other in waiting.iter_mut() {
        if other.has_nothing().is_ok_and(|nothing| !nothing) {
            let early =
                other.expect("ready\n").is_ok() && asks(c, other).is_ok();
            return Err(match early {
                true => error.certainly("not-in-turn"),
                false => error,
            });
        }
    }
    // Has the worker let its client go, and is nobody ever served again, old
    // or new?
    c.note("is anybody served again when all leave?");
    for client in served.iter_mut() {
        if client.half_close().is_err() || client.expect_end().is_err() {
            return Err(error);
        }
    }
    let newcomer = |c: &Check| {
        let mut new = c.connect("new").ok()?;
        Some(match new.expect("ready\n") {
            Ok(()) => true,
            Err(failure) => {
                let error = StepError::from(failure);
                !error.is(TimedOut) && error.got() != Some(b"busy\n")
            }
        })
    };
    if newcomer(c) == Some(false) && d.expect("ready\n").is_err() {
        return Err(error.certainly("one-client-a-worker"));
    }
    Err(error)
}

/// Three clients are served again, behind what may have cost a worker.
fn serve_three(c: &mut Check, id: &'static str) -> Result {
    let mut again = Vec::new();
    for name in WORKERS {
        let (client, greeted) = greeted(c, name)?;
        // A panic is a complaint, and here it is the reason.
        greeted
            .diagnose(TimedOutAnyway, id)
            .diagnose_answer("busy\n", id)
            .diagnose(Closed, id)?;
        again.push(client);
    }
    for client in &mut again {
        asks(c, client)?;
    }
    Ok(())
}

/// Those who are served talk for a while: who else has been taken in by a
/// thread is greeted meanwhile.
fn still_wait(
    c: &mut Check,
    served: &mut [Peer],
    waiting: &mut [Peer],
) -> Result {
    for _ in 0..AGAIN {
        for client in &mut *served {
            asks(c, client)?;
        }
    }
    for (n, client) in waiting.iter_mut().enumerate() {
        if client.has_nothing()? {
            continue;
        }
        let got = client.receive()?;
        let fault = Fault::Unexpected(quote(&got));
        let failure = c.lab().failure(client.name(), "wait", fault);
        let served = Err(failure.with_got(got))
            .diagnose_if("thread-per-client", |error| {
                is_served(c, client, error)
            });
        // Behind somebody who waits there is a queue, if too short a one.
        match n {
            0 => served.diagnose_answer("busy\n", "no-queue"),
            _ => served.diagnose_answer("busy\n", "chairs-miscounted"),
        }?;
    }
    Ok(())
}

/// A client that was told `ready` too early is one too many only if it is
/// served as well.
fn is_served(c: &mut Check, client: &mut Peer, error: &StepError) -> bool {
    error.got() == Some(b"ready\n") && asks(c, client).is_ok()
}

/// Without a chair, who comes at the right moment is served.
fn is_lucky_without_a_chair(c: &Check, error: &StepError) -> bool {
    let lucky =
        || greeted(c, "again").is_ok_and(|(_, greeted)| greeted.is_ok());
    error.got() == Some(b"busy\n")
        && c.lab().wait_until("be lucky", lucky).is_ok()
}

fn is_ready(c: &Check, name: &str) -> Result<Peer> {
    let (client, greeted) = greeted(c, name)?;
    greeted
        .diagnose_if("no-queue", |error| is_lucky_without_a_chair(c, error))?;
    Ok(client)
}

/// A client, and whether it was told `ready`.
fn greeted(c: &Check, name: &str) -> Result<(Peer, Result)> {
    let mut client = c.connect(name)?;
    let greeted = client.expect("ready\n");
    Ok((client, greeted.map_err(StepError::from)))
}

fn asks(c: &mut Check, client: &mut Peer) -> Result {
    let word = c.word();
    client.send(format!("{word}\n"))?;
    Ok(client.expect(answer(&word))?)
}

fn answer(line: &str) -> String {
    turned(line) + "\n"
}

/// True if a client behind `more` others is told `busy`: then somebody takes
/// clients in, although they are not served, and counts them.
fn has_an_end(c: &Check, more: usize) -> bool {
    c.note("is anybody told `busy`? more clients try");
    let more: Vec<_> =
        (0..more).map_while(|_| c.connect("more").ok()).collect();
    let last = c.connect("last").and_then(|mut last| last.expect("busy\n"));
    drop(more);
    last.is_ok()
}
