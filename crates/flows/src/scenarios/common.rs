//! Tellings that several lessons share.

use super::words::{CLOSING, HANDSHAKE, PUSH};
use crate::Side::{Client, Server};
use crate::play::{Telling, step};

/// The client of lessons 01 to 04.
pub const CLIENT: (&str, &str) = ("lesson-01-single-client", "client");

/// The server is up: in a figure about something else, one step tells it.
pub fn listens() -> Vec<Telling> {
    vec![
        step(
            "The server listens",
            "The four calls of one line of Rust, and then it waits.",
        )
        .rust("TcpListener::bind(&addr); listener.accept()")
        .python("server.bind(addr); server.listen(); server.accept()")
        .call("server", "socket")
        .call("server", "setsockopt")
        .call("server", "bind")
        .call("server", "listen")
        .call("server", "accept4"),
    ]
}

/// A client connects; its kernel and the server's do the rest.
pub fn connects(actor: &str, title: &str, text: &str) -> Telling {
    // A client with threads calls them `probe's socket` and the like.
    let client = actor.split('\'').next().unwrap_or(actor);
    step(title, text)
        .rust("TcpStream::connect(&addr)")
        .python("client.connect((\"127.0.0.1\", 9006))")
        .call(actor, "socket")
        .begin(actor, "connect")
        .packet(client, Client, "SYN", HANDSHAKE)
        .passes(client, Client, "SYN-SENT", HANDSHAKE)
        .packet(client, Server, "SYN, ACK", HANDSHAKE)
        .passes(client, Server, "SYN-RECEIVED", HANDSHAKE)
        .packet(client, Client, "ACK", HANDSHAKE)
        .call(actor, "connect")
}

/// A client's person types a line, which is sent.
pub fn says(client: &str, line: &str, title: &str, text: &str) -> Telling {
    let bytes = line.len() + 1;
    step(title, text)
        .rust("stream.write_all(&line)?")
        .python("client.sendall(line)")
        .act(client, &format!("the person types {line}"))
        .call(client, "read")
        .call(client, "sendto")
        .packet(client, Client, &format!("PSH, ACK: {bytes} bytes"), PUSH)
        .begin(client, "recvfrom")
}

/// `worker` sends the bytes back, and the client shows them.
pub fn echoes(
    worker: &str,
    client: &str,
    bytes: usize,
    title: &str,
    text: &str,
) -> Telling {
    step(title, text)
        .rust("stream.write_all(&buffer[..count])?")
        .python("conn.sendall(data)")
        .call(worker, "recvfrom")
        .call(worker, "sendto")
        .packet(client, Server, &format!("PSH, ACK: {bytes} bytes"), PUSH)
        .call(client, "recvfrom")
        .begin(client, "read")
        .begin(worker, "recvfrom")
}

/// A client's person ends the input, and `worker` ends the connection.
pub fn leaves(worker: &str, client: &str, title: &str, text: &str) -> Telling {
    step(title, text)
        .rust("stream.shutdown(Shutdown::Write)")
        .python("client.shutdown(socket.SHUT_WR)")
        .act(client, "the person types Ctrl-D")
        .call(client, "read")
        .call(client, "shutdown")
        .packet(client, Client, "FIN, ACK", CLOSING)
        .passes(client, Client, "FIN-WAIT-1", CLOSING)
        .passes(client, Server, "CLOSE-WAIT", CLOSING)
        .begin(client, "recvfrom")
        .call(worker, "recvfrom")
        .call(worker, "close")
        .packet(client, Server, "FIN, ACK", CLOSING)
        .passes(client, Server, "LAST-ACK", CLOSING)
        .packet(client, Client, "ACK", CLOSING)
        .call(client, "recvfrom")
        .call(client, "close")
        .act(client, "exits")
}
