//! Words that several scenarios share, and those for a call that no scenario
//! tells.

use crate::{Event, Step};

/// The three segments that open a connection.
pub const HANDSHAKE: &str = "RFC 9293, section 3.5";
/// The segments that close it.
pub const CLOSING: &str = "RFC 9293, section 3.6";
/// A `send` with nothing behind it is pushed.
pub const PUSH: &str = "RFC 9293, section 3.9.1.2";
/// When received bytes are acknowledged.
pub const ACK: &str = "RFC 9293, section 3.8.6.3";

/// A step for a call that the scenario does not tell.
pub(crate) fn untold(event: Event, name: &str) -> Step {
    let (title, text, rust, python) = match name {
        "socket" => (
            "A socket",
            "The kernel makes a data structure, and sends nothing.",
            "",
            "socket.socket(family, type)",
        ),
        "setsockopt" => (
            "An option",
            "The program sets an option of the socket.",
            "",
            "s.setsockopt(level, option, value)",
        ),
        "bind" => (
            "A local address",
            "The socket gets its local address.",
            "",
            "s.bind(address)",
        ),
        "listen" => (
            "A listener",
            "From now on the kernel answers handshakes for this socket.",
            "",
            "s.listen(backlog)",
        ),
        "connect" => (
            "A peer",
            "The socket gets its peer.",
            "TcpStream::connect(addr)",
            "s.connect(address)",
        ),
        "accept4" => (
            "The queue of connections",
            "The program asks for the next finished connection.",
            "listener.accept()",
            "conn, addr = s.accept()",
        ),
        "recvfrom" => (
            "Receiving",
            "The program asks for bytes that have arrived.",
            "stream.read(&mut buffer)",
            "data = conn.recv(size)",
        ),
        "sendto" => (
            "Sending",
            "The program hands bytes to its kernel.",
            "stream.write_all(bytes)",
            "conn.sendall(data)",
        ),
        "shutdown" => (
            "Shut down",
            "The program says that it will use one direction, or both, no \
             more. The connection stays until it is closed.",
            "stream.shutdown(Shutdown::Write)",
            "conn.shutdown(socket.SHUT_WR)",
        ),
        "close" => (
            "Closed",
            "The program gives its socket back.",
            "drop(stream)",
            "conn.close()",
        ),
        "read" => (
            "The keyboard",
            "The program reads what a person types.",
            "stdin.read_until(b'\\n', &mut line)",
            "line = input()",
        ),
        name => (name, "The program makes a system call.", "", ""),
    };
    Step {
        title: title.to_owned(),
        text: text.to_owned(),
        rust: rust.to_owned(),
        python: python.to_owned(),
        events: vec![event],
        reading: None,
    }
}
