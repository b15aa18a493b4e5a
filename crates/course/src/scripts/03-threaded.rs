//! Exercise 03: count words for many clients at once.

use std::ops::RangeInclusive;
use std::thread::JoinHandle;

use harness::{Fault, Peer, quote};
use socket2::SockRef;

use crate::check::{Check, MOMENT, Rude};
use crate::diagnosis::Symptom::{Closed, TimedOut, Wrong};
use crate::diagnosis::{Diagnose, Result, StepError};

/// How often a long word repeats a short one, and how many long words are
/// sent: more than the kernel keeps for a client that does not read.
const LONG: usize = 200;
const UNREAD_WORDS: usize = 1_000;
/// Clients that say nothing: more than a pool of threads has, mostly. After so
/// few of them one says something, as some backlogs are small.
const SILENT: usize = 100;
const FEW: usize = 5;
/// How often something is tried that a lucky moment may hide.
const AGAIN: usize = 20;
const LOOKS: usize = 4;
/// Who sends the same word at the same time, how often each of them, and with
/// how many words: a count is lost only now and then.
const CROWD: RangeInclusive<char> = 'g'..='v';
const AT_ONCE: usize = 12;
const WORDS: usize = 8;
/// More bytes than anybody says before closing.
const MUCH: usize = 64 << 10;
/// How long such a word is, in bytes. Who looks up a long word holds the lock
/// long: the others wait for it, and take it in the moment between two locks.
/// (All answers for a client are few enough for the kernel to keep.)
const LONG_WORD: usize = 5_000;

