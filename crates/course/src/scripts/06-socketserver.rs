//! Exercise 06: add numbers, and stop when told to.
//!
//! Of what only time tells, a grace period, one pause of the checker's timeout
//! is asked; a longer one passes.

use harness::{Fault, Peer, Program};

use crate::check::{Check, Rude, expect_gone};
use crate::diagnosis::Symptom::{
    Closed, Crashed, Exited, ExitedWell, Refused, TimedOut,
};
use crate::diagnosis::{Diagnose, Result, StepError};

/// How often a request is made that a program about to end may still answer:
/// on a busy machine its end takes a while.
const AGAIN: usize = 300;
/// A sum that does not fit into 32 bits, and one that does not fit into 53.
const LARGE: [i64; 3] = [2_000_000_000, 2_000_000_000, -5];
const LARGER: [i64; 2] = [9_007_199_254_740_993, 4];
/// More numbers than most buffers hold.
const MANY: usize = 20_000;

pub(crate) fn check(c: &mut Check) -> Result {
    c.begin()?;
    c.step("a client's requests are answered");
    let mut a = c.connect("a")?;
    let few = few(c);
    asks(&mut a, &few)?;
    // The same again: so that what goes wrong is the second request.
    asks(&mut a, &few).diagnose_if("one-request-only", |error| {
        let again = || {
            let mut other = c.connect("other")?;
            asks(&mut other, &few)?;
            asks(&mut other, &few)
        };
        error.is(Closed) && again().fails_with(Closed)
    })?;

    let mut b = c.connect("b")?;
    let wait = |b: &mut Peer| b.expect(format!("{}\n", few[0]));
    b.send(format!("{}\n", few[0]))?;
    wait(&mut b).diagnose_if_cured("one-at-a-time", |error| {
        let hang_up = |_: &mut Peer| a.half_close().is_ok();
        error.is(TimedOut) && c.is_cured(&mut b, wait, hang_up)
    })?;

    c.step("requests that come in pieces, and at once, are answered");
    let line = joined(&few, " ");
    let half = line.len() / 2;
    let sum: i64 = few.iter().sum();
    let (first, second) = line.split_at(half);
    a.send(format!("{line}\n{first}"))?;
    a.expect(format!("{sum}\n"))
        .diagnose_if("one-read-one-request", |error| {
            reads_on(c, error, &few)
        })?;
    a.send(format!("{second}\n"))?;
    a.expect(format!("{sum}\n")).diagnose_if(
        "one-read-one-request",
        |error| {
            let numbers = first.split_whitespace().map(str::parse::<i64>);
            let alone = numbers.sum::<std::result::Result<i64, _>>();
            alone.is_ok_and(|sum| error.begins_with(format!("{sum}\n")))
        },
    )?;

    c.step("numbers of all kinds are added");
    let negative = [-few[0], few[1], -1];
    let answered = |numbers: &[i64], id| {
        fails_again(c, asks(&mut connected(c)?, numbers), numbers, " ", id)
    };
    answered(&negative, "no-negative-numbers")?;
    answered(&LARGE, "numbers-too-small")?;
    answered(&LARGER, "numbers-too-small")?;
    let spaced = asks_with(&mut connected(c)?, &few, "   ");
    fails_again(c, spaced, &few, "   ", "one-space-only")?;
    let many: Vec<i64> = (0..MANY as i64).collect();
    answered(&many, "short-lines-only")?;
    asks(&mut a, &few)?;

    c.step("a wrong request ends only its own connection");
    for wrong in ["1 two 3\n", "1.5\n", "x\n", "0x10 1\n", "1 2x\n"] {
        let mut bad = c.connect("bad")?;
        bad.send(wrong)?;
        expect_gone(&mut bad)
            .diagnose_if("answers-wrong-requests", |_| {
                c.connect("bad").is_ok_and(|mut bad| {
                    bad.send(wrong).is_ok()
                        && bad.receive().is_ok_and(|got| got.ends_with(b"\n"))
                })
            })
            .diagnose(Crashed, "error-ends-server")?;
        asks(&mut a, &few).diagnose(Crashed, "error-ends-server")?;
    }

    c.step("a client that resets its connection ends only itself");
    for how in Rude::ALL {
        let rude = |c: &mut Check| c.rude(how, "", "1 2\n", "3\n");
        let good = |c: &mut Check| {
            let mut next = c.connect("next")?;
            asks(&mut next, &[3, 4])?;
            next.half_close()?;
            Ok(next.expect_end()?)
        };
        c.survives(good, rude)?;
    }
    asks(&mut a, &few)?;

    let steps = [
        "told to stop while nobody is there, it ends with code 0",
        "told to stop, it takes no new clients",
        "it answers who is connected, until they leave, and then ends",
    ];
    if !c.is_ours() {
        for step in steps {
            c.step_with_program(step);
        }
        return Ok(());
    }
    c.step(steps[0]);
    for mut client in [a, b] {
        client.half_close()?;
        client.expect_end()?;
    }
    stop(c, &mut [])?;
    ends_when_nobody_is_there(c)?;

    c.step(steps[1]);
    c.start_anew()?;
    let mut clients = Vec::new();
    for name in ["a", "b", "c"] {
        clients.push(c.connect(name)?);
    }
    // They are accepted in their order: the second one is, without a word.
    asks(&mut clients[2], &few)?;
    asks(&mut clients[0], &few)?;
    stop(c, &mut clients)?;
    refuses(c).diagnose(Exited, "cuts-off-clients")?;

    c.step(steps[2]);
    c.note("a pause of the timeout: is there a grace period?");
    c.pause();
    for client in &mut clients {
        stays(client, &few)
            .diagnose(Exited, "cuts-off-clients")
            .diagnose(Closed, "cuts-off-clients")?;
    }
    // The first one leaves, then the last one: nobody else may be cut off.
    for leaves in [0, 1] {
        let mut left = clients.remove(leaves);
        left.half_close()?;
        left.expect_end()?;
        c.pause_for_an_end();
        stays(&mut clients[0], &few)
            .diagnose(Exited, "waits-for-one-only")
            .diagnose(Closed, "waits-for-one-only")?;
    }
    let mut last = clients.remove(0);
    last.half_close()?;
    last.expect_end()?;
    c.expect_success().diagnose(Crashed, "wrong-exit-code")
}

