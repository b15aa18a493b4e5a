//! A client over TCP.

use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use socket2::SockRef;

use crate::failure::{self, OUT_OF_THREADS};
use crate::outgoing::{self, pause};
use crate::patience::{Patience, Wait};
use crate::report::{Flow, Verb};
use crate::{Task, spawn};

const PEER_CLOSED: &str = "the peer closed the connection";

/// Runs client `id` to its end and says how it ended.
pub fn run(id: usize, task: &Arc<Task>) -> Result<String> {
    let args = &task.args;
    let (stream, peer) = connect(task)
        .map_err(|e| anyhow!(failure::connecting(&e, &args.addr)))?;
    task.report.reached(id);
    // The peer may have reset already: then some systems fail here, and the
    // first read says why.
    let local = stream.local_addr().map_or("?".into(), |a| a.to_string());
    let _ = stream.set_nodelay(true);
    let _ = stream.set_write_timeout(args.timeout);
    task.report
        .note(id, &format!("connected {local} -> {peer}"));
    if args.idle {
        send(id, task, &stream)?;
        return idle(id, task, &stream);
    }
    talk(id, task, Arc::new(stream))
}

fn connect(task: &Task) -> io::Result<(TcpStream, SocketAddr)> {
    let mut result = Err(ErrorKind::AddrNotAvailable.into());
    for &peer in &task.peers {
        let stream = match task.args.timeout {
            Some(limit) => TcpStream::connect_timeout(&peer, limit),
            None => TcpStream::connect(peer),
        };
        result = stream.map(|stream| (stream, peer));
        if result.is_ok() {
            break;
        }
    }
    result
}

/// Sends in a second thread and reads in this one: a client that first sends
/// everything and then reads would deadlock with an echo server.
fn talk(id: usize, task: &Arc<Task>, stream: Arc<TcpStream>) -> Result<String> {
    let args = &task.args;
    let limit = if args.rst {
        Some(Duration::ZERO)
    } else {
        args.limit()
    };
    let patience = Arc::new(Patience::new(limit));
    let sender = spawn(task, {
        let (stream, patience) = (Arc::clone(&stream), Arc::clone(&patience));
        move |task| {
            let sent = send(id, task, &stream);
            patience.all_sent();
            if sent.is_err() {
                // Wakes the reader; the connection is of no more use.
                let _ = stream.shutdown(Shutdown::Both);
            }
            sent
        }
    })
    .map_err(|_| anyhow!(OUT_OF_THREADS))?;

    let (end, received) = receive(id, task, &stream, &patience)?;
    // A person may be typing for ever.
    if !args.interactive() || patience.is_all_sent() {
        match sender.join() {
            Ok(sent) => sent?,
            Err(_) => bail!("a fault in this program"),
        }
    }
    let ms = limit.unwrap_or_default().as_millis();
    match end {
        _ if args.rst => {
            // RFC 9293, 3.10.7: closing without lingering aborts with RST.
            SockRef::from(&*stream)
                .set_linger(Some(Duration::ZERO))
                .map_err(|e| anyhow!(failure::broken(&e, "resetting")))?;
            Ok("reset the connection, as asked".into())
        }
        End::OfStream => Ok(PEER_CLOSED.into()),
        End::OfPatience if args.half_close || args.interactive() => bail!(
            "the peer did not close within {ms} ms: does the server notice \
             the end of the stream?"
        ),
        End::OfPatience if received == 0 => {
            bail!("no answer within {ms} ms: is the server busy?")
        }
        End::OfPatience => {
            Ok(format!("closed the connection after {ms} ms of silence"))
        }
    }
}

fn send(id: usize, task: &Task, stream: &TcpStream) -> Result<()> {
    let args = &task.args;
    if args.interactive() && io::stdin().is_terminal() {
        task.report
            .note(id, "type lines; Ctrl-D (Windows: Ctrl-Z) ends");
    }
    let mut flow = Flow::new(task, id, Verb::Sending);
    let write = |piece: &[u8]| write_counted(stream, piece, &mut flow);
    outgoing::send_all(args, write)
        .map_err(|e| anyhow!(failure::broken(&e, "sending")))?;
    drop(flow);
    if args.half_close || args.rst {
        pause(args);
    }
    if args.half_close || args.interactive() {
        task.report
            .note(id, "half-closing: nothing more will be sent");
        match stream.shutdown(Shutdown::Write) {
            // The peer has closed or reset already; the reader says so.
            Err(e) if e.kind() == ErrorKind::NotConnected => {}
            other => other?,
        }
    }
    Ok(())
}

/// `write_all` that counts what was sent before it failed.
fn write_counted(
    mut stream: &TcpStream,
    piece: &[u8],
    flow: &mut Flow,
) -> io::Result<()> {
    flow.show(piece);
    let mut sent = 0;
    while sent < piece.len() {
        match stream.write(&piece[sent..]) {
            Ok(n) => {
                flow.count(n);
                sent += n;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

enum End {
    OfStream,
    OfPatience,
}

/// Shows what arrives until the peer closes or patience ends.
fn receive(
    id: usize,
    task: &Task,
    mut stream: &TcpStream,
    patience: &Patience,
) -> Result<(End, u64)> {
    let mut flow = Flow::new(task, id, Verb::Received);
    let mut buffer = vec![0; 16 * 1024];
    let mut received = 0;
    loop {
        match patience.next() {
            Wait::Forever => {}
            Wait::AtMost(time) => {
                // Fails on some systems after a reset; the read says so.
                let _ = stream.set_read_timeout(Some(time));
            }
            Wait::Over => return Ok((End::OfPatience, received)),
        }
        match stream.read(&mut buffer) {
            Ok(0) => return Ok((End::OfStream, received)),
            Ok(n) => {
                patience.moved();
                received += n as u64;
                flow.count(n);
                flow.show(&buffer[..n]);
            }
            Err(e) if failure::timed_out(&e) => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => bail!(failure::broken(&e, "waiting for an answer")),
        }
    }
}

/// Waits without reading. Peeking shows the peer's close as long as nothing
/// has arrived; behind unread bytes only a reset can be seen.
fn idle(id: usize, task: &Task, stream: &TcpStream) -> Result<String> {
    const LOOK: Duration = Duration::from_millis(100);
    let limit = task.args.timeout;
    let start = Instant::now();
    let over = |limit: Duration| {
        Ok(format!(
            "stayed idle for {} ms, as asked",
            limit.as_millis()
        ))
    };
    let reset = |e: &io::Error| anyhow!(failure::broken(e, "idle"));
    task.report.note(id, "idle: reads nothing from now on");
    let _ = stream.set_read_timeout(limit);
    match (stream.peek(&mut [0]), limit) {
        (Ok(0), _) => return Ok(PEER_CLOSED.into()),
        (Ok(_), _) => {}
        (Err(e), Some(limit)) if failure::timed_out(&e) => return over(limit),
        (Err(e), _) => return Err(reset(&e)),
    }
    task.report.note(id, "something arrived: it stays unread");
    loop {
        if let Some(error) = stream.take_error()? {
            return Err(reset(&error));
        }
        match limit.map(|limit| (limit, limit.saturating_sub(start.elapsed())))
        {
            Some((limit, Duration::ZERO)) => return over(limit),
            Some((_, left)) => thread::sleep(left.min(LOOK)),
            None => thread::sleep(LOOK),
        }
    }
}
