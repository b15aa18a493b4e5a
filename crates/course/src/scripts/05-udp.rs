//! Exercise 05: turn datagrams round.

use crate::check::{Check, Datagrams, Or, Result};

/// Around what programs take for large enough. What the answer adds must fit
/// into a datagram, too; macOS sends no more than 9,216 bytes by default.
const SIZES: [usize; 8] = [1, 2, 511, 1_025, 1_500, 4_097, 8_193, 9_000];
const LARGE: [usize; 3] = [16_385, 33_000, 65_000];
/// The most that UDP over IPv4 carries.
const LARGEST: usize = 65_507;

pub(crate) fn check(c: &mut Check) -> Result {
    let a = c.udp("a")?;

    c.step("a datagram is answered with its length and turned round");
    let word = c.word();
    a.send(&word)?;
    a.expect(&answer(word.as_bytes())).map_err(|error| {
        let whole = error.got().is_some_and(|got| {
            let turned = answer(word.as_bytes());
            let (count, bytes) = turned.split_at(2);
            let rest = got
                .strip_prefix(count)
                .and_then(|rest| rest.strip_suffix(bytes));
            rest.is_some_and(|rest| {
                !rest.is_empty() && rest.iter().all(|&byte| byte == 0)
            })
        });
        if whole {
            return error.diagnose("whole-buffer");
        }
        let turned: String = word.chars().rev().collect();
        let count = word.len().to_string();
        let in_two = error.got().is_some_and(|got| {
            got.trim_ascii_end() == count.as_bytes()
                && a.expect(turned.as_bytes()).is_ok()
        });
        error.diagnose_if(in_two, "two-datagrams")
    })?;

    c.step("several clients get their own answers");
    let others = [c.udp("b")?, c.udp("c")?, c.udp("d")?];
    for client in &others {
        let word = c.word();
        client.send(&word)?;
        client.expect(&answer(word.as_bytes())).map_err(|error| {
            let nothing = error.is_timeout() || error.is_refusal();
            // Right or wrong: the first one still gets answers.
            let first = nothing
                && match asks(c, &a, 5) {
                    Ok(()) => true,
                    Err(other) => other.got().is_some(),
                };
            error.diagnose_if(first, "first-peer-only")
        })?;
    }
    asks(c, &a, 5)?;

    c.step("an empty datagram is answered like any other");
    a.send("")?;
    a.expect(&answer(b""))
        .or_ended("empty-datagram-is-eof")
        .or_timed_out("empty-datagram-is-eof")?;
    asks(c, &a, 5)?;

    c.step("any bytes are turned round, not only letters");
    let text = (c.word() + "é你").into_bytes();
    for bytes in [text, b"\xffis no text".to_vec()] {
        a.send(&bytes)?;
        a.expect(&answer(&bytes))
            .map_err(|error| {
                let is_text = if error.is_timeout() {
                    asks(c, &a, 5).is_ok()
                } else {
                    is_turned_text(error.got(), &bytes)
                };
                error.diagnose_if(is_text, "takes-bytes-for-text")
            })
            .or_exited("takes-bytes-for-text")?;
    }

    c.step("datagrams of many sizes come back whole");
    let large: &[usize] = if cfg!(target_os = "macos") {
        &[]
    } else {
        &LARGE
    };
    for &size in SIZES.iter().chain(large) {
        asks(c, &a, size)?;
    }

    let step = "an answer that is too long ends nothing";
    if cfg!(target_os = "macos") {
        c.skip(step, "macOS does not send so large a datagram");
        return Ok(());
    }
    c.step(step);
    a.send(vec![b'x'; LARGEST])?;
    asks(c, &a, 5)
        .map_err(|error| {
            let kept = error.got().and_then(number).unwrap_or(LARGEST);
            let cut = answer(&vec![b'x'; kept.min(LARGEST)]);
            let holds = kept < LARGEST && error.got() == Some(&cut);
            error.diagnose_if(holds, "truncates")
        })
        .or_exited("error-ends-server")
}

/// The number at the beginning of an answer.
fn number(answer: &[u8]) -> Option<usize> {
    let digits = answer.split(|&byte| byte == b' ').next()?;
    str::from_utf8(digits).ok()?.parse().ok()
}

/// True if the answer is that of a program which made text of `bytes`, and
/// counted or turned round its characters.
fn is_turned_text(got: Option<&[u8]>, bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let characters = text.chars().rev().collect::<String>().into_bytes();
    let turned = [characters, bytes.iter().rev().copied().collect()];
    let counts = [bytes.len(), text.len(), text.chars().count()];
    counts.iter().any(|count| {
        let answers =
            |turned| [format!("{count} ").as_bytes(), turned].concat();
        turned.iter().any(|turned| got == Some(&answers(turned)))
    })
}

/// Sends random letters.
fn asks(c: &mut Check, client: &Datagrams, size: usize) -> Result {
    let bytes: Vec<u8> =
        (0..size).map(|_| c.rng().alphanumeric() as u8).collect();
    client.send(&bytes)?;
    client.expect(&answer(&bytes)).map_err(|error| {
        let cut = error.got().is_some_and(|got| {
            (0..size).any(|kept| {
                // Only a shorter answer can be that of fewer bytes.
                got.len() <= kept + 6 && got == answer(&bytes[..kept])
            })
        });
        error.diagnose_if(cut, "truncates")
    })
}

fn answer(bytes: &[u8]) -> Vec<u8> {
    let mut answer = format!("{} ", bytes.len()).into_bytes();
    answer.extend(bytes.iter().rev());
    answer
}
