//! Exercise 07: turn messages round.

use std::net::Shutdown;

use harness::Peer;
use socket2::SockRef;

use crate::check::{Check, Rude, expect_gone};
use crate::diagnosis::Symptom::{Closed, Exited, TimedOut};
use crate::diagnosis::{Diagnose, Result, StepError};
use crate::scripts::turned;

/// The longest text, in bytes.
const LONGEST: usize = 65_536;
/// How many of them fill the buffers of a client that takes little.
const UNREAD: usize = 30;

pub(crate) fn check(c: &mut Check) -> Result {
    c.begin()?;
    c.step("a message comes back turned round");
    let mut a = c.connect("a")?;
    let plain = text(c);
    let answer = |header| framed(header, &turned(&plain));
    asks(&mut a, &plain)
        .diagnose_answer(answer(little_endian(&plain)), "little-endian")
        .diagnose_answer(answer(with_header(&plain)), "length-with-header")
        .diagnose_if("little-endian", |_| is_right(c, &a, little_endian))
        .diagnose_if("length-with-header", |_| is_right(c, &a, with_header))?;
    asks(&mut a, &text(c))?;

    c.step("the length is that of the text in bytes");
    let wide = text(c) + "é你🦀";
    let answer = |count: usize| framed(header(count), &turned(&wide));
    asks(&mut a, &wide)
        .diagnose_answer(answer(wide.chars().count()), "counts-characters")
        // Java and JavaScript count as UTF-16 does.
        .diagnose_answer(
            answer(wide.encode_utf16().count()),
            "counts-characters",
        )?;

    // A mark of byte order, for those who look for one.
    asks(&mut a, &format!("\u{feff}{}", text(c)))?;

    c.step("messages that come at once are answered one by one");
    let texts = [text(c), text(c), text(c)];
    let all = texts.each_ref().map(|text| message(text)).concat();
    a.send(&all)?;
    a.expect(message(&turned(&texts[0]))).diagnose_if(
        "one-read-one-message",
        |error| {
            let joined: Vec<u8> = all[4..].iter().rev().copied().collect();
            error.got().is_some_and(|got| got.ends_with(&joined))
        },
    )?;
    for text in &texts[1..] {
        a.expect(message(&turned(text))).diagnose_if(
            "drops-what-came-with-it",
            |error| {
                // What only waits to be looked at again is not lost.
                let next = self::text(c);
                let late = a.expect(message(&turned(text))).is_ok();
                error.is(TimedOut) && !late && asks(&mut a, &next).is_ok()
            },
        )?;
    }

    c.step("a message that comes in pieces is one message");
    let text = self::text(c);
    let cut = text.len() / 2;
    let part = turned(&text[..cut]);
    asks_in_two(c, &mut a, &text, 4 + cut)
        .diagnose_beginning(message(&part), "one-read-one-message")
        .diagnose_beginning(
            message(&filled(&part, text.len())),
            "one-read-one-message",
        )?;
    // A buffer of zeros that two zeros were read into says: no text.
    asks_in_two(c, &mut a, &text, 2)
        .diagnose_beginning(message(""), "one-read-one-message")?;

    c.step("an empty message is answered with an empty one");
    asks(&mut a, "").diagnose(Closed, "empty-is-eof")?;
    asks(&mut a, &text)?;

    c.step("the longest message is answered, and a longer one refused at once");
    let longest = &text.repeat(LONGEST)[..LONGEST];
    asks(&mut a, longest)
        .diagnose_answer(message("too long"), "refuses-the-longest")?;
    let longer = format!("{longest}x");
    a.send(header(longer.len()))?;
    a.expect(message("too long")).diagnose_if(
        "trusts-the-length",
        |error| {
            error.is(TimedOut)
                && a.send(&longer).is_ok()
                && a.expect(message(&turned(&longer))).is_ok()
        },
    )?;
    expect_gone(&mut a)?;
    takes_its_answers_late(c)?;
    let mut b = c.connect("b")?;
    asks(&mut b, &text)?;
    // In many languages this is -1, for which an empty text may come.
    b.send([0xff; 4])?;
    b.expect(message("too long"))
        .diagnose_answer(message(""), "trusts-the-length")
        .diagnose(TimedOut, "trusts-the-length")
        .diagnose(Closed, "trusts-the-length")
        .diagnose(Exited, "trusts-the-length")?;
    expect_gone(&mut b)?;

    c.step("a message that is cut off is not answered, and ends only itself");
    let mut d = c.connect("d")?;
    asks(&mut d, &text)?;
    d.send(&message(&text)[..4 + cut])?;
    d.half_close()?;
    expect_gone(&mut d).diagnose_if("answers-half-a-message", |_| {
        d.expect(message(&part)).is_ok()
            || d.expect(message(&filled(&part, text.len()))).is_ok()
    })?;
    let cut_off = |c: &mut Check| {
        let mut d = c.connect("d")?;
        d.send(&message(&text)[..4 + cut])?;
        d.half_close()?;
        expect_gone(&mut d)
    };
    let good = |c: &mut Check| asks(&mut c.connect("e")?, &text);
    c.survives(good, cut_off)?;
    // Is that a text? Whatever comes, nobody else notices.
    let odd = |c: &mut Check| {
        let mut odd = c.connect("odd")?;
        odd.send(b"\0\0\0\x02\xff\xfe\0\0\0\x02\xe2\x82")?;
        odd.half_close()?;
        let _ = odd.rest();
        Ok(())
    };
    c.survives(good, odd)?;

    for how in Rude::ALL {
        let rude = |c: &mut Check| {
            // Who comes while another is served waits unseen.
            let mut served = c.connect("served")?;
            asks(&mut served, &text)?;
            let line = String::from_utf8_lossy(&message(&text)).into_owned();
            match how {
                Rude::ResetsInALine => {
                    served.send(&message(&text)[..4 + cut])?;
                    served.reset()?;
                }
                _ => c.rude(how, "", &line, "")?,
            }
            Ok(())
        };
        c.survives(good, rude)?;
    }
    Ok(())
}

