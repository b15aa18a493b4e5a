//! Lesson 03: a thread for each client.

use anyhow::Result;

use super::Scenario;
use super::common::{CLIENT, connects, echoes, leaves, listens, says};
use crate::Play;
use crate::play::{at_client, at_server, listener, step};

const LESSON: &str = "lesson-03-threaded";

pub(super) const THREE_CLIENTS: Scenario = Scenario {
    name: "03-three-clients",
    title: "Three clients, three threads",
    summary: "Each client gets a thread of the server, which waits for this \
              client alone. The main thread only accepts.",
    play: three_clients,
};

fn three_clients(play: &mut Play) -> Result<()> {
    play.server("server", LESSON, &[])?;
    play.reading(
        listens(),
        &[("server", "accept4(3)")],
        &[listener(0)],
        step("The kernel's table", "A listener with an empty queue."),
    )?;

    let mut sockets = vec![listener(0)];
    let mut waiting = "accept4(3)".to_owned();
    for (number, text) in [
        (
            1,
            "The main thread has accepted the connection, started a thread \
             for it, and accepts again. The new thread waits for this client.",
        ),
        (
            2,
            "The first client has said nothing, and hinders nobody. In lesson \
             01 this client would still be in the queue.",
        ),
        (
            3,
            "Three connections, and a thread for each. What they share is the \
             listener's port.",
        ),
    ] {
        let client = format!("client {number}");
        let thread = format!("thread {number}");
        play.client(&client, CLIENT, &[])?;
        for at in [at_client, at_server] {
            sockets.push(at(&client, "ESTABLISHED", 0));
        }
        waiting += &format!(" recvfrom({})", number + 3);
        let mut all = vec![("server", waiting.as_str())];
        let names: Vec<_> =
            (1..=number).map(|n| format!("client {n}")).collect();
        all.extend(names.iter().map(|name| (name.as_str(), "read(0)")));
        play.reading(
            vec![
                connects(
                    &client,
                    &format!("Client {number} connects"),
                    "The two kernels shake hands.",
                ),
                step(
                    &format!("The server starts thread {number}"),
                    "Accept returns a new socket. A new thread takes it, and \
                     the main thread goes back to accept.",
                )
                .rust("thread::Builder::new().spawn(thread)")
                .python("threading.Thread(target=serve, args=(conn,)).start()")
                .call("server", "accept4")
                .call(&thread, "recvfrom")
                .call("server", "accept4")
                .call(&client, "read"),
            ],
            &all,
            &sockets,
            step("The kernel's table", text),
        )?;
    }

    play.program("client 3")?.type_line("three");
    play.program("client 3")?
        .expect("received: three\nsend> ")?;
    let at_rest = [
        ("server", waiting.as_str()),
        ("client 1", "read(0)"),
        ("client 2", "read(0)"),
        ("client 3", "read(0)"),
    ];
    play.reading(
        vec![
            says(
                "client 3",
                "three",
                "Client 3 says something",
                "Only the thread that waits for this socket is woken.",
            ),
            echoes(
                "thread 3",
                "client 3",
                6,
                "Its thread sends it back",
                "The other threads sleep through this.",
            ),
        ],
        &at_rest,
        &sockets,
        step("The kernel's table", "As before: each queue is empty."),
    )?;

    let client = play.program("client 2")?;
    client.end_input();
    client.expect_exit(0)?;
    play.reading(
        vec![
            leaves(
                "thread 2",
                "client 2",
                "Client 2 leaves",
                "Its thread reads 0, closes its socket, and ends. Nobody else \
                 notices.",
            )
            .act("thread 2", "exits"),
        ],
        &[
            ("server", "accept4(3) recvfrom(4) recvfrom(6)"),
            ("client 1", "read(0)"),
            ("client 3", "read(0)"),
        ],
        &[
            listener(0),
            at_client("client 1", "ESTABLISHED", 0),
            at_server("client 1", "ESTABLISHED", 0),
            at_client("client 2", "TIME-WAIT", 0),
            at_client("client 3", "ESTABLISHED", 0),
            at_server("client 3", "ESTABLISHED", 0),
        ],
        step(
            "The kernel's table",
            "Two connections, two threads, and the main thread. Descriptor 5 \
             is free for the next client.",
        ),
    )
}
