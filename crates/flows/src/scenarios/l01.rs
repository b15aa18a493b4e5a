//! Lesson 01: one client at a time.

use anyhow::Result;

use super::Scenario;
use super::common::{CLIENT, connects, listens};
use super::words::{ACK, CLOSING, HANDSHAKE, PUSH};
use crate::Play;
use crate::Side::{Client, Server};
use crate::play::{Telling, at_client, at_server, listener, step};

const LESSON: &str = "lesson-01-single-client";
const PROBE: (&str, &str) = ("probe", "probe");

pub(super) const CONVERSATION: Scenario = Scenario {
    name: "01-conversation",
    title: "One conversation, from socket to close",
    summary: "A server listens, a client connects, each sends the other a \
              line, and the client closes first.",
    play: conversation,
};

fn conversation(play: &mut Play) -> Result<()> {
    play.server("server", LESSON, &[])?;
    play.reading(
        vec![
            step(
                "The server makes a socket",
                "A data structure in the kernel, and a number for it: 3, the \
                 first one free after the keyboard, the screen and the \
                 errors. It has no address yet, and nothing is sent.",
            )
            .rust("TcpListener::bind(&addr)")
            .python("server = socket.socket(AF_INET, SOCK_STREAM)")
            .call("server", "socket")
            .passes(
                "",
                Server,
                "CLOSED",
                "RFC 9293, section 3.3.2",
            ),
            step(
                "The same line of Rust sets an option",
                "Rust's standard library allows the address to be used again \
                 soon after a restart. Lesson 02 gives this option a chapter.",
            )
            .rust("TcpListener::bind(&addr)")
            .python("server.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)")
            .call("server", "setsockopt"),
            step(
                "The socket gets its address",
                "The port is reserved now. Nobody can connect to it yet: a \
                 SYN would be answered with a reset.",
            )
            .rust("TcpListener::bind(&addr)")
            .python("server.bind((\"127.0.0.1\", 9006))")
            .call("server", "bind"),
            step(
                "The socket becomes a listener",
                "From now on the kernel answers handshakes by itself. The \
                 number is the backlog: how many finished connections may \
                 wait until the program accepts them.",
            )
            .rust("TcpListener::bind(&addr)")
            .python("server.listen(5)")
            .call("server", "listen"),
            step(
                "The server waits for a client",
                "The queue is empty, so accept blocks. The program uses no \
                 processor time: the kernel will wake it.",
            )
            .rust("listener.accept()")
            .python("conn, addr = server.accept()")
            .call("server", "accept4"),
        ],
        &[("server", "accept4(3)")],
        &[listener(0)],
        step(
            "The kernel's table",
            "One socket, in state LISTEN. Its queue of connections that \
             nobody has accepted is empty.",
        ),
    )?;

    play.client("client", CLIENT, &[])?;
    play.reading(
        vec![
            step(
                "The client makes a socket",
                "The same call as in the server. A socket is not a server's \
                 or a client's until the next call.",
            )
            .rust("TcpStream::connect(&addr)")
            .python("client = socket.socket(AF_INET, SOCK_STREAM)")
            .call("client", "socket")
            .passes(
                "client",
                Client,
                "CLOSED",
                "RFC 9293, section 3.3.2",
            ),
            step(
                "The client connects",
                "The client's kernel chooses a free port, 50001 here, and \
                 sends SYN. The server's kernel answers, and the client's \
                 kernel answers that. The server program does nothing in all \
                 this: it still sleeps in accept. Then connect returns.",
            )
            .rust("TcpStream::connect(&addr)")
            .python("client.connect((\"127.0.0.1\", 9006))")
            .begin("client", "connect")
            .packet("client", Client, "SYN", HANDSHAKE)
            .passes("client", Client, "SYN-SENT", HANDSHAKE)
            .packet("client", Server, "SYN, ACK", HANDSHAKE)
            .passes("client", Server, "SYN-RECEIVED", HANDSHAKE)
            .packet("client", Client, "ACK", HANDSHAKE)
            .call("client", "connect"),
            step(
                "The server accepts",
                "The finished connection was in the listener's queue, and \
                 accept takes it out. It returns a new socket, 4, and the \
                 client's address. Socket 3 stays the listener.",
            )
            .rust("listener.accept()")
            .python("conn, addr = server.accept()")
            .call("server", "accept4"),
            step(
                "The server waits for bytes",
                "The client has said nothing yet, so recv blocks.",
            )
            .rust("stream.read(&mut buffer)?")
            .python("data = conn.recv(1024)")
            .call("server", "recvfrom"),
            step(
                "The client waits for its person",
                "It prints its prompt and reads the keyboard, which is file \
                 descriptor 0.",
            )
            .rust("io::stdin().lock().read_until(b'\\n', &mut line)?")
            .python("line = input(\"send> \")")
            .call("client", "read"),
        ],
        &[("server", "recvfrom(4)"), ("client", "read(0)")],
        &[
            listener(0),
            at_client("client", "ESTABLISHED", 0),
            at_server("client", "ESTABLISHED", 0),
        ],
        step(
            "The kernel's table",
            "Three sockets now: the listener, whose queue is empty again, and \
             the two ends of the connection, both ESTABLISHED. Local and peer \
             address of the one end are peer and local address of the other.",
        ),
    )?;

    play.program("client")?.type_line("hello");
    play.reading(
        vec![
            step(
                "The client sends a line",
                "Send hands six bytes to the kernel, the newline is one of \
                 them, and returns at once. The kernel sends them, and keeps \
                 them until the other kernel has acknowledged them.",
            )
            .rust("stream.write_all(&line)?")
            .python("client.sendall(line)")
            .act("client", "the person types hello")
            .call("client", "read")
            .call("client", "sendto")
            .packet("client", Client, "PSH, ACK: 6 bytes", PUSH)
            .packet("client", Server, "ACK", ACK),
            step(
                "The client waits for the answer",
                "Nothing has come, so recv blocks.",
            )
            .rust("stream.read(&mut buffer)?")
            .python("data = client.recv(1024)")
            .call("client", "recvfrom"),
            step(
                "The server's recv returns",
                "Six of at most 1,024 bytes. Recv returns what is there, and \
                 does not wait for more.",
            )
            .rust("stream.read(&mut buffer)?")
            .python("data = conn.recv(1024)")
            .call("server", "recvfrom"),
            step(
                "The server waits for its person",
                "It shows the line, prompts, and reads the keyboard. As long \
                 as it sits there it looks at no socket.",
            )
            .rust("io::stdin().lock().read_until(b'\\n', &mut line)?")
            .python("reply = input(\"reply> \")")
            .call("server", "read"),
        ],
        &[("server", "read(0)"), ("client", "recvfrom(3)")],
        &[
            listener(0),
            at_client("client", "ESTABLISHED", 0),
            at_server("client", "ESTABLISHED", 0),
        ],
        step(
            "The kernel's table",
            "All queues are empty: the client's send queue, so the six bytes \
             have been acknowledged, and the server's receive queue, so they \
             have been read.",
        ),
    )?;

    play.program("server")?.type_line("hello yourself");
    play.reading(
        vec![
            step(
                "The server sends its answer",
                "The same calls with the parts changed. TCP has no server \
                 and no client any more, only two ends.",
            )
            .rust("stream.write_all(&line)?")
            .python("conn.sendall(reply)")
            .act("server", "the person types hello yourself")
            .call("server", "read")
            .call("server", "sendto")
            .packet("client", Server, "PSH, ACK: 15 bytes", PUSH)
            .packet("client", Client, "ACK", ACK),
            step(
                "The client's recv returns",
                "It shows the answer, and prompts for the next line.",
            )
            .rust("stream.read(&mut buffer)?")
            .python("data = client.recv(1024)")
            .call("client", "recvfrom")
            .call("client", "read"),
            step(
                "The server waits for more",
                "It cannot know whether the client will say anything else. So \
                 it asks again.",
            )
            .rust("stream.read(&mut buffer)?")
            .python("data = conn.recv(1024)")
            .call("server", "recvfrom"),
        ],
        &[("server", "recvfrom(4)"), ("client", "read(0)")],
        &[
            listener(0),
            at_client("client", "ESTABLISHED", 0),
            at_server("client", "ESTABLISHED", 0),
        ],
        step(
            "The kernel's table",
            "As before the two lines. An ESTABLISHED connection on which \
             nobody speaks sends nothing, and can stay so for days.",
        ),
    )?;

    let client = play.program("client")?;
    client.end_input();
    client.expect_exit(0)?;
    play.reading(
        vec![
            step(
                "The client closes its direction",
                "The person has typed Ctrl-D, so the keyboard's read returns \
                 0. Shutdown makes the kernel send FIN: no more bytes will \
                 come from here. The other direction stays open, and the \
                 client waits in recv for what may still come.",
            )
            .rust("stream.shutdown(Shutdown::Write)")
            .python("client.shutdown(socket.SHUT_WR)")
            .act("client", "the person types Ctrl-D")
            .call("client", "read")
            .call("client", "shutdown")
            .packet("client", Client, "FIN, ACK", CLOSING)
            .passes("client", Client, "FIN-WAIT-1", CLOSING)
            .passes("client", Server, "CLOSE-WAIT", CLOSING)
            .begin("client", "recvfrom"),
            step(
                "The server's recv returns 0",
                "The end of the stream. It is not an empty message, and it \
                 will not go away: each further recv would return 0 at once.",
            )
            .rust("if count == 0")
            .python("if not data: break")
            .call("server", "recvfrom"),
            step(
                "The server closes",
                "The stream goes out of scope. Its kernel sends FIN in the \
                 other direction; the same segment can acknowledge the \
                 client's. The connection is over on this side as soon as \
                 this FIN is acknowledged.",
            )
            .rust("fn converse(mut stream: TcpStream) -> io::Result<Closed>")
            .python("conn.close()")
            .call("server", "close")
            .packet("client", Server, "FIN, ACK", CLOSING)
            .passes("client", Server, "LAST-ACK", CLOSING)
            .packet("client", Client, "ACK", CLOSING)
            .passes("client", Server, "CLOSED", CLOSING),
            step(
                "The client's recv returns 0, and it closes",
                "Now both directions are closed. The program ends, and its \
                 kernel keeps the connection a little longer.",
            )
            .rust("while let Ok(count @ 1..) = stream.read(&mut buffer)")
            .python("client.close()")
            .call("client", "recvfrom")
            .call("client", "close")
            .act("client", "exits"),
            step(
                "The server waits for the next client",
                "It is where it was at the beginning.",
            )
            .rust("listener.accept()")
            .python("conn, addr = server.accept()")
            .call("server", "accept4"),
        ],
        &[("server", "accept4(3)")],
        &[listener(0), at_client("client", "TIME-WAIT", 0)],
        step(
            "The kernel's table",
            "The server's end is gone. The client's end is in TIME-WAIT, \
             although its program has ended: that state belongs to the side \
             that closed first, and here it lasts for a minute.",
        ),
    )
}

