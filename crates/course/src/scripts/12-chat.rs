//! Exercise 12: notices by topic.

use harness::{Fault, Peer, joined, quote};

use crate::check::{Check, MOMENT, Rude, expect_gone};
use crate::diagnosis::Symptom::{Closed, TimedOut};
use crate::diagnosis::{Diagnose, Result, StepError};

/// Who posts at once, and how many notices each.
const POSTERS: [&str; 4] = ["a", "b", "d", "e"];
const AT_ONCE: usize = 500;
/// Threads that only happened to take turns may not do so again.
const ROUNDS: usize = 5;
/// A long text, in bytes.
const LONG: usize = 4000;
/// So many long notices are less than a mebibyte, and much more than what the
/// kernel keeps for a client that takes little.
const SOME: usize = 200;
/// So many are more than 16 MiB.
const TOO_MANY: usize = 4300;

pub(crate) fn check(c: &mut Check) -> Result {
    c.begin()?;
    c.step("a notice reaches those who follow its topic, and is counted");
    let (news, sport) = (topic(c), topic(c));
    let mut a = c.connect("a")?;
    let mut b = c.connect("b")?;
    let mut poster = c.connect("poster")?;
    follow(&mut a, &news)?;
    let wait = |b: &mut Peer| b.expect(format!("following {sport}\n"));
    b.send(format!("follow {sport}\n"))?;
    wait(&mut b).diagnose_if_cured("one-at-a-time", |error| {
        let hang_up = |_: &mut Peer| a.half_close().is_ok();
        error.is(TimedOut) && c.is_cured(&mut b, wait, hang_up)
    })?;
    follow(&mut b, &news)?;
    let text = format!("{} {}: é", c.word(), c.word());
    post(&mut poster, &news, &text, 2)?;
    a.expect(notice(&news, &text))?;
    b.expect(notice(&news, &text))?;
    post(&mut poster, &sport, "1", 1)?;
    b.expect(notice(&sport, "1"))?;
    post(&mut poster, &topic(c), &text, 0)?;

    c.step("lines that come in pieces, and at once, are one line each");
    posts_in_pieces(c, &mut poster, &news, 2).diagnose_if(
        "one-read-one-line",
        |_| {
            // Whole lines are answered, and these again are not.
            let again = |c: &mut Check| -> Result<bool> {
                let mut other = c.connect("other")?;
                let topic = topic(c);
                post(&mut other, &topic, "whole", 0)?;
                post(&mut other, &topic, "whole", 0)?;
                Ok(posts_in_pieces(c, &mut other, &topic, 0).is_err())
            };
            again(c).is_ok_and(|fails| fails)
        },
    )?;
    for client in [&mut a, &mut b] {
        client
            .expect(notice(&news, "in two pieces"))
            .diagnose_answer(notice(&news, "in two"), "one-read-one-line")?;
    }
    poster.send(format!("post {news} 1\npost {news} 2\npost {news} 3\n"))?;
    poster.expect("2\n2\n2\n")?;
    for client in [&mut a, &mut b] {
        for text in ["1", "2", "3"] {
            client.expect(notice(&news, text))?;
        }
    }

    c.step("a topic is the whole word");
    for other in [format!("{news}s"), news[..news.len() - 1].to_owned()] {
        post(&mut poster, &other, &text, 0).diagnose_if(
            "prefix-is-topic",
            |error| {
                let behind = format!("x{news}");
                error.got() == Some(b"2\n")
                    && post(&mut poster, &behind, &text, 0).is_ok()
            },
        )?;
    }
    post(&mut poster, &news, "4", 2)?;
    a.expect(notice(&news, "4"))?;
    b.expect(notice(&news, "4"))?;

    c.step("a client that resets its connection ends only itself");
    for how in Rude::ALL {
        let line = format!("post {} rude\n", topic(c));
        let rude = |c: &mut Check| c.rude(how, "", &line, "0\n");
        let good = |c: &mut Check| {
            let mut next = c.connect("next")?;
            let topic = topic(c);
            follow(&mut next, &topic)?;
            post(&mut next, &format!("{topic}s"), "hello", 0)?;
            next.half_close()?;
            Ok(next.expect_end()?)
        };
        c.survives(good, rude)?;
    }

    c.step("who has left is counted no more");
    b.half_close()?;
    expect_gone(&mut b)?;
    let mut resets = Some(c.connect("resets")?);
    for _ in ["b", "resets"] {
        let posts = until_count(c, &mut poster, &news, 1)?;
        a.expect(notice(&news, "?").repeat(posts))?;
        if let Some(mut resets) = resets.take() {
            follow(&mut resets, &news)?;
            post(&mut poster, &news, "5", 2)?;
            a.expect(notice(&news, "5"))?;
            resets.reset()?;
        }
    }

    c.step("a mebibyte may wait for a client, and nobody waits for it");
    let (mut slow, waiting) = pile_up(c, &mut poster)?;
    for notice in waiting {
        slow.expect(notice)
            .diagnose(Closed, "throws-out-a-good-reader")?;
    }

    c.step("who stops reading is thrown out");
    throws_out(c, &mut poster)?;

    c.step("who has sent its last line still gets what waits for it");
    let mut quick = c.connect("quick")?;
    quick.send(format!("post {news} bye\n").repeat(SOME))?;
    quick.half_close()?;
    a.expect(notice(&news, "bye").repeat(SOME))?;
    quick
        .expect("1\n".repeat(SOME))
        .diagnose(Closed, "forgets-the-last-words")?;
    expect_gone(&mut quick)?;
    let (mut last, mut waiting) = pile_up(c, &mut poster)?;
    last.half_close()?;
    let (topic, _) = waiting[0].split_once(": ").unwrap_or_default();
    let topic = topic.to_owned();
    let posts = until_count(c, &mut poster, &topic, 0)?;
    waiting.extend(vec![notice(&topic, "?"); posts - 1]);
    for notice in waiting {
        last.expect(notice)
            .diagnose(Closed, "forgets-the-last-words")?;
    }
    expect_gone(&mut last)?;

    c.step("all get the notices whole, and in one order");
    let (mut slow, mut waiting) = pile_up(c, &mut poster)?;
    // No buffer has room for the answers: who writes them now waits in the
    // middle of another line.
    slow.send(format!("post {sport} hello\n").repeat(SOME))?;
    waiting.extend(vec!["0\n".to_owned(); SOME]);
    waiting.sort();
    hears(c, &mut slow, &waiting)?;
    for _ in 0..ROUNDS {
        in_one_order(c)?;
    }
    Ok(())
}

