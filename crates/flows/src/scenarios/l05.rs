//! Lesson 05: datagrams.

use anyhow::Result;

use super::Scenario;
use crate::Play;
use crate::Side::{Client, Server};
use crate::play::{Telling, step, udp_server};

const LESSON: &str = "lesson-05-udp";
const CLIENT: (&str, &str) = (LESSON, "udp-client");
const DATAGRAM: &str = "RFC 768";
const UNREACHABLE: &str = "RFC 1122, section 4.1.3.1";

pub(super) const DATAGRAMS: Scenario = Scenario {
    name: "05-datagram",
    title: "One datagram there, one back",
    summary: "A client sends a datagram, the server sends it back. There is \
              no connection, and the server's socket never changes its state.",
    play: datagrams,
};

pub(super) const NOBODY: Scenario = Scenario {
    name: "05-nobody",
    title: "A datagram to nobody",
    summary: "The server is gone. A connected client is told at once, an \
              unconnected one waits three times and gives up.",
    play: nobody,
};

fn listens() -> Vec<Telling> {
    vec![
        step(
            "The server gets its port",
            "Two calls, and no listen: there is no connection that somebody \
             could wait for.",
        )
        .rust("UdpSocket::bind(&addr)")
        .python("server.bind((\"127.0.0.1\", 9006))")
        .call("server", "socket")
        .call("server", "bind"),
        step(
            "It waits for a datagram, from anybody",
            "One socket serves all clients. The call will also say who sent \
             the datagram.",
        )
        .rust("socket.recv_from(buffer)")
        .python("data, addr = server.recvfrom(65535)")
        .call("server", "recvfrom"),
    ]
}

fn datagrams(play: &mut Play) -> Result<()> {
    play.udp();
    play.server("server", LESSON, &[])?;
    play.reading(
        listens(),
        &[("server", "recvfrom(3)")],
        &[udp_server()],
        step(
            "The kernel's table",
            "One socket. UNCONN means that it has no peer; UDP has no \
             other states than this one and its contrary.",
        ),
    )?;

    play.client("client", CLIENT, &[])?;
    play.program("client")?.expect("send> ")?;
    play.reading(
        vec![
            step(
                "The client starts",
                "It has no socket yet, and nothing is sent: there is no \
                 handshake.",
            )
            .rust("io::stdin().lock().split(b'\\n').next()")
            .python("line = input(\"send> \")")
            .call("client", "read"),
        ],
        &[("server", "recvfrom(3)"), ("client", "read(0)")],
        &[udp_server()],
        step("The kernel's table", "As before: nobody has come."),
    )?;

    play.program("client")?.type_line("hello");
    play.program("client")?.expect("received: hello\nsend> ")?;
    play.reading(
        vec![
            step(
                "The client makes a socket and notes its peer",
                "On a UDP socket connect sends nothing. From now on the \
                 kernel takes datagrams from this peer only.",
            )
            .rust("socket.connect(to)?")
            .python("client.connect((\"127.0.0.1\", 9006))")
            .act("client", "the person types hello")
            .call("client", "read")
            .call("client", "socket")
            .call("client", "bind")
            .call("client", "connect"),
            step(
                "The client sends a datagram",
                "One send is one datagram. Its kernel keeps no copy, and \
                 nobody will acknowledge it.",
            )
            .rust("socket.send(line)?")
            .python("client.send(line)")
            .call("client", "sendto")
            .packet("client", Client, "UDP: 5 bytes", DATAGRAM)
            .call("client", "setsockopt")
            .begin("client", "recvfrom"),
            step(
                "The server gets it, and sends it back",
                "Recvfrom returns the whole datagram, and its sender's \
                 address, which sendto takes. Then it waits for the next, \
                 from anybody.",
            )
            .rust("socket.send_to(&buffer[..count], peer)")
            .python("server.sendto(data, addr)")
            .call("server", "recvfrom")
            .call("server", "sendto")
            .packet("client", Server, "UDP: 5 bytes", DATAGRAM)
            .begin("server", "recvfrom"),
            step(
                "The client has its answer, and closes its socket",
                "Close sends nothing either: the server does not learn that \
                 the client has gone.",
            )
            .rust("socket.recv_from(&mut buffer)")
            .python("data = client.recv(65535); client.close()")
            .call("client", "recvfrom")
            .call("client", "close")
            .begin("client", "read"),
        ],
        &[("server", "recvfrom(3)"), ("client", "read(0)")],
        &[udp_server()],
        step(
            "The kernel's table",
            "The server's socket is as it was. No TIME-WAIT: where nothing was \
             opened, nothing must be closed with care.",
        ),
    )
}

