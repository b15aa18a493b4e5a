//! Failures as one sentence that says what to do next.

use std::io::{self, ErrorKind};

use crate::args::Args;

/// A thread could not be started.
pub const OUT_OF_THREADS: &str = "out of threads: ask for fewer --clients";

/// A thread ended by a panic, which is never right.
pub const FAULT: &str = "a fault in this program: please report it";

/// Why there is no socket connected to `addr`.
pub fn connecting(error: &io::Error, addr: &str) -> String {
    if out_of_files(error) {
        return String::from(
            "out of file descriptors: ask for fewer --clients, or raise the \
             limit (ulimit -n)",
        );
    }
    match error.kind() {
        ErrorKind::ConnectionRefused => nobody_listens(addr),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => {
            format!("no connection to {addr} in time: check the address")
        }
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            format!("no way to {addr}: check the address and the network")
        }
        _ => format!("cannot connect to {addr}: {error}"),
    }
}

fn nobody_listens(addr: &str) -> String {
    format!("nobody listens on {addr}: start the server first")
}

/// Why a connection broke while it was `doing` something.
pub fn broken(error: &io::Error, doing: &str, args: &Args) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => nobody_listens(&args.addr),
        // What Windows says of a UDP port that nobody has bound.
        ErrorKind::ConnectionReset if args.udp => nobody_listens(&args.addr),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => {
            format!("reset by the peer while {doing}: see what the server says")
        }
        ErrorKind::BrokenPipe => format!(
            "the peer closed the connection while {doing}: see what the \
             server says"
        ),
        _ if timed_out(error) => String::from(
            "the peer took no more bytes in time: does the server read?",
        ),
        ErrorKind::Other => error.to_string(),
        _ => format!("failed while {doing}: {error}"),
    }
}

/// A timeout of the socket has passed (`WouldBlock` on Unix, `TimedOut` on
/// Windows).
pub fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Linux and macOS: ENFILE, EMFILE; Windows: WSAEMFILE. They have no
/// `ErrorKind`.
fn out_of_files(error: &io::Error) -> bool {
    let codes: &[i32] = if cfg!(windows) { &[10024] } else { &[23, 24] };
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}
