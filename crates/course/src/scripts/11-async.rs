//! Exercise 11: pass it on.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use harness::{Fault, Listener, Peer, bytes, joined, proc};
use socket2::{Domain, Socket, Type};

use crate::check::{Check, Rude, expect_gone};
use crate::diagnosis::Symptom::{Closed, TimedOut, Wrong};
use crate::diagnosis::{Diagnose, Result, StepError};

/// More than the kernel keeps in two connections (measured for both
/// directions of one: 6.8 to 8.1 MiB).
const TOO_MUCH: usize = 32 << 20;
const CHUNK: usize = 64 << 10;
/// What comes at once: more than a buffer that a program reads into, and less
/// than the kernel keeps.
const BLOCK: usize = 64 << 10;
/// So many bytes have one number, and twice as many tell where they come from:
/// see [`Marked`].
const UNIT: usize = 64;
const MARK: usize = 2 * UNIT;
/// More than a pool of threads has, where nobody has thought about it.
const SILENT: usize = 40;
/// Who listens may have room for so many only that it has not accepted yet.
const AT_ONCE: usize = 20;
/// Each of them lets a write that waits take a little more, until it cannot.
const PIECES: usize = 100;
const PIECE: usize = 8 << 10;
/// When nothing moves for so long, it is taken for stuck. If it is not, less is
/// proved.
const STILL: Duration = Duration::from_millis(50);
/// Where nobody answers, Linux tries again after 1, 3 and 7 seconds: tcp(7),
/// `tcp_syn_retries`.
const NEXT_ATTEMPT: Duration = Duration::from_secs(8);
const TEXT: &str = "takes-bytes-for-text";
const SHARED: &str = "shared-buffer";
const LEAVES_OPEN: &str = "leaves-the-target-open";
/// Text in UTF-8, and what is none.
const GOOD_TEXT: &[u8] = "é你".as_bytes();
const NO_TEXT: &[u8] = b"\x80\xc3(";
const ANY_PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

