//! Bytes in, whole lines out, without any I/O.

use std::io::{self, ErrorKind};
use std::{fmt, mem, str};

/// Puts lines together from pieces of any size.
///
/// A line ends with LF or CR LF. Of one that is not whole yet, at most `limit`
/// bytes and one are kept.
pub struct LineDecoder {
    limit: usize,
    bytes: Vec<u8>,
    /// How many of `bytes` have been handed out.
    taken: usize,
    /// The line that is coming is over the limit, and nothing of it is kept.
    skipping: bool,
}

/// Why a line is no message.
pub enum Refusal {
    TooLong,
    NotUtf8,
}

impl LineDecoder {
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            bytes: Vec::new(),
            taken: 0,
            skipping: false,
        }
    }

    /// Adds what has come. Take all its lines before you add more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole line, without its end; `None` until more has come.
    pub fn next_line(&mut self) -> Option<Result<&str, Refusal>> {
        let mut rest = self.bytes[self.taken..].iter();
        let Some(length) = rest.position(|&byte| byte == b'\n') else {
            self.keep_the_rest();
            return None;
        };
        let line = &self.bytes[self.taken..][..length];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.taken += length + 1;
        if mem::take(&mut self.skipping) || line.len() > self.limit {
            return Some(Err(Refusal::TooLong));
        }
        Some(str::from_utf8(line).map_err(|_| Refusal::NotUtf8))
    }

    fn keep_the_rest(&mut self) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        // One more than the limit may be a CR, which is not counted.
        if self.skipping || self.bytes.len() > self.limit + 1 {
            self.bytes.clear();
            self.skipping = true;
        }
    }

    /// Says what the end of the stream is: in the middle of a line, an error.
    pub fn end(&self) -> io::Result<()> {
        if self.skipping || !self.bytes.is_empty() {
            let message = "it ended in the middle of a line";
            return Err(io::Error::new(ErrorKind::UnexpectedEof, message));
        }
        Ok(())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "is too long",
            Self::NotUtf8 => "is not UTF-8",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 8;

    /// Pushes `bytes`, takes all lines, and looks at what is kept.
    fn push(decoder: &mut LineDecoder, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        decoder.push(bytes);
        while let Some(line) = decoder.next_line() {
            lines.push(match line {
                Ok(text) => text.to_owned(),
                Err(refusal) => format!("! {refusal}"),
            });
        }
        let kept = decoder.bytes.len();
        assert!(kept <= LIMIT + 1, "{kept} bytes are kept");
        lines
    }

    #[test]
    fn every_cut_in_three_pieces_gives_the_same_lines() {
        let text = b"one\ntwo\r\n\n\r\na\rb\n\xe4\xbd\xa0\xe5\xa5\xbd\n\xffx\n\
            12345678\n12345678\r\n123456789\n\xff\xff\xff\xff\xff\xff\xff\xff\
            \xff\xff\xff\n12345678\r\r\nlast\nnot ended";
        let lines = [
            "one",
            "two",
            "",
            "",
            "a\rb",
            "你好",
            "! is not UTF-8",
            "12345678",
            "12345678",
            "! is too long",
            "! is too long",
            "! is too long",
            "last",
        ];
        for second in 0..=text.len() {
            for third in second..=text.len() {
                let mut decoder = LineDecoder::new(LIMIT);
                let mut found = push(&mut decoder, &text[..second]);
                found.extend(push(&mut decoder, &text[second..third]));
                found.extend(push(&mut decoder, &text[third..]));
                assert_eq!(found, lines, "cut at {second} and {third}");
                assert!(decoder.end().is_err());
            }
        }
    }

    #[test]
    fn of_a_line_over_the_limit_nothing_is_kept() {
        let mut decoder = LineDecoder::new(LIMIT);
        for _ in 0..1000 {
            push(&mut decoder, &[b'x'; 100]);
            assert_eq!(decoder.bytes.len(), 0);
        }
        assert!(decoder.bytes.capacity() < 1000, "it has grown");
        let lines = push(&mut decoder, b"the end of it\nshort\n");
        assert_eq!(lines, ["! is too long", "short"]);
    }

    #[test]
    fn an_end_in_the_middle_of_a_line_is_told_apart() {
        let end_after = |bytes: &[u8]| {
            let mut decoder = LineDecoder::new(LIMIT);
            push(&mut decoder, bytes);
            decoder.end().map_err(|error| error.kind())
        };
        assert_eq!(end_after(b""), Ok(()));
        assert_eq!(end_after(b"whole\n"), Ok(()));
        assert_eq!(end_after(b"far too long\n"), Ok(()));
        for half in ["hal", "whole\nh", "\r", "far too lo"] {
            let wanted = Err(ErrorKind::UnexpectedEof);
            assert_eq!(end_after(half.as_bytes()), wanted, "{half:?}");
        }
    }
}
