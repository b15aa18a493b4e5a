//! A program in a namespace of its own, where a test may take the network
//! away, or say what a name means: unshare(1). Linux only; needs a system that
//! lets everybody have a user namespace, or sudo without a password.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// Runs `script` with `args` in a shell that has a network of its own: a
/// loopback interface, which is up, and nothing else.
pub fn with_own_network(script: &str, args: &[&OsStr]) -> Command {
    unshare("-n", &format!("ip link set lo up && {script}"), args)
}

/// Runs a program in a place where `name` stands for 127.0.0.2 and 127.0.0.3.
pub fn with_two_addresses(
    name: &str,
    program: &Path,
    args: &[&str],
) -> Command {
    // Mounted over the file of all others, which stays as it is.
    let script = format!(
        "mount -t tmpfs none /mnt \
         && printf '127.0.0.2 {name}\\n127.0.0.3 {name}\\n' >/mnt/hosts \
         && mount --bind /mnt/hosts /etc/hosts && exec \"$@\""
    );
    let mut command = unshare("-m", &script, &[program.as_os_str()]);
    command.args(args);
    command
}

fn unshare(what: &str, script: &str, args: &[&OsStr]) -> Command {
    let everybody_may = Command::new("unshare")
        .args(["-Ur", "true"])
        .output()
        .is_ok_and(|output| output.status.success());
    let words: &[&str] = match everybody_may {
        true => &["unshare", "-Ur"],
        false => &["sudo", "-n", "unshare"],
    };
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .args([what, "sh", "-c", script, "sh"])
        .args(args);
    command
}
