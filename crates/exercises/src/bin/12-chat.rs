//! Exercise 12: notices by topic.
//!
//! A client sends lines, and each is one of two:
//!
//!   follow TOPIC      is answered with "following TOPIC"
//!   post TOPIC TEXT   is answered with a number: how many get the notice
//!
//! Who follows a topic gets "TOPIC: TEXT" for each notice that is posted to it,
//! by whomever. A topic is a word, a text is the rest of the line.
//!
//!   1. All who follow a topic get its notices in one and the same order, and
//!      each line whole.
//!   2. Nobody waits for a client that does not read. At least 1 MiB is kept
//!      for it. With more than 16 MiB waiting it has been thrown out: its
//!      connection is closed.
//!   3. Who has sent its last line (it half-closes) gets what waits for it, and
//!      then the end. It follows nothing from there on.
//!
//! Your part: the places marked `todo!`, and whatever they need. Change
//! anything you like in this file; keep the first line that the program prints.
//!
//! Check:   cargo course check 12
//! By hand: cargo run -p exercises --bin 12-chat
//!          cargo run --bin chat-client
//! Read:    docs/exercises/12-chat.md, and lesson 12

use std::io::{self, BufRead, BufReader, Error};
use std::net::{TcpListener, TcpStream};
use std::{env, thread};

fn main() -> io::Result<()> {
    let addr = env::args().nth(1).unwrap_or("127.0.0.1:9006".to_owned());
    let listener = TcpListener::bind(addr)?;
    println!("listening on {}", listener.local_addr()?);
    for stream in listener.incoming() {
        let serving = stream.and_then(|stream| {
            thread::Builder::new().spawn(move || serve(&stream))
        });
        if let Err(error) = serving {
            eprintln!("cannot serve a client: {error}");
        }
    }
    Ok(())
}

fn serve(stream: &TcpStream) {
    if let Err(error) = listen(stream) {
        eprintln!("{error}");
    }
}

/// Does what a client's lines say, until it sends no more.
fn listen(stream: &TcpStream) -> io::Result<()> {
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let words: Vec<_> = line.splitn(3, ' ').collect();
        match words[..] {
            ["follow", topic] => follow(stream, topic),
            ["post", topic, text] => post(stream, topic, text),
            _ => return Err(Error::other(format!("what is {line:?}?"))),
        }
    }
    Ok(())
}

/// This client wants all notices of this topic from now on.
fn follow(stream: &TcpStream, topic: &str) {
    todo!("{stream:?} follows {topic}")
}

/// Passes on a notice, and says how many get it.
fn post(stream: &TcpStream, topic: &str, text: &str) {
    todo!("{stream:?} posts {text} to {topic}")
}
