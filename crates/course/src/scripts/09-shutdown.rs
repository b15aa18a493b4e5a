//! Exercise 09: finish what was begun.
//!
//! Who cuts off a sum may do so when it looks the next time whether it is over:
//! for that one pause of the checker's timeout is given.

use harness::{Fault, Peer, Program, proc};

use crate::check::{Check, expect_gone};
use crate::diagnosis::Symptom::{Closed, Exited, TimedOut};
use crate::diagnosis::{Diagnose, Result};

/// 128 and the number of the signal: a JVM leaves so when its hooks have run.
const ENDED_BY_SIGNAL: [i32; 2] = [128 + 2, 128 + 15];

/// How a program is told to end.
type Tell = fn(&mut Program);

/// SIGTERM first: a shell's background job ignores Ctrl-C, and so may what it
/// starts.
const TERMINATE: Tell = match cfg!(unix) {
    true => |program| program.terminate(),
    false => Program::end_input,
};

pub(crate) fn check(c: &mut Check) -> Result {
    c.begin()?;
    c.step("a client's sums are answered");
    let mut a = c.connect("a")?;
    let mut b = c.connect("b")?;
    let (lines, first) = sum(c);
    a.send(lines)?;
    a.expect(format!("{first}\n"))?;
    asks(c, &mut b)?;
    let (lines, second) = sum(c);
    a.send(lines)?;
    a.expect(format!("{second}\n")).diagnose_answer(
        format!("{}\n", first + second),
        "keeps-the-last-sum",
    )?;

    let steps = [
        "told to end while nobody is there, it ends with code 0",
        "told to end, it lets an idle client go, and takes no new ones",
        "it answers the sum that was begun, lets that client go, and ends",
        "told to end again, it ends at once",
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
    tell(c, TERMINATE);
    ends(c).diagnose_if_cured("notices-at-next-client", |error| {
        // Not late, and a client is what it waits for: then it ends at once.
        error.is(TimedOut)
            && ends(c).is_err()
            && c.connect("next").is_ok()
            && c.ends_at_once()
    })?;

    c.step(steps[1]);
    let (idle, begun) = begin(c)?;
    tell(c, TERMINATE);
    lets_go(c, idle)?;
    refuses(c)?;

    c.step(steps[2]);
    c.note("a pause: does it look now and then?");
    c.pause();
    finish(c, begun)?;
    if !cfg!(unix) {
        c.skip(steps[3], "standard input ends only once");
        return Ok(());
    }
    c.note("and now Ctrl-C");
    let (idle, begun) = begin(c)?;
    tell(c, |program| program.interrupt());
    lets_go(c, idle)?;
    finish(c, begun)?;

    c.step(steps[3]);
    let (idle, _begun) = begin(c)?;
    tell(c, TERMINATE);
    lets_go(c, idle)?;
    tell(c, TERMINATE);
    if let Some(program) = c.program() {
        program.exit().diagnose(TimedOut, "second-time-ignored")?;
    }
    c.nothing_is_left()?;
    c.kill()
}

fn tell(c: &mut Check, how: Tell) {
    if let Some(program) = c.program() {
        how(program);
    }
}

/// Its own end, in a way that says that all went well.
fn ends(c: &mut Check) -> Result {
    let Some(program) = c.program() else {
        return Ok(());
    };
    let code = program.exit()?.code();
    // A program that ends itself by the signal it got has no code.
    if code.is_none_or(|code| ENDED_BY_SIGNAL.contains(&code)) {
        c.nothing_is_left()?;
        return c.kill();
    }
    c.expect_success().diagnose(Exited, "wrong-exit-code")
}

/// A client that has begun a sum.
struct Begun {
    client: Peer,
    rest: String,
    sum: i64,
}

/// Starts the program anew, for an idle client, one that has sent a number and
/// a half, and one that has sent half a number.
fn begin(c: &mut Check) -> Result<(Peer, [Begun; 2])> {
    c.start_anew()?;
    // Connected first, so it is served when the others are.
    let idle = c.connect("idle")?;
    let first = c.rng().i64(1..=999);
    let begun = [
        begin_sum(c, "begun", &format!("{first}\n"), first)?,
        begin_sum(c, "half", "", 0)?,
    ];
    Ok((idle, begun))
}

fn begin_sum(
    c: &mut Check,
    name: &str,
    before: &str,
    first: i64,
) -> Result<Begun> {
    let mut client = c.connect(name)?;
    asks(c, &mut client)?;
    let number = c.rng().i64(10..=99);
    let text = number.to_string();
    let (half, rest) = text.split_at(1);
    client.send(format!("{before}{half}"))?;
    let (local, addr) = (client.local_addr()?, c.addr());
    // Where the system tells: has the program received it?
    c.lab().wait_until("the program to read it", || {
        proc::queues(addr, local).is_none_or(|[unread, ..]| unread == 0)
    })?;
    Ok(Begun {
        client,
        rest: format!("{rest}\n\n"),
        sum: first + number,
    })
}

/// A client that sees the end leaves: some programs wait for that.
fn lets_go(c: &mut Check, mut idle: Peer) -> Result {
    expect_gone(&mut idle)
        .diagnose(TimedOut, "waits-for-the-idle")
        .diagnose_if("dies-at-once", |_| was_killed(c))
}

/// Connects until it is refused: to close a listener takes a moment, and who
/// comes in before that is thrown out.
fn refuses(c: &Check) -> Result {
    let is_refused = || {
        c.connect("late")
            .is_err_and(|failure| *failure.fault == Fault::ConnectionRefused)
    };
    let mut stays = false;
    let waited = c.lab().wait_until("be refused", || {
        stays = c.connect("late").is_ok_and(|mut late| {
            expect_gone(&mut late).is_err() && !is_refused()
        });
        stays || is_refused()
    });
    if !stays {
        return Ok(waited?);
    }
    let fault = Fault::Unexpected("a connection that stays".to_owned());
    let error = c.error("late", "be refused", fault);
    Err(error.certainly("still-listens"))
}

fn finish(c: &mut Check, begun: [Begun; 2]) -> Result {
    for Begun {
        client: mut a,
        rest,
        sum,
    } in begun
    {
        a.send(rest)
            .and_then(|()| a.expect(format!("{sum}\n")))
            .diagnose_if("dies-at-once", |_| was_killed(c))
            .diagnose(Exited, "cuts-off-a-request")
            .diagnose(Closed, "cuts-off-a-request")?;
        expect_gone(&mut a).diagnose(TimedOut, "stays-after-the-answer")?;
    }
    ends(c)
}

/// Whether the signal itself has ended it. A connection may end a moment
/// before its program does.
fn was_killed(c: &mut Check) -> bool {
    let Some(program) = c.program() else {
        return false;
    };
    program.exit().is_ok_and(|status| status.code().is_none())
}

fn asks(c: &mut Check, client: &mut Peer) -> harness::Result {
    let (lines, sum) = sum(c);
    client.send(lines)?;
    client.expect(format!("{sum}\n"))
}

/// The lines of a sum, and its answer.
fn sum(c: &mut Check) -> (String, i64) {
    let numbers: Vec<i64> = (0..c.rng().usize(2..=5))
        .map(|_| c.rng().i64(1..=999))
        .collect();
    let lines: String = numbers.iter().map(|n| format!("{n}\n")).collect();
    (lines + "\n", numbers.iter().sum())
}
