//! Exercise 10: a running sum for each of thousands.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use harness::{Fault, Lab, Peer, proc};

use crate::check::{Check, Rude, expect_gone};
use crate::diagnosis::Symptom::{Closed, TimedOut, Wrong};
use crate::diagnosis::{Diagnose, Result};

/// How many are connected at once, and how many are few.
const MANY: usize = 2000;
const FEW: usize = 20;
/// So many threads more for the many are no thread for each.
const MORE_THREADS: usize = 4;
/// For each client two descriptors, if a program should need them.
const DESCRIPTORS: usize = 2 * MANY + 1000;
const SPARE: usize = 100;
/// Several checks in one process share its descriptors.
static CROWD: Mutex<()> = Mutex::new(());
/// How many come before the first of them is answered: a fraction of what a
/// listener's queue takes.
const AT_ONCE: usize = 50;
/// How often something is tried that a lucky moment may hide.
const AGAIN: usize = 20;
/// A number whose sums are long, and how many short ones come behind it: more
/// than the kernels keep of the answers, and less than they keep of the lines.
const LARGE: i64 = 1_000_000_000_000_000;
const LINES: usize = 20_000;
/// How many bytes a client sends that never reads: more than all kernels keep.
/// How many of them a program may read: more than they keep of the answers. And
/// whoever reads so many does not throw the client out.
const UNREAD: usize = 12 << 20;
const READ: usize = 3 << 20;
const READ_ON: usize = 2 * READ;
/// What is no number, and what a part of it would be.
const WRONG: [(&[u8], &str); 4] = [
    (b"two\n", "none"),
    (b"12abc\n", "12"),
    (b"1.5\n", "1"),
    (b"\xff\n", "none"),
];
const LOOKS: usize = 3;
/// How many bytes are sent without a pause before others come.
const FLOOD: usize = 512 << 10;
/// How long the kernels' buffers may take until they are full, in timeouts.
const MANY_TIMEOUTS: u32 = 10;

const ONE_READ: &str = "one-read-one-line";
const THROWN_OUT: &str = "throws-out-a-non-reader";

pub(crate) fn check(c: &mut Check) -> Result {
    // What the checker starts may have as many.
    let allowed = harness::raise_descriptor_limit(DESCRIPTORS);
    c.begin()?;

    c.step("numbers that come in pieces, and at once, are added one by one");
    let mut a = Adder::new(c.connect("a")?);
    for _ in 0..3 {
        let number = c.rng().i64(-999..=999);
        a.adds(number)?;
    }
    adds_in_pieces(c, &mut a).diagnose_if(ONE_READ, |error| {
        // One number after the other is added, and several are not again.
        let again = |c: &mut Check| -> Result<bool> {
            let mut other = Adder::new(c.connect("other")?);
            other.adds(1)?;
            other.adds(2)?;
            Ok(adds_in_pieces(c, &mut other).fails_with(Closed))
        };
        error.is(Closed) && again(c).is_ok_and(|closed| closed)
    })?;

    c.step("each client has a sum of its own, and the beginning of a line");
    let mut b = Adder::new(c.connect("b")?);
    let [begun, other] = [c.rng().i64(10..=99), c.rng().i64(10..=99)];
    a.peer.send(begun.to_string())?;
    c.wait_until_read(&a.peer)?;
    b.adds(other)
        .diagnose_answer(format!("{begun}{other}\n"), "shared-buffer")?;
    a.sum += begun;
    a.peer.send("\n")?;
    a.peer.expect(format!("{}\n", a.sum))?;

    c.step("numbers and sums may have 64 bits");
    // A number with a fraction keeps fewer digits.
    let large = (1 << 62) + c.rng().i64(1..=99);
    for number in [large, -large, -large, large] {
        a.adds(number).diagnose_if("too-few-bits", |error| {
            error.is(Wrong) || error.is(Closed)
        })?;
    }

    c.step("a client that resets its connection ends only itself");
    let good = |c: &mut Check| -> Result {
        let mut next = Adder::new(c.connect("next")?);
        next.adds(7)?;
        next.peer.half_close()?;
        Ok(next.peer.expect_end()?)
    };
    for how in Rude::ALL {
        c.survives(good, |c| c.rude(how, "", "1\n", "1\n"))?;
    }
    a.adds(1)?;
    b.adds(1)?;

    let step = "2,000 clients are served with four threads more than 20, \
        at most";
    if c.step_with_program(step) {
        serves_many(c, allowed)?;
    }

    c.step("a line that is no number ends its own connection");
    for (line, part) in WRONG {
        c.survives(good, |c| {
            let mut wrong = c.connect("wrong")?;
            wrong.send(line)?;
            expect_gone(&mut wrong).diagnose_if("takes-a-part", |error| {
                error.is(Wrong) && wrong.line().is_ok_and(|line| line == part)
            })
        })?;
    }

    c.step("a client that reads late hinders nobody, and gets every answer");
    reads_late(c, &mut a)?;

    c.step("a client that never reads is not read from either");
    never_reads(c, &mut a)?;

    c.step("numbers right before the end of a client are answered, too");
    let mut last = c.connect("last")?;
    c.while_stopped(|| {
        last.send("5\n-7\n")?;
        last.half_close()
    })?;
    last.expect("5\n-2\n")
        .diagnose(Closed, "closes-before-it-answers")?;
    last.expect_end()?;

    c.step("a client that sends without a pause hinders nobody");
    let flood = c.connect("flood")?;
    let flood = Flood::new(c, &flood, usize::MAX, true)?;
    // On a busy machine its thread may come later than all that follows.
    let flows =
        || flood.sent.load(SeqCst) >= FLOOD || flood.broken.load(SeqCst);
    c.comes_within(c.lab().timeout(), flows);
    for n in 0..AGAIN {
        let sum = a.sum + 1;
        a.adds(1).diagnose_if_cured("starves-others", |error| {
            let wait = |peer: &mut Peer| peer.expect(format!("{sum}\n"));
            error.is(TimedOut)
                && c.is_cured(&mut a.peer, wait, |_| flood.ends())
        })?;
        if n == 0 {
            c.note("and again, while it goes on");
        }
    }
    flood.ends();
    a.adds(1)?;
    b.adds(1)
}

