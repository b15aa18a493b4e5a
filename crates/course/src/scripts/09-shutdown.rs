//! Exercise 09: finish what was begun.
//!
//! Who cuts off a sum may do so when it looks the next time whether it is over:
//! for that one pause of the checker's timeout is given.

use harness::{Fault, Peer, Program};

use crate::check::{Check, Rude, expect_gone};
use crate::diagnosis::Symptom::{Closed, Exited, Refused, TimedOut, Wrong};
use crate::diagnosis::{Diagnose, Result};

/// 128 and the number of the signal: a JVM leaves so when its hooks have run.
const ENDED_BY_SIGNAL: [i32; 2] = [128 + 2, 128 + 15];

/// What is no number, each in its own way: no digit, digits and more, two of
/// them.
const WRONG: [&str; 3] = ["two", "12x", "1 2"];

const ONE_READ: &str = "one-read-one-line";

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
    a.expect(format!("{first}\n"))
        .diagnose_if(ONE_READ, |_| asks_line_by_line(c).is_ok())?;
    let (lines, other) = sum(c);
    b.send(lines)?;
    let wait = |b: &mut Peer| b.expect(format!("{other}\n"));
    wait(&mut b).diagnose_if_cured("one-at-a-time", |error| {
        let hang_up = |_: &mut Peer| a.half_close().is_ok();
        error.is(TimedOut) && c.is_cured(&mut b, wait, hang_up)
    })?;
    let (lines, second) = sum(c);
    a.send(lines)?;
    a.expect(format!("{second}\n")).diagnose_answer(
        format!("{}\n", first + second),
        "keeps-the-last-sum",
    )?;

    c.step("lines that come in pieces, and at once, are one line each");
    asks_in_pieces(c, &mut a).diagnose_if(ONE_READ, |error| {
        // Whole sums are answered, and these again are not.
        let again = |c: &mut Check| -> Result<bool> {
            let mut other = c.connect("other")?;
            asks(c, &mut other)?;
            asks(c, &mut other)?;
            Ok(asks_in_pieces(c, &mut other).fails_with(Closed))
        };
        error.is(Closed) && again(c).is_ok_and(|is_closed| is_closed)
    })?;

    c.step("a wrong line ends only its own connection");
    for wrong in WRONG {
        let rude = |c: &mut Check| {
            let mut bad = c.connect("bad")?;
            bad.send(format!("1\n{wrong}\n"))?;
            expect_gone(&mut bad)
                .diagnose_if("answers-wrong-lines", |error| {
                    error.is(Wrong)
                        || bad.send("\n").is_ok() && bad.receive().is_ok()
                })
                .diagnose_if_cured("never-closes", |error| {
                    // Nor is it late, or busy.
                    error.is(TimedOut)
                        && expect_gone(&mut bad).fails_with(TimedOut)
                        && asks_anew(c).is_ok()
                })
        };
        c.survives(asks_anew, rude)?;
    }

    c.step("a client that resets its connection ends only itself");
    for how in Rude::ALL {
        let rude = |c: &mut Check| c.rude(how, "", "1\n2\n\n", "3\n");
        let good = |c: &mut Check| {
            let mut next = c.connect("next")?;
            asks(c, &mut next)?;
            next.half_close()?;
            Ok(next.expect_end()?)
        };
        c.survives(good, rude)?;
    }
    asks(c, &mut a)?;

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
        program
            .exit()
            .diagnose_if("second-time-ignored", |_| program.exit().is_err())?;
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

/// Starts the program anew, for two idle clients, one that has sent a number
/// and a half, and one whose half number came with the sum before it.
fn begin(c: &mut Check) -> Result<([Peer; 2], [Begun; 2])> {
    c.start_anew()?;
    // Connected first, so it is served when the others are.
    let idle = c.connect("idle")?;
    let mut answered = c.connect("answered")?;
    asks(c, &mut answered)?;
    let mut begun = c.connect("begun")?;
    asks(c, &mut begun)?;
    let first = c.rng().i64(1..=999);
    let (begins, begun) = begin_sum(c, begun, first);
    begun.client.send(format!("{first}\n{begins}"))?;
    c.wait_until_read(&begun.client)?;

    let (lines, before) = sum(c);
    let half = c.connect("half")?;
    let (begins, mut half) = begin_sum(c, half, 0);
    half.client.send(lines + &begins)?;
    half.client.expect(format!("{before}\n"))?;
    Ok(([idle, answered], [begun, half]))
}

