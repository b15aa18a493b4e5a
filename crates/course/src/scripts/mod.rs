//! What each exercise is asked, step by step.
//!
//! A step's name is a sentence about a correct program. What a fault means is
//! said where it can arise, and for one kind of fault only: by `diagnose` with
//! a `Symptom`, by `diagnose_answer` (exactly this came), or by `diagnose_if`
//! (the program, asked more, leaves no other explanation). A fault that no
//! step foresees gets no diagnosis of its own.

use crate::check::Check;
use crate::diagnosis::Result;

#[path = "11-async.rs"]
mod async_relay;
#[path = "12-chat.rs"]
mod chat;
#[path = "08-dual-stack.rs"]
mod dual_stack;
#[path = "10-event-loop.rs"]
mod event_loop;
#[path = "07-framing.rs"]
mod framing;
#[path = "02-reuse-addr.rs"]
mod reuse_addr;
#[path = "09-shutdown.rs"]
mod shutdown;
#[path = "01-single-client.rs"]
mod single_client;
#[path = "06-socketserver.rs"]
mod socketserver;
#[path = "04-thread-pool.rs"]
mod thread_pool;
#[path = "03-threaded.rs"]
mod threaded;
#[path = "05-udp.rs"]
mod udp;

/// The script for the exercise with that stem.
pub(crate) fn of(stem: &str) -> Option<fn(&mut Check) -> Result> {
    Some(match stem {
        "01-single-client" => single_client::check,
        "02-reuse-addr" => reuse_addr::check,
        "03-threaded" => threaded::check,
        "04-thread-pool" => thread_pool::check,
        "05-udp" => udp::check,
        "06-socketserver" => socketserver::check,
        "07-framing" => framing::check,
        "08-dual-stack" => dual_stack::check,
        "09-shutdown" => shutdown::check,
        "10-event-loop" => event_loop::check,
        "11-async" => async_relay::check,
        "12-chat" => chat::check,
        _ => return None,
    })
}

/// The characters of a text from the last one to the first.
fn turned(text: &str) -> String {
    text.chars().rev().collect()
}
