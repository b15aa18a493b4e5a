//! Lesson 02: who closes first, and what it costs.

use anyhow::Result;

use super::Scenario;
use super::common::{CLIENT, connects, leaves, says};
use super::words::CLOSING;
use crate::Play;
use crate::Side::{Client, Server};
use crate::play::{Telling, at_client, at_server, listener, step};

const LESSON: &str = "lesson-02-reuse-addr";
const NO_REUSE: &[&str] = &["--no-reuse"];

pub(super) const CLIENT_FIRST: Scenario = Scenario {
    name: "02-client-first",
    title: "The client closes first",
    summary: "TIME-WAIT is then the client's, and a server without the option \
              starts again at once.",
    play: client_first,
};

pub(super) const SERVER_FIRST: Scenario = Scenario {
    name: "02-server-first",
    title: "The server closes first, without the option",
    summary: "TIME-WAIT is then on the server's port. A second server cannot \
              bind it, and neither can a third that has the option.",
    play: server_first,
};

pub(super) const REUSE: Scenario = Scenario {
    name: "02-reuse",
    title: "The server closes first, with the option",
    summary: "TIME-WAIT is on the server's port as before, and both the old \
              and the new server have SO_REUSEADDR: the new one listens.",
    play: reuse,
};

fn listens(reuse: bool) -> Vec<Telling> {
    let telling = match reuse {
        true => step(
            "The server listens",
            "Socket, option, bind, listen: here each is a line of Rust.",
        )
        .call("server", "socket")
        .call("server", "setsockopt"),
        false => step(
            "The server listens, without the option",
            "Socket, bind, listen: here each is a line of Rust.",
        )
        .call("server", "socket"),
    };
    vec![
        telling
            .rust("socket.bind(&addr.into())?; socket.listen(BACKLOG)?")
            .python("server.bind(addr); server.listen(5)")
            .call("server", "bind")
            .call("server", "listen")
            .call("server", "accept4"),
    ]
}

/// A conversation up to the server's prompt: everything that came is read.
fn until_the_prompt(play: &mut Play, reuse: bool) -> Result<()> {
    let args = if reuse { &[] } else { NO_REUSE };
    play.server("server", LESSON, args)?;
    play.reading(
        listens(reuse),
        &[("server", "accept4(3)")],
        &[listener(0)],
        step("The kernel's table", "A listener with an empty queue."),
    )?;
    play.client("client", CLIENT, &[])?;
    play.program("client")?.type_line("hello");
    let tellings = vec![
        connects(
            "client",
            "A client connects",
            "The two kernels shake hands, and accept returns.",
        )
        .call("server", "accept4"),
        says(
            "client",
            "hello",
            "It says something",
            "The server reads it, and sits at its prompt.",
        )
        .call("server", "recvfrom")
        .call("server", "read"),
    ];
    play.reading(
        tellings,
        &[("server", "read(0)"), ("client", "recvfrom(3)")],
        &[
            listener(0),
            at_client("client", "ESTABLISHED", 0),
            at_server("client", "ESTABLISHED", 0),
        ],
        step(
            "The kernel's table",
            "One connection, and nothing unread. So a close will be a FIN, \
             and not a reset.",
        ),
    )
}

/// The server's person ends it at its prompt.
fn server_leaves(play: &mut Play) -> Result<()> {
    let server = play.program("server")?;
    server.end_input();
    server.expect_exit(0)?;
    play.program("client")?.expect_exit(1)?;
    play.reading(
        vec![
            step(
                "The server closes first",
                "It closes the connection, then the listener, and ends. Its \
                 kernel sends FIN, and keeps the connection in mind.",
            )
            .rust("None => return Ok(Closed::ByOperator)")
            .python("conn.close(); server.close()")
            .act("server", "the person types Ctrl-D")
            .call("server", "read")
            .call("server", "close")
            .packet("client", Server, "FIN, ACK", CLOSING)
            .passes("client", Server, "FIN-WAIT-1", CLOSING)
            .passes("client", Client, "CLOSE-WAIT", CLOSING)
            .call("server", "close")
            .act("server", "exits"),
            step(
                "The client is told, and closes second",
                "Its recv returns 0. Its FIN is answered by the server's \
                 kernel, which needs no program for that.",
            )
            .rust("Err(ErrorKind::UnexpectedEof.into())")
            .python("if not data: break")
            .call("client", "recvfrom")
            .call("client", "close")
            .packet("client", Client, "FIN, ACK", CLOSING)
            .passes("client", Client, "LAST-ACK", CLOSING)
            .packet("client", Server, "ACK", CLOSING)
            .act("client", "exits"),
        ],
        &[],
        &[at_server("client", "TIME-WAIT", 0)],
        step(
            "The kernel's table: TIME-WAIT on port 9006",
            "No program is left, and one row is: the end of the side that \
             closed first. It answers what may still be under way, and holds \
             the address while it does.",
        ),
    )
}