/// Half a number, for a client to send, and what is then begun.
fn begin_sum(c: &mut Check, client: Peer, first: i64) -> (String, Begun) {
    let number = c.rng().i64(10..=99);
    let begun = Begun {
        client,
        rest: format!("{}\n\n", number % 10),
        sum: first + number,
    };
    ((number / 10).to_string(), begun)
}

/// A client that sees the end leaves: some programs wait for that.
fn lets_go(c: &mut Check, [mut idle, mut answered]: [Peer; 2]) -> Result {
    let mut stays = |client: &mut Peer, id| {
        expect_gone(client)
            .diagnose_if(id, |error| {
                // Not late.
                error.is(TimedOut) && expect_gone(client).is_err()
            })
            .diagnose_if("dies-at-once", |_| was_killed(c))
    };
    stays(&mut idle, "waits-for-the-idle")?;
    stays(&mut answered, "stays-after-the-answer")
}

/// Connects until it is refused: to close a listener takes a moment, and who
/// comes in before that is thrown out, or forgotten.
fn refuses(c: &mut Check) -> Result {
    let refused = |c: &Check| c.connect("late").fails_with(Refused);
    let mut stays = None;
    let waited = c.lab().wait_until("be refused", || {
        if let Ok(mut late) = c.connect("late")
            && expect_gone(&mut late).is_err()
        {
            stays = Some(late);
        }
        stays.is_some() || refused(c)
    });
    let Some(mut late) = stays else {
        return Ok(waited?);
    };
    // One more may be served by whoever was waiting for it.
    if refused(c) && asks(c, &mut late).is_err() {
        return Ok(());
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
        expect_gone(&mut a).diagnose_if("stays-after-the-answer", |error| {
            error.is(TimedOut) && expect_gone(&mut a).is_err()
        })?;
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

fn asks_anew(c: &mut Check) -> Result {
    let mut client = c.connect("next")?;
    asks(c, &mut client)
}

fn asks(c: &mut Check, client: &mut Peer) -> Result {
    let (lines, sum) = sum(c);
    client.send(lines)?;
    Ok(client.expect(format!("{sum}\n"))?)
}

/// Asks with one line after the other: sends the next one when the program has
/// received the one before, where the system tells.
fn asks_line_by_line(c: &mut Check) -> Result {
    let mut client = c.connect("other")?;
    let (lines, sum) = sum(c);
    for line in lines.split_inclusive('\n') {
        client.send(line)?;
        c.wait_until_read(&client)?;
    }
    Ok(client.expect(format!("{sum}\n"))?)
}

/// Sends a sum with the beginning of the next one behind it: when the first is
/// answered, the beginning has been read.
fn asks_in_pieces(c: &mut Check, client: &mut Peer) -> Result {
    let (lines, first) = sum(c);
    let [cut, whole] = [c.rng().i64(10..=99), c.rng().i64(10..=99)];
    let (half, rest) = (cut / 10, cut % 10);
    client.send(format!("{lines}{half}"))?;
    client
        .expect(format!("{first}\n"))
        .diagnose_answer(format!("{}\n", first + half), ONE_READ)?;
    client.send(format!("{rest}\n{whole}\n\n"))?;
    client
        .expect(format!("{}\n", cut + whole))
        .diagnose_answer(format!("{}\n", half + rest + whole), ONE_READ)
        .diagnose_beginning(format!("{half}\n"), ONE_READ)
}

/// The lines of a sum, and its answer.
fn sum(c: &mut Check) -> (String, i64) {
    let numbers: Vec<i64> = (0..c.rng().usize(2..=5))
        .map(|_| c.rng().i64(1..=999))
        .collect();
    let lines: String = numbers.iter().map(|n| format!("{n}\n")).collect();
    (lines + "\n", numbers.iter().sum())
}
