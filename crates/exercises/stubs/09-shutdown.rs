//! Exercise 09: finish what was begun.
//!
//! A sum is one number on each line, and then an empty line. The answer is a
//! line with the sum: "1", "2", "39" and "" are answered with "42". A client
//! may ask again and again, and several are served at once. A line that holds
//! anything else ends its own connection, and nothing more.
//!
//! Ctrl-C or SIGTERM (on Windows: the end of standard input) tells the server
//! to end. Then it
//!
//!   1. takes no new clients: its listener is closed, they are refused,
//!   2. closes the connection of each client that is idle,
//!   3. waits for the rest of a sum that was begun, answers it, and closes
//!      then: a sum is begun with its first byte,
//!   4. ends with exit code 0 when all have gone.
//!
//! Told again, it ends at once, whatever was begun.
//!
//! Your part: the place marked `todo!`, the loop in `main`, and the one in
//! `answer_sums`. Change anything you like in this file; keep the first line
//! that the program prints.
//!
//! Check:   cargo course check 9
//! By hand: cargo run -p exercises --bin 09-shutdown
//!          cargo run -p probe -- 127.0.0.1:9006
//! Read:    docs/exercises/09-shutdown.md, and lesson 09

use std::io::{self, BufRead, BufReader, Error, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::{env, thread};

fn main() -> io::Result<()> {
    let addr = env::args().nth(1).unwrap_or("127.0.0.1:9006".to_owned());
    let listener = TcpListener::bind(addr)?;
    let addr = listener.local_addr()?;
    when_told_to_end(move || end(addr))?;
    println!("listening on {addr}");
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

/// Calls `end` for each Ctrl-C and each SIGTERM; on Windows once, at the end
/// of standard input.
fn when_told_to_end(mut end: impl FnMut() + Send + 'static) -> io::Result<()> {
    if cfg!(unix) {
        return ctrlc::set_handler(end).map_err(Error::other);
    }
    let keyboard = move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        end();
    };
    thread::Builder::new().spawn(keyboard).map(|_| ())
}

/// The server was told to end.
fn end(addr: SocketAddr) {
    todo!("end the server at {addr}")
}

fn serve(stream: &TcpStream) {
    if let Err(error) = answer_sums(stream) {
        eprintln!("{error}");
    }
}

/// Answers a client's sums until it sends no more.
fn answer_sums(mut stream: &TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut sum = 0;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        if line.trim().is_empty() {
            stream.write_all(format!("{sum}\n").as_bytes())?;
            sum = 0;
        } else {
            sum += line.trim().parse::<i64>().map_err(Error::other)?;
        }
        line.clear();
    }
    Ok(())
}
