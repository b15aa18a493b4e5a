//! Exercise 01: measure lines.

use harness::Program;

use crate::check::{Check, Client, Or, Result};

/// How often a word is repeated in a line that fills the buffers of a client
/// that takes little.
const LONG: usize = 100_000;

pub(crate) fn check(c: &mut Check) -> Result {
    let mut a = c.connect("a")?;

    c.step("a line is answered as soon as it has come");
    let word = c.word();
    asks(&mut a, &word).map_err(|error| {
        // If no patience brings the answer, and the end does, then it was
        // there all the time.
        let at_the_end = error.is_timeout()
            && a.expect(answer(&word)).is_err_and(|t| t.is_timeout())
            && a.half_close().is_ok()
            && a.expect(answer(&word)).is_ok();
        error.diagnose_if(at_the_end, "not-flushed")
    })?;
    asks(&mut a, "")?;

    c.step("characters are counted, not bytes");
    let word = c.word() + "é你🦀";
    let in_bytes = format!("{} {word}\n", word.len());
    asks(&mut a, &word).or_got(in_bytes, "counts-bytes")?;

    c.step("lines that come at once are answered one by one");
    let words = [c.word(), c.word(), c.word()];
    a.send(words.join("\n") + "\n")?;
    a.expect(answer(&words[0])).map_err(|error| {
        let joined = error.got().is_some_and(|got| is_joined(got, &words[0]));
        error.diagnose_if(joined, "one-read-one-line")
    })?;
    for word in &words[1..] {
        a.expect(answer(word)).map_err(|error| {
            // What only waits to be looked at again is not lost.
            let next = c.word();
            let lost = error.is_timeout() && asks(&mut a, &next).is_ok();
            error.diagnose_if(lost, "new-reader-for-each-line")
        })?;
    }

    c.step("a line that comes in pieces is one line");
    let (whole, first, second) = (c.word(), c.word(), c.word() + "ö");
    // The first piece comes with a line before it: when that is answered,
    // the piece has been read, too.
    a.send(format!("{whole}\n{first}"))?;
    a.expect(answer(&whole)).map_err(|error| {
        let joined = error.got().is_some_and(|got| is_joined(got, &whole));
        error.diagnose_if(joined, "one-read-one-line")
    })?;
    a.send(format!("{second}\n"))?;
    a.expect(answer(&format!("{first}{second}")))
        .or_got(answer(&second), "new-reader-for-each-line")
        .or_got(answer(&first), "one-read-one-line")?;

    c.step("bytes that are not UTF-8 are answered, too");
    let mut line = c.word().into_bytes();
    line.push(0xff);
    line.extend_from_slice(c.word().as_bytes());
    let mut wanted = format!("{} ", line.len()).into_bytes();
    wanted.extend_from_slice(&line);
    let replaced = answer(&String::from_utf8_lossy(&line));
    a.send([&line[..], b"\n"].concat())?;
    a.expect([&wanted[..], b"\n"].concat())
        .or_got(replaced, "sends-replacements")
        .or_exited("utf8-unwrap")
        .or_closed("utf8-unwrap")?;

    c.step("white space belongs to the line, too");
    let word = c.word();
    for line in [format!("  {word} \t"), format!("{word}\r")] {
        let cut = [line.trim(), line.trim_start(), line.trim_end()];
        asks(&mut a, &line).map_err(|error| {
            let trims =
                |got| cut.iter().any(|cut| answer(cut).as_bytes() == got);
            let holds = error.got().is_some_and(trims);
            error.diagnose_if(holds, "trims")
        })?;
    }

    c.step("when a client sends no more, the next one is served");
    let mut b = c.connect("b")?;
    let word = c.word();
    b.send(format!("{word}\n"))?;
    a.half_close()?;
    a.expect_end().map_err(|error| {
        // Who only says too much before it closes, or closes and keeps the
        // connection, has noticed the end.
        let ignored = !a.ends() && b.expect(answer(&word)).is_err();
        error.diagnose_if(ignored, "ignores-eof")
    })?;
    b.expect(answer(&word))?;

    c.step("a client that resets its connection ends only itself");
    b.send("half a li")?;
    b.reset()?;
    let mut next = c.connect("c").or_exited("dies-with-client")?;
    asks(&mut next, &word).or_exited("dies-with-client")?;
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
    let sending = slow.0.send_in_background(sent, 64 << 10);
    c.until_answers_pile_up(&slow)?;
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
        .or_closed("write-not-write-all")?;
    slow.expect_end()
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

fn asks(client: &mut Client, line: &str) -> Result {
    client.send(format!("{line}\n"))?;
    client.expect(answer(line))
}