pub(crate) fn check(c: &mut Check) -> Result {
    c.begin()?;
    let mut listener = c.lab().listen("listener")?;

    c.step("what each of the two sends reaches the other, at once");
    let Relayed {
        mut client,
        mut target,
    } = relayed(c, &listener)?;
    passes(c, &mut client, &mut target).diagnose_if_cured(TEXT, |error| {
        lets_only_text_through(error, || {
            let Relayed { client, target } = relayed(c, &listener)?;
            Ok([client, target])
        })
    })?;
    passes(c, &mut target, &mut client).diagnose_if_cured(TEXT, |error| {
        lets_only_text_through(error, || {
            let Relayed { client, target } = relayed(c, &listener)?;
            Ok([target, client])
        })
    })?;
    passes(c, &mut target, &mut client)?;
    passes(c, &mut client, &mut target)?;
    passes(c, &mut client, &mut target)?;
    passes_while_one_does_not_read(c, &mut client, &mut target)?;

    c.step("nobody waits for another client, or gets what it sends");
    // All of them stay to the end, if it is not asked for whom others wait.
    let mut silent = Some(silent_clients(c));
    let stuck = c.connect("stuck")?;
    let mut dead = dead_address().ok();
    if let Some((addr, _)) = &dead {
        stuck.send(format!("{addr}\n"))?;
        // Where clients wait for each other it is not read.
        let _ = c.wait_until_read(&stuck);
    }
    let (mark, much) = send_until_stuck(c, &client)?;
    let mut first = Some((client, target));
    let next = relayed(c, &listener);
    let next = next.and_then(|mut next| next.talk(c).map(|()| next));
    let next = next.diagnose_if_cured("blocks-the-others", |error| {
        error.is(TimedOut) && listener.accept("late").is_err() && {
            listener.set_timeout(c.lab().timeout() / 4);
            drop(first.take());
            let mut is_cured = listener.accept("next").is_ok();
            drop(silent.take());
            is_cured |= listener.accept("next").is_ok();
            drop(dead.take());
            listener.set_timeout(NEXT_ATTEMPT);
            is_cured || listener.accept("next").is_ok()
        }
    })?;
    let Relayed {
        client: mut other,
        target: mut others_target,
    } = next;
    let forth = passes_a_block(c, &other, &mut others_target, mark)?;
    let back = passes_a_block(c, &others_target, &mut other, mark)?;
    if let Some((client, target)) = &mut first {
        c.note("now the target that did not read reads");
        arrives(client, target, mark, &much, &[forth, back])?;
    }

    c.step("the first line ends at its newline, however it comes");
    in_pieces(c, &listener).diagnose_if("one-read-one-line", |error| {
        // In one piece it is understood.
        error.is(Closed)
            && relayed(c, &listener).is_ok()
            && in_pieces(c, &listener).fails_with(Closed)
    })?;
    with_more_behind(c, &listener)?;

    c.step("an end is passed on, and the other direction goes on");
    let Relayed { client, target } = relayed(c, &listener)?;
    end_in_turn(c, client, target)?;
    let Relayed { client, target } = relayed(c, &listener)?;
    end_in_turn(c, target, client)?;

    c.step("an error of one client ends only its own connection");
    let (refuses, _bound) = bound()
        .map_err(|error| c.error("checker", "bind a socket", error.into()))?;
    for line in [format!("{refuses}\n"), "nobody\n".into(), "\n".into()] {
        let rude = |c: &mut Check| {
            let mut client = c.connect("rude")?;
            client.send(&line)?;
            expect_gone(&mut client)
        };
        survives(c, rude)?;
    }
    let sink = c.lab().listen("sink")?;
    let line = format!("{}\n", sink.addr());
    for how in Rude::ALL {
        survives(c, |c| c.rude(how, "", &line, ""))?;
    }

    c.step("who breaks off takes the other along, and nobody else");
    survives(c, |c| {
        let Relayed { client, mut target } = relayed_anew(c)?;
        client.reset()?;
        expect_gone(&mut target).diagnose_if_cured(LEAVES_OPEN, |error| {
            error.is(TimedOut)
                && expect_gone(&mut target).is_err()
                && still_relays(c)
        })
    })?;
    survives(c, |c| {
        let Relayed { mut client, target } = relayed_anew(c)?;
        target.reset()?;
        expect_gone(&mut client)
    })?;
    survives(c, |c| {
        let Relayed { client, target } = relayed_anew(c)?;
        client.close();
        cannot_send_for_ever(c, &target)
            .diagnose_if_cured(LEAVES_OPEN, |error| {
                error.is(TimedOut) && still_relays(c)
            })
    })?;
    survives(c, |c| {
        let Relayed { client, target } = relayed_anew(c)?;
        target.close();
        cannot_send_for_ever(c, &client)
    })
}

/// A client and its target, that a relay has connected.
struct Relayed {
    client: Peer,
    target: Peer,
}

impl Relayed {
    fn talk(&mut self, c: &mut Check) -> Result {
        passes(c, &mut self.client, &mut self.target)?;
        passes(c, &mut self.target, &mut self.client)
    }
}

/// Bytes that nobody else sends, of which a few tell from which place they are.
#[derive(Clone, Copy)]
struct Marked(u32);

impl Marked {
    fn new(c: &mut Check) -> Self {
        Self(c.rng().u32(..))
    }

    /// `count` of them, from `start` on.
    fn bytes(self, start: usize, count: usize) -> Vec<u8> {
        let mark = u64::from(self.0) << 32;
        let mut bytes = Vec::with_capacity(count + 2 * UNIT);
        for number in start / UNIT..=(start + count) / UNIT {
            let number = (mark | number as u64).to_be_bytes();
            bytes.extend_from_slice([number; UNIT / 8].as_flattened());
        }
        bytes.drain(..start % UNIT);
        bytes.truncate(count);
        bytes
    }