fn nobody(play: &mut Play) -> Result<()> {
    play.udp();
    play.server("server", LESSON, &[])?;
    play.reading(
        listens(),
        &[("server", "recvfrom(3)")],
        &[udp_server()],
        step("The kernel's table", "One socket, bound to port 9006."),
    )?;
    play.program("server")?.kill()?;
    play.client("connected client", CLIENT, &[])?;
    let client = play.program("connected client")?;
    client.type_line("hello");
    client.expect("no answer; ")?;
    client.expect("send> ")?;
    play.client("unconnected client", CLIENT, &["--unconnected"])?;
    let client = play.program("unconnected client")?;
    client.type_line("hello");
    client.expect("no answer; ")?;
    client.expect("send> ")?;
    let mut tellings = vec![
        step(
            "The server is ended",
            "As by Ctrl-C. Its port belongs to nobody now.",
        )
        .act("server", "is killed"),
        step(
            "A connected client sends",
            "The kernel that gets the datagram has nobody to give it to, and \
             says so. Because the client's socket is connected, its kernel \
             knows whom this concerns.",
        )
        .rust("socket.connect(to)?; socket.send(line)?")
        .python("client.connect(addr); client.send(line)")
        .act("connected client", "the person types hello")
        .call("connected client", "read")
        .call("connected client", "socket")
        .call("connected client", "bind")
        .call("connected client", "connect")
        .call("connected client", "sendto")
        .packet("connected client", Client, "UDP: 5 bytes", DATAGRAM)
        .packet("connected client", Server, "ICMP: no port", UNREACHABLE)
        .call("connected client", "setsockopt"),
        step(
            "Its receive fails at once",
            "Send had long returned, with success. The refusal is the result \
             of the next call that sends or receives.",
        )
        .rust("socket.recv_from(&mut buffer)")
        .python("client.recv(65535)  # ConnectionRefusedError")
        .call("connected client", "recvfrom")
        .call("connected client", "close")
        .begin("connected client", "read"),
    ];
    for number in 1..=3 {
        let (title, text) = match number {
            1 => (
                "An unconnected client sends",
                "The same refusal comes back. But this socket may send to \
                 many, so its kernel tells the program nothing, and recv waits \
                 until its timeout.",
            ),
            2 => (
                "It tries again",
                "With a new socket, so that a late answer to the first try is \
                 not taken for this one.",
            ),
            _ => (
                "It tries a third time, and gives up",
                "From inside, an answer that was lost, a server that is slow \
                 and a server that does not exist look the same.",
            ),
        };
        let who = "unconnected client";
        let mut telling = step(title, text)
            .rust("socket.send_to(line, to)?")
            .python("client.sendto(line, addr)");
        if number == 1 {
            telling =
                telling.act(who, "the person types hello").call(who, "read");
        }
        telling = telling
            .call(who, "socket")
            .call(who, "bind")
            .call(who, "sendto")
            .packet(who, Client, "UDP: 5 bytes", DATAGRAM)
            .packet(who, Server, "ICMP: no port", UNREACHABLE)
            .call(who, "setsockopt")
            .begin(who, "recvfrom")
            .call(who, "recvfrom")
            .call(who, "close");
        if number == 3 {
            telling = telling.begin(who, "read");
        }
        tellings.push(telling);
    }
    play.reading(
        tellings,
        &[
            ("connected client", "read(0)"),
            ("unconnected client", "read(0)"),
        ],
        &[],
        step(
            "The kernel's table",
            "It is empty: neither a server, nor anything that a client has \
             left behind.",
        ),
    )
}
