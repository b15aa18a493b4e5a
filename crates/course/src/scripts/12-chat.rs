//! Exercise 12: notices by topic.

use harness::{Fault, Peer, quote};

use crate::check::{Check, MOMENT, Rude, expect_gone};
use crate::diagnosis::Symptom::{Closed, TimedOut, Wrong};
use crate::diagnosis::{Diagnose, Result, StepError};

/// Who posts at once, and how many notices each; how many follow, with them.
const POSTERS: [&str; 4] = ["a", "b", "d", "e"];
const AT_ONCE: usize = 500;
const FOLLOWERS: usize = 12;
/// Threads that only happened to take turns may not do so again.
const ROUNDS: usize = 5;
/// So many clients are more than a pool has threads that somebody has chosen.
const CROWD: usize = 40;
const FEW: usize = 3;
/// The longest topic and the longest text, in bytes.
const LONGEST_TOPIC: usize = 32;
const LONGEST: usize = 4096;
/// A long text, and one that is not.
const LONG: usize = 4000;
const SHORT: usize = 400;
/// So many long notices are less than a mebibyte, and much more than what the
/// kernel keeps for a client that takes little.
const SOME: usize = 200;
/// So many are more than 16 MiB.
const TOO_MANY: usize = 4300;
/// Many round trips of another client: whoever sees a reset has seen it then.
const AGAIN: usize = 20;

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
    let wait = |poster: &mut Peer| poster.expect("0\n");
    poster.send(format!("post {} {text}\n", topic(c)))?;
    wait(&mut poster).diagnose_if_cured("only-so-many", |error| {
        let hang_up = |_: &mut Peer| b.half_close().is_ok();
        error.is(TimedOut) && c.is_cured(&mut poster, wait, hang_up)
    })?;
    post(&mut poster, &news, &text, 2)?;
    a.expect(notice(&news, &text))?;
    b.expect(notice(&news, &text))?;
    post(&mut poster, &sport, "1", 1)?;
    b.expect(notice(&sport, "1"))?;

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

    c.step("forty clients are served at once");
    let all = topic(c);
    let following = format!("following {all}\n");
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        let mut next = c.connect("one of forty")?;
        let wait = |next: &mut Peer| next.expect(&following);
        next.send(format!("follow {all}\n"))?;
        wait(&mut next).diagnose_if_cured("only-so-many", |error| {
            let leave = |_: &mut Peer| {
                crowd.clear();
                b.half_close().is_ok()
            };
            error.is(TimedOut) && c.is_cured(&mut next, wait, leave)
        })?;
        crowd.push(next);
    }
    post(&mut poster, &all, &text, CROWD)?;
    for client in &mut crowd {
        client.expect(notice(&all, &text))?;
    }
    drop(crowd);

    c.step("lines that come in pieces, and at once, are one line each");
    let pieces = ["in two", " pieces"].map(str::as_bytes);
    posts_in_pieces(c, &mut poster, &news, pieces, 2).diagnose_if(
        "one-read-one-line",
        |_| {
            // Whole lines are answered, and these again are not.
            let again = |c: &mut Check| -> Result<bool> {
                let mut other = c.connect("other")?;
                let topic = topic(c);
                post(&mut other, &topic, "whole", 0)?;
                post(&mut other, &topic, "whole", 0)?;
                let posted = posts_in_pieces(c, &mut other, &topic, pieces, 0);
                Ok(posted.is_err())
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

    c.step("a text of up to 4,096 bytes arrives as it was sent");
    arrives_as_sent(c)?;

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
    is_alone(c, &mut a, &mut poster, &news)?;
    let mut resets = Vec::new();
    for _ in 0..FEW {
        let mut client = c.connect("resets")?;
        follow(&mut client, &news)?;
        resets.push(client);
    }
    post(&mut poster, &news, "?", 1 + FEW)?;
    for client in resets {
        client.reset()?;
    }
    // Who reads from a client learns of the reset before somebody writes to it,
    // which may hide it: an error of a socket is reported once.
    for _ in 0..AGAIN {
        post(&mut poster, &sport, "?", 0)?;
    }
    a.expect(notice(&news, "?"))?;
    is_alone(c, &mut a, &mut poster, &news)?;

    c.step("a mebibyte may wait for a client, and nobody waits for it");
    let Pile {
        mut client,
        topic,
        notices,
    } = Pile::up(c, &mut poster)?;
    for n in 0..notices.len() {
        client
            .expect(&notices[n])
            .diagnose(Closed, "throws-out-a-good-reader")
            .diagnose_if_cured("loses-unsent", |error| {
                let due = notices[n..].concat();
                are_lost(error, &mut client, &mut poster, &topic, &due)
            })?;
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
    let Pile {
        client: mut last,
        topic,
        mut notices,
    } = Pile::up(c, &mut poster)?;
    last.half_close()?;
    let posts = until_count(c, &mut poster, &topic, 0)
        .diagnose_if("unfollows-too-late", |error| {
            count(error) == Some(1)
                && ends(&mut last).is_ok()
                && until_count(c, &mut poster, &topic, 0).is_ok()
        })
        .diagnose_if("counts-the-dead", |error| count(error) == Some(1))?;
    notices.extend(vec![notice(&topic, "?"); posts - 1]);
    for notice in notices {
        last.expect(notice)
            .diagnose(Closed, "forgets-the-last-words")?;
    }
    expect_gone(&mut last)?;

    c.step("all get the notices whole, and in one order");
    let Pile {
        client: mut slow,
        notices: mut lines,
        ..
    } = Pile::up(c, &mut poster)?;
    // No buffer has room for the answers: who writes them now waits in the
    // middle of another line.
    slow.send(format!("post {sport} hello\n").repeat(SOME))?;
    lines.extend(vec!["0\n".to_owned(); SOME]);
    lines.sort();
    hears(c, &mut slow, &lines)?;
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

/// The number that was answered instead of another one.
fn count(error: &StepError) -> Option<usize> {
    str::from_utf8(error.got()?).ok()?.trim_end().parse().ok()
}

/// Posts a text in two pieces; sends the second when the program has received
/// the first.
fn posts_in_pieces(
    c: &Check,
    client: &mut Peer,
    topic: &str,
    [first, second]: [&[u8]; 2],
    count: usize,
) -> Result {
    client.send([format!("post {topic} ").as_bytes(), first].concat())?;
    let _ = c.wait_until_read(client);
    client.send([second, b"\n"].concat())?;
    Ok(client.expect(format!("{count}\n"))?)
}

/// A client that follows a topic with the longest name, and one that posts to
/// it.
struct Pair {
    poster: Peer,
    follower: Peer,
    topic: String,
}

impl Pair {
    fn new(c: &mut Check) -> Result<Self> {
        let topic = c.word().repeat(LONGEST_TOPIC)[..LONGEST_TOPIC].to_owned();
        let mut follower = c.connect("follower")?;
        follow(&mut follower, &topic)?;
        let poster = c.connect("other poster")?;
        Ok(Self {
            poster,
            follower,
            topic,
        })
    }

    fn passes_on(&mut self, text: &str) -> Result {
        post(&mut self.poster, &self.topic, text, 1)?;
        Ok(self.follower.expect(notice(&self.topic, text))?)
    }

    /// The same, with the text in two pieces; the first one is so long.
    fn passes_on_cut(&mut self, c: &Check, text: &str, at: usize) -> Result {
        let (first, second) = text.as_bytes().split_at(at);
        let pieces = [first, second];
        posts_in_pieces(c, &mut self.poster, &self.topic, pieces, 1)?;
        Ok(self.follower.expect(notice(&self.topic, text))?)
    }
}

/// Texts with blanks, with a character that comes in two pieces, and the
/// longest one. If one fails, does it again, where a simpler one does not?
fn arrives_as_sent(c: &mut Check) -> Result {
    let mut pair = Pair::new(c)?;
    let [x, y] = [(); 2].map(|()| c.word());
    let spaced = format!("  {x}   {y}  ");
    pair.passes_on(&spaced).diagnose_if("trims", |error| {
        let got = String::from_utf8_lossy(error.got().unwrap_or_default());
        let due = notice(&pair.topic, &spaced);
        got.replace(' ', "") == due.replace(' ', "") && got.len() < due.len()
    })?;

    let text = format!("{x}é{y}");
    pair.passes_on(&text)?;
    pair.passes_on_cut(c, &text, x.len() + 1)
        .diagnose_if_cured("cuts-characters", |_| {
            Pair::new(c).is_ok_and(|mut again| {
                again.passes_on(&text).is_ok()
                    && again.passes_on_cut(c, &text, x.len()).is_ok()
                    && again.passes_on_cut(c, &text, x.len() + 1).is_err()
            })
        })?;

    let long = c.word().repeat(LONGEST);
    pair.passes_on(&long[..LONGEST]).diagnose_if_cured(
        "short-lines-only",
        |_| {
            Pair::new(c).is_ok_and(|mut again| {
                again.passes_on(&long[..SHORT]).is_ok()
                    && again.passes_on(&long[..LONGEST]).is_err()
            })
        },
    )
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
    let _ = c.lab().wait_until("be counted no more", || {
        posts += 1;
        posted = post(poster, topic, "?", wanted).map_err(StepError::from);
        !posted
            .as_ref()
            .is_err_and(|error| count(error) > Some(wanted))
    });
    posted.map(|()| posts)
}

/// Only this client follows the topic still.
fn is_alone(
    c: &Check,
    client: &mut Peer,
    poster: &mut Peer,
    topic: &str,
) -> Result {
    let posts = until_count(c, poster, topic, 1)
        .diagnose_if("counts-the-dead", |error| count(error) > Some(1))?;
    Ok(client.expect(notice(topic, "?").repeat(posts))?)
}

/// A client that has not read yet, and what waits for it.
struct Pile {
    client: Peer,
    topic: String,
    notices: Vec<String>,
}

impl Pile {
    /// Nearly a mebibyte.
    fn up(c: &mut Check, poster: &mut Peer) -> Result<Self> {
        let topic = topic(c);
        let long = c.word().repeat(LONG);
        let mut client = c.connect_small("slow")?;
        follow(&mut client, &topic)?;
        let mut notices = Vec::new();
        for n in 0..SOME {
            let text = format!("{n} {}", &long[..LONG]);
            post_past(c, poster, &mut client, &topic, &text)
                .diagnose_if("throws-out-a-good-reader", |error| {
                    count(error) == Some(0) && ends(&mut client).is_ok()
                })?;
            notices.push(notice(&topic, &text));
        }
        Ok(Self {
            client,
            topic,
            notices,
        })
    }
}

/// True if what is posted now comes to a client, and a part of what was due
/// before it does not.
fn are_lost(
    error: &StepError,
    client: &mut Peer,
    poster: &mut Peer,
    topic: &str,
    due: &str,
) -> bool {
    // After silence the part that has come is still to be received.
    let mut got = match error.is(Wrong) {
        true => error.got().unwrap_or_default().to_vec(),
        false => Vec::new(),
    };
    let last = notice(topic, "the last one");
    let posted = post(poster, topic, "the last one", 1);
    while got.len() < due.len() + last.len()
        && let Ok(bytes) = client.receive()
    {
        got.extend(bytes);
    }
    let Some(before) = got.strip_suffix(last.as_bytes()) else {
        return false;
    };
    let mut due = due.bytes();
    posted.is_ok()
        && before.len() < due.len()
        && before.iter().all(|&byte| due.any(|b| b == byte))
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

/// Receives the end of the connection, by FIN or by RST, whatever comes before.
fn ends(client: &mut Peer) -> Result {
    match client.rest() {
        Err(failure) if *failure.fault == Fault::ConnectionReset => Ok(()),
        result => Ok(result.map(drop)?),
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
            Err(error) if count(&error) == Some(0) => {
                return is_closed(c, &mut deaf, poster, &topic);
            }
            Err(error) => return Err(error),
        }
    }
    let fault = Fault::Unexpected("it still is".to_owned());
    let error = c.error("deaf", "be thrown out", fault);
    Err(error.certainly("keeps-everything"))
}

/// The connection of a client that is counted no more must come to its end.
fn is_closed(
    c: &Check,
    deaf: &mut Peer,
    poster: &mut Peer,
    topic: &str,
) -> Result {
    c.note("it is counted no more, and reads now");
    match ends(deaf) {
        Err(error) if error.is(TimedOut) => {
            // Nor is it merely left out as long as it does not read.
            post(poster, topic, "?", 0)?;
            Err(error).diagnose_if_cured("never-closes", |_| {
                ends(deaf).is_err_and(|e| e.is(TimedOut))
                    && post(poster, topic, "?", 0).is_ok()
            })
        }
        result => result,
    }
}

/// Some post at once, and they and others follow.
fn in_one_order(c: &mut Check) -> Result {
    let topic = topic(c);
    let names = POSTERS.into_iter().chain(std::iter::repeat("follower"));
    let mut clients = names
        .take(FOLLOWERS)
        .map(|name| c.connect(name))
        .collect::<harness::Result<Vec<_>>>()?;
    for client in &mut clients {
        follow(client, &topic)?;
    }
    let texts = |name: &str| -> Vec<String> {
        (0..AT_ONCE).map(|n| format!("{name} {n}")).collect()
    };
    c.while_stopped(|| {
        clients[..POSTERS.len()].iter().try_for_each(|client| {
            let texts = texts(client.name());
            let lines = texts.iter().map(|t| format!("post {topic} {t}\n"));
            client.send_in_chunks(lines.collect::<String>(), LONG)
        })
    })?;
    let mut wanted: Vec<_> = POSTERS
        .iter()
        .flat_map(|name| texts(name))
        .map(|text| notice(&topic, &text))
        .collect();
    let answers = vec![format!("{FOLLOWERS}\n"); AT_ONCE];
    let mut with_answers = [wanted.clone(), answers].concat();
    wanted.sort();
    with_answers.sort();
    let mut first = Vec::new();
    for (n, client) in clients.iter_mut().enumerate() {
        let posts = n < POSTERS.len();
        let wanted = if posts { &with_answers } else { &wanted };
        let heard = hears(c, client, wanted)?;
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
