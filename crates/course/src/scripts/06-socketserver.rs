//! Exercise 06: add numbers, and stop when told to.

use harness::{Fault, Peer};

use crate::check::{Check, expect_gone};
use crate::diagnosis::Symptom::{Closed, Exited, ExitedWell, TimedOut};
use crate::diagnosis::{Diagnose, Result};

/// How often a request is made that a program about to end may still answer:
/// on a busy machine its end takes a while.
const AGAIN: usize = 300;

pub(crate) fn check(c: &mut Check) -> Result {
    c.step("a client's requests are answered");
    let mut a = c.connect("a")?;
    asks(c, &mut a)?;
    asks(c, &mut a).diagnose(Closed, "one-request-only")?;

    c.step("a wrong request ends only its own connection");
    for wrong in ["1 two 3\n", "1.5\n"] {
        let mut bad = c.connect("bad")?;
        bad.send(wrong)?;
        expect_gone(&mut bad).diagnose(Exited, "error-ends-server")?;
        asks(c, &mut a).diagnose(Exited, "error-ends-server")?;
    }

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
    a.half_close()?;
    a.expect_end()?;
    stop(c)?;
    c.expect_success()
        .diagnose_if("shutdown-deadlocks", |error| {
            // If its listener is closed, `accept` is not what it waits in.
            error.is(TimedOut) && c.connect("late").is_ok()
        })?;

    c.step(steps[1]);
    c.start_anew()?;
    let mut a = c.connect("a")?;
    asks(c, &mut a)?;
    stop(c)?;
    refuses(c).diagnose(Exited, "cuts-off-clients")?;

    c.step(steps[2]);
    for _ in 0..AGAIN {
        asks(c, &mut a)
            .diagnose(Exited, "cuts-off-clients")
            .diagnose(Closed, "cuts-off-clients")?;
    }
    a.half_close()?;
    a.expect_end()?;
    c.expect_success()
}

/// Tells the program to shut down.
fn stop(c: &mut Check) -> Result {
    if let Some(program) = c.program() {
        program.end_input();
        program
            .expect("shutting down\n")
            .diagnose(ExitedWell, "not-announced")?;
    }
    Ok(())
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
            if last.is_err() && is_refused(c) {
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

fn is_refused(c: &Check) -> bool {
    c.connect("later")
        .is_err_and(|failure| *failure.fault == Fault::ConnectionRefused)
}

fn asks(c: &mut Check, client: &mut Peer) -> harness::Result {
    let numbers: Vec<i64> = (0..c.rng().usize(2..=5))
        .map(|_| c.rng().i64(-99..=999))
        .collect();
    let sum: i64 = numbers.iter().sum();
    let line: Vec<_> = numbers.iter().map(i64::to_string).collect();
    client.send(line.join(" ") + "\n")?;
    client.expect(format!("{sum}\n"))
}
