//! Lesson 04: more clients than workers.

use anyhow::Result;

use super::Scenario;
use super::common::{CLIENT, connects, echoes, leaves, listens};
use super::words::PUSH;
use crate::Play;
use crate::Side::Client;
use crate::play::{at_client, at_server, listener, step};

const LESSON: &str = "lesson-04-thread-pool";
/// So long that no read times out while it is recorded.
const DEADLINE: &[&str] = &["600000"];

pub(super) const FIVE_CLIENTS: Scenario = Scenario {
    name: "04-five-clients",
    title: "Five clients, four workers",
    summary: "Four clients occupy the four workers. The fifth is accepted, \
              sends a line, and waits until a worker is free.",
    play: five_clients,
};

fn five_clients(play: &mut Play) -> Result<()> {
    play.server("server", LESSON, DEADLINE)?;
    play.name_threads(
        "server",
        &["worker 1", "worker 2", "worker 3", "worker 4"],
    );
    play.reading(
        listens(),
        &[("server", "accept4(3) futex futex futex futex")],
        &[listener(0)],
        step(
            "The kernel's table",
            "The main thread waits in accept, and the four workers wait for \
             work, which is a futex: they touch no socket.",
        ),
    )?;

    let mut sockets = vec![listener(0)];
    for number in 1..=4 {
        let client = format!("client {number}");
        let worker = format!("worker {number}");
        play.client(&client, CLIENT, &[])?;
        for at in [at_client, at_server] {
            sockets.push(at(&client, "ESTABLISHED", 0));
        }
        let mut calls = vec!["accept4(3)".to_owned()];
        calls.extend((number..4).map(|_| "futex".to_owned()));
        calls.extend((1..=number).map(|n| format!("recvfrom({})", n + 3)));
        let names: Vec<_> =
            (1..=number).map(|n| format!("client {n}")).collect();
        let calls = calls.join(" ");
        let mut waiting = vec![("server", calls.as_str())];
        waiting.extend(names.iter().map(|name| (name.as_str(), "read(0)")));
        let text = match number {
            4 => {
                "All four workers wait for clients that say nothing. None is \
                 left."
            }
            _ => "One more worker waits for its client.",
        };
        play.reading(
            vec![
                connects(
                    &client,
                    &format!("Client {number} connects"),
                    "The two kernels shake hands.",
                ),
                step(
                    &format!("Worker {number} takes it"),
                    "The main thread puts the connection into the pool's \
                     queue, and a worker takes it out: it sets its timeouts, \
                     and waits for the client.",
                )
                .rust("pool.submit(move || serve(&stream, peer, timeout))")
                .python("pool.submit(serve, conn, addr)")
                .call("server", "accept4")
                .call("server", "accept4")
                .call(&worker, "setsockopt")
                .call(&worker, "setsockopt")
                .call(&worker, "recvfrom")
                .call(&client, "read"),
            ],
            &waiting,
            &sockets,
            step("The kernel's table", text),
        )?;
    }

    play.client("client 5", CLIENT, &[])?;
    play.program("client 5")?.type_line("five");
    sockets.push(at_client("client 5", "ESTABLISHED", 0));
    sockets.push(at_server("client 5", "ESTABLISHED", 5));
    let busy = "accept4(3) recvfrom(4) recvfrom(5) recvfrom(6) recvfrom(7)";
    play.reading(
        vec![
            connects(
                "client 5",
                "Client 5 connects",
                "The main thread accepts it, too: accept costs no worker.",
            )
            .call("server", "accept4")
            .call("server", "accept4"),
            step(
                "It says something",
                "Its connection stands in the pool's queue, inside the \
                 server program. No worker reads it.",
            )
            .rust("stream.write_all(&line)?")
            .python("client.sendall(line)")
            .act("client 5", "the person types five")
            .call("client 5", "read")
            .call("client 5", "sendto")
            .packet("client 5", Client, "PSH, ACK: 5 bytes", PUSH)
            .call("client 5", "recvfrom"),
        ],
        &[("server", busy), ("client 5", "recvfrom(3)")],
        &sockets,
        step(
            "The kernel's table: five bytes unread",
            "The listener's queue is empty, since all five are accepted. The \
             pool's queue is not in the kernel: only the unread bytes show \
             that somebody waits.",
        ),
    )?;

    let client = play.program("client 1")?;
    client.end_input();
    client.expect_exit(0)?;
    play.program("client 5")?.expect("received: five\nsend> ")?;
    let after = "accept4(3) recvfrom(5) recvfrom(6) recvfrom(7) recvfrom(8)";
    play.reading(
        vec![
            leaves(
                "worker 1",
                "client 1",
                "Client 1 leaves",
                "Its worker closes the socket. But the worker does not end: \
                 it takes the next connection out of the queue.",
            ),
            step(
                "The same worker takes client 5",
                "It sets its timeouts on the next connection, as before.",
            )
            .rust("stream.set_read_timeout(Some(timeout))")
            .python("conn.settimeout(timeout)")
            .call("worker 1", "setsockopt")
            .call("worker 1", "setsockopt"),
            echoes(
                "worker 1",
                "client 5",
                5,
                "It serves client 5",
                "The line has long been there, so recv returns at once.",
            ),
        ],
        &[("server", after), ("client 5", "read(0)")],
        &[
            listener(0),
            at_client("client 1", "TIME-WAIT", 0),
            at_client("client 2", "ESTABLISHED", 0),
            at_server("client 2", "ESTABLISHED", 0),
            at_client("client 3", "ESTABLISHED", 0),
            at_server("client 3", "ESTABLISHED", 0),
            at_client("client 4", "ESTABLISHED", 0),
            at_server("client 4", "ESTABLISHED", 0),
            at_client("client 5", "ESTABLISHED", 0),
            at_server("client 5", "ESTABLISHED", 0),
        ],
        step(
            "The kernel's table",
            "Four workers, four clients. Nothing of what client 5 said was \
             lost, it only waited.",
        ),
    )
}
