//! Exercise 02: greet visitors, and be back at once after a restart.

use std::net::SocketAddr;

use harness::{Fault, Lab};
use socket2::{Domain, Protocol, Socket, Type};

use crate::check::Check;
use crate::diagnosis::Symptom::{Exited, Reset, TimedOut};
use crate::diagnosis::{Diagnose, Result};

pub(crate) fn check(c: &mut Check) -> Result {
    let visitors = c.rng().usize(2..=5);
    c.step("each visitor is greeted, and the server closes first");
    if c.is_ours() {
        visit(c, visitors)?;
    } else {
        let mut a = c.connect("a")?;
        a.expect("you are visitor ")?;
    }

    if cfg!(unix)
        && c.step_with_program("a second copy on the same port is refused")
    {
        let addr = c.addr();
        let mut second = c.spawn("second", &addr.to_string())?;
        match second.wait_until_listening() {
            Ok(said) => {
                let fault = Fault::Unexpected(format!("listening on {said}"));
                let error = c.error("second copy", "fail to start", fault);
                return Err(if said.port() == addr.port() {
                    error.certainly("reuse-port")
                } else {
                    error.certainly("ignores-its-argument")
                });
            }
            // Another line says why: on which output is its own affair.
            Err(failure)
                if matches!(
                    *failure.fault,
                    Fault::Exited { .. } | Fault::Unexpected(_)
                ) =>
            {
                if second.exit()?.success() {
                    let wanted = "end with an exit code that is not 0";
                    let fault = Fault::Unexpected("exit code 0".to_owned());
                    return Err(c.error("second copy", wanted, fault));
                }
            }
            Err(failure) => {
                return Err(failure).diagnose(TimedOut, "waits-it-out");
            }
        }
    }

    let step = "killed and started again, it listens at once";
    if harness::proc::time_wait_is_full() == Some(true) {
        c.skip(step, "the kernel has no room for closed connections now");
    } else if c.step_with_program(step) {
        // It closed first, so that the kernel keeps the connections in the
        // state TIME-WAIT.
        let addr = c.addr();
        visitor(c, visitors + 1)?;
        c.kill()?;
        let started = c.start(&addr.to_string());
        let started = match started.as_ref().err().and(option(c.lab(), addr)) {
            Some(true) if says_in_use(c) => {
                started.diagnose(Exited, "set-after-bind")
            }
            Some(false) => started.diagnose(Exited, "no-reuse-addr"),
            _ => started,
        };
        started.diagnose(TimedOut, "waits-it-out")?;
        visit(c, 1)?;
    }
    Ok(())
}

/// True if the program complains of its address, and of nothing else.
fn says_in_use(c: &mut Check) -> bool {
    c.program().is_some_and(|program| {
        let complaint =
            String::from_utf8_lossy(&program.stderr()).to_lowercase();
        let said = complaint + &program.screen().to_lowercase();
        ["in use", "addrinuse"]
            .iter()
            .any(|word| said.contains(word))
    })
}

/// Visitors 1 to `count`, one after the other.
fn visit(c: &mut Check, count: usize) -> Result {
    for number in 1..=count {
        visitor(c, number)?;
    }
    Ok(())
}

fn visitor(c: &mut Check, number: usize) -> Result {
    // A reset can be quicker than `connect`.
    let mut visitor = c.connect("visitor").diagnose(Reset, "resets")?;
    let greeting = format!("you are visitor {number}\n");
    visitor
        .expect(&greeting)
        .diagnose_if("waits-for-the-visitor", |error| {
            // If the visitor's word brings it, that is what it waited for.
            error.is(TimedOut)
                && visitor.send("hello\n").is_ok()
                && visitor.half_close().is_ok()
                && visitor.expect(&greeting).is_ok()
        })
        .diagnose(Reset, "resets")?;
    visitor
        .expect_end()
        .diagnose_if("waits-for-the-visitor", |error| {
            error.is(TimedOut)
                && visitor.half_close().is_ok()
                && visitor.expect_end().is_ok()
        })
        .diagnose(TimedOut, "keeps-the-connection")
        .diagnose(Reset, "resets")?;
    visitor.close();
    Ok(())
}

/// Whether the old listener had the option, whenever it was set: on Linux a
/// new one that has it gets the address only then. (Elsewhere it always does,
/// so that the two mistakes are one.) `None` if the address is free by now.
fn option(lab: &Lab, addr: SocketAddr) -> Option<bool> {
    let can = cfg!(target_os = "linux") && can_bind(addr, true);
    if can_bind(addr, false) {
        return None;
    }
    lab.note(if can {
        "the checker's own listener, with SO_REUSEADDR, may bind there"
    } else {
        "the checker's own listener may not bind there, either"
    });
    Some(can)
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
