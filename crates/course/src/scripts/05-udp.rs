//! Exercise 05: turn datagrams round.

use harness::UdpPeer;

use crate::check::Check;
use crate::diagnosis::Symptom::{Exited, ExitedWell, Refused, TimedOut};
use crate::diagnosis::{Diagnose, Result};

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
    let turned = answer(word.as_bytes());
    let (count, bytes) = turned.split_at(2);
    a.expect(&turned)
        .diagnose_if("whole-buffer", |error| {
            let padding = error
                .got()
                .and_then(|got| got.strip_prefix(count))
                .and_then(|rest| rest.strip_suffix(bytes));
            padding.is_some_and(|padding| {
                !padding.is_empty() && padding.iter().all(|&byte| byte == 0)
            })
        })
        .diagnose_if("two-datagrams", |error| {
            let first = error.got().map(<[u8]>::trim_ascii_end);
            first == Some(count.trim_ascii_end()) && a.expect(bytes).is_ok()
        })?;

    c.step("several clients get their own answers");
    let others = [c.udp("b")?, c.udp("c")?, c.udp("d")?];
    for client in &others {
        let word = c.word();
        client.send(&word)?;
        client.expect(answer(word.as_bytes())).diagnose_if(
            "first-peer-only",
            |error| {
                let nothing = error.is(TimedOut) || error.is(Refused);
                // Right or wrong: the first one still gets answers.
                nothing
                    && match asks(c, &a, 5) {
                        Ok(()) => true,
                        Err(other) => other.got().is_some(),
                    }
            },
        )?;
    }
    asks(c, &a, 5)?;

    c.step("an empty datagram is answered like any other");
    a.send("")?;
    a.expect(answer(b""))
        .diagnose(ExitedWell, "empty-datagram-is-eof")
        .diagnose(TimedOut, "empty-datagram-is-eof")?;
    asks(c, &a, 5)?;

    c.step("any bytes are turned round, not only letters");
    let text = (c.word() + "é你").into_bytes();
    for bytes in [text, b"\xffis no text".to_vec()] {
        a.send(&bytes)?;
        a.expect(answer(&bytes))
            .diagnose_if("takes-bytes-for-text", |error| {
                if error.is(TimedOut) {
                    asks(c, &a, 5).is_ok()
                } else {
                    is_turned_text(error.got(), &bytes)
                }
            })
            .diagnose(Exited, "takes-bytes-for-text")?;
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
        .diagnose_if("truncates", |error| {
            let kept = error.got().and_then(number).unwrap_or(LARGEST);
            let cut = answer(&vec![b'x'; kept.min(LARGEST)]);
            kept < LARGEST && error.got() == Some(&cut)
        })
        .diagnose(Exited, "error-ends-server")
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
fn asks(c: &mut Check, client: &UdpPeer, size: usize) -> Result {
    let bytes: Vec<u8> =
        (0..size).map(|_| c.rng().alphanumeric() as u8).collect();
    client.send(&bytes)?;
    client
        .expect(answer(&bytes))
        .diagnose_if("truncates", |error| {
            error.got().is_some_and(|got| {
                (0..size).any(|kept| {
                    // Only a shorter answer can be that of fewer bytes.
                    got.len() <= kept + 6 && got == answer(&bytes[..kept])
                })
            })
        })
}

fn answer(bytes: &[u8]) -> Vec<u8> {
    let mut answer = format!("{} ", bytes.len()).into_bytes();
    answer.extend(bytes.iter().rev());
    answer
}
