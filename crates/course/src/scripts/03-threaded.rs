//! Exercise 03: count words for many clients at once.

use std::net::Shutdown;

use harness::{Fault, Peer, quote};

use crate::check::Check;
use crate::diagnosis::Symptom::{Closed, Exited, TimedOut};
use crate::diagnosis::{Diagnose, Result};

/// How often a long word repeats a short one, and how many long words are
/// sent: more than the kernel keeps for a client that does not read.
const LONG: usize = 200;
const UNREAD_WORDS: usize = 1_000;
/// How often something is tried that a lucky moment may hide.
const AGAIN: usize = 20;
const LOOKS: usize = 4;
/// Who sends the same word at the same time, how often each of them (few
/// enough for the kernel to keep all answers), and with how many words: a
/// count is lost only now and then.
const CROWD: [&str; 5] = ["p", "q", "r", "s", "t"];
const AT_ONCE: usize = 250;
const WORDS: usize = 4;

pub(crate) fn check(c: &mut Check) -> Result {
    let word = c.word() + "-a";

    c.step("a client's words are counted");
    let mut a = c.connect("a")?;
    asks(&mut a, &word, 1)?;
    // Another one: so that what goes wrong is the second word, not the same.
    asks(&mut a, &c.word(), 1).diagnose(Closed, "one-word-only")?;
    asks(&mut a, &word, 2)?;

    c.step("others are served while the first client stays connected");
    let others = c.rng().usize(2..=5);
    let mut others: Vec<_> = ["b", "c", "d", "e", "f"][..others]
        .iter()
        .map(|name| c.connect(name))
        .collect::<harness::Result<_>>()?;
    for (n, client) in others.iter_mut().enumerate() {
        let word = format!("{word}-{n}");
        asks(client, &word, 1).diagnose_if("one-at-a-time", |error| {
            // It must be the first client that the others wait for.
            let one = n == 0 && error.is(TimedOut);
            if one {
                c.note("is the next one served when the first has left?");
                hang_up(&a);
            }
            one && client.expect(format!("{word} 1\n")).is_ok()
        })?;
    }

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
        .iter()
        .map(|name| Ok((*name, c.connect(name)?)))
        .collect::<Result<_>>()?;
    for n in 0..WORDS {
        counts_all(c, &mut crowd, &format!("{word}-c{n}"))?;
    }

    c.step("when a client sends no more, its connection is closed");
    for (_, client) in &mut crowd {
        client.half_close()?;
        client.expect_end().diagnose_if("never-closes", |error| {
            // Only who waits in vain while others are served is forgotten.
            let word = c.word();
            error.is(TimedOut) && asks(&mut a, &word, 1).is_ok()
        })?;
    }

    c.step("a client that resets its connection ends only itself");
    let fresh = c.word() + "-b";
    let mut count = 0;
    for n in 0..AGAIN {
        let mut rude =
            c.connect("rude").diagnose(Exited, "dies-with-client")?;
        let own = format!("{word}-r{n}");
        asks(&mut rude, &own, 1).diagnose(Exited, "dies-with-client")?;
        rude.send(format!("{word}-x"))?;
        rude.reset()?;
        count += 1;
        asks(&mut a, &fresh, count).diagnose(Exited, "dies-with-client")?;
    }

    c.step("a client that never reads its answers hinders nobody");
    let deaf = c.connect_small("deaf")?;
    let long = format!("{}\n", c.word().repeat(LONG));
    let many = long.repeat(UNREAD_WORDS).into_bytes();
    let sending = deaf.send_in_background(many, 64 << 10);
    // A busy machine may let the program rest before it has to: look again.
    for _ in 0..LOOKS {
        deaf.wait_until_stalled()?;
        for _ in 0..AGAIN {
            count += 1;
            asks(&mut a, &fresh, count)
                .diagnose(TimedOut, "lock-held-while-writing")?;
        }
    }
    hang_up(&deaf);
    deaf.close();
    let _ = sending.join();
    for _ in 0..AGAIN {
        count += 1;
        asks(&mut a, &fresh, count).diagnose(Exited, "dies-with-client")?;
    }
    Ok(())
}

/// Ends both directions at once, even if a thread still sends.
fn hang_up(client: &Peer) {
    // Fails only if the other side was first.
    let _ = client.stream().shutdown(Shutdown::Both);
}

fn asks(client: &mut Peer, word: &str, count: usize) -> harness::Result {
    client.send(format!("{word}\n"))?;
    client.expect(format!("{word} {count}\n"))
}

/// All of the crowd send `word` many times without waiting; their answers
/// together must hold each number once, in any order.
fn counts_all(c: &Check, crowd: &mut [(&str, Peer)], word: &str) -> Result {
    let lines = format!("{word}\n").repeat(AT_ONCE);
    for (_, client) in crowd.iter() {
        client.send(&lines)?;
    }
    let all = AT_ONCE * crowd.len();
    let mut seen = vec![0; all];
    for (name, client) in crowd {
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
                    format!("receive one of \"{word} 1\" to \"{word} {all}\"");
                let fault = Fault::Unexpected(quote(line.as_bytes()));
                return Err(c.error(name, wanted, fault));
            };
            seen[number - 1] += 1;
        }
    }
    // As many answers as numbers: if one is missing, another came twice.
    let Some(twice) = seen.iter().position(|&times| times > 1) else {
        return Ok(());
    };
    let missing = seen.iter().filter(|&&times| times == 0).count();
    let wanted = format!("receive \"{word} 1\" to \"{word} {all}\", once each");
    let fault = Fault::Unexpected(format!(
        "\"{word} {}\" {} times, and {missing} of the numbers never",
        twice + 1,
        seen[twice]
    ));
    Err(c.error("lab", wanted, fault).certainly("read-then-write"))
}
