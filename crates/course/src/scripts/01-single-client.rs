//! Exercise 01: measure lines.
//!
//! Not asked, because a right answer is nobody's promise: what stands behind
//! the last newline when a client sends no more.

use harness::{Failure, Fault, Peer};

use crate::check::{Check, HALF, Rude};
use crate::diagnosis::Symptom::{Closed, Exited, TimedOut};
use crate::diagnosis::{Diagnose, Result, StepError};

/// How often a word is repeated in a line that fills the buffers of a client
/// that takes little.
const LONG: usize = 100_000;
/// How many bytes a long line has, about: more than a buffer of 64 KiB.
const LONG_LINE: usize = 70_000;
/// What ends a line for some functions, and not here.
const OTHER_ENDS: [char; 3] = ['\r', '\u{b}', '\u{2028}'];
/// More bytes than anybody says before closing.
const MUCH: usize = 64 << 10;
/// No UTF-8, each in its own way: a byte of a character's middle (which comes
/// first, because some languages take 0xff for an end), a character cut off, a
/// zero in two bytes, a half of a pair, a byte that never occurs.
const BROKEN: [&[u8]; 5] =
    [b"\x80", b"\xe2\x82", b"\xc0\xaf", b"\xed\xa0\x80", b"\xff"];

pub(crate) fn check(c: &mut Check) -> Result {
    c.begin()?;
    let mut a = c.connect("a")?;

    c.step("a line is answered as soon as it has come");
    let word = c.word();
    first_line(c, &mut a, &word)?;
    // The same again: so that what goes wrong is the second line.
    second_line(c, &mut a, &word)?;
    empty_line(c, &mut a)?;

    c.step("characters are counted, not bytes");
    let word = c.word() + "é你🦀";
    let in_bytes = format!("{} {word}\n", word.len());
    let in_units = format!("{} {word}\n", word.encode_utf16().count());
    let as_bytes: String = word.bytes().map(char::from).collect();
    asks(&mut a, &word)
        .diagnose_answer(in_bytes, "counts-bytes")
        .diagnose_answer(in_units, "counts-utf-16")
        .diagnose_answer(answer(&as_bytes), "bytes-as-characters")
        .diagnose_if("cuts-characters", |error| {
            let _ = a.hang_up();
            is_broken(error) && each_alone_is_right(c, &word)
        })?;

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
                // What only waits to be looked at again is not lost, and what
                // is late is not, either.
                let next = c.word();
                error.is(TimedOut)
                    && a.expect(answer(word)).fails_with(TimedOut)
                    && asks(&mut a, &next).is_ok()
            },
        )?;
    }

    c.step("a line that comes in pieces is one line");
    let (whole, first, second) = (c.word(), c.word(), c.word() + "ö");
    // The first piece comes with a line before it: when that is answered,
    // the piece has been read, too.
    a.send(format!("{whole}\n{first}"))?;
    let wait = |a: &mut Peer| a.expect(answer(&whole));
    let ends_line = |a: &mut Peer| a.send(format!("{second}\n")).is_ok();
    wait(&mut a)
        .diagnose_if("one-read-one-line", |error| {
            error.got().is_some_and(|got| is_joined(got, &whole))
        })
        .diagnose_if_cured("waits-for-the-rest", |error| {
            error.is(TimedOut) && c.is_cured(&mut a, wait, ends_line)
        })?;
    a.send(format!("{second}\n"))?;
    a.expect(answer(&format!("{first}{second}")))
        .diagnose_answer(answer(&second), "new-reader-for-each-line")
        // The rest may have come with it.
        .diagnose_beginning(answer(&first), "one-read-one-line")?;

    let (first, second) = (c.word(), c.word());
    let cut = format!("{first}é{second}");
    let (before, after) = cut.as_bytes().split_at(first.len() + 1);
    a.send([format!("{whole}\n").as_bytes(), before].concat())?;
    let comes_whole = |a: &Peer| {
        let _ = a.hang_up();
        asks(&mut c.connect("other")?, &cut)
    };
    a.expect(answer(&whole))
        .diagnose_if("cuts-characters", |error| {
            error.is(Closed) && comes_whole(&a).is_ok()
        })?;
    a.send([after, b"\n"].concat())?;
    a.expect(answer(&cut))
        .diagnose_if("cuts-characters", |error| {
            is_broken(error) && comes_whole(&a).is_ok()
        })?;

    c.step("bytes that are not UTF-8 are answered, too");
    for (n, piece) in BROKEN.into_iter().enumerate() {
        let broken = broken_line(c, &mut a, piece);
        // Of the others, a language may have reasons of its own.
        if n == 0 {
            broken
                .diagnose_if("utf8-unwrap", |error| {
                    error.is(Closed) && closes_again(c, piece)
                })
                .diagnose(Exited, "utf8-unwrap")?;
        } else {
            broken?;
        }
    }

    c.step("all that stands before the newline belongs to the line");
    let word = c.word();
    for line in [
        format!("  {word} \t"),
        format!("{word}\r"),
        format!("\u{3000}{word}\u{a0}"),
        " ".to_owned(),
        format!("{word}\r{word}"),
        format!("{word}\u{b}{word}\u{2028}{word}"),
        format!("{word}\0{word}"),
        // A mark of byte order, for those who look for one.
        format!("\u{feff}{word}"),
    ] {
        let cut = [line.trim(), line.trim_start(), line.trim_end()];
        asks(&mut a, &line)
            .diagnose_if("trims", |error| {
                let trims =
                    |got| cut.iter().any(|cut| answer(cut).as_bytes() == got);
                error.got().is_some_and(trims)
            })
            .diagnose_if("ends-lines-elsewhere", |error| {
                OTHER_ENDS.iter().any(|&end| {
                    let Some((first, _)) = line.split_once(end) else {
                        return false;
                    };
                    let is = |line: &str| {
                        error.got() == Some(answer(line).as_bytes())
                    };
                    is(first) || is(&format!("{first}{end}"))
                })
            })?;
    }

    c.step("a long line is a line, too");
    a_long_line(c, &mut a)?;

    c.step("when a client sends no more, the next one is served");
    let mut b = c.connect("b")?;
    let word = c.word();
    b.send(format!("{word}\n"))?;
    a.half_close()?;
    a.expect_end().diagnose_if("ignores-eof", |error| {
        // Who only says too much before it closes, or closes and keeps the
        // connection, has noticed the end.
        (error.is(TimedOut) || !ends(&mut a))
            && b.expect(answer(&word)).is_err()
    })?;
    b.expect(answer(&word))?;
    b.half_close()?;
    b.expect_end()?;

    c.step("a client that resets its connection ends only itself");
    let line = c.word();
    for how in Rude::ALL {
        let rude = |c: &mut Check| {
            // Who comes while another is served waits unseen.
            let mut served = c.connect("served")?;
            asks(&mut served, &line)?;
            match how {
                Rude::ResetsInALine => drop(served),
                _ => {
                    c.rude(how, "", &format!("{line}\n"), "")?;
                    served.half_close()?;
                    return Ok(served.expect_end()?);
                }
            }
            c.rude(how, "", &format!("{line}\n"), &answer(&line))
        };
        let good = |c: &mut Check| {
            let mut next = c.connect("c")?;
            asks(&mut next, &line)?;
            next.half_close()?;
            Ok(next.expect_end()?)
        };
        let kept = answer(&format!("{HALF}{line}"));
        c.survives(good, rude)
            .diagnose_answer(kept, "keeps-half-a-line")?;
    }

    a_long_answer(c)
}