    /// Where `part` begins, if it begins with some of them.
    fn place(self, part: &[u8]) -> Option<usize> {
        let part = part.get(..MARK)?;
        (0..UNIT).find_map(|at| {
            let number = part[at..at + 8].try_into().ok()?;
            let number = u64::from_be_bytes(number) & u64::from(u32::MAX);
            let start = (number as usize * UNIT).checked_sub(at)?;
            (self.bytes(start, MARK) == part).then_some(start)
        })
    }
}

fn relayed(c: &Check, listener: &Listener) -> Result<Relayed> {
    let client = c.connect("client")?;
    client.send(format!("{}\n", listener.addr()))?;
    let target = listener.accept("target")?;
    Ok(Relayed { client, target })
}

/// As [`relayed`], with a listener that is seen only if the check's lab is.
fn relayed_anew(c: &Check) -> Result<Relayed> {
    relayed(c, &c.lab().listen("listener")?)
}

/// No line, and no text.
fn binary(c: &mut Check) -> Vec<u8> {
    [c.word().as_bytes(), &[0, 0xff]].concat()
}

fn passes(c: &mut Check, from: &mut Peer, to: &mut Peer) -> Result {
    let word = binary(c);
    from.send(&word)?;
    let wait = |to: &mut Peer| to.expect(&word);
    let waited = wait(to);
    let waited = waited
        .diagnose_if(TEXT, |error| is_taken_for_text(&word, error, from, to));
    waited.diagnose_if_cured("in-turns", |error| {
        let goes_on = |to: &mut Peer| {
            from.send("more").is_ok() && to.expect("more").is_ok()
        };
        error.is(TimedOut)
            && (c.is_cured(to, wait, |to| to.send("your turn").is_ok())
                || c.is_cured(to, wait, |to| to.half_close().is_ok())
                    // It was not all kept, and passed on at the end.
                    && goes_on(to))
    })
}

/// True if what came is what remains of `word` when it has been text: in UTF-8,
/// Latin-1 or ASCII, or up to the zero that ends it in C.
fn is_taken_for_text(
    word: &[u8],
    error: &StepError,
    from: &Peer,
    to: &mut Peer,
) -> bool {
    let got = error.got().unwrap_or_default();
    let text = &word[..word.len() - 2];
    if error.is(Wrong) {
        let lossy = String::from_utf8_lossy(word);
        let latin: String = word.iter().copied().map(char::from).collect();
        let ascii = [text, b"\0?"].concat();
        return [lossy.as_bytes(), latin.as_bytes(), &ascii].contains(&got);
    }
    // What is no text may be left out, as it is again.
    let Some(rest @ (b"" | b"\0")) = got.strip_prefix(text) else {
        return false;
    };
    error.has_timed_out()
        && from.send([GOOD_TEXT, b"\0\x80"].concat()).is_ok()
        && to.expect([got, GOOD_TEXT, rest].concat()).is_ok()
        && from.send("more").is_ok()
        && to.expect("more").is_ok()
}

/// True if what is no text is always too much for a new `pair`, and text never.
fn lets_only_text_through(
    error: &StepError,
    pair: impl Fn() -> Result<[Peer; 2]>,
) -> bool {
    let says = |word: &[u8]| -> Result {
        let [from, mut to] = pair()?;
        from.send(word)?;
        Ok(to.expect(word)?)
    };
    let is_it = |error: &StepError| error.is(Closed) || error.is(TimedOut);
    is_it(error)
        && (0..2).all(|_| {
            says(GOOD_TEXT).is_ok() && says(NO_TEXT).is_err_and(|e| is_it(&e))
        })
}

/// What `client` sends fills all buffers, since `target` does not read.
fn passes_while_one_does_not_read(
    c: &mut Check,
    client: &mut Peer,
    target: &mut Peer,
) -> Result {
    let (mark, much) = send_until_stuck(c, client)?;
    let pieces = Marked::new(c);
    for n in 0..PIECES {
        let piece = pieces.bytes(n * PIECE, PIECE);
        target.send(&piece)?;
        let wait = |client: &mut Peer| client.expect(&piece);
        let waited = wait(client).diagnose_if(SHARED, |error| {
            let (_, mut wrong) = wrong_part(error, &piece);
            error.is(Wrong) && is_of_others(&mut wrong, client, &[mark])
        });
        waited.diagnose_if_cured("in-turns", |error| {
            let read = |_: &mut Peer| target.expect(&much).is_ok();
            error.is(TimedOut) && c.is_cured(client, wait, read)
        })?;
    }
    let back = passes_a_block(c, target, client, mark)?;
    arrives(client, target, mark, &much, &[pieces, back])
}

