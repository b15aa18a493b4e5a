//! Exercise 04: three workers, four chairs, and no more.

use crate::check::{Check, Client, Or, Result};

const WORKERS: [&str; 3] = ["a", "b", "c"];
const CHAIRS: [&str; 4] = ["d", "e", "f", "g"];

pub(crate) fn check(c: &mut Check) -> Result {
    c.step("a client is served");
    let mut served = vec![is_ready(c, WORKERS[0])?];
    asks(c, &mut served[0])?;

    c.step("three clients are served at once");
    for name in &WORKERS[1..] {
        let client = is_ready(c, name).map_err(|trouble| {
            let queued = trouble.is_silence() && is_queueing(c);
            if queued {
                trouble.settle("lock-held-while-working")
            } else {
                trouble
            }
        })?;
        served.push(client);
    }
    for client in &mut served {
        asks(c, client)?;
    }

    c.step("four more wait, and the next one is told `busy`");
    let mut waiting = CHAIRS
        .iter()
        .map(|name| c.connect(name))
        .collect::<Result<Vec<_>>>()?;
    let mut h = c.connect("h")?;
    h.expect("busy\n")
        .or_silent("unbounded")
        .or_got("ready\n", "thread-per-client")?;
    h.expect_end()?;

    c.step("who waited longest is served when a client leaves");
    served.remove(0).close();
    let mut d = waiting.remove(0);
    d.expect("ready\n").or_got("busy\n", "no-queue")?;
    asks(c, &mut d)?;
    drop((d, waiting, served));

    c.step("a panic costs no worker");
    for _ in WORKERS {
        let mut p = is_ready(c, "p")?;
        p.send("panic\n")?;
        p.gone()?;
    }
    let mut again = Vec::new();
    for name in WORKERS {
        again.push(
            is_ready(c, name)
                .or_silent("worker-lost-on-panic")
                .or_got("busy\n", "worker-lost-on-panic")
                .or_exited("worker-lost-on-panic")?,
        );
    }
    for client in &mut again {
        asks(c, client)?;
    }
    Ok(())
}

fn is_ready(c: &Check, name: &str) -> Result<Client> {
    let mut client = c.connect(name)?;
    client.expect("ready\n").or_got("busy\n", "no-queue")?;
    Ok(client)
}

fn asks(c: &mut Check, client: &mut Client) -> Result {
    let word = c.word();
    let answer: String = word.chars().rev().collect();
    client.send(format!("{word}\n"))?;
    client.expect(format!("{answer}\n"))
}

/// True if one of many more clients is told `busy`: then there is a pool at
/// work, which takes clients in, and yet only one of them is served.
fn is_queueing(c: &Check) -> bool {
    c.note("is anybody taken in? more clients try");
    let more: Vec<_> = (0..CHAIRS.len())
        .map_while(|_| c.connect("more").ok())
        .collect();
    let last = c.connect("last").and_then(|mut last| last.expect("busy\n"));
    drop(more);
    last.is_ok()
}
