//! The reference pages are right on the system on which this runs.

use std::fs;
use std::io::Error;

use harness::root;

#[test]
fn the_numbers_and_kinds_of_the_errors_page_are_right() {
    let page = fs::read_to_string(root().join("docs/errors.md"))
        .expect("docs/errors.md can be read");
    let column = match std::env::consts::OS {
        "macos" => 3,
        "windows" => 4,
        _ => 2,
    };
    let mut rows = 0;
    for row in page.lines().filter(|line| line.starts_with("| `E")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        // Not every system has every error.
        let Ok(number) = cells[column].parse() else {
            continue;
        };
        let kind = format!("`{:?}`", Error::from_raw_os_error(number).kind());
        assert_eq!(kind, cells[5], "{row}");
        // The number's own name: many a kind is that of several errors.
        #[cfg(unix)]
        {
            let name = nix::errno::Errno::from_raw(number);
            assert_eq!(format!("`{name:?}`"), cells[1], "{row}");
        }
        rows += 1;
    }
    assert!(rows >= 16, "only {rows} rows were checked");
}

#[cfg(target_os = "linux")]
const KEPT_ALIVE: &str = r#"
import socket
listener = socket.create_server(("127.0.0.1", 9006))
print("listening on 127.0.0.1:9006", flush=True)
conn, addr = listener.accept()
conn.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
for option in [socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT]:
    conn.setsockopt(socket.IPPROTO_TCP, option, 1)
print("connected", flush=True)
try:
    conn.recv(1)
except OSError as error:
    print(error.strerror, flush=True)
"#;

#[cfg(target_os = "linux")]
const CABLE: &str = r#"
    python3 -c "$1" &
    read -r next
    "$2" 127.0.0.1:9006 --idle >/dev/null &
    read -r next
    ip link set lo down
    wait
"#;

/// Its client is there, and no segment gets through.
#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs root and python3"]
fn keepalive_ends_a_read_whose_peer_has_vanished() -> harness::Result {
    let lab = harness::Lab::new();
    let probe = harness::binary("probe", "probe")?;
    let args = [KEPT_ALIVE.as_ref(), probe.as_os_str()];
    let shell = harness::namespace::with_own_network(CABLE, &args);
    let mut shell = lab.start_in_group("shell", shell)?;
    shell.wait_until_listening()?;
    shell.type_line("connect");
    shell.expect_line("connected")?;
    shell.type_line("cut");
    shell.expect_line("Connection timed out")
}