/// A client that takes its answers when it has asked for all of them.
fn takes_its_answers_late(c: &mut Check) -> Result {
    let mut slow = c.connect_small("slow")?;
    let text = &text(c).repeat(LONGEST / 10)[..LONGEST];
    let asked = message(text).repeat(UNREAD);
    let most = asked.len();
    let sending = slow.send_in_background(asked, LONGEST);
    slow.wait_until_stalled()?;
    // From now on it takes more at once.
    let _ = SockRef::from(slow.stream()).set_recv_buffer_size(most);
    for _ in 0..UNREAD {
        slow.expect(message(&turned(text)))?;
    }
    let _ = sending.join();
    slow.half_close()?;
    expect_gone(&mut slow)
}

/// True if all is well with a client whose lengths are of another kind, be it
/// in one direction only.
fn is_right(
    c: &mut Check,
    a: &Peer,
    other_header: impl Fn(&str) -> [u8; 4],
) -> bool {
    c.note("what if its length were another?");
    // It may be served only when the first one has left.
    let _ = a.stream().shutdown(Shutdown::Both);
    let text = text(c);
    let Ok(mut other) = c.connect("other") else {
        return false;
    };
    let right = message(&turned(&text));
    let answer = other
        .send(framed(other_header(&text), &text))
        .and_then(|()| {
            other.expect(framed(other_header(&text), &turned(&text)))
        })
        .map_err(StepError::from);
    let _ = other.stream().shutdown(Shutdown::Both);
    answer.map_or_else(|error| error.got() == Some(&right), |()| true)
}

/// A text that no other step has, of more than ten characters: in a shorter
/// one's header there may be a newline, where a wrong answer would be cut.
fn text(c: &mut Check) -> String {
    let mut text = String::new();
    while text.len() <= 10 {
        text += &c.word();
    }
    text
}

/// The first part of a text, turned round with zeros in place of the rest.
fn filled(part: &str, length: usize) -> String {
    "\0".repeat(length - part.len()) + part
}

fn header(length: usize) -> [u8; 4] {
    (length as u32).to_be_bytes()
}

fn little_endian(text: &str) -> [u8; 4] {
    (text.len() as u32).to_le_bytes()
}

fn with_header(text: &str) -> [u8; 4] {
    header(text.len() + 4)
}

fn framed(header: [u8; 4], text: &str) -> Vec<u8> {
    [&header, text.as_bytes()].concat()
}

fn message(text: &str) -> Vec<u8> {
    framed(header(text.len()), text)
}

fn asks(client: &mut Peer, text: &str) -> Result {
    client.send(message(text))?;
    Ok(client.expect(message(&turned(text)))?)
}

/// Asks in two pieces; sends the second when the program has received the
/// first.
fn asks_in_two(c: &Check, client: &mut Peer, text: &str, cut: usize) -> Result {
    let whole = message(text);
    client.send(&whole[..cut])?;
    let _ = c.wait_until_read(client);
    client.send(&whole[cut..])?;
    client
        .expect(message(&turned(text)))
        .diagnose(Closed, "one-read-one-message")
        .diagnose(Exited, "one-read-one-message")
}
