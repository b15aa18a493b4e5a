//! Exercise 02: greet visitors, and be back at once after a restart.

use std::net::{Shutdown, SocketAddr, TcpListener};

use harness::{Failure, Fault, Peer};
use socket2::{Domain, Protocol, Socket, Type};

use crate::check::{Check, Rude};
use crate::diagnosis::Symptom::{
    Exited, Refused, Reset, TimedOut, TimedOutAnyway,
};
use crate::diagnosis::{Diagnose, Result, StepError};

/// How often a visitor comes again whose connection was reset.
const AGAIN: usize = 3;
const OUT_OF_ORDER: &str = "calls-out-of-order";
/// What `EINVAL` is called in the messages of programs on Unix, in any human
/// language: its number is 22.
const INVALID: [&str; 4] = ["os error 22", "code: 22,", "errno 22", "einval"];

pub(crate) fn check(c: &mut Check) -> Result {
    c.begin().map_err(|error| named_invalid(c, error))?;
    let visitors = c.rng().usize(2..=5);
    c.step("each visitor is greeted, and the server closes first");
    if c.is_ours() {
        visit(c, visitors)?;
    } else {
        greeted(c)?;
    }

    if cfg!(unix)
        && c.step_with_program("a second copy on the same port is refused")
    {
        a_second_copy(c, visitors)?;
    }

    let step = "killed and started again, it listens at once";
    if harness::proc::time_wait_is_full() == Some(true) {
        c.skip(step, "the kernel has no room for closed connections now");
    } else if c.step_with_program(step) {
        // It closed first, so that the kernel keeps the connections in the
        // state TIME-WAIT.
        let addr = c.addr();
        greeted(c)?;
        c.kill()?;
        let started = c.start(&addr.to_string());
        let ended = started.as_ref().is_err_and(|_| has_ended(c));
        let option = if ended { option(addr) } else { None };
        // Only the program's own start at such an address, whoever used it
        // before, proves that this is what it ends with.
        let id = match option {
            Some(true) => "set-after-bind",
            _ => "no-reuse-addr",
        };
        let started = match option {
            Some(can) if fails_in_time_wait(c) => {
                // The last word, because it decides.
                c.note(if can {
                    "the checker's own listener, with SO_REUSEADDR, may bind \
                     at your program's address"
                } else {
                    "the checker's own listener, with SO_REUSEADDR, may not bind \
                     at your program's address, either"
                });
                started.diagnose(Exited, id)
            }
            _ => started,
        };
        started.diagnose(TimedOutAnyway, "waits-it-out")?;
        visit(c, 1)?;
    }

    c.step("a visitor that resets its connection ends only itself");
    for how in Rude::ALL {
        for _ in 0..AGAIN {
            let rude = |c: &mut Check| match how {
                Rude::ResetsInALine => greeted(c),
                _ => c.rude(how, "", "hello\n", ""),
            };
            c.survives(greeted, rude)?;
        }
    }
    Ok(())
}

/// A second copy must end, with a word and a code that say so, and the first
/// one must go on.
fn a_second_copy(c: &mut Check, visitors: usize) -> Result {
    const WHO: &str = "second copy";
    let addr = c.addr();
    let mut second = c.spawn("second", &addr.to_string())?;
    second.set_timeout(c.time_to_start());
    match second.wait_until_listening() {
        Ok(said) => {
            let fault = Fault::Unexpected(format!("listening on {said}"));
            let error = c.error(WHO, "fail to start", fault);
            if said.port() != addr.port() {
                return Err(error.certainly("ignores-its-argument"));
            }
            // If the first one has ended by itself, the port was free.
            second.kill()?;
            visitor(c, visitors + 1, None)?;
            return Err(error.certainly("reuse-port"));
        }
        // Another line says why: on which output is its own affair.
        Err(failure)
            if matches!(
                *failure.fault,
                Fault::Exited { .. } | Fault::Unexpected(_)
            ) => {}
        Err(failure) => {
            let wanted = "end with an error".to_owned();
            let failure = Failure { wanted, ..failure };
            return Err(failure).diagnose(TimedOut, "waits-it-out");
        }
    }
    let ended = second.exit().map_err(|failure| {
        let wanted = "end with an error".to_owned();
        Failure { wanted, ..failure }
    });
    if ended.diagnose(TimedOut, "waits-it-out")?.success() {
        let wanted = "end with an exit code that is not 0";
        let fault = Fault::Exited {
            status: "exit code 0".to_owned(),
            stderr: String::new(),
        };
        let error = c.error(WHO, wanted, fault);
        return Err(error.certainly("fails-with-code-0"));
    }
    if second.stdout().is_empty() && second.stderr().is_empty() {
        let fault = Fault::Unexpected(String::new());
        let error = c.error(WHO, "say why it ends", fault);
        return Err(error.certainly("fails-silently"));
    }
    Ok(())
}

fn has_ended(c: &mut Check) -> bool {
    c.program()
        .is_some_and(|program| program.status().is_some())
}

/// Visitors 1 to `count`, one after the other.
fn visit(c: &mut Check, count: usize) -> Result {
    let mut last = None;
    for number in 1..=count {
        last = Some(visitor(c, number, last)?);
    }
    Ok(())
}

/// A visitor whose number does not matter: a rude one may have been counted.
fn greeted(c: &mut Check) -> Result {
    let mut visitor = c.connect("visitor")?;
    visitor.expect("you are visitor ")?;
    visitor.line()?;
    Ok(visitor.expect_end()?)
}