/// Small numbers that need no sign.
fn few(c: &mut Check) -> Vec<i64> {
    (0..c.rng().usize(3..=5))
        .map(|_| c.rng().i64(10..=99))
        .collect()
}

fn connected(c: &Check) -> Result<Peer> {
    Ok(c.connect("other")?)
}

/// What it means that these numbers are not added: another client's few are
/// added, and these are not, again.
fn fails_again(
    c: &Check,
    result: harness::Result,
    numbers: &[i64],
    space: &str,
    id: &'static str,
) -> Result {
    result.diagnose_if(id, |error| {
        let wrong = |failure: harness::Failure| {
            let error = StepError::from(failure);
            error.is(Closed) || error.got().is_some()
        };
        (error.is(Closed) || error.got().is_some())
            && c.connect("other").is_ok_and(|mut other| {
                asks(&mut other, &[1, 2]).is_ok()
                    && asks_with(&mut other, numbers, space).is_err_and(wrong)
            })
    })
}

/// True if a program takes all that a read has brought for one request: alone
/// the line is answered, and with the beginning of the next one it is not.
fn reads_on(c: &Check, error: &StepError, few: &[i64]) -> bool {
    let alone = || {
        let mut other = c.connect("other")?;
        (0..4).try_for_each(|_| asks(&mut other, few))
    };
    (error.is(Closed) || error.got().is_some()) && alone().is_ok()
}