pub(crate) fn check(c: &mut Check) -> Result {
    c.begin()?;
    let word = c.word() + "-a";

    c.step("a client's words are counted");
    let mut a = c.connect("a")?;
    let wait = |a: &mut Peer| a.expect(format!("{word} 1\n"));
    asks(&mut a, &word, 1)
        .diagnose_if_cured("not-flushed", |error| {
            error.is(TimedOut)
                && c.is_cured(&mut a, wait, |a| a.half_close().is_ok())
        })
        .diagnose_answer(format!("{word} 0\n"), "counts-from-zero")
        .diagnose_beginning(format!("{word}\n"), "newline-in-the-word")?;
    // Another one: so that what goes wrong is the second word, not the same.
    let second = c.word();
    asks(&mut a, &second, 1)
        .diagnose_if("one-word-only", |error| {
            let again = |c: &mut Check| {
                let mut other = c.connect("other")?;
                asks(&mut other, &c.word(), 1)?;
                asks(&mut other, &c.word(), 1)
            };
            error.is(Closed) && again(c).fails_with(Closed)
        })
        .diagnose_if("keeps-earlier-words", |error| {
            // The newline in between may be there, or not.
            let kept = [format!("{word}\n"), format!("{word}{second} ")];
            let got = error.got().unwrap_or_default();
            kept.iter().any(|kept| got.starts_with(kept.as_bytes()))
        })?;
    asks(&mut a, &word, 2)?;

    c.step("words that come in pieces, and at once, are counted one by one");
    let (whole, first, last) = (c.word(), c.word(), c.word());
    // When the first word is answered, the piece behind it has been read.
    a.send(format!("{whole}\n{first}"))?;
    a.expect(format!("{whole} 1\n"))
        .diagnose_if("one-read-one-word", |error| joins(error, &whole))?;
    a.send(format!("{last}\n"))?;
    a.expect(format!("{first}{last} 1\n"))
        .diagnose_answer(format!("{last} 1\n"), "new-reader-for-each-word")
        .diagnose_beginning(format!("{first} 1\n"), "one-read-one-word")?;

    let (first, last) = (c.word(), c.word());
    let cut = format!("{first}é{last}");
    let (before, after) = cut.as_bytes().split_at(first.len() + 1);
    a.send([format!("{whole}\n").as_bytes(), before].concat())?;
    // On a connection of its own.
    let comes_whole = |a: &Peer| {
        let _ = a.hang_up();
        let mut other = c.connect("other")?;
        other.send(format!("{cut}\n"))?;
        other.expect(format!("{cut} "))
    };
    a.expect(format!("{whole} 2\n"))
        .diagnose_if("cuts-characters", |error| {
            error.is(Closed) && comes_whole(&a).is_ok()
        })?;
    a.send([after, b"\n"].concat())?;
    a.expect(format!("{cut} 1\n"))
        .diagnose_if("cuts-characters", |error| {
            let got = error.got().unwrap_or_default();
            let replaced = String::from_utf8_lossy(got).contains('\u{fffd}');
            (error.is(Closed) || replaced) && comes_whole(&a).is_ok()
        })?;

    c.step("others are served while the first client stays connected");
    let others = c.rng().usize(2..=5);
    let mut others: Vec<_> = ["b", "c", "d", "e", "f"][..others]
        .iter()
        .map(|name| c.connect(name))
        .collect::<harness::Result<_>>()?;
    // The last one first: nobody may wait for a word of those before it.
    for n in (0..others.len()).rev() {
        let (before, rest) = others.split_at_mut(n);
        let client = &mut rest[0];
        let word = format!("{word}-{n}");
        asks(client, &word, 1).diagnose_if_cured("one-at-a-time", |error| {
            let wait = |client: &mut Peer| client.expect(format!("{word} 1\n"));
            error.is(TimedOut)
                && match before {
                    [] => c.is_cured(client, wait, |_| leaves(c, &a)),
                    _ => keeps_waiting(c, &a, before, client, wait),
                }
        })?;
    }

    c.step("a hundred clients that say nothing keep nobody waiting");
    let mut silent = Vec::new();
    for n in 1..=SILENT {
        silent.push(c.connect("silent")?);
        if n % FEW > 0 {
            continue;
        }
        let mut next = c.connect("next")?;
        let wait = |next: &mut Peer| next.expect(format!("{word}-s{n} 1\n"));
        next.send(format!("{word}-s{n}\n"))?;
        wait(&mut next).diagnose_if_cured("only-so-many", |error| {
            let leave = |_: &mut Peer| {
                silent.clear();
                true
            };
            error.is(TimedOut) && c.is_cured(&mut next, wait, leave)
        })?;
    }
    drop(silent);

    c.step("all clients' words are counted together");
    let mut count = 2;
    for client in &mut others {
        count += 1;
        asks(client, &word, count)
            .diagnose_answer(format!("{word} 1\n"), "not-shared")?;
    }
    asks(&mut a, &word, count + 1)?;

    c.step("no word is lost when many come at the same time");
    let mut crowd: Vec<_> = CROWD
        .map(|name| c.connect(&name.to_string()))
        .collect::<harness::Result<_>>()?;
    c.note(format!(
        "{} clients send the same word at the same moment, each {AT_ONCE} \
         times, and then another word, {WORDS} in all",
        crowd.len()
    ));
    for n in 0..WORDS {
        let short = format!("{word}-{n}");
        let long = short.repeat(LONG_WORD / short.len());
        counts_all(c, &mut crowd, &long)?;
    }

    c.step("when a client sends no more, its connection is closed");
    for client in &mut crowd {
        client.half_close()?;
        client
            .expect_end()
            .diagnose_if("never-closes", |error| {
                // Only who waits in vain while others are served is forgotten.
                let word = c.word();
                error.is(TimedOut)
                    && asks(&mut a, &word, 1).is_ok()
                    && client.expect_end().fails_with(TimedOut)
            })
            // Who says one word more, and closes, has noticed the end.
            .diagnose_if("ignores-eof", |error| {
                error.is(Wrong) && says_much(client)
            })?;
    }
    // Those who stay do not notice that others have left.
    asks(&mut a, &word, count + 2)?;
    takes_its_answers_late(c)?;

    c.step("a client that resets its connection ends only itself");
    for how in Rude::ALL {
        for n in 0..AGAIN / Rude::ALL.len() {
            let own = format!("{word}-r{n}");
            let rude = |c: &mut Check| {
                let (line, own) = (format!("{own}\n"), format!("{own} 1\n"));
                match how {
                    Rude::ResetsInALine => c.rude(how, "", &line, &own),
                    _ => c.rude(how, "", "rude\n", ""),
                }
            };
            let good = |c: &mut Check| {
                let mut next = c.connect("next")?;
                let word = c.word() + "-n";
                next.send(format!("{word}\n"))?;
                next.expect(format!("{word} "))?;
                next.line()?;
                next.half_close()?;
                Ok(next.expect_end()?)
            };
            c.survives(good, rude)?;
        }
    }
    let rude = |c: &mut Check| {
        // Is that a word? Whatever comes, nobody else notices.
        let mut odd = c.connect("odd")?;
        odd.send(b"\xff\xfe\n\n")?;
        odd.half_close()?;
        let _ = odd.rest();
        Ok(())
    };
    let fresh = c.word() + "-b";
    let good = |c: &mut Check| {
        let mut next = c.connect("next")?;
        next.send(format!("{fresh}-n\n"))?;
        next.expect(format!("{fresh}-n "))?;
        Ok(next.line().map(drop)?)
    };
    c.survives(good, rude)?;
    asks(&mut a, &fresh, 1)?;

    c.step("a client that never reads its answers hinders nobody");
    let mut count = 1;
    let deaf = c.connect_small("deaf")?;
    let long = format!("{}\n", c.word().repeat(LONG));
    let many = long.repeat(UNREAD_WORDS).into_bytes();
    let sending = deaf.send_in_background(many, 64 << 10);
    let mut deaf = Some((deaf, sending));
    // A busy machine may let the program rest before it has to: look again.
    for _ in 0..LOOKS {
        if let Some((deaf, _)) = &deaf {
            deaf.wait_until_stalled()?;
        }
        for _ in 0..AGAIN {
            count += 1;
            let wait = |a: &mut Peer| a.expect(format!("{fresh} {count}\n"));
            asks(&mut a, &fresh, count).diagnose_if_cured(
                "lock-held-while-writing",
                |error| {
                    error.is(TimedOut)
                        && c.is_cured(&mut a, wait, |_| {
                            leave(&mut deaf);
                            true
                        })
                },
            )?;
        }
    }
    leave(&mut deaf);
    for _ in 0..AGAIN {
        count += 1;
        asks(&mut a, &fresh, count)?;
    }
    Ok(())
}