pub(super) const SECOND_CLIENT: Scenario = Scenario {
    name: "01-second-client",
    title: "A second client waits in the queue",
    summary: "While the server talks to a first client, a second one connects \
              and sends a line. Both wait in the kernel until the first has \
              left.",
    play: second_client,
};

fn second_client(play: &mut Play) -> Result<()> {
    play.server("server", LESSON, &[])?;
    play.reading(
        listens(),
        &[("server", "accept4(3)")],
        &[listener(0)],
        step("The kernel's table", "A listener with an empty queue."),
    )?;

    play.client("client 1", CLIENT, &[])?;
    play.program("client 1")?.type_line("first");
    play.reading(
        vec![
            connects(
                "client 1",
                "The first client connects",
                "The two kernels shake hands.",
            ),
            step(
                "The server accepts it",
                "The connection leaves the queue, and gets socket 4.",
            )
            .rust("listener.accept()")
            .python("conn, addr = server.accept()")
            .call("server", "accept4"),
            step(
                "The first client says something",
                "It sends a line, and waits for the answer.",
            )
            .rust("stream.write_all(&line)?")
            .python("client.sendall(line)")
            .call("client 1", "read")
            .call("client 1", "sendto")
            .packet("client 1", Client, "PSH, ACK: 6 bytes", PUSH)
            .call("client 1", "recvfrom"),
            step(
                "The server reads it, and waits for its person",
                "From here on it looks neither at the listener nor at any \
                 other socket.",
            )
            .rust("prompt(\"reply> \")?")
            .python("reply = input(\"reply> \")")
            .call("server", "recvfrom")
            .call("server", "read"),
        ],
        &[("server", "read(0)"), ("client 1", "recvfrom(3)")],
        &[
            listener(0),
            at_client("client 1", "ESTABLISHED", 0),
            at_server("client 1", "ESTABLISHED", 0),
        ],
        step(
            "The kernel's table",
            "One connection, accepted and read. The queue is empty.",
        ),
    )?;

    play.client("client 2", CLIENT, &[])?;
    play.program("client 2")?.expect("send> ")?;
    play.reading(
        vec![
            connects(
                "client 2",
                "The second client connects",
                "Its connect returns, although the server program sits at its \
                 keyboard. The kernels have done it alone.",
            ),
            step(
                "The second client waits for its person",
                "It has no sign that nobody has accepted it.",
            )
            .rust("prompt(\"send> \")?")
            .python("line = input(\"send> \")")
            .call("client 2", "read"),
        ],
        &[
            ("server", "read(0)"),
            ("client 1", "recvfrom(3)"),
            ("client 2", "read(0)"),
        ],
        &[
            listener(1),
            at_client("client 1", "ESTABLISHED", 0),
            at_server("client 1", "ESTABLISHED", 0),
            at_client("client 2", "ESTABLISHED", 0),
            at_server("client 2", "ESTABLISHED", 0),
        ],
        step(
            "The kernel's table: one connection in the queue",
            "The second connection is ESTABLISHED at both ends, and it stands \
             in the listener's queue. The server program has no file \
             descriptor for it.",
        ),
    )?;

    play.program("client 2")?.type_line("second");
    play.reading(
        vec![
            step(
                "The second client says something",
                "Send returns at once. The server's kernel takes the bytes, \
                 acknowledges them, and keeps them. Then the client waits.",
            )
            .rust("stream.write_all(&line)?")
            .python("client.sendall(line)")
            .act("client 2", "the person types second")
            .call("client 2", "read")
            .call("client 2", "sendto")
            .packet("client 2", Client, "PSH, ACK: 7 bytes", PUSH)
            .packet("client 2", Server, "ACK", ACK)
            .call("client 2", "recvfrom"),
        ],
        &[
            ("server", "read(0)"),
            ("client 1", "recvfrom(3)"),
            ("client 2", "recvfrom(3)"),
        ],
        &[
            listener(1),
            at_client("client 1", "ESTABLISHED", 0),
            at_server("client 1", "ESTABLISHED", 0),
            at_client("client 2", "ESTABLISHED", 0),
            at_server("client 2", "ESTABLISHED", 7),
        ],
        step(
            "The kernel's table: seven bytes nobody can read yet",
            "The bytes wait in the receive queue of a connection that itself \
             waits in the listener's queue. A successful connect and a \
             successful send prove nothing about the program.",
        ),
    )?;

    play.program("server")?.type_line("reply");
    let client = play.program("client 1")?;
    client.expect("received: reply\nsend> ")?;
    client.end_input();
    client.expect_exit(0)?;
    play.reading(
        vec![
            step(
                "The first client is answered",
                "The server's person types a line, and the client reads it.",
            )
            .rust("stream.write_all(&line)?")
            .python("conn.sendall(reply)")
            .act("server", "the person types reply")
            .call("server", "read")
            .call("server", "sendto")
            .packet("client 1", Server, "PSH, ACK: 6 bytes", PUSH)
            .call("client 1", "recvfrom"),
            step(
                "The first client leaves",
                "It closes its direction, the server reads 0 and closes the \
                 other, and the client ends.",
            )
            .rust("stream.shutdown(Shutdown::Write)")
            .python("client.shutdown(socket.SHUT_WR)")
            .act("client 1", "the person types Ctrl-D")
            .call("client 1", "read")
            .call("client 1", "shutdown")
            .packet("client 1", Client, "FIN, ACK", CLOSING)
            .call("server", "recvfrom")
            .call("server", "close")
            .packet("client 1", Server, "FIN, ACK", CLOSING)
            .packet("client 1", Client, "ACK", CLOSING)
            .call("client 1", "recvfrom")
            .call("client 1", "close"),
            step(
                "Now the server accepts the second",
                "Accept does not block: the connection has long been there. \
                 So have the seven bytes, and recv returns at once, too.",
            )
            .rust("listener.accept()")
            .python("conn, addr = server.accept()")
            .call("server", "accept4")
            .call("server", "recvfrom")
            .call("server", "read"),
        ],
        &[("server", "read(0)"), ("client 2", "recvfrom(3)")],
        &[
            listener(0),
            at_client("client 1", "TIME-WAIT", 0),
            at_client("client 2", "ESTABLISHED", 0),
            at_server("client 2", "ESTABLISHED", 0),
        ],
        step(
            "The kernel's table",
            "Both queues are empty, and nothing of what the second client had \
             sent was lost. The first client's end is in TIME-WAIT.",
        ),
    )
}