/// Characters came back broken, or were the end.
fn is_broken(error: &StepError) -> bool {
    let got = String::from_utf8_lossy(error.got().unwrap_or_default());
    error.is(Closed) || got.contains('\u{fffd}')
}

/// True if each character of `word` is measured right in a line of its own, and
/// so is a line of letters that is as long: then neither a character nor the
/// length has broken `word`.
fn each_alone_is_right(c: &Check, word: &str) -> bool {
    let asks_anew = |line: &str| asks(&mut c.connect("other")?, line);
    let letters = "x".repeat(word.len());
    let mut chars = word.chars().filter(|c| !c.is_ascii());
    chars.all(|one| asks_anew(&one.to_string()).is_ok())
        && asks_anew(&letters).is_ok()
}

/// A line longer than the buffers that programs make for one.
fn a_long_line(c: &mut Check, a: &mut Peer) -> Result {
    let word = c.word();
    let line = word.repeat(LONG_LINE / word.len());
    let try_it = |client: &mut Peer| {
        // Who has closed by then takes no more: what comes is of interest.
        let _ = client.send(format!("{line}\n"));
        client.expect(answer(&line))
    };
    try_it(a).diagnose_if("long-line", |error| {
        let got = error.got().unwrap_or_default();
        if let Some(part) = got.strip_suffix(b"\n") {
            let part = String::from_utf8_lossy(part);
            return part.split_once(' ').is_some_and(|(count, part)| {
                line.starts_with(part) && count == part.len().to_string()
            });
        }
        let closes_again = || -> harness::Result<bool> {
            let mut other = c.connect("other")?;
            asks(&mut other, &word)?;
            Ok(try_it(&mut other).fails_with(Closed))
        };
        error.is(Closed) && closes_again().unwrap_or(false)
    })
}