/// A client that knows its sum.
struct Adder {
    peer: Peer,
    sum: i64,
}

impl Adder {
    fn new(peer: Peer) -> Self {
        Self { peer, sum: 0 }
    }

    fn adds(&mut self, number: i64) -> Result {
        self.sum += number;
        self.peer.send(format!("{number}\n"))?;
        Ok(self.peer.expect(format!("{}\n", self.sum))?)
    }
}

/// Sends a number with the first half of another one behind it, and then the
/// rest of that together with two more.
fn adds_in_pieces(c: &mut Check, client: &mut Adder) -> Result {
    let [whole, x, y] = [(); 3].map(|()| c.rng().i64(-99..=99));
    let (first, last) = (c.rng().i64(1..=9), c.rng().i64(1..=9));
    client.sum += whole;
    let sum = client.sum;
    client.peer.send(format!("{whole}\n{first}"))?;
    // When it is answered, the half behind it has been read.
    client.peer.expect(format!("{sum}\n"))?;
    client.peer.send(format!("{last}\n{x}\n{y}\n"))?;
    let answers = [10 * first + last, x, y].map(|number| {
        client.sum += number;
        format!("{}\n", client.sum)
    });
    let wrong = [first, last].map(|half| format!("{}\n", sum + half));
    client
        .peer
        .expect(answers.concat())
        .diagnose_if(ONE_READ, |error| {
            wrong.iter().any(|wrong| error.begins_with(wrong))
                && !error.begins_with(&answers[0])
        })
}

fn serves_many(c: &mut Check, allowed: usize) -> Result {
    let Some(_) = threads(c) else {
        let why = "only Linux tells how many threads a program has";
        c.skip("how many threads 2,000 clients take", why);
        return Ok(());
    };
    let _alone = CROWD.lock().unwrap_or_else(PoisonError::into_inner);
    let count = MANY.min(allowed.saturating_sub(SPARE));
    c.note(format!("{count} clients come, and each is answered twice"));
    if count < MANY {
        c.note("(no more descriptors are allowed: see `ulimit -Hn`)");
    }
    // Thousands of lines of it would hide the rest.
    let (lab, addr) = (c.lab().unseen(), c.addr());
    let connect = |lab: &Lab| Ok(Adder::new(lab.connect("one of many", addr)?));
    let mut crowd: Vec<Adder> = Vec::new();
    let mut few = 0;
    let mut served = || -> Result {
        while crowd.len() < count {
            let more = if crowd.is_empty() { FEW } else { AT_ONCE };
            let come: Result<Vec<_>> =
                (0..more).map(|_| connect(&lab)).collect();
            let mut come = come?;
            for client in &mut come {
                client.adds(5)?;
            }
            crowd.append(&mut come);
            if few == 0 {
                few = threads(c).unwrap_or_default();
            }
        }
        // The last one first.
        crowd
            .iter_mut()
            .rev()
            .try_for_each(|client| client.adds(-7))
    };
    let served = served();
    let many = threads(c).unwrap_or_default();
    let more = many.saturating_sub(few);
    c.note(format!("{few} threads for {FEW} clients, {many} for all"));
    served.diagnose_if("thread-per-client", |_| {
        few > 0 && more > crowd.len() / 2
    })?;
    if more > MORE_THREADS {
        let wanted = format!("have at most {} threads", few + MORE_THREADS);
        let fault = Fault::Unexpected(format!("{many} threads"));
        let error = c.error("program", wanted, fault);
        return Err(match more > count / 2 {
            true => error.certainly("thread-per-client"),
            false => error,
        });
    }
    // Not FIN: that would leave thousands in TIME-WAIT.
    let resets = crowd.into_iter().map(|client| client.peer.reset());
    Ok(resets.collect::<harness::Result>()?)
}

