//! Programs that no checker should fall for: `hostile MODE HOST:PORT`.
//!
//! Each mode is a way in which a learner's program may go wrong beyond the
//! exercise itself. The proof of the checker runs them all.

use std::env;
use std::io::{self, Error, Write};
use std::net::TcpListener;
use std::process::{Command, ExitCode, exit};
use std::thread;
use std::time::Duration;

/// A correct program, for what goes wrong beside it.
const CORRECT: &str = "03-threaded";

fn main() -> io::Result<ExitCode> {
    let args: Vec<_> = env::args().skip(1).collect();
    let [mode, addr] = args.as_slice() else {
        return Err(Error::other("usage: hostile MODE HOST:PORT"));
    };
    match mode.as_str() {
        "exits-at-once" => return Ok(ExitCode::from(3)),
        "talks-and-ends" => {
            println!("starting up ...");
            return Ok(ExitCode::SUCCESS);
        }
        "panics-at-once" => panic!("no reason"),
        "says-nothing" | "sleeps" => wait(),
        "talks-first" => println!("starting up ..."),
        "floods-at-once" => flood(io::stdout()),
        "lies" => {
            let closed = TcpListener::bind(addr)?.local_addr()?;
            println!("listening on {closed}");
            wait()
        }
        "runs-away" | "takes-children-along" => {
            start_one_that_sleeps(addr, mode == "runs-away")?;
            return become_correct(addr);
        }
        "is-a-daemon" => {
            correct(addr).spawn()?;
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let listener = match mode.as_str() {
        "ignores-its-argument" => TcpListener::bind("127.0.0.1:0"),
        "listens-everywhere" => TcpListener::bind("0.0.0.0:0"),
        _ => TcpListener::bind(addr),
    }?;
    match mode.as_str() {
        "prints-port-0" => println!("listening on {addr}"),
        _ => println!("listening on {}", listener.local_addr()?),
    }
    match mode.as_str() {
        "exits" => exit(3),
        "floods" => flood(io::stdout()),
        // The first line was read by then.
        "floods-stderr" => {
            let _client = listener.accept()?;
            flood(io::stderr());
        }
        "hangs" => wait(),
        "spins" => loop {
            std::hint::spin_loop();
        },
        "floods-its-client" => {
            for stream in listener.incoming() {
                let stream = stream?;
                thread::spawn(|| flood(stream));
            }
        }
        "drips" => {
            for stream in listener.incoming() {
                let mut stream = stream?;
                thread::spawn(move || {
                    while stream.write_all(b"x").is_ok() {
                        thread::sleep(Duration::from_millis(100));
                    }
                });
            }
        }
        "panics-in-a-thread" => {
            for stream in listener.incoming() {
                thread::spawn(move || panic!("no thread for {stream:?}"));
            }
        }
        "hangs-up" => for _ in listener.incoming() {},
        "talks-first" | "prints-port-0" => wait(),
        unknown => return Err(Error::other(format!("no mode {unknown}"))),
    }
    Ok(ExitCode::SUCCESS)
}

fn wait() {
    loop {
        thread::park();
    }
}

fn flood(mut out: impl Write) {
    // A flood ends only with the program, or with who reads it.
    while out.write_all(&[b'x'; 4096]).is_ok() {}
}

fn start_one_that_sleeps(addr: &str, elsewhere: bool) -> io::Result<()> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["sleeps", addr]);
    #[cfg(unix)]
    if elsewhere {
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
    }
    #[cfg(not(unix))]
    let _ = elsewhere;
    command.spawn().map(|_| ())
}

fn correct(addr: &str) -> Command {
    let here = env::current_exe().unwrap_or_default();
    let mut command = Command::new(here.with_file_name(CORRECT));
    command.arg(addr);
    command
}

fn become_correct(addr: &str) -> io::Result<ExitCode> {
    #[cfg(unix)]
    return Err(std::os::unix::process::CommandExt::exec(&mut correct(addr)));
    #[cfg(not(unix))]
    return correct(addr).status().map(|_| ExitCode::SUCCESS);
}
