//! Exercise 01: measure lines.

use harness::{Fault, Peer, Program};

use crate::check::Check;
use crate::diagnosis::Symptom::{Closed, Exited, TimedOut};
use crate::diagnosis::{Diagnose, Result, StepError};

/// How often a word is repeated in a line that fills the buffers of a client
/// that takes little.
const LONG: usize = 100_000;
/// More bytes than anybody says before closing.
const MUCH: usize = 64 << 10;

pub(crate) fn check(c: &mut Check) -> Result {
    let mut a = c.connect("a")?;

    c.step("a line is answered as soon as it has come");
    let word = c.word();
    asks(&mut a, &word).diagnose_if("not-flushed", |error| {
        // If no patience brings the answer, and the end does, then it was
        // there all the time.
        error.is(TimedOut)
            && a.expect(answer(&word))
                .is_err_and(|failure| StepError::from(failure).is(TimedOut))
            && a.half_close().is_ok()
            && a.expect(answer(&word)).is_ok()
    })?;
    asks(&mut a, "")?;

    c.step("characters are counted, not bytes");
    let word = c.word() + "é你🦀";
    let in_bytes = format!("{} {word}\n", word.len());
    asks(&mut a, &word).diagnose_answer(in_bytes, "counts-bytes")?;

    c.step("lines that come at once are answered one by one");
    let words = [c.word(), c.word(), c.word()];
    a.send(words.join("\n") + "\n")?;
    a.expect(answer(&words[0]))
        .diagnose_if("one-read-one-line", |error| {
            error.got().is_some_and(|got| is_joined(got, &words[0]))
        })?;
    for word in &words[1..] {
        a.expect(answer(word)).diagnose_if(
            "new-reader-for-each-line",
            |error| {
                // What only waits to be looked at again is not lost.
                let next = c.word();
                error.is(TimedOut) && asks(&mut a, &next).is_ok()
            },
        )?;
    }

    c.step("a line that comes in pieces is one line");
    let (whole, first, second) = (c.word(), c.word(), c.word() + "ö");
    // The first piece comes with a line before it: when that is answered,
    // the piece has been read, too.
    a.send(format!("{whole}\n{first}"))?;
    a.expect(answer(&whole))
        .diagnose_if("one-read-one-line", |error| {
            error.got().is_some_and(|got| is_joined(got, &whole))
        })?;
    a.send(format!("{second}\n"))?;
    a.expect(answer(&format!("{first}{second}")))
        .diagnose_answer(answer(&second), "new-reader-for-each-line")
        .diagnose_answer(answer(&first), "one-read-one-line")?;

    c.step("bytes that are not UTF-8 are answered, too");
    let mut line = c.word().into_bytes();
    line.push(0xff);
    line.extend_from_slice(c.word().as_bytes());
    let mut wanted = format!("{} ", line.len()).into_bytes();
    wanted.extend_from_slice(&line);
    let replaced = answer(&String::from_utf8_lossy(&line));
    a.send([&line[..], b"\n"].concat())?;
    a.expect([&wanted[..], b"\n"].concat())
        .diagnose_answer(replaced, "sends-replacements")
        .diagnose(Exited, "utf8-unwrap")
        .diagnose(Closed, "utf8-unwrap")?;

    c.step("white space belongs to the line, too");
    let word = c.word();
    for line in [format!("  {word} \t"), format!("{word}\r")] {
        let cut = [line.trim(), line.trim_start(), line.trim_end()];
        asks(&mut a, &line).diagnose_if("trims", |error| {
            let trims =
                |got| cut.iter().any(|cut| answer(cut).as_bytes() == got);
            error.got().is_some_and(trims)
        })?;
    }

    c.step("when a client sends no more, the next one is served");
    let mut b = c.connect("b")?;
    let word = c.word();
    b.send(format!("{word}\n"))?;
    a.half_close()?;
    a.expect_end().diagnose_if("ignores-eof", |_| {
        // Who only says too much before it closes, or closes and keeps the
        // connection, has noticed the end.
        !ends(&mut a) && b.expect(answer(&word)).is_err()
    })?;
    b.expect(answer(&word))?;

    c.step("a client that resets its connection ends only itself");
    b.send("half a li")?;
    b.reset()?;
    let mut next = c.connect("c").diagnose(Exited, "dies-with-client")?;
    asks(&mut next, &word).diagnose(Exited, "dies-with-client")?;
    next.half_close()?;
    next.expect_end()?;

    a_long_answer(c)
}

fn a_long_answer(c: &mut Check) -> Result {
    let step = "an answer that is taken slowly arrives whole";
    if !cfg!(target_os = "linux") {
        c.skip(step, "only Linux interrupts a `write` in this way");
        return Ok(());
    }
    if !c.step_with_program(step) {
        return Ok(());
    }
    let mut slow = c.connect_small("slow")?;
    let line = c.word().repeat(LONG);
    let sent = format!("{line}\n").into_bytes();
    let sending = slow.send_in_background(sent, 64 << 10);
    slow.wait_until_stalled()?;
    // The program now waits inside its `write`: stop it there, and let it go
    // on, and the call ends with what it has written so far.
    if let Some(program) = c.program() {
        program.suspend();
        let process = program.id();
        c.lab().wait_until("stop for a moment", || {
            harness::proc::is_stopped(process) != Some(false)
        })?;
        c.note("Ctrl-Z and `fg`: a write that waits comes back early");
        if let Some(program) = c.program() {
            Program::resume(program)
        }
    }
    let _ = sending.join();
    slow.half_close()?;
    slow.expect(answer(&line))
        .diagnose(Closed, "write-not-write-all")?;
    Ok(slow.expect_end()?)
}

/// True if the connection ends, by FIN, before very much has come.
fn ends(client: &mut Peer) -> bool {
    let mut count = 0;
    while count < MUCH {
        match client.receive() {
            Ok(more) => count += more.len(),
            Err(failure) => {
                return matches!(*failure.fault, Fault::UnexpectedEof { .. });
            }
        }
    }
    false
}

/// True for the answer of a program that takes `first` and more lines for one.
fn is_joined(got: &[u8], first: &str) -> bool {
    let text = String::from_utf8_lossy(got);
    text.split_once(' ').is_some_and(|(count, rest)| {
        rest.starts_with(first)
            && count
                .parse::<usize>()
                .is_ok_and(|count| count > first.chars().count() + 1)
    })
}

fn answer(line: &str) -> String {
    format!("{} {line}\n", line.chars().count())
}

fn asks(client: &mut Peer, line: &str) -> harness::Result {
    client.send(format!("{line}\n"))?;
    client.expect(answer(line))
}
