//! A read that `select!` cancels loses what it has read already.
//!
//! Run: cargo run -p lesson-11-async --example half-a-line
//! Look for: which of the two functions loses the first half of a line.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::sync::Notify;

const ROUNDS: usize = 200;
const LINE: &[u8] = b"the first half, the second half\n";

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut client = TcpStream::connect(listener.local_addr()?).await?;
    let (mut server, _) = listener.accept().await?;
    for inside in [true, false] {
        let mut lost = 0;
        for _ in 0..ROUNDS {
            if round(&mut client, &mut server, inside).await? != LINE {
                lost += 1;
            }
        }
        let place = if inside { "inside" } else { "outside" };
        println!("the buffer {place}: {lost} of {ROUNDS} lines lost a half");
    }
    Ok(())
}

/// The client sends the second half when something else has happened in the
/// server, and that happens as soon as the server has read the first half.
async fn round(
    client: &mut TcpStream,
    server: &mut TcpStream,
    inside: bool,
) -> io::Result<Vec<u8>> {
    let something_else = Notify::new();
    let (first, second) = LINE.split_at(LINE.len() / 2);
    let mut line = Vec::new();
    client.write_all(first).await?;
    // ANCHOR: cancelled
    loop {
        if inside {
            select! {
                line = line_inside(server, &something_else) => return line,
                () = something_else.notified() => {}
            }
        } else {
            select! {
                read = line_outside(server, &mut line, &something_else) => {
                    return read.map(|()| line);
                }
                () = something_else.notified() => {}
            }
        }
        client.write_all(second).await?;
    }
    // ANCHOR_END: cancelled
}

// ANCHOR: inside_and_outside
async fn line_inside(
    stream: &mut TcpStream,
    something_else: &Notify,
) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    line_outside(stream, &mut line, something_else).await?;
    Ok(line)
}

async fn line_outside(
    stream: &mut TcpStream,
    line: &mut Vec<u8>,
    something_else: &Notify,
) -> io::Result<()> {
    while !line.ends_with(b"\n") {
        if stream.read_buf(line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        something_else.notify_one();
    }
    Ok(())
}
// ANCHOR_END: inside_and_outside