/// Tells the program to shut down, and reads that it says so.
fn stop(c: &mut Check, clients: &mut [Peer]) -> Result {
    let Some(program) = c.program() else {
        return Ok(());
    };
    let before = program.stdout().len();
    program.end_input();
    let said = says(program);
    said.or_else(|failure| {
        let error = StepError::from(failure);
        let late = error.is(TimedOut) && says_it_late(c, clients);
        Err(if late {
            error.certainly("announced-at-the-end")
        } else if says_another(c, before) {
            error.certainly("announced-otherwise")
        } else {
            return Err(error).diagnose(ExitedWell, "not-announced");
        })
    })
}

/// Reads on until the line comes: a program may print more.
fn says(program: &mut Program) -> harness::Result {
    while program.line()? != "shutting down" {}
    Ok(())
}

/// True if the line comes when the last client has left, and not before.
fn says_it_late(c: &mut Check, clients: &mut [Peer]) -> bool {
    c.note("does it come when all have left?");
    let Some(program) = c.program() else {
        return false;
    };
    if says(program).is_ok() {
        return false;
    }
    for client in clients {
        let _ = client.half_close();
    }
    says(program).is_ok()
}

/// True if the program has printed something else since its input ended, or
/// the line on the other output.
fn says_another(c: &mut Check, before: usize) -> bool {
    c.program().is_some_and(|program| {
        let _ = program.exit();
        let stderr = String::from_utf8_lossy(&program.stderr()).to_lowercase();
        program.stdout().len() > before || stderr.contains("shutting down")
    })
}

fn ends_when_nobody_is_there(c: &mut Check) -> Result {
    let ended = c.expect_success().diagnose(Crashed, "wrong-exit-code");
    ended.diagnose_if_cured("shutdown-deadlocks", |error| {
        // Not late, and a client is what it waits for: then it ends at once.
        let ends = |c: &mut Check| {
            c.program().is_some_and(|program| program.exit().is_ok())
        };
        error.is(TimedOut)
            && !ends(c)
            && c.connect("late").is_ok()
            && c.ends_at_once()
    })
}

/// Asks until a program that is about to end would have ended.
fn stays(client: &mut Peer, numbers: &[i64]) -> harness::Result {
    (0..AGAIN).try_for_each(|_| asks(client, numbers))
}

/// Connects until it is refused. Who comes in before the listener is closed
/// waits in the kernel's queue, and is thrown out when it is closed, or is
/// served, and leaves.
fn refuses(c: &Check) -> Result {
    let mut last = Ok(());
    let is_over = || match c.connect("late") {
        Ok(mut late) => {
            let _ = late.half_close();
            last = expect_gone(&mut late).diagnose(TimedOut, "still-listens");
            // The program may have taken it in, in place of the client that
            // wakes it, and forgotten it: then the listener is closed.
            if last.is_err() && c.connect("later").fails_with(Refused) {
                last = Ok(());
                return true;
            }
            last.is_err()
        }
        Err(failure) if *failure.fault == Fault::ConnectionRefused => {
            last = Ok(());
            true
        }
        // Thrown out before the kernel has said here that it is in.
        Err(failure) => {
            last = Err(failure.into());
            false
        }
    };
    if c.lab().wait_until("be refused", is_over).is_err() {
        last?;
        let fault = Fault::Unexpected("a connection each time".to_owned());
        let error = c.error("late", "be refused", fault);
        return Err(error.certainly("still-listens"));
    }
    last
}

fn asks(client: &mut Peer, numbers: &[i64]) -> harness::Result {
    asks_with(client, numbers, " ")
}

fn asks_with(
    client: &mut Peer,
    numbers: &[i64],
    space: &str,
) -> harness::Result {
    let sum: i64 = numbers.iter().sum();
    client.send(joined(numbers, space) + "\n")?;
    client.expect(format!("{sum}\n"))
}

fn joined(numbers: &[i64], space: &str) -> String {
    let words: Vec<_> = numbers.iter().map(i64::to_string).collect();
    words.join(space)
}
