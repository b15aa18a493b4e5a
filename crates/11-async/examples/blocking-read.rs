//! Wrong on purpose: tasks that read without `await`, and so keep a worker.
//!
//! Run:
//!   terminal 1: cargo run -p lesson-11-async --example blocking-read
//!   terminal 2: cargo run -p probe -- 127.0.0.1:9006 --idle
//!   terminal 3: cargo run -p probe -- 127.0.0.1:9006 --idle
//!   terminal 4: cargo run --bin client
//! Look for: two workers, two silent clients, and the third client is not
//!   even accepted. Behind the address you can say how many workers.

use std::env;
use std::io::{self, Read, Write};
use std::net::TcpStream;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::runtime::Builder;

fn main() -> anyhow::Result<()> {
    let addr = env::args().nth(1).unwrap_or("127.0.0.1:9006".into());
    let workers = env::args().nth(2).map_or(Ok(2), |text| text.parse());
    let workers = workers.ok().filter(|&count| count > 0);
    let runtime = Builder::new_multi_thread()
        .worker_threads(workers.context("how many workers, from 1 on?")?)
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(&addr).await?;
        println!("listening on {}", listener.local_addr()?);
        loop {
            let (stream, peer) = listener.accept().await?;
            println!("{peer} connected");
            let stream = stream.into_std()?;
            stream.set_nonblocking(false)?;
            tokio::spawn(serve(stream));
        }
    })
}

// ANCHOR: blocking_read
async fn serve(stream: TcpStream) {
    // Nothing in it waits by `await`: the worker waits.
    if let Err(error) = echo(&stream) {
        eprintln!("{error}");
    }
}

fn echo(mut stream: &TcpStream) -> io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count])?;
    }
}
// ANCHOR_END: blocking_read