/// Sends until nothing moves any more, and gives what was sent.
fn send_until_stuck(c: &mut Check, client: &Peer) -> Result<(Marked, Vec<u8>)> {
    let mark = Marked::new(c);
    let blocking = |yes: bool| {
        client.stream().set_nonblocking(!yes).map_err(|error| {
            c.error("client", "wait for nothing", error.into())
        })
    };
    c.note("the client sends, and the target does not read");
    let (mut much, mut sent) = (Vec::new(), 0);
    let mut send = || {
        if much.len() < sent + CHUNK {
            much.append(&mut mark.bytes(much.len(), CHUNK));
        }
        let part = &much[sent..sent + CHUNK];
        let count = client.stream().write(part).unwrap_or_default();
        sent += count;
        count > 0
    };
    blocking(false)?;
    let mut rounds = 0..TOO_MUCH / CHUNK;
    while rounds.next().is_some() && c.comes_within(STILL, &mut send) {}
    blocking(true)?;
    much.truncate(sent);
    Ok((mark, much))
}

/// What comes at once is passed on, while what has `stuck` does not move.
fn passes_a_block(
    c: &mut Check,
    from: &Peer,
    to: &mut Peer,
    stuck: Marked,
) -> Result<Marked> {
    let mark = Marked::new(c);
    let block = mark.bytes(0, BLOCK);
    c.while_stopped(|| from.send(&block))?;
    arrives(from, to, mark, &block, &[stuck])?;
    Ok(mark)
}

/// Receives all that was sent. If it is something else, is it from `others`, or
/// does it belong behind what has not come?
fn arrives(
    from: &Peer,
    to: &mut Peer,
    mark: Marked,
    sent: &[u8],
    others: &[Marked],
) -> Result {
    let received = to.expect(sent);
    let (mut right, mut wrong) = (0, Vec::new());
    received
        .diagnose_if(SHARED, |error| {
            (right, wrong) = wrong_part(error, sent);
            error.is(Wrong) && is_of_others(&mut wrong, to, others)
        })
        .diagnose_if("loses-unsent", |error| match error.is(Wrong) {
            true => mark.place(&wrong).is_some_and(|place| place > right),
            false => {
                error.has_timed_out()
                    && from.send("more").is_ok()
                    && to.expect([&sent[..right], b"more"].concat()).is_ok()
            }
        })
}

/// How much came of what was sent, and what came behind it instead.
fn wrong_part(error: &StepError, sent: &[u8]) -> (usize, Vec<u8>) {
    let got = error.got().unwrap_or_default();
    let pairs = got.iter().zip(sent);
    let right = pairs.take_while(|(got, sent)| got == sent).count();
    (right, got[right..].to_vec())
}

/// True if something of `others` is in `wrong` or soon behind it: what comes first
/// may be what was said before, which has no marks.
fn is_of_others(wrong: &mut Vec<u8>, to: &mut Peer, others: &[Marked]) -> bool {
    let is_there = |wrong: &[u8]| {
        (0..wrong.len())
            .step_by(UNIT)
            .any(|at| others.iter().any(|o| o.place(&wrong[at..]).is_some()))
    };
    while wrong.len() < BLOCK
        && !is_there(wrong)
        && let Ok(mut more) = to.receive()
    {
        wrong.append(&mut more);
    }
    is_there(wrong)
}