/// A word that no other step has for a topic.
fn topic(c: &mut Check) -> String {
    c.word() + &c.word()
}

fn notice(topic: &str, text: &str) -> String {
    format!("{topic}: {text}\n")
}

fn follow(client: &mut Peer, topic: &str) -> harness::Result {
    client.send(format!("follow {topic}\n"))?;
    client.expect(format!("following {topic}\n"))
}

fn post(
    client: &mut Peer,
    topic: &str,
    text: &str,
    count: usize,
) -> harness::Result {
    client.send(format!("post {topic} {text}\n"))?;
    client.expect(format!("{count}\n"))
}

/// Posts in two pieces; sends the second when the program has received the
/// first.
fn posts_in_pieces(
    c: &Check,
    client: &mut Peer,
    topic: &str,
    count: usize,
) -> Result {
    client.send(format!("post {topic} in two"))?;
    let _ = c.wait_until_read(client);
    client.send(" pieces\n")?;
    Ok(client.expect(format!("{count}\n"))?)
}

/// Posts until `wanted` get it, and gives how often that was: that somebody
/// has left may be known a moment later.
fn until_count(
    c: &Check,
    poster: &mut Peer,
    topic: &str,
    wanted: usize,
) -> Result<usize> {
    let mut posts = 0;
    let mut posted = Ok(());
    let counted = c.lab().wait_until("be counted no more", || {
        posts += 1;
        posted = post(poster, topic, "?", wanted).map_err(StepError::from);
        let dead = format!("{}\n", wanted + 1);
        let is_dead = |error: &StepError| error.got() == Some(dead.as_bytes());
        !posted.as_ref().is_err_and(is_dead)
    });
    if counted.is_err() {
        posted = posted.diagnose_if("counts-the-dead", |_| true);
    }
    posted.map(|()| posts)
}

/// Nearly a mebibyte for a client that has not read yet, notice by notice.
fn pile_up(c: &mut Check, poster: &mut Peer) -> Result<(Peer, Vec<String>)> {
    let topic = topic(c);
    let long = c.word().repeat(LONG);
    let mut slow = c.connect_small("slow")?;
    follow(&mut slow, &topic)?;
    let mut waiting = Vec::new();
    for n in 0..SOME {
        let text = format!("{n} {}", &long[..LONG]);
        post_past(c, poster, &mut slow, &topic, &text)
            .diagnose_if("throws-out-a-good-reader", |error| {
                error.got() == Some(b"0\n") && is_thrown_out(&mut slow)
            })?;
        waiting.push(notice(&topic, &text));
    }
    Ok((slow, waiting))
}

