//! Lesson 06: one handler over TCP and UDP.

use anyhow::Result;

use super::Scenario;
use super::common::{CLIENT, connects, echoes, leaves, says};
use crate::Play;
use crate::Side::{Client, Server};
use crate::play::{Telling, at_client, at_server, listener, step, udp_server};

const LESSON: &str = "lesson-06-socketserver";
const UDP_CLIENT: (&str, &str) = ("lesson-05-udp", "udp-client");

pub(super) const OVER_TCP: Scenario = Scenario {
    name: "06-over-tcp",
    title: "A handler over TCP, a thread for each request",
    summary: "The server accepts a connection, which is the request, and a \
              thread runs the handler until the client leaves.",
    play: over_tcp,
};

pub(super) const OVER_UDP: Scenario = Scenario {
    name: "06-over-udp",
    title: "The same handler over UDP, one request after the other",
    summary: "The request is one datagram. The handler runs in the thread \
              that receives.",
    play: over_udp,
};

fn over_tcp(play: &mut Play) -> Result<()> {
    play.server("server", LESSON, &["threads-tcp"])?;
    play.name_threads("server", &["keyboard", "handler"]);
    play.reading(
        vec![
            step(
                "The server listens",
                "The transport makes the listener, as in lesson 02.",
            )
            .rust("Server::<T, P, _>::bind(addr, process, Echo)")
            .python("socketserver.ThreadingTCPServer(addr, Echo)")
            .call("server", "socket")
            .call("server", "setsockopt")
            .call("server", "bind")
            .call("server", "listen"),
            waker(),
            step(
                "It serves for ever",
                "One thread waits for the end of the keyboard's input, the \
                 main thread for a request.",
            )
            .rust("server.serve_forever()")
            .python("server.serve_forever()")
            .call("keyboard", "read")
            .call("server", "accept4"),
        ],
        &[("server", "accept4(3) read(0)")],
        &[listener(0)],
        step(
            "The kernel's table",
            "A listener with an empty accept queue. The second socket has no \
             address yet, and so the table does not show it.",
        ),
    )?;

    play.client("client", CLIENT, &[])?;
    play.program("client")?.type_line("hello");
    play.program("client")?.expect("received: hello\nsend> ")?;
    play.reading(
        vec![
            connects(
                "client",
                "A request: a client connects",
                "The transport gets it by accept, and the server starts a \
                 thread for it, as in lesson 03.",
            )
            .call("server", "accept4")
            .call("server", "accept4")
            .begin("handler", "recvfrom"),
            says(
                "client",
                "hello",
                "The client says something",
                "The bytes are the handler's business, not the server's.",
            ),
            echoes(
                "handler",
                "client",
                6,
                "The handler sends it back",
                "A request over TCP is the whole connection: the handler reads \
                 on.",
            ),
        ],
        &[
            ("server", "accept4(3) read(0) recvfrom(5)"),
            ("client", "read(0)"),
        ],
        &[
            listener(0),
            at_client("client", "ESTABLISHED", 0),
            at_server("client", "ESTABLISHED", 0),
        ],
        step(
            "The kernel's table",
            "One connection, which is one request.",
        ),
    )?;

    let client = play.program("client")?;
    client.end_input();
    client.expect_exit(0)?;
    play.reading(
        vec![
            leaves(
                "handler",
                "client",
                "The request ends",
                "The handler returns, and what it owned is closed: the \
                 connection.",
            )
            .act("handler", "exits"),
        ],
        &[("server", "accept4(3) read(0)")],
        &[listener(0), at_client("client", "TIME-WAIT", 0)],
        step("The kernel's table", "The server is where it was."),
    )
}

/// The server's second socket.
fn waker() -> Telling {
    step(
        "It makes a second socket, to wake itself",
        "Its own shutdown will connect to it from another thread, by this \
         socket, which never blocks.",
    )
    .rust("Socket::new(Domain::for_address(server), kind, None)?")
    .call("server", "socket")
}

fn over_udp(play: &mut Play) -> Result<()> {
    play.udp();
    play.server("server", LESSON, &["sequential-udp"])?;
    play.name_threads("server", &["keyboard"]);
    play.reading(
        vec![
            step(
                "The server gets its port",
                "The same server with another transport: no listen.",
            )
            .rust("Server::<T, P, _>::bind(addr, process, Echo)")
            .python("socketserver.UDPServer(addr, Echo)")
            .call("server", "socket")
            .call("server", "bind"),
            waker(),
            step(
                "It serves for ever",
                "The main thread waits for a datagram.",
            )
            .rust("server.serve_forever()")
            .python("server.serve_forever()")
            .call("keyboard", "read")
            .call("server", "recvfrom"),
        ],
        &[("server", "read(0) recvfrom(3)")],
        &[udp_server()],
        step(
            "The kernel's table",
            "One socket on port 9006. The second one has no address yet.",
        ),
    )?;

    play.client("client", UDP_CLIENT, &[])?;
    play.program("client")?.type_line("hello");
    play.program("client")?.expect("received: hello\nsend> ")?;
    play.reading(
        vec![
            step(
                "A request: a client sends a datagram",
                "The transport gets it by recvfrom, bytes and sender at once.",
            )
            .rust("socket.send(line)?")
            .python("client.send(line)")
            .act("client", "the person types hello")
            .call("client", "read")
            .call("client", "socket")
            .call("client", "bind")
            .call("client", "connect")
            .call("client", "sendto")
            .packet("client", Client, "UDP: 5 bytes", "RFC 768")
            .call("client", "setsockopt")
            .begin("client", "recvfrom"),
            step(
                "The handler replies",
                "A request over UDP is one datagram, so the handler returns \
                 at once, and the server waits for the next.",
            )
            .rust("datagram.reply(&datagram.bytes)")
            .python("socket.sendto(data, self.client_address)")
            .call("server", "recvfrom")
            .call("server", "sendto")
            .packet("client", Server, "UDP: 5 bytes", "RFC 768")
            .begin("server", "recvfrom"),
            step(
                "The client has its answer",
                "It closes its socket, and the server does not learn of it.",
            )
            .rust("socket.recv_from(&mut buffer)")
            .python("data = client.recv(65535)")
            .call("client", "recvfrom")
            .call("client", "close")
            .begin("client", "read"),
        ],
        &[("server", "read(0) recvfrom(3)"), ("client", "read(0)")],
        &[udp_server()],
        step(
            "The kernel's table",
            "One handler, two transports: the lines of Rust that serve are \
             the same, what the kernels do is not.",
        ),
    )
}