fn server_first(play: &mut Play) -> Result<()> {
    until_the_prompt(play, false)?;
    server_leaves(play)?;

    play.next_server("second server", LESSON, NO_REUSE)?;
    play.program("second server")?.expect_exit(1)?;
    play.next_server("third server", LESSON, &[])?;
    play.program("third server")?.expect_exit(1)?;
    play.reading(
        vec![
            step(
                "A second server is refused",
                "Bind fails with EADDRINUSE. Nobody listens on the port; the \
                 row in TIME-WAIT is enough.",
            )
            .rust("socket.bind(&addr.into())?")
            .python("server.bind((\"127.0.0.1\", 9006))")
            .call("second server", "socket")
            .call("second server", "bind")
            .call("second server", "close")
            .act("second server", "exits with code 1"),
            step(
                "A third server has the option, and is refused too",
                "On Linux the old listener must have had it as well: the row \
                 in TIME-WAIT remembers that it had not.",
            )
            .rust("socket.set_reuse_address(true)?")
            .python("server.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)")
            .call("third server", "socket")
            .call("third server", "setsockopt")
            .call("third server", "bind")
            .call("third server", "close")
            .act("third server", "exits with code 1"),
        ],
        &[],
        &[at_server("client", "TIME-WAIT", 0)],
        step(
            "The kernel's table",
            "Nothing has changed. After a minute the row is gone, and a \
             server can start.",
        ),
    )
}

fn reuse(play: &mut Play) -> Result<()> {
    until_the_prompt(play, true)?;
    server_leaves(play)?;

    play.next_server("second server", LESSON, &[])?;
    play.reading(
        vec![
            step(
                "A second server starts at once",
                "Both servers have set the option before bind, so bind \
                 succeeds in spite of TIME-WAIT.",
            )
            .rust("socket.set_reuse_address(true)?")
            .python("server.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)")
            .call("second server", "socket")
            .call("second server", "setsockopt")
            .call("second server", "bind")
            .call("second server", "listen")
            .call("second server", "accept4"),
        ],
        &[("second server", "accept4(3)")],
        &[listener(0), at_server("client", "TIME-WAIT", 0)],
        step(
            "The kernel's table",
            "A new listener beside the old connection. They do not disturb \
             each other: the old one has a client's port in its name.",
        ),
    )
}

fn client_first(play: &mut Play) -> Result<()> {
    until_the_prompt(play, false)?;

    play.program("server")?.type_line("bye");
    let client = play.program("client")?;
    client.expect("received: bye\nsend> ")?;
    client.end_input();
    client.expect_exit(0)?;
    play.reading(
        vec![
            step(
                "The server answers",
                "So that the client gets back to its prompt.",
            )
            .rust("stream.write_all(&line)?")
            .python("conn.sendall(reply)")
            .act("server", "the person types bye")
            .call("server", "read")
            .call("server", "sendto")
            .packet("client", Server, "PSH, ACK: 4 bytes", super::words::PUSH)
            .call("client", "recvfrom")
            .begin("server", "recvfrom"),
            leaves(
                "server",
                "client",
                "The client closes first",
                "It half-closes, the server reads 0 and closes second.",
            )
            .call("server", "accept4"),
        ],
        &[("server", "accept4(3)")],
        &[listener(0), at_client("client", "TIME-WAIT", 0)],
        step(
            "The kernel's table: TIME-WAIT on the client's side",
            "The row is that of port 50001, which nobody wants again.",
        ),
    )?;

    play.program("server")?.kill()?;
    play.next_server("second server", LESSON, NO_REUSE)?;
    play.reading(
        vec![
            step(
                "The server ends",
                "As by Ctrl-C. Its listener is closed with it, and a listener \
                 has no TIME-WAIT.",
            )
            .act("server", "is killed"),
            step(
                "A second server starts at once",
                "Without the option, and bind succeeds: no row has port 9006 \
                 as its local port.",
            )
            .rust("socket.bind(&addr.into())?")
            .python("server.bind((\"127.0.0.1\", 9006))")
            .call("second server", "socket")
            .call("second server", "bind")
            .call("second server", "listen")
            .call("second server", "accept4"),
        ],
        &[("second server", "accept4(3)")],
        &[listener(0), at_client("client", "TIME-WAIT", 0)],
        step(
            "The kernel's table",
            "TIME-WAIT is where it does not matter. This is why a server \
             should let its clients close first, where it can.",
        ),
    )
}
