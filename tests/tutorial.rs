//! The Python server that many tutorials show, and where it breaks. The page
//! `docs/tutorial.md` names beside each fault the lesson that survives it.

use std::path::Path;

use harness::{Lab, Program, Result, root};

fn start_tutorial(lab: &Lab) -> Result<Program> {
    let script = root().join("docs/tutorial/server.py");
    let script = script.to_string_lossy();
    lab.start("tutorial", Path::new("python3"), &["-u", &script, "0"])
}

#[test]
#[ignore = "needs python3"]
fn it_works_with_one_good_client() -> Result {
    let lab = Lab::new();
    let mut tutorial = start_tutorial(&lab)?;
    let mut a = lab.connect("a", tutorial.wait_until_listening()?)?;
    a.send("hello")?;
    tutorial.expect("received: hello\nreply> ")?;
    tutorial.type_line("hello yourself");
    a.expect("hello yourself")
}

/// 0 bytes are the end, and are taken for an empty message.
#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs python3"]
fn after_a_hang_up_it_runs_at_full_speed_and_accepts_nobody() -> Result {
    let lab = Lab::new();
    let mut tutorial = start_tutorial(&lab)?;
    let addr = tutorial.wait_until_listening()?;
    let a = lab.connect("a", addr)?;
    tutorial.expect("connected\n")?;
    let before = harness::proc::cpu_time(tutorial.id()).unwrap_or_default();
    a.close();
    lab.wait_until("half a second of processor time is gone", || {
        let used = harness::proc::cpu_time(tutorial.id()).unwrap_or_default();
        used - before > std::time::Duration::from_millis(500)
    })?;
    let b = lab.connect("b", addr)?;
    b.send("is anybody there?")?;
    lab.wait_until("b waits in the listener's queue", || {
        harness::proc::accept_queue(addr) == Some(1)
    })?;
    assert!(b.has_nothing()?);
    Ok(())
}

#[test]
#[ignore = "needs python3"]
fn a_reset_ends_it() -> Result {
    let lab = Lab::new();
    let mut tutorial = start_tutorial(&lab)?;
    let a = lab.connect("a", tutorial.wait_until_listening()?)?;
    tutorial.expect("connected\n")?;
    a.reset()?;
    tutorial.expect_error("ConnectionResetError")?;
    tutorial.expect_exit(1)
}

/// 341 characters of three bytes fit into 1,024 bytes; one byte is left.
#[test]
#[ignore = "needs python3"]
fn the_342nd_chinese_character_ends_it() -> Result {
    let lab = Lab::new();
    let mut tutorial = start_tutorial(&lab)?;
    let mut a = lab.connect("a", tutorial.wait_until_listening()?)?;
    a.send("你".repeat(341))?;
    tutorial.expect("reply> ")?;
    tutorial.type_line("ok");
    a.expect("ok")?;
    a.send("你".repeat(342))?;
    tutorial.expect_error("UnicodeDecodeError")?;
    tutorial.expect_exit(1)
}

#[test]
#[ignore = "needs python3"]
fn a_restart_finds_its_port_in_use_because_it_closed_first() -> Result {
    let lab = Lab::new();
    let mut tutorial = start_tutorial(&lab)?;
    let addr = tutorial.wait_until_listening()?;
    let mut a = lab.connect("a", addr)?;
    tutorial.expect("connected\n")?;
    tutorial.kill()?;
    a.expect_end()?;
    a.close();
    let script = root().join("docs/tutorial/server.py");
    let args = [&*script.to_string_lossy(), &addr.port().to_string()];
    let mut again = lab.start("again", Path::new("python3"), &args)?;
    again.expect_error("Address already in use")?;
    again.expect_exit(1)
}

#[test]
#[ignore = "needs python3"]
fn an_empty_reply_leaves_both_waiting() -> Result {
    let lab = Lab::new();
    let mut tutorial = start_tutorial(&lab)?;
    let a = lab.connect("a", tutorial.wait_until_listening()?)?;
    a.send("hello")?;
    tutorial.expect("reply> ")?;
    tutorial.type_line("");
    // Only a client that does not wait for its answer can show that the
    // server had gone on to wait for the next message.
    a.send("why do you not answer?")?;
    tutorial.expect("received: why do you not answer?\n")?;
    assert!(a.has_nothing()?);
    Ok(())
}

/// Whoever talks gets no answer, and whoever waits is reset.
#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs python3"]
fn ctrl_c_ends_it_in_the_middle_of_everything() -> Result {
    let lab = Lab::new();
    let script = root().join("docs/tutorial/server.py");
    let mut command = harness::takes_ctrl_c(Path::new("python3"));
    command.arg("-u").arg(script).arg("0");
    let mut tutorial = lab.start_command("tutorial", command)?;
    let addr = tutorial.wait_until_listening()?;
    let mut a = lab.connect("a", addr)?;
    a.send("hello")?;
    tutorial.expect("received: hello\nreply> ")?;
    let mut b = lab.connect("b", addr)?;
    b.send("is anybody there?")?;
    // Python would not see a signal that comes between its prompt and its read.
    tutorial.wait_until_blocked_in(&["read"])?;
    tutorial.interrupt();
    a.expect_end()?;
    b.expect_reset()?;
    tutorial.expect_error("KeyboardInterrupt")?;
    assert_ne!(tutorial.exit()?.code(), Some(0));
    Ok(())
}