pub(super) const UNREAD: Scenario = Scenario {
    name: "01-unread",
    title: "Bytes that nobody has read",
    summary: "A client sends a line, another line and then FIN while the \
              server sits at its keyboard. The kernel keeps all of it.",
    play: unread,
};

fn unread(play: &mut Play) -> Result<()> {
    play.server("server", LESSON, &[])?;
    play.reading(
        listens(),
        &[("server", "accept4(3)")],
        &[listener(0)],
        step("The kernel's table", "A listener with an empty queue."),
    )?;

    play.client("probe", PROBE, &[])?;
    play.name_threads("probe", &["probe's socket", "probe's keyboard"]);
    play.program("probe")?.type_line("one");
    play.program("server")?.expect("received: one\nreply> ")?;
    play.reading(
        vec![
            connects(
                "probe's socket",
                "A client with two threads connects",
                "This client is probe. One thread waits for what arrives, and \
                 one reads the keyboard, so it can speak without waiting for \
                 an answer.",
            )
            .rust("TcpStream::connect(peer)")
            .call("probe's socket", "setsockopt")
            .call("probe's socket", "setsockopt")
            .call("probe's socket", "recvfrom")
            .call("server", "accept4")
            .begin("server", "recvfrom"),
            step(
                "It sends a first line",
                "Four bytes. The server's recv has something to return.",
            )
            .rust("(&self.socket).write(piece)")
            .python("client.sendall(line)")
            .act("probe's keyboard", "the person types one")
            .call("probe's keyboard", "read")
            .call("probe's keyboard", "sendto")
            .packet("probe", Client, "PSH, ACK: 4 bytes", PUSH)
            .call("probe's keyboard", "read"),
            step(
                "The server reads it, and sits at its keyboard",
                "Recv returns the four bytes. From here on the server looks \
                 at no socket until its person has typed a reply.",
            )
            .rust("prompt(\"reply> \")?")
            .python("reply = input(\"reply> \")")
            .call("server", "recvfrom")
            .call("server", "read"),
        ],
        &[
            ("server", "read(0)"),
            ("probe", "futex read(0) recvfrom(3)"),
        ],
        &[
            listener(0),
            at_client("probe", "ESTABLISHED", 0),
            at_server("probe", "ESTABLISHED", 0),
        ],
        step(
            "The kernel's table",
            "All queues are empty: what came is read.",
        ),
    )?;

    play.program("probe")?.type_line("two");
    play.reading(
        vec![types("two", 4)],
        &[
            ("server", "read(0)"),
            ("probe", "futex read(0) recvfrom(3)"),
        ],
        &[
            listener(0),
            at_client("probe", "ESTABLISHED", 0),
            at_server("probe", "ESTABLISHED", 4),
        ],
        step(
            "The kernel's table: four bytes unread",
            "They have arrived, and they are acknowledged: the sender's queue \
             is empty. The server program knows nothing of them.",
        ),
    )?;

    play.program("probe")?.type_line("three");
    play.reading(
        vec![types("three", 6)],
        &[
            ("server", "read(0)"),
            ("probe", "futex read(0) recvfrom(3)"),
        ],
        &[
            listener(0),
            at_client("probe", "ESTABLISHED", 0),
            at_server("probe", "ESTABLISHED", 10),
        ],
        step(
            "The kernel's table: ten bytes unread",
            "One queue of ten bytes. Nothing in it says that they were sent \
             as four and six.",
        ),
    )?;

    play.program("probe")?.end_input();
    play.reading(
        vec![
            step(
                "The client closes its direction",
                "FIN comes behind the ten bytes, and must wait like them: the \
                 end of the stream is read after everything before it.",
            )
            .rust("self.socket.shutdown(Shutdown::Write)")
            .python("client.shutdown(socket.SHUT_WR)")
            .act("probe's keyboard", "the person types Ctrl-D")
            .call("probe's keyboard", "read")
            .call("probe's keyboard", "shutdown")
            .packet("probe", Client, "FIN, ACK", CLOSING)
            .passes("probe", Client, "FIN-WAIT-1", CLOSING)
            .packet("probe", Server, "ACK", CLOSING),
        ],
        &[("server", "read(0)")],
        &[
            listener(0),
            at_client("probe", "FIN-WAIT-2", 0),
            at_server("probe", "CLOSE-WAIT", 11),
        ],
        step(
            "The kernel's table: ten bytes and a FIN",
            "CLOSE-WAIT: the server's kernel knows that the client will send \
             no more, and waits for its own program to close. FIN-WAIT-2: the \
             client's kernel waits for the other FIN.",
        ),
    )?;

    play.program("server")?.type_line("reply");
    play.program("probe")?.expect("reply")?;
    play.reading(
        vec![
            step(
                "The server replies",
                "It may: only the other direction is closed. The client reads \
                 the six bytes.",
            )
            .rust("stream.write_all(&line)?")
            .python("conn.sendall(reply)")
            .act("server", "the person types reply")
            .call("server", "read")
            .call("server", "sendto")
            .packet("probe", Server, "PSH, ACK: 6 bytes", PUSH)
            .packet("probe", Client, "ACK", ACK)
            .call("probe's socket", "recvfrom")
            .call("probe's socket", "recvfrom"),
            step(
                "One recv returns both lines",
                "The client called send twice, the server calls recv once. \
                 Then it sits at its keyboard again.",
            )
            .rust("stream.read(&mut buffer)?")
            .python("data = conn.recv(1024)")
            .call("server", "recvfrom")
            .call("server", "read"),
        ],
        &[("server", "read(0)")],
        &[
            listener(0),
            at_client("probe", "FIN-WAIT-2", 0),
            at_server("probe", "CLOSE-WAIT", 0),
        ],
        step(
            "The kernel's table: all is read but the end",
            "The queue is empty, and the server program still knows nothing \
             of the FIN: the state is its kernel's knowledge. The program is \
             told when it asks again.",
        ),
    )?;

    play.program("server")?.type_line("reply again");
    play.program("probe")?.expect_exit(0)?;
    play.reading(
        vec![
            step(
                "The server replies once more",
                "The client has not gone, it only says no more. So this \
                 arrives, too.",
            )
            .rust("stream.write_all(&line)?")
            .python("conn.sendall(reply)")
            .act("server", "the person types reply again")
            .call("server", "read")
            .call("server", "sendto")
            .packet("probe", Server, "PSH, ACK: 12 bytes", PUSH)
            .call("probe's socket", "recvfrom"),
            step(
                "Now recv returns 0, and the server closes",
                "The FIN is read. The server's own FIN ends the other \
                 direction, and the client ends.",
            )
            .rust("if count == 0")
            .python("if not data: break")
            .call("server", "recvfrom")
            .call("server", "close")
            .packet("probe", Server, "FIN, ACK", CLOSING)
            .passes("probe", Server, "LAST-ACK", CLOSING)
            .packet("probe", Client, "ACK", CLOSING)
            .passes("probe", Server, "CLOSED", CLOSING)
            .call("probe's socket", "recvfrom")
            .call("probe's socket", "close")
            .act("probe's keyboard", "exits")
            .act("probe's socket", "exits")
            .call("server", "accept4"),
        ],
        &[("server", "accept4(3)")],
        &[listener(0), at_client("probe", "TIME-WAIT", 0)],
        step(
            "The kernel's table",
            "The server's end is gone. The client closed first, so TIME-WAIT \
             is on its side.",
        ),
    )
}

/// Another line, while the server looks elsewhere.
fn types(text: &str, bytes: usize) -> Telling {
    step(
        &format!("It sends another line: {text}"),
        "Send returns at once. The server's kernel takes the bytes, although \
         its program does not ask for them.",
    )
    .rust("(&self.socket).write(piece)")
    .python("client.sendall(line)")
    .act("probe's keyboard", &format!("the person types {text}"))
    .call("probe's keyboard", "read")
    .call("probe's keyboard", "sendto")
    .packet("probe", Client, &format!("PSH, ACK: {bytes} bytes"), PUSH)
    .packet("probe", Server, "ACK", ACK)
    .call("probe's keyboard", "read")
}