/// A visitor that stays, as the one before it does.
fn visitor(c: &mut Check, number: usize, last: Option<Peer>) -> Result<Peer> {
    let error = match try_visitor(c, number, last) {
        Ok(visitor) => return Ok(visitor),
        Err(error) => error,
    };
    if error.is(Reset) && resets_always(c) {
        return Err(error.certainly("resets"));
    }
    // Somebody has the address, and nobody listens there.
    if error.is(Refused) && !has_ended(c) && !can_bind(c.addr(), false) {
        return Err(error.certainly(OUT_OF_ORDER));
    }
    Err(named_invalid(c, error))
}

/// A listener that is made anew for each visitor resets those who come too
/// early: whoever has waited is served.
fn resets_always(c: &mut Check) -> bool {
    c.note("is it always reset? The checker lets time pass, and visits again");
    (0..AGAIN).all(|_| {
        c.pause();
        greeted(c).fails_with(Reset)
    })
}

/// What it means if the program has ended, and complains of an invalid
/// argument: so the kernel calls an `accept` without `listen`, and a `bind`
/// behind it.
fn named_invalid(c: &mut Check, error: StepError) -> StepError {
    let invalid = c.program().is_some_and(|program| {
        // Its last words may still be on their way.
        let _ = program.exit();
        let said = String::from_utf8_lossy(&program.stderr()).to_lowercase();
        program.status().is_some()
            && INVALID.iter().any(|word| said.contains(word))
    });
    if invalid {
        error.if_ended(OUT_OF_ORDER)
    } else {
        error
    }
}

fn try_visitor(
    c: &mut Check,
    number: usize,
    mut last: Option<Peer>,
) -> Result<Peer> {
    // A reset can be quicker than `connect`.
    let mut visitor = c.connect("visitor")?;
    let greeting = format!("you are visitor {number}\n");
    let says = |visitor: &mut Peer| {
        visitor.send("hello\n").is_ok() && visitor.half_close().is_ok()
    };
    let wait = |visitor: &mut Peer| visitor.expect(&greeting);
    wait(&mut visitor)
        .diagnose_if_cured("waits-for-the-visitor", |error| {
            // If the visitor's word brings it, or that the one before it
            // leaves, that is what it waited for.
            let leaves = |visitor: &mut Peer| match last.take() {
                Some(last) => last.half_close().is_ok(),
                None => says(visitor),
            };
            error.is(TimedOut) && c.is_cured(&mut visitor, wait, leaves)
        })
        .diagnose_if("counts-from-zero", |error| {
            number == 1 && error.got() == Some(b"you are visitor 0\n")
        })
        .diagnose_if("counts-nobody", |error| {
            number == 2 && error.got() == Some(b"you are visitor 1\n")
        })?;
    visitor
        .expect_end()
        .diagnose_if_cured("waits-for-the-visitor", |error| {
            error.is(TimedOut)
                && c.is_cured(&mut visitor, Peer::expect_end, says)
        })
        .diagnose_if("keeps-the-connection", |error| {
            // Who is merely busy, or late, greets nobody else meanwhile.
            error.is(TimedOut)
                && visitor.expect_end().fails_with(TimedOut)
                && c.connect("next").is_ok_and(|mut next| {
                    next.expect("you are visitor ").is_ok()
                })
        })?;
    Ok(visitor)
}

/// Whether the old listener had the option, whenever it was set: on Linux a
/// new one that has it gets the address only then. (Elsewhere it always does,
/// so that the two mistakes are one.) `None` if the address is free by now.
fn option(addr: SocketAddr) -> Option<bool> {
    let can = cfg!(target_os = "linux") && can_bind(addr, true);
    if can_bind(addr, false) {
        return None;
    }
    Some(can)
}

/// True if the program starts at an address that is new to it, and does not
/// start at another one that only a closed connection uses.
fn fails_in_time_wait(c: &mut Check) -> bool {
    let starts_at = |c: &mut Check, addr: SocketAddr| {
        let mut trial = c.spawn("trial", &addr.to_string()).ok()?;
        trial.set_timeout(c.time_to_start());
        match trial.wait_until_listening() {
            Ok(_) => Some(true),
            Err(failure) => {
                let ended = StepError::from(failure).is(Exited);
                ended.then_some(false)
            }
        }
    };
    let ip = c.addr().ip();
    let used = |server_first| used_address(ip, server_first).ok();
    let (Some(free), Some(taken)) = (used(false), used(true)) else {
        return false;
    };
    let starts = starts_at(c, free) == Some(true);
    c.note(if starts {
        "the checker tried a port of its own, where nothing is left of any \
         connection: your program starts there"
    } else {
        "the checker tried a port of its own, where nothing is left of any \
         connection: your program does not start there, either"
    });
    let ends = starts && starts_at(c, taken) == Some(false);
    if ends {
        c.note(
            "the checker tried a port where a connection that was closed by \
             its server is still in TIME-WAIT: your program ends there",
        );
    }
    ends
}

/// An address at which a listener with SO_REUSEADDR has had a connection. If
/// the server's end closed first, the kernel keeps it in TIME-WAIT there.
fn used_address(
    ip: std::net::IpAddr,
    server_first: bool,
) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind((ip, 0))?;
    let addr = listener.local_addr()?;
    let client = std::net::TcpStream::connect(addr)?;
    let (server, _) = listener.accept()?;
    let (first, second) = match server_first {
        true => (server, client),
        false => (client, server),
    };
    first.shutdown(Shutdown::Write)?;
    // Behind the other end's FIN, so that it is the first one that waits.
    std::io::Read::read(&mut &second, &mut [0])?;
    drop(second);
    std::io::Read::read(&mut &first, &mut [0])?;
    Ok(addr)
}

fn can_bind(addr: SocketAddr, reuse: bool) -> bool {
    let bind = || {
        let domain = Domain::for_address(addr);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(reuse)?;
        socket.bind(&addr.into())
    };
    bind().is_ok()
}