fn first_line(c: &Check, a: &mut Peer, word: &str) -> Result {
    let wait = |a: &mut Peer| a.expect(answer(word));
    asks(a, word)
        .diagnose_if_cured("not-flushed", |error| {
            error.is(TimedOut)
                && c.is_cured(a, wait, |a| a.half_close().is_ok())
        })
        .diagnose_beginning(
            format!("{} {word}\n", word.len() + 1),
            "counts-newline",
        )
        .diagnose_if("whole-buffer", |error| {
            // Zeros that nobody has sent, here or behind the newline.
            let has_zero = |bytes: &[u8]| bytes.contains(&0);
            error.got().is_some_and(|got| {
                has_zero(got) || a.receive().is_ok_and(|more| has_zero(&more))
            })
        })
}

fn second_line(c: &Check, a: &mut Peer, word: &str) -> Result {
    let both = 2 * word.len() + 1;
    asks(a, word)
        .diagnose_if("one-line-only", |error| {
            let again = || {
                let mut other = c.connect("other")?;
                asks(&mut other, word)?;
                asks(&mut other, word)
            };
            error.is(Closed) && again().fails_with(Closed)
        })
        .diagnose_beginning("0 \n", "surplus-empty-line")
        .diagnose_beginning(format!("{both} {word}\n"), "keeps-earlier-lines")
}

fn empty_line(c: &mut Check, a: &mut Peer) -> Result {
    let word = c.word();
    asks(a, "").diagnose_if("empty-line", |error| {
        if error.is(TimedOut) {
            return a.expect("0 \n").fails_with(TimedOut)
                && asks(a, &word).is_ok();
        }
        let lines = || -> harness::Result<Peer> {
            let mut other = c.connect("other")?;
            for _ in 0..3 {
                asks(&mut other, &word)?;
            }
            Ok(other)
        };
        error.is(Closed)
            && lines()
                .is_ok_and(|mut other| asks(&mut other, "").fails_with(Closed))
    })
}

fn broken_line(c: &mut Check, a: &mut Peer, piece: &[u8]) -> Result {
    let (before, after) = (c.word(), c.word());
    let line = [before.as_bytes(), piece, after.as_bytes()].concat();
    let text = String::from_utf8_lossy(&line).into_owned();
    let left_out = before + &after;
    let count = text.chars().count();
    let wrong = [
        answer(&text),
        answer(&left_out),
        format!("{count} {left_out}\n"),
    ];
    a.send([&line[..], b"\n"].concat())?;
    a.expect([format!("{count} ").as_bytes(), &line, b"\n"].concat())
        .diagnose_if("sends-replacements", |error| {
            let is = |wrong: &String| error.got() == Some(wrong.as_bytes());
            wrong.iter().any(is)
        })
        .diagnose_if("miscounts-broken-text", |error| {
            let rest = [b" ", &line[..], b"\n"].concat();
            let got = error.got().unwrap_or_default();
            let count = got.strip_suffix(&rest[..]).unwrap_or_default();
            !count.is_empty() && count.iter().all(u8::is_ascii_digit)
        })
}

/// True if another client's line is answered, and a broken one is its end.
fn closes_again(c: &mut Check, piece: &[u8]) -> bool {
    let word = c.word();
    let Ok(mut other) = c.connect("other") else {
        return false;
    };
    asks(&mut other, &word).is_ok()
        && broken_line(c, &mut other, piece).fails_with(Closed)
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
    slow.wait_until_stalled().map_err(|failure| Failure {
        wanted: format!(
            "receive the beginning of the answer to a line of {} bytes",
            line.len()
        ),
        ..failure
    })?;
    // The program now waits inside its `write`: stop it there, and let it go
    // on, and the call ends with what it has written so far.
    c.while_stopped(|| {
        c.note(
            "the program was stopped, and goes on, as by Ctrl-Z and `fg`: a \
             write that waits comes back early",
        );
        Ok(())
    })?;
    let _ = sending.join();
    // Who sends no more before its answer is whole may be treated otherwise.
    let whole = answer(&line);
    // A complaint of the clients before may come as late as now.
    slow.expect(&whole)
        .diagnose_if_cured("write-not-write-all", |error| {
            let next = c.word();
            let got =
                |error: &StepError| error.got().unwrap_or_default().to_vec();
            let begun = |got: &[u8]| {
                got.len() > MUCH && whole.as_bytes().starts_with(got)
            };
            if error.is(Closed) {
                return begun(&got(error));
            }
            // Number, line and newline in calls of their own: the line is cut.
            if let Some(cut) = got(error).strip_suffix(b"\n") {
                return begun(cut);
            }
            // The rest never comes, and the next answer comes in its place.
            let Err(failure) = slow.expect(&whole) else {
                return false;
            };
            let got = got(&failure.into());
            begun(&got)
                && slow.receive().is_ok()
                && asks(&mut slow, &next).is_ok()
        })?;
    slow.half_close()?;
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