/// A client that sends no more, and has many answers to take, gets all of them.
fn takes_its_answers_late(c: &mut Check) -> Result {
    let mut slow = c.connect_small("slow")?;
    let long = c.word().repeat(LONG) + "-s";
    let many = format!("{long}\n").repeat(UNREAD_WORDS).into_bytes();
    let many_bytes = many.len();
    let sending = slow.send_in_background(many, 64 << 10);
    slow.wait_until_stalled()?;
    // Who takes all words in first has more answers than the kernel keeps.
    let all_sent = c.comes_within(MOMENT, || sending.is_finished());
    if all_sent {
        slow.half_close()?;
        c.pause_for_an_end();
    }
    // From now on it takes more at once.
    let _ = SockRef::from(slow.stream()).set_recv_buffer_size(many_bytes);
    for n in 1..=UNREAD_WORDS {
        slow.expect(format!("{long} {n}\n"))?;
    }
    let _ = sending.join();
    if !all_sent {
        slow.half_close()?;
    }
    Ok(slow.expect_end()?)
}

/// True if those who say nothing keep `last` waiting, until they have said
/// something; or if the first client of all keeps them waiting, until it has
/// left. (A few threads for all would serve some of them at once.)
fn keeps_waiting(
    c: &mut Check,
    a: &Peer,
    before: &mut [Peer],
    last: &mut Peer,
    wait: impl Fn(&mut Peer) -> harness::Result,
) -> bool {
    let names: Vec<_> = before.iter().map(Peer::name).collect();
    c.note(format!(
        "{} waits. Is it served when those before it ({}) have said something?",
        last.name(),
        names.join(", ")
    ));
    let word = c.word() + "-w";
    let says = |last: &mut Peer| {
        let _ = last;
        (1..)
            .zip(before.iter_mut())
            .all(|(n, client)| asks(client, &word, n).is_ok())
    };
    if c.is_cured(last, wait, says) {
        return true;
    }
    let second = &mut before[0];
    let answer = format!("{word} 1\n");
    c.is_cured(second, |second| second.expect(&answer), |_| leaves(c, a))
}

/// True for the answer of a program that takes all that a read has brought for
/// one word.
fn joins(error: &StepError, first: &str) -> bool {
    let wrong = |got: &[u8]| {
        let text = String::from_utf8_lossy(got).into_owned();
        let rest = text.strip_prefix(first).unwrap_or_default().to_owned();
        rest.starts_with('\n') || rest.starts_with(|c: char| c.is_alphabetic())
    };
    error.got().is_some_and(wrong)
}

/// Lets a client leave whose words are sent by a thread.
fn leave(client: &mut Option<(Peer, JoinHandle<harness::Result>)>) {
    if let Some((client, sending)) = client.take() {
        let _ = client.hang_up();
        let _ = sending.join();
        client.close();
    }
}

/// True if very much comes to a client that has asked for nothing.
fn says_much(client: &mut Peer) -> bool {
    let mut count = 0;
    while count < MUCH {
        match client.receive() {
            Ok(more) => count += more.len(),
            Err(_) => return false,
        }
    }
    true
}

fn leaves(c: &Check, a: &Peer) -> bool {
    c.note(format!("{}, the first client, leaves now", a.name()));
    a.hang_up().is_ok()
}

fn asks(client: &mut Peer, word: &str, count: usize) -> harness::Result {
    client.send(format!("{word}\n"))?;
    client.expect(format!("{word} {count}\n"))
}

/// All of the crowd send `word` many times without waiting; their answers
/// together must hold each number once, in any order.
fn counts_all(c: &Check, crowd: &mut [Peer], word: &str) -> Result {
    let lines = format!("{word}\n").repeat(AT_ONCE);
    for client in crowd.iter() {
        client.send(&lines)?;
    }
    let all = AT_ONCE * crowd.len();
    let mut seen = vec![0; all];
    for client in crowd {
        for _ in 0..AT_ONCE {
            let line = client.line()?;
            let number = line
                .rsplit(' ')
                .next()
                .and_then(|number| number.parse::<usize>().ok())
                .filter(|number| (1..=all).contains(number))
                .filter(|number| format!("{word} {number}") == line);
            let Some(number) = number else {
                let wanted =
                    format!("receive its word and a number from 1 to {all}");
                let fault = Fault::Unexpected(quote(line.as_bytes()));
                return Err(c.error(client.name(), wanted, fault));
            };
            seen[number - 1] += 1;
        }
    }
    // As many answers as numbers: if one is missing, another came twice.
    let Some(twice) = seen.iter().position(|&times| times > 1) else {
        return Ok(());
    };
    let missing = seen.iter().filter(|&&times| times == 0).count();
    let wanted = format!("receive each number of one word, 1 to {all}, once");
    let fault = Fault::Unexpected(format!(
        "the number {} on {} lines, and {missing} of the numbers never",
        twice + 1,
        seen[twice]
    ));
    Err(c.error("lab", wanted, fault).certainly("read-then-write"))
}