fn threads(c: &mut Check) -> Option<usize> {
    c.program()?.threads()
}

/// Short lines with long answers: the kernels keep the lines for a program that
/// does not read on, and not the answers.
struct Numbers {
    lines: Vec<u8>,
    answers: String,
    sums: BTreeSet<String>,
    last: String,
}

impl Numbers {
    fn new(c: &mut Check) -> Self {
        let mut sum = LARGE;
        let mut lines = format!("{sum}\n");
        let mut answers = lines.clone();
        let mut sums = BTreeSet::new();
        for _ in 0..LINES {
            let number = c.rng().i64(1..=9);
            sum += number;
            lines += &format!("{number}\n");
            answers += &format!("{sum}\n");
            sums.insert(sum.to_string());
        }
        Self {
            lines: lines.into_bytes(),
            answers,
            sums,
            last: sum.to_string(),
        }
    }

    /// Receives the answers to the end. If they end before, what does one number
    /// more bring?
    fn received_by(&self, c: &Check, client: &mut Peer) -> Result {
        let brought = RefCell::new(String::new());
        let wait = |a: &mut Peer| a.line().map(|l| *brought.borrow_mut() = l);
        let says_more = |a: &mut Peer| a.send("0\n").is_ok();
        client
            .expect(&self.answers)
            .diagnose_if_cured("waits-for-new-bytes", |error| {
                let got = error.got().unwrap_or_default().len();
                let Some((before, rest)) = self.answers.split_at_checked(got)
                else {
                    return false;
                };
                error.has_timed_out()
                    && client.expect(before).is_ok()
                    && c.is_cured(client, wait, says_more)
                    && rest.lines().next() == Some(&brought.borrow())
            })
            .diagnose_if_cured("loses-unsent", |error| {
                let got = error.got().unwrap_or_default();
                *brought.borrow() == self.last
                    || error.is(Wrong) && self.have_a_gap(got, client)
            })
    }

    /// True if behind the right answers come sums to which others belong that
    /// have not come. (An answer that comes twice is none of them.)
    fn have_a_gap(&self, got: &[u8], client: &mut Peer) -> bool {
        let pairs = got.iter().zip(self.answers.as_bytes());
        let right = pairs.take_while(|(a, b)| a == b).count();
        let start = self.answers[..right].rfind('\n').map_or(0, |at| at + 1);
        let next = self.answers[start..].lines().next().unwrap_or_default();
        let text = String::from_utf8_lossy(&got[start..]).into_owned();
        let mut lines = text.split_inclusive('\n').map(str::trim_end);
        let wrong = lines.next().unwrap_or_default();
        let behind = match lines.next() {
            Some(line) if text.matches('\n').count() > 1 => line.to_owned(),
            _ => client.line().unwrap_or_default(),
        };
        // All sums have as many digits.
        !wrong.ends_with(next)
            && self.sums.contains(&behind)
            && behind.as_str() > next
    }
}

/// A client sends thousands of numbers, and reads the answers as they come;
/// another one does not read the first before they have come to a standstill.
fn reads_late(c: &mut Check, a: &mut Adder) -> Result {
    let numbers = Numbers::new(c);
    let mut quick = c.connect("quick")?;
    let _sending = quick.send_in_background(numbers.lines.clone(), 64 << 10);
    numbers.received_by(c, &mut quick)?;

    let late = c.connect_small("late")?;
    let _sending = late.send_in_background(numbers.lines.clone(), 64 << 10);
    late.wait_until_stalled()?;
    c.note("it has answers now that it does not take");
    let local = late.local_addr()?;
    let mut late = Some(late);
    stands_still(c, local, |_| {
        let trips = (0..AGAIN).try_for_each(|_| a.adds(1));
        let answer = format!("{}\n", a.sum);
        trips.diagnose_if_cured("waits-for-a-non-reader", |error| {
            let wait = |peer: &mut Peer| peer.expect(&answer);
            let leave = |_: &mut Peer| late.take().map(Peer::close).is_some();
            error.is(TimedOut) && c.is_cured(&mut a.peer, wait, leave)
        })
    })?;
    let Some(mut late) = late else {
        return Ok(());
    };
    c.note("now it reads");
    numbers
        .received_by(c, &mut late)
        .diagnose(Closed, THROWN_OUT)?;
    late.half_close()?;
    Ok(late.expect_end()?)
}

