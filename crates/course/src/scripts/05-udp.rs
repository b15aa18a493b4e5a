//! Exercise 05: turn datagrams round.

use std::io::{self, ErrorKind};
use std::net::UdpSocket;

use harness::UdpPeer;

use crate::check::Check;
use crate::diagnosis::Symptom::{
    Crashed, Exited, ExitedWell, Refused, TimedOut,
};
use crate::diagnosis::{Diagnose, Result, StepError};
use crate::scripts::turned;

/// Around what programs take for large enough. What the answer adds must fit
/// into a datagram, too; macOS sends no more than 9,216 bytes by default.
const SIZES: [usize; 8] = [1, 2, 511, 1_025, 1_500, 4_097, 8_193, 9_000];
/// The last one's answer just fits.
const LARGE: [usize; 4] = [16_385, 33_000, 65_000, 65_501];
/// The most that UDP over IPv4 carries.
const LARGEST: usize = 65_507;
/// Longer than a word's answer.
const LONGER: usize = 40;
/// How many clients ask at once, and how often; few of them one by one first.
const CROWD: usize = 20;
const AGAIN: usize = 3;
const FEW: usize = 3;
/// No text of UTF-8, each in its own way; see exercise 01.
const BROKEN: [&[u8]; 4] = [
    b"\x80 begins",
    b"cut \xe2\x82",
    b"\xed\xa0\x80",
    b"\xff\xfe\xff",
];

pub(crate) fn check(c: &mut Check) -> Result {
    c.begin()?;
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
        })
        .diagnose_if("no-room", |error| {
            // Not once only, and not for this word only.
            let nothing = answer(b"");
            let next = c.word();
            error.got() == Some(&nothing)
                && a.send(&next).is_ok()
                && a.expect(&nothing).is_ok()
        })
        .diagnose_if("answers-from-another-port", |error| {
            // A connected socket takes datagrams from one address only.
            error.is(TimedOut) && comes_from_elsewhere(c, &word).is_ok()
        })?;
    // A longer one: no room may be made to the measure of the first.
    asks(c, &a, LONGER)?;

    c.step("several clients get their own answers");
    let others: Vec<_> = (0..CROWD)
        .map(|_| c.udp("other"))
        .collect::<harness::Result<_>>()?;
    for client in &others[..FEW] {
        let word = c.word();
        client.send(&word)?;
        let turned = answer(word.as_bytes());
        client
            .expect(&turned)
            .diagnose_if("first-peer-only", |error| {
                let refused = error.is(Refused);
                let nothing = || {
                    error.is(TimedOut)
                        && client.expect(&turned).fails_with(TimedOut)
                };
                // Right or wrong: the first one still gets answers.
                (refused || nothing())
                    && match asks(c, &a, 5) {
                        Ok(()) => true,
                        Err(other) => other.got().is_some(),
                    }
            })?;
    }
    asks(c, &a, 5)?;
    // Who asks while others wait gets no other's answer.
    for _ in 0..AGAIN {
        let words: Vec<_> = others.iter().map(|_| c.word()).collect();
        for (client, word) in others.iter().zip(&words) {
            client.send(word)?;
        }
        for (client, word) in others.iter().zip(&words) {
            client.expect(answer(word.as_bytes()))?;
        }
    }

    // Who has gone before its answer comes is nobody else's affair.
    for _ in 0..3 {
        c.udp("gone")?.send("good bye")?;
        asks(c, &a, 5)?;
    }

    c.step("an empty datagram is answered like any other");
    a.send("")?;
    a.expect(answer(b""))
        .diagnose(ExitedWell, "empty-datagram-is-eof")
        .diagnose_if("empty-datagram-is-eof", |error| {
            error.is(TimedOut) && a.expect(answer(b"")).fails_with(TimedOut)
        })?;
    asks(c, &a, 5)?;

    c.step("any bytes are turned round, not only letters");
    let text = (c.word() + "é你").into_bytes();
    for bytes in [text].into_iter().chain(BROKEN.map(<[u8]>::to_vec)) {
        a.send(&bytes)?;
        a.expect(answer(&bytes))
            .diagnose_if("takes-bytes-for-text", |error| {
                if error.is(TimedOut) {
                    asks(c, &a, 5).is_ok()
                } else {
                    is_turned_text(error.got(), &bytes)
                }
            })
            .diagnose(Exited, "takes-bytes-for-text")
            // A complaint is about these bytes: others are answered.
            .map_err(StepError::despite_complaint)?;
    }
    let word = c.word();
    for text in [
        format!("{word}\n"),
        format!(" \t{word} "),
        "\r\n".to_owned(),
        format!("\0{word}\0"),
        format!("{word} {word}\n{word}\0{word}"),
    ] {
        a.send(&text)?;
        a.expect(answer(text.as_bytes()))
            .diagnose_if("trims", |error| {
                [
                    text.trim(),
                    text.trim_end(),
                    text.trim_start(),
                    text.trim_end_matches('\n'),
                    text.trim_end_matches('\0'),
                    text.trim_matches('\0'),
                ]
                .iter()
                .any(|cut| {
                    *cut != text && error.got() == Some(&answer(cut.as_bytes()))
                })
            })?;
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
        .diagnose_if("cuts-its-answer", |error| {
            let answer = answer(&vec![b'x'; LARGEST]);
            error
                .got()
                .is_some_and(|got| got.len() > 9 && answer.starts_with(got))
        })
        .diagnose_if("truncates", |error| {
            let kept = error.got().and_then(number).unwrap_or(LARGEST);
            let cut = answer(&vec![b'x'; kept.min(LARGEST)]);
            kept < LARGEST && error.got() == Some(&cut)
        })
        .diagnose(Crashed, "error-ends-server")
}

/// The right answer comes, from another address of the program's.
fn comes_from_elsewhere(c: &Check, word: &str) -> io::Result<()> {
    c.note("does it come from another port?");
    let socket = UdpSocket::bind((c.addr().ip(), 0))?;
    socket.set_read_timeout(Some(c.lab().timeout()))?;
    socket.send_to(word.as_bytes(), c.addr())?;
    let mut buffer = [0; 64];
    let (count, from) = socket.recv_from(&mut buffer)?;
    let right = answer(word.as_bytes()) == buffer[..count];
    match right && from != c.addr() {
        true => Ok(()),
        false => Err(ErrorKind::InvalidData.into()),
    }
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
    let left_out = text.replace('\u{fffd}', "");
    let turned = [
        turned(&text).into_bytes(),
        turned(&left_out).into_bytes(),
        bytes.iter().rev().copied().collect(),
    ];
    let counts = [
        bytes.len(),
        text.len(),
        text.chars().count(),
        left_out.chars().count(),
    ];
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
