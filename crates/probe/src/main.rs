//! A network client that misbehaves on request: slow, in chunks, half-closing,
//! resetting, idle, many at once, over TCP or UDP.
//!
//! It says what it does and what it sees, with times, so that an experiment
//! with a server needs no other tool. `probe --help` has an example for each
//! flag.
//!
//! Exit code: 0 when all went as asked, 1 when something failed (refused,
//! reset, no answer in time), 2 for arguments that make no sense.

mod args;
mod client;
mod escape;
mod failure;
mod idle_timeout;
mod outgoing;
mod report;

use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use anyhow::{Result, anyhow, ensure};
use clap::Parser;

use args::Args;
use report::Report;

/// What every client needs: the request, whom to call, where to report.
struct Task {
    args: Args,
    peers: Vec<SocketAddr>,
    report: Report,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let peers = match resolve(&args) {
        Ok(peers) => peers,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let report = Report::new(args.clients, args.udp);
    let task = Arc::new(Task {
        args,
        peers,
        report,
    });
    run_clients(&task);
    if task.report.summary() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn resolve(args: &Args) -> Result<Vec<SocketAddr>> {
    let addr = &args.addr;
    let peers = addr.to_socket_addrs();
    let mut peers: Vec<_> = peers
        .map_err(|e| {
            anyhow!("cannot find {addr} ({e}): check the host's name")
        })?
        .collect();
    ensure!(!peers.is_empty(), "{addr} has no address: use another name");
    if args.udp {
        // A UDP socket always connects, so the first address is the one that
        // counts; for `localhost`, servers rarely mean the IPv6 one.
        peers.sort_by_key(SocketAddr::is_ipv6);
    }
    Ok(peers)
}

fn run_clients(task: &Arc<Task>) {
    let mut clients = Vec::new();
    for id in 1..=task.args.clients {
        let shared = Arc::clone(task);
        let client = thread::Builder::new().spawn(move || {
            shared.report.ended(id, client::run(id, &shared));
        });
        match client {
            Ok(client) => clients.push((id, client)),
            Err(_) => {
                task.report.ended(id, Err(anyhow!(failure::OUT_OF_THREADS)))
            }
        }
    }
    for (id, client) in clients {
        if client.join().is_err() {
            task.report.ended(id, Err(anyhow!(failure::FAULT)));
        }
    }
}