/// Waits until nothing moves any more on the connection of the client at
/// `local`, where the system tells. `round_trips`, of another client, are the
/// clock: they get what waits on the connection.
fn stands_still(
    c: &Check,
    local: SocketAddr,
    mut round_trips: impl FnMut(Option<[usize; 4]>) -> Result,
) -> Result {
    let mut before = None;
    let mut same = 0;
    let began = Instant::now();
    while same < LOOKS {
        let timeout = MANY_TIMEOUTS * c.lab().timeout();
        if began.elapsed() > timeout {
            let fault = Fault::Unexpected(format!("more for {timeout:?}"));
            let wanted = "come to an end with a client that does not read";
            return Err(c.error("program", wanted, fault));
        }
        let now = proc::queues(c.addr(), local);
        same = if now == before { same + 1 } else { 0 };
        before = now;
        round_trips(now)?;
    }
    Ok(())
}

/// A client sends megabytes, and never reads.
fn never_reads(c: &mut Check, a: &mut Adder) -> Result {
    let never = c.connect_small("never")?;
    let flood = Flood::new(c, &never, UNREAD, false)?;
    let local = never.local_addr()?;
    let mut read = 0;
    let keeps = |c: &Check, read: usize| {
        let wanted = "be read from no more";
        let fault = Fault::Unexpected(format!(
            "{} MiB are taken, and none of the answers was read",
            read >> 20
        ));
        Err(c
            .error("never", wanted, fault)
            .certainly("keeps-everything"))
    };
    stands_still(c, local, |waits| {
        let sent = flood.sent.load(SeqCst);
        let left = waits.map_or(0, |[unread, _, _, unsent]| unread + unsent);
        read = sent.saturating_sub(left);
        if sent >= UNREAD || waits.is_some() && read >= READ_ON {
            return keeps(c, read);
        }
        (0..AGAIN).try_for_each(|_| a.adds(1))
    })?;
    if flood.broken.load(SeqCst) {
        let fault = Fault::ConnectionReset;
        let error = c.error("never", "keep its connection", fault);
        return Err(error).diagnose(Closed, THROWN_OUT);
    }
    if proc::queues(c.addr(), local).is_some() && read >= READ {
        return keeps(c, read);
    }
    flood.ends();
    Ok(())
}

/// A client that sends the same block again and again, from a thread.
struct Flood {
    stream: TcpStream,
    sent: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    /// The program has ended the connection.
    broken: Arc<AtomicBool>,
}

impl Flood {
    /// Sends at least `most` bytes, and reads all answers if it `reads`.
    fn new(c: &Check, client: &Peer, most: usize, reads: bool) -> Result<Self> {
        let block = b"1000000000\n".repeat(6000);
        let clone = || client.stream().try_clone();
        let start = || -> io::Result<Self> {
            let (mut writer, mut reader) = (clone()?, clone()?);
            let flood = Self {
                stream: clone()?,
                sent: Arc::default(),
                stop: Arc::default(),
                broken: Arc::default(),
            };
            if reads {
                thread::spawn(move || {
                    let mut buffer = vec![0; 64 << 10];
                    while reader.read(&mut buffer).is_ok_and(|n| n > 0) {}
                });
            }
            let (sent, stop) = (flood.sent.clone(), flood.stop.clone());
            let broken = flood.broken.clone();
            thread::spawn(move || {
                while !stop.load(SeqCst) && sent.load(SeqCst) < most {
                    if writer.write_all(&block).is_err() {
                        broken.store(!stop.load(SeqCst), SeqCst);
                        break;
                    }
                    sent.fetch_add(block.len(), SeqCst);
                }
            });
            Ok(flood)
        };
        let wanted = "send from a thread";
        start().map_err(|error| c.error("lab", wanted, error.into()))
    }

    fn ends(&self) -> bool {
        self.stop.store(true, SeqCst);
        self.stream.shutdown(Shutdown::Both).is_ok()
    }
}

/// Whoever fails leaves no thread behind that sends.
impl Drop for Flood {
    fn drop(&mut self) {
        self.ends();
    }
}
