//! Exercise 04: three workers, four chairs, and no more.

use harness::{Fault, Peer, quote};

use crate::check::{Check, expect_gone};
use crate::diagnosis::Symptom::{Closed, Exited, TimedOut};
use crate::diagnosis::{Diagnose, Result, StepError};

const WORKERS: [&str; 3] = ["a", "b", "c"];
/// How often something is tried that a lucky moment may hide.
const AGAIN: usize = 20;
const CHAIRS: [&str; 4] = ["d", "e", "f", "g"];
/// More clients than any miscounting of the chairs lets wait.
const MANY: usize = 20;

pub(crate) fn check(c: &mut Check) -> Result {
    c.step("three clients are served at once");
    let mut served = vec![is_ready(c, WORKERS[0])?];
    asks(c, &mut served[0])?;
    for name in &WORKERS[1..] {
        // With two at work, the lock is not what keeps the third away.
        let alone = served.len() == 1;
        let client = is_ready(c, name)
            .diagnose_if("lock-held-while-working", |error| {
                alone && error.is(TimedOut) && has_an_end(c, CHAIRS.len())
            })
            .diagnose_if("one-at-a-time", |error| {
                alone && error.is(TimedOut) && comes_next(c, &mut served)
            })?;
        served.push(client);
    }
    for client in &mut served {
        asks(c, client)?;
    }

    c.step("four more wait, and the next one is told `busy`");
    let mut waiting = CHAIRS
        .iter()
        .map(|name| c.connect(name))
        .collect::<harness::Result<Vec<_>>>()?;
    let mut h = c.connect("h")?;
    h.expect("busy\n")
        .diagnose_if("chairs-miscounted", |error| {
            error.is(TimedOut) && has_an_end(c, MANY)
        })
        .diagnose(TimedOut, "unbounded")
        .diagnose_if("thread-per-client", |error| {
            is_served(c, &mut h, error)
        })?;
    h.expect_end()?;
    still_wait(c, &mut served, &mut waiting)?;

    c.step("who waited longest is served when a client leaves");
    served.remove(0).close();
    let mut d = waiting.remove(0);
    d.expect("ready\n")
        .diagnose_if("one-client-a-worker", |error| {
            // Nobody else may have been taken in its place, and the worker must
            // have let its client go.
            error.is(TimedOut)
                && waiting.iter().all(|w| w.has_nothing().unwrap_or(false))
                && served[0].half_close().is_ok()
                && served[0].expect_end().is_ok()
        })?;
    served.push(d);
    still_wait(c, &mut served, &mut waiting)?;
    drop((waiting, served));

    c.step("a panic costs no worker");
    for _ in WORKERS {
        let mut p = is_ready(c, "p")?;
        p.send("panic\n")?;
        expect_gone(&mut p)?;
    }
    let mut again = Vec::new();
    for name in WORKERS {
        again.push(
            greeted(c, name)
                .diagnose(TimedOut, "worker-lost-on-panic")
                .diagnose_answer("busy\n", "worker-lost-on-panic")
                .diagnose(Closed, "worker-lost-on-panic")
                .diagnose(Exited, "worker-lost-on-panic")?,
        );
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

fn is_ready(c: &Check, name: &str) -> Result<Peer> {
    greeted(c, name).diagnose_if("no-queue", |error| {
        // Without a chair, who comes at the right moment is served.
        let lucky = || greeted(c, "again").is_ok();
        error.got() == Some(b"busy\n")
            && c.lab().wait_until("be lucky", lucky).is_ok()
    })
}

fn greeted(c: &Check, name: &str) -> harness::Result<Peer> {
    let mut client = c.connect(name)?;
    client.expect("ready\n")?;
    Ok(client)
}

fn asks(c: &mut Check, client: &mut Peer) -> harness::Result {
    let word = c.word();
    let answer: String = word.chars().rev().collect();
    client.send(format!("{word}\n"))?;
    client.expect(format!("{answer}\n"))
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

/// True if another client is served as soon as those who are served leave.
fn comes_next(c: &Check, served: &mut Vec<Peer>) -> bool {
    c.note("is somebody else served when the first client leaves?");
    let next = c.connect("next");
    served.clear();
    next.and_then(|mut next| next.expect("ready\n")).is_ok()
}