/// Posts to one who does not read. Does the answer wait for that one?
fn post_past(
    c: &Check,
    poster: &mut Peer,
    slow: &mut Peer,
    topic: &str,
    text: &str,
) -> Result {
    post(poster, topic, text, 1).diagnose_if_cured(
        "one-slow-stops-all",
        |error| {
            let wait = |poster: &mut Peer| poster.line().map(drop);
            let read = |_: &mut Peer| {
                slow.set_timeout(MOMENT);
                while slow.receive().is_ok() {}
                true
            };
            error.is(TimedOut) && c.is_cured(poster, wait, read)
        },
    )
}

fn is_thrown_out(client: &mut Peer) -> bool {
    match client.rest() {
        Ok(_) => true,
        Err(failure) => *failure.fault == Fault::ConnectionReset,
    }
}

/// More and more is posted for one who does not read.
fn throws_out(c: &mut Check, poster: &mut Peer) -> Result {
    let topic = topic(c);
    let long = c.word().repeat(LONG);
    let mut deaf = c.connect_small("deaf")?;
    follow(&mut deaf, &topic)?;
    for _ in 0..TOO_MANY {
        match post_past(c, poster, &mut deaf, &topic, &long[..LONG]) {
            Ok(()) => {}
            Err(error) if error.got() == Some(b"0\n") => {
                if is_thrown_out(&mut deaf) {
                    return Ok(());
                }
                return Err(error);
            }
            Err(error) => return Err(error),
        }
    }
    let fault = Fault::Unexpected("it still is".to_owned());
    let error = c.error("deaf", "be thrown out", fault);
    Err(error.certainly("keeps-everything"))
}

/// All post at once, and all follow.
fn in_one_order(c: &mut Check) -> Result {
    let topic = topic(c);
    let mut clients = POSTERS
        .iter()
        .map(|name| c.connect(name))
        .collect::<harness::Result<Vec<_>>>()?;
    for client in &mut clients {
        follow(client, &topic)?;
    }
    let texts = |name: &str| -> Vec<String> {
        (0..AT_ONCE).map(|n| format!("{name} {n}")).collect()
    };
    let sending: Vec<_> = clients
        .iter()
        .map(|client| {
            let lines: String = texts(client.name())
                .iter()
                .map(|text| format!("post {topic} {text}\n"))
                .collect();
            client.send_in_background(lines.into_bytes(), LONG)
        })
        .collect();
    let mut wanted: Vec<_> = POSTERS
        .iter()
        .flat_map(|name| texts(name))
        .map(|text| notice(&topic, &text))
        .collect();
    wanted.extend(vec![format!("{}\n", POSTERS.len()); AT_ONCE]);
    wanted.sort();
    let mut first = Vec::new();
    for client in &mut clients {
        let heard = hears(c, client, &wanted)?;
        if first.is_empty() {
            first = heard;
        } else if let Some(n) = (0..first.len()).find(|&n| first[n] != heard[n])
        {
            let fault = Fault::Unexpected(heard[n].clone());
            let wanted = format!("receive {:?}, as a did", first[n]);
            let error = c.error(client.name(), wanted, fault);
            return Err(error.certainly("two-orders"));
        }
    }
    for thread in sending {
        joined(thread)?;
    }
    Ok(())
}

/// The notices that a client gets, in its order; with the answers they have to
/// be the lines that are wanted.
fn hears(
    c: &Check,
    client: &mut Peer,
    wanted: &[String],
) -> Result<Vec<String>> {
    let length = wanted.iter().map(String::len).sum();
    let mut bytes = Vec::new();
    while bytes.len() < length {
        bytes.extend(client.receive()?);
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut heard: Vec<_> =
        text.split_inclusive('\n').map(str::to_owned).collect();
    let mut sorted = heard.clone();
    sorted.sort();
    let odd = sorted.iter().zip(wanted).find(|(one, other)| one != other);
    if let Some((line, _)) = odd {
        let fault = Fault::Unexpected(quote(line.as_bytes()));
        let error = c.error(client.name(), "receive the lines whole", fault);
        let mut due = wanted.concat().into_bytes();
        due.sort();
        bytes.sort();
        return Err(match bytes == due {
            true => error.certainly("torn-lines"),
            false => error,
        });
    }
    heard.retain(|line| line.contains(": "));
    Ok(heard)
}
