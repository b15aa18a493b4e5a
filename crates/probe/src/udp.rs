//! A client over UDP: each write is a datagram.

use std::io::{self, ErrorKind, IsTerminal};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, anyhow, bail};

use crate::failure::{self, OUT_OF_THREADS};
use crate::outgoing::{self, LONGEST_DATAGRAM};
use crate::patience::{Patience, Wait};
use crate::report::{Flow, Verb};
use crate::{Task, spawn};

/// Runs client `id` to its end and says how it ended.
pub fn run(id: usize, task: &Arc<Task>) -> Result<String> {
    let addr = &task.args.addr;
    let socket =
        open(task).map_err(|e| anyhow!(failure::connecting(&e, addr)))?;
    let (local, peer) = (socket.local_addr()?, socket.peer_addr()?);
    let what = format!("opened {local} -> {peer} (nothing sent so far)");
    task.report.note(id, &what);

    let socket = Arc::new(socket);
    let patience = Arc::new(Patience::new(task.args.limit()));
    let sent = Arc::new(AtomicU64::new(0));
    let sender = spawn(task, {
        let (socket, patience) = (Arc::clone(&socket), Arc::clone(&patience));
        let sent = Arc::clone(&sent);
        move |task| {
            let result = send(id, task, &socket, &sent);
            patience.all_sent();
            result
        }
    })
    .map_err(|_| anyhow!(OUT_OF_THREADS))?;

    let received = receive(id, task, &socket, &patience, &sent)?;
    match sender.join() {
        Ok(sent) => sent?,
        Err(_) => bail!("a fault in this program"),
    }
    let sent = sent.load(Ordering::Relaxed);
    if received < sent {
        let ms = task.args.limit().unwrap_or_default().as_millis();
        bail!(
            "{received} of {sent} datagrams answered within {ms} ms: is the \
             server running, and does it answer each?"
        );
    }
    Ok(format!("{received} answers to {sent} datagrams"))
}

/// A connected socket sends nothing when it connects, but learns from the
/// kernel (ICMP port unreachable) that nobody has bound the port.
fn open(task: &Task) -> io::Result<UdpSocket> {
    let any: SocketAddr = match task.peers[0] {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(task.peers[0])?;
    Ok(socket)
}

fn send(
    id: usize,
    task: &Task,
    socket: &UdpSocket,
    sent: &AtomicU64,
) -> Result<()> {
    if task.args.interactive() && io::stdin().is_terminal() {
        task.report
            .note(id, "type lines; Ctrl-D (Windows: Ctrl-Z) ends");
    }
    let mut flow = Flow::new(task, id, Verb::Sending);
    let result = outgoing::send_all(&task.args, |piece| {
        flow.show(piece);
        socket.send(piece).map_err(|e| match piece.len() {
            0..=LONGEST_DATAGRAM => e,
            n => io::Error::other(format!(
                "{n} bytes are too long for a datagram: send at most \
                 {LONGEST_DATAGRAM}"
            )),
        })?;
        sent.fetch_add(1, Ordering::Relaxed);
        flow.count(piece.len());
        Ok(())
    });
    result.map_err(|e| explain(&e, task))
}

/// Shows what arrives until all datagrams are answered or patience ends.
fn receive(
    id: usize,
    task: &Task,
    socket: &UdpSocket,
    patience: &Patience,
    sent: &AtomicU64,
) -> Result<u64> {
    let mut flow = Flow::new(task, id, Verb::Received);
    let mut buffer = vec![0; 64 * 1024];
    let mut received = 0;
    loop {
        if patience.is_all_sent() && received >= sent.load(Ordering::Relaxed) {
            return Ok(received);
        }
        match patience.next() {
            Wait::Forever => {}
            Wait::AtMost(time) => socket.set_read_timeout(Some(time))?,
            Wait::Over => return Ok(received),
        }
        match socket.recv(&mut buffer) {
            Ok(n) => {
                patience.moved();
                task.report.reached(id);
                received += 1;
                flow.count(n);
                flow.show(&buffer[..n]);
            }
            Err(e) if failure::timed_out(&e) => {}
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(explain(&e, task)),
        }
    }
}

/// Windows says "reset" where Unix says "refused".
fn explain(error: &io::Error, task: &Task) -> anyhow::Error {
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => {
            anyhow!(failure::nobody_listens(&task.args.addr))
        }
        ErrorKind::Other => anyhow!("{error}"),
        _ => anyhow!(failure::broken(error, "exchanging datagrams")),
    }
}