/// The first line in two pieces.
fn in_pieces(c: &mut Check, listener: &Listener) -> Result {
    let mut client = c.connect("client")?;
    let line = format!("{}\n", listener.addr());
    // In the IP address, so that the first piece names nobody.
    let (piece, rest) = line.split_at(c.rng().usize(1..=8));
    client.send(piece)?;
    c.wait_until_read(&client)?;
    client.send(rest)?;
    match listener.accept("target") {
        Ok(target) => Relayed { client, target }.talk(c),
        Err(_) if expect_gone(&mut client).is_ok() => {
            let end = Fault::UnexpectedEof { got: 0, wanted: 1 };
            Err(c.error("client", "be connected to its target", end))
        }
        Err(failure) => Err(failure.into()),
    }
}

/// The first line, and what is for the target, in one write.
fn with_more_behind(c: &mut Check, listener: &Listener) -> Result {
    let (client, word) = (c.connect("client")?, binary(c));
    let line = format!("{}\n", listener.addr());
    client.send([line.as_bytes(), &word].concat())?;
    let mut target = listener.accept("target")?;
    target
        .expect(&word)
        .diagnose_if("loses-the-first-bytes", |error| {
            error.is(TimedOut)
                && client.send("more").is_ok()
                && target.expect("more").is_ok()
        })?;
    Relayed { client, target }.talk(c)
}

fn end_in_turn(c: &mut Check, mut first: Peer, mut second: Peer) -> Result {
    passes(c, &mut first, &mut second)?;
    passes(c, &mut second, &mut first)?;
    first.half_close()?;
    second.expect_end().diagnose_if_cured(
        "half-close-not-passed",
        |error| {
            error.is(TimedOut)
                && second.expect_end().is_err()
                && passes(c, &mut second, &mut first).is_ok()
        },
    )?;
    let word = binary(c);
    second.send(&word)?;
    first
        .expect(&word)
        .diagnose(Closed, "closes-both-at-the-first-end")?;
    second.half_close()?;
    Ok(first.expect_end()?)
}

/// Nobody reads what `peer` sends, and it is told so.
fn cannot_send_for_ever(c: &Check, peer: &Peer) -> Result {
    let sending = peer.send_in_background(bytes(TOO_MUCH), CHUNK);
    let Err(failure) = joined(sending) else {
        let fault = Fault::Unexpected("all of it was taken".to_owned());
        let wanted = "be told that nobody reads any more";
        return Err(c.error(peer.name(), wanted, fault));
    };
    match *failure.fault {
        Fault::ConnectionReset => Ok(()),
        _ => Err(failure.into()),
    }
}

/// They connect, and say nothing. If some are not accepted, no more come.
fn silent_clients(c: &Check) -> Vec<Peer> {
    let mut silent = Vec::new();
    let none_waits = || proc::accept_queue(c.addr()).unwrap_or_default() == 0;
    for _ in 0..SILENT / AT_ONCE {
        let come = (0..AT_ONCE).map_while(|_| c.connect("silent").ok());
        silent.extend(come);
        if c.lab().wait_until("accept", none_waits).is_err() {
            break;
        }
    }
    silent
}

fn still_relays(c: &mut Check) -> bool {
    relayed_anew(c).is_ok_and(|mut other| other.talk(c).is_ok())
}

fn survives(c: &mut Check, rude: impl Fn(&mut Check) -> Result) -> Result {
    let good = |c: &mut Check| relayed_anew(c)?.talk(c);
    let Err(error) = rude(c).and_then(|()| good(c)) else {
        return Ok(());
    };
    Err(c.ends_with("error-ends-server", error, good, rude))
}

/// An address that does not answer, for as long as the rest is kept: its
/// accept queue is full. (Elsewhere than on Linux it may be only silent.)
fn dead_address() -> io::Result<(SocketAddr, (TcpListener, TcpStream))> {
    let (addr, socket) = bound()?;
    socket.listen(0)?;
    Ok((addr, (socket.into(), TcpStream::connect(addr)?)))
}

/// An address that nobody listens at, and nobody else can take.
fn bound() -> io::Result<(SocketAddr, Socket)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from(ANY_PORT).into())?;
    let addr = socket.local_addr()?.as_socket();
    Ok((addr.ok_or(io::ErrorKind::InvalidData)?, socket))
}
