//! What a client sends, piece by piece.

use std::io::{self, BufRead, Read};
use std::{iter, thread};

use crate::args::Args;

/// The longest datagram that IPv4 carries; a longer line is cut in two.
pub const LONGEST_DATAGRAM: usize = 65_507;

/// Calls `write` with each piece in turn, with the pauses that were asked for.
/// Memory stays flat: no more than one piece is held.
pub fn send_all(
    args: &Args,
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    if args.interactive() {
        return send_typed_lines(write);
    }
    let Some(text) = &args.send else {
        return Ok(());
    };
    let text = text.0.as_slice();
    let mut first = true;
    let mut paused_write = |piece: &[u8]| {
        if !first {
            pause(args);
        }
        first = false;
        write(piece)
    };
    let mut copies = iter::repeat_n(text, args.repeat.unwrap_or(1));
    let Some(chunk) = args.chunk else {
        return copies.try_for_each(paused_write);
    };
    let mut bytes = copies.flatten().copied();
    let mut piece = Vec::new();
    loop {
        piece.clear();
        piece.extend(bytes.by_ref().take(chunk));
        if piece.is_empty() {
            return Ok(());
        }
        paused_write(&piece)?;
    }
}

/// Sleeps for --delay, if there is one.
pub fn pause(args: &Args) {
    if let Some(delay) = args.delay {
        thread::sleep(delay);
    }
}

fn send_typed_lines(
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let longest = LONGEST_DATAGRAM as u64;
        // Not `read_line`, which fails on bytes that are not UTF-8.
        io::stdin()
            .lock()
            .take(longest)
            .read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        write(&line)?;
    }
}
