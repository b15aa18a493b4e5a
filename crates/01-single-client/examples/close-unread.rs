//! What a close with unread bytes does to the bytes that were written.
//!
//! Run: cargo run -p lesson-01-single-client --example close-unread
//! The cure: the same with `-- --cure`
//!
//! Chapter: docs/01-single-client.md

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::{env, thread};

const REQUEST: &[u8] = b"here are four bytes, and some more\n";
static ANSWER: [u8; 1 << 20] = [b'x'; 1 << 20];

fn main() -> io::Result<()> {
    let cure = env::args().nth(1).as_deref() == Some("--cure");
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    client.write_all(REQUEST)?;
    let (stream, _) = listener.accept()?;
    let server = thread::spawn(move || serve(stream, cure));
    if !cure {
        // The server has closed, and the client has read nothing yet.
        server
            .join()
            .unwrap_or_else(|_| Err(ErrorKind::Other.into()))?;
    }
    let mut arrived = Vec::new();
    let end = client.read_to_end(&mut arrived);
    print!("{} of {} bytes arrived, then ", arrived.len(), ANSWER.len());
    match end {
        Ok(_) => println!("the end of the stream"),
        Err(error) => println!("{error}"),
    }
    Ok(())
}

// ANCHOR: serve
fn serve(mut stream: TcpStream, cure: bool) -> io::Result<()> {
    stream.read_exact(&mut [0; 4])?;
    stream.write_all(&ANSWER)?;
    if cure {
        stream.shutdown(Shutdown::Write)?;
        io::copy(&mut stream, &mut io::sink())?;
    }
    Ok(())
}
// ANCHOR_END: serve
