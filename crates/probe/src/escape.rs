//! Bytes as text a person can type and read: `\n \r \t \0 \xNN \\`. What is
//! shown can be sent again.

/// Reads TEXT as typed; an unknown escape is refused.
pub fn parse(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at..];
        let (byte, length) = match escape.chars().nth(1) {
            Some('n') => (b'\n', 2),
            Some('r') => (b'\r', 2),
            Some('t') => (b'\t', 2),
            Some('0') => (b'\0', 2),
            Some('\\') => (b'\\', 2),
            Some('x') => (hex(escape.get(2..4))?, 4),
            Some(other) => {
                return Err(format!("unknown escape \\{other}: {KNOWN}"));
            }
            None => return Err(format!("a lone \\ at the end: {KNOWN}")),
        };
        bytes.push(byte);
        rest = &escape[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

const KNOWN: &str = r"use \n \r \t \0 \xNN, or \\ for a backslash";

fn hex(digits: Option<&str>) -> Result<u8, String> {
    digits
        // `from_str_radix` would take a sign as well.
        .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
        .and_then(|digits| u8::from_str_radix(digits, 16).ok())
        .ok_or_else(|| String::from(r"\x needs two hex digits, as in \x0a"))
}

/// Beyond this many bytes only the first ones are shown: with the time and the
/// number of bytes, a line then fits into 80 columns.
const SHOWN: usize = 32;

/// Shows `bytes` in quotes, nothing hidden; long ones end in `...`.
pub fn show(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(SHOWN)];
    let mut text = String::from("\"");
    for chunk in cut.utf8_chunks() {
        for c in chunk.valid().chars() {
            push(&mut text, c);
        }
        push_hex(&mut text, chunk.invalid());
    }
    text.push('"');
    if cut.len() < bytes.len() {
        text.push_str("...");
    }
    text
}

fn push(text: &mut String, c: char) {
    match c {
        '\n' => text.push_str(r"\n"),
        '\r' => text.push_str(r"\r"),
        '\t' => text.push_str(r"\t"),
        '\0' => text.push_str(r"\0"),
        '\\' => text.push_str(r"\\"),
        '"' | '\'' => text.push(c),
        // What the standard library would escape cannot be seen.
        _ if c.escape_debug().count() > 1 => {
            push_hex(text, c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        _ => text.push(c),
    }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        text.push_str(&format!("\\x{byte:02x}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_without_escapes_is_taken_as_it_is() {
        assert_eq!(parse("héllo 'you'").unwrap(), "héllo 'you'".as_bytes());
        assert_eq!(parse("").unwrap(), b"");
    }

    #[test]
    fn every_escape_is_understood() {
        let bytes = parse(r"a\n\r\t\0\x7f\xFF\\n").unwrap();
        assert_eq!(bytes, b"a\n\r\t\0\x7f\xFF\\n");
    }

    #[test]
    fn an_unknown_escape_is_refused_with_the_known_ones() {
        let error = parse(r"a\q").unwrap_err();
        assert!(error.contains(r"unknown escape \q: use \n"), "{error}");
        assert!(parse(r"\é").unwrap_err().contains(r"unknown escape \é"));
    }

    #[test]
    fn a_lone_backslash_at_the_end_is_refused() {
        assert!(parse(r"a\").unwrap_err().contains("lone"));
    }

    #[test]
    fn half_a_hex_escape_is_refused() {
        for text in [r"\x", r"\x1", r"\xg0", r"\x+1", r"\xé", r"\x1é"] {
            assert!(parse(text).unwrap_err().contains("two hex"), "{text}");
        }
    }

    #[test]
    fn what_is_shown_can_be_sent_again() {
        let all: Vec<u8> = (0..=255).collect();
        let zero_width = "a\u{200b}b".as_bytes();
        for bytes in all
            .chunks(SHOWN)
            .chain(["你好\\\"'".as_bytes(), zero_width])
        {
            let shown = show(bytes);
            assert!(!shown.contains(char::is_control), "{shown:?}");
            assert!(!shown.contains('\u{200b}'), "{shown:?}");
            assert_eq!(parse(&shown[1..shown.len() - 1]).unwrap(), bytes);
        }
    }

    #[test]
    fn long_bytes_are_cut_and_say_so() {
        assert_eq!(show(&[b'a'; 32]), format!("\"{}\"", "a".repeat(32)));
        assert_eq!(show(&[b'a'; 33]), format!("\"{}\"...", "a".repeat(32)));
    }
}
