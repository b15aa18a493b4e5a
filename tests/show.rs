//! `cargo course show`: a failing program, and what its figure says of it.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use course::{Options, Seen, Target, see};
use harness::{Lab, side_by_side};

/// Most of them wait.
const AT_ONCE: usize = 4;
/// So many figures are recorded now.
static RECORDING: Mutex<usize> = Mutex::new(0);

/// The last of those who record at the same time is asked what all left behind.
fn recorded<T>(record: impl FnOnce() -> T) -> T {
    let recording = || RECORDING.lock().unwrap_or_else(PoisonError::into_inner);
    *recording() += 1;
    let recorded = record();
    let mut others = recording();
    *others -= 1;
    if *others == 0 {
        assert_nothing_is_left();
    }
    recorded
}

fn shown(exercise: &str, target: &Target) -> Seen {
    let options = Options {
        seed: 1,
        // Python takes its time to start, and exercise 02 starts it often.
        timeout: Duration::from_secs(if exercise == "2" { 20 } else { 4 }),
    };
    let exercise = course::find(exercise).unwrap();
    recorded(|| see(&exercise, target, options).unwrap())
}

/// Before anybody builds one.
fn write_mistakes() {
    static WRITTEN: Once = Once::new();
    WRITTEN.call_once(|| course::write_mistakes().unwrap());
}

fn mistake(exercise: &str, id: &str) -> Target {
    write_mistakes();
    let mistakes = course::find(exercise).unwrap().mistakes().unwrap();
    let mistake = mistakes.iter().find(|mistake| mistake.id == id).unwrap();
    mistake.build().unwrap()
}

fn python(name: &str) -> Target {
    let file = "crates/exercises/examples/mistakes.py";
    let file = harness::root().join(file).into();
    Target::command(vec!["python3".into(), file, name.into()])
}

fn hostile(mode: &str) -> Target {
    let path = harness::example("exercises", "hostile").unwrap();
    Target::command(vec![path.into(), mode.into()])
}

fn id(seen: &Seen) -> &str {
    let diagnosis = seen.report.diagnosis.as_ref();
    diagnosis
        .and_then(|d| d.section.as_ref())
        .map_or("", |s| s.1)
}

/// In this order.
#[track_caller]
fn assert_says(seen: &Seen, wanted: &[&str]) {
    let mut rest = seen.figure.split_once("<ol").unwrap().1;
    for words in wanted {
        let Some((_, behind)) = rest.split_once(words) else {
            panic!("{words} is not in the rest of {}", seen.figure);
        };
        rest = behind;
    }
}

/// What was started is gone, and so is what strace wrote.
#[track_caller]
fn assert_nothing_is_left() {
    let folder = format!("calls-{}-", std::process::id());
    let left = || -> Vec<String> {
        let lines = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let path = entry.ok()?.path().join("cmdline");
            String::from_utf8(fs::read(path).ok()?).ok()
        });
        lines.filter(|line| line.contains(&folder)).collect()
    };
    // strace ends behind its program.
    let ended = Lab::new().wait_until("nothing left", || left().is_empty());
    assert!(ended.is_ok(), "{:?}", left());
    let files = fs::read_dir(harness::root().join("target/show")).unwrap();
    let names = files.map(|file| file.unwrap().file_name());
    let names: Vec<_> = names.filter_map(|n| n.into_string().ok()).collect();
    assert!(!names.iter().any(|n| n.starts_with(&folder)), "{names:?}");
}

/// A mistake that is made in both languages, and what shows it: the exercise,
/// its name, the names in Python, and the words.
const MISTAKES: [(&str, &str, &[&str], &[&str]); 6] = [
    (
        "1",
        "not-flushed",
        &["answers-at-the-end"],
        &[
            "a: sends &quot;",
            "<code>recvfrom(4, 8192) = ",
            "a: wanted to receive",
            "server in <code>recvfrom(4, 8192), for a</code>",
            "a: sends no more",
            "<code>sendto(4, ",
        ],
    ),
    (
        "2",
        "no-reuse-addr",
        &["no-reuse-addr"],
        &[
            "TIME-WAIT",
            "The check fails here.",
            "a connection of it is still in TIME-WAIT",
            "server: starts",
            "= -1 EADDRINUSE",
        ],
    ),
    (
        "3",
        "one-at-a-time",
        &["one-at-a-time", "blocks-the-loop"],
        &[
            "b: connects",
            ", for a</code>",
            "LISTEN     1 ",
            "The check has failed. What follows",
            "b: sends",
            "b: wanted to receive",
            ", for a</code>",
            "a: hangs up",
            "b: receives",
        ],
    ),
    (
        "4",
        "thread-per-client",
        &["thread-per-client"],
        &[
            "h: connects",
            "sendto(",
            "&quot;ready\\n&quot;",
            "h: wanted to",
        ],
    ),
    (
        "5",
        "empty-datagram-is-eof",
        &["empty-is-the-end"],
        &["a: sends &quot;&quot;", "recvfrom(3, ", " = 0 (", "exits"],
    ),
    (
        "6",
        "shutdown-deadlocks",
        &["still-listens"],
        &["is typed Ctrl-D", "the server had to exit"],
    ),
];

#[test]
#[ignore = "needs strace"]
fn the_figure_of_a_rust_program_shows_its_mistake() {
    side_by_side(AT_ONCE, &MISTAKES, |(exercise, name, _, wanted)| {
        let seen = shown(exercise, &mistake(exercise, name));
        assert_eq!(id(&seen), *name);
        assert_says(&seen, wanted);
        // Once in the picture, and once in the list.
        assert_eq!(seen.figure.matches("flow-fails").count(), 1, "{name}");
        assert_says(&seen, &["The check fails here."]);
    });
}

#[test]
#[ignore = "needs strace"]
fn who_waits_for_a_thread_or_a_descriptor_is_told_for_which() {
    let seen = shown("3", &mistake("3", "one-at-a-time"));
    assert_says(&seen, &["<code>futex, for thread 1's end</code>"]);
    assert_says(&seen, &["waits in futex for the end of thread 1."]);
    let seen = shown("6", &mistake("6", "one-request-only"));
    assert_says(&seen, &["Port 0 asks for any free port", "<code>read(0)"]);
}

#[test]
#[ignore = "needs strace"]
fn for_udp_a_figure_says_what_connected_means() {
    let seen = shown("5", &mistake("5", "empty-datagram-is-eof"));
    assert_says(&seen, &["For UDP, ESTABLISHED says only", "ESTAB "]);
    let (picture, _) = seen.figure.split_once("<ol").unwrap();
    assert!(picture.contains(": connected<"), "{picture}");
    assert!(!picture.contains("ESTABLISHED"), "{picture}");
}

#[test]
#[ignore = "needs python3 and strace"]
fn the_figure_of_a_python_program_shows_its_mistake() {
    side_by_side(AT_ONCE, &MISTAKES, |(exercise, name, scripts, wanted)| {
        for script in *scripts {
            let seen = shown(exercise, &python(script));
            // The checker asks this one more, and is not sure.
            let name = if *script == "still-listens" {
                "hangs"
            } else {
                name
            };
            assert_eq!(id(&seen), name);
            assert_says(&seen, wanted);
            // Neither what an interpreter reads when it starts, nor its files.
            let first = seen.figure.split_once("<code>").unwrap().1;
            assert!(!first.starts_with("read("), "{first}");
        }
    });
}

#[test]
#[ignore = "needs python3 and strace"]
fn a_program_that_passes_is_shown_too() {
    let file = "crates/exercises/examples/03-threaded.py";
    let file = harness::root().join(file).into();
    let seen = shown("3", &Target::command(vec!["python3".into(), file]));
    assert!(seen.report.diagnosis.is_none());
    assert_says(&seen, &["a: receives", "<code>recvfrom(4, 8192)"]);
}

#[test]
#[ignore = "needs strace"]
fn a_program_that_hangs_spins_floods_or_dies_is_shown_as_it_is() {
    let modes = [
        ("hangs", "hangs", "One connection is in the accept queue"),
        ("spins", "hangs", "goes on, and does not rest"),
        ("floods", "floods", "prints"),
        ("exits", "ended-by-itself", "exits with code 3"),
        ("exits-at-once", "ended-by-itself", "(exit status: 3)"),
    ];
    side_by_side(AT_ONCE, &modes, |(mode, means, wanted)| {
        let seen = shown("3", &hostile(mode));
        assert_eq!(id(&seen), *means, "{mode}");
        assert_says(&seen, &[wanted]);
    });
}

#[test]
#[ignore = "needs strace"]
fn a_figure_has_fifteen_acts_at_most() {
    let seen = shown("4", &mistake("4", "no-queue"));
    let tables = seen.figure.matches("$ ss -tan").count();
    assert!((8..=15).contains(&tables), "{tables}");
    assert_says(&seen, &["d: connects", "busy", "acts are left out"]);
}

#[test]
#[ignore = "needs strace"]
fn closed_connections_of_one_client_are_one_box() {
    let seen = shown("3", &mistake("3", "lock-held-while-writing"));
    let (picture, _) = seen.figure.split_once("<ol").unwrap();
    let (_, count) = picture.split_once("next: TIME-WAIT, ").unwrap();
    assert!(count.contains(" of them"), "{picture}");
}

/// A program of whose calls nothing is known.
#[test]
#[ignore = "needs strace"]
fn of_a_relay_both_connections_are_in_the_tables() {
    let seen = shown("11", &mistake("11", "in-turns"));
    let count = |text: &str| seen.figure.matches(text).count();
    let tables = count("tables read here");
    for end in ["client: ESTABLISHED", "target: ESTABLISHED"] {
        // At the checker's end and at the relay's.
        let ends = count(&format!("class=\"state\">{end}<"));
        assert!(ends > tables, "{ends} {end} in {tables} tables");
    }
}

#[test]
#[ignore = "needs strace"]
fn many_that_wait_for_the_same_are_told_once() {
    let seen = shown("11", &mistake("11", "half-close-not-passed"));
    for told in [
        "40 × waits in recvfrom, for silent",
        "silent: ESTABLISHED, 40 of them",
        "(and 39 like it)",
    ] {
        assert!(seen.figure.contains(told), "{told}");
    }
}

#[test]
fn without_strace_the_figure_says_so_and_has_what_the_checker_saw() {
    let program = harness::example("exercises", "hostile").unwrap();
    let output = assert_cmd::Command::cargo_bin("course")
        .unwrap()
        .env("PATH", "")
        .args(["show", "3", "--timeout", "1", "--"])
        .args([OsString::from(program), "hangs".into()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let (_, file) = said.split_once("The figure is in ").unwrap();
    let page = fs::read_to_string(file.trim().trim_end_matches('.')).unwrap();
    for words in ["its calls are not seen", "a: connects", "a: wanted to"] {
        assert!(page.contains(words), "{words} is not in {page}");
    }
    for words in ["Checking 03-threaded", "recording"] {
        let noted = String::from_utf8_lossy(&output.stderr);
        assert!(noted.contains(words), "{noted}");
    }
    assert!(said.contains("\n\nNothing comes. Client a"), "{said}");
    // It needs no other file.
    assert!(!page.contains("src=") && !page.contains("href="), "{page}");
}

#[test]
fn of_a_program_that_passes_it_is_said() {
    let program = harness::example("exercises", "05-udp").unwrap();
    assert_cmd::Command::cargo_bin("course")
        .unwrap()
        .env("PATH", "")
        .args(["show", "5", "--"])
        .arg(program)
        .assert()
        .success()
        .stdout(predicates::str::starts_with("05-udp passes.\n"));
}

#[cfg(feature = "packets")]
#[test]
#[ignore = "needs root, strace and tcpdump"]
fn as_root_a_figure_has_packets_and_states_too() {
    let program = assert_cmd::cargo::cargo_bin("course");
    let mut command = match nix::unistd::geteuid().is_root() {
        true => assert_cmd::Command::new(program),
        false => {
            let mut sudo = assert_cmd::Command::new("sudo");
            sudo.args(["-n", "env"]);
            sudo.args(std::env::vars().map(|(k, v)| format!("{k}={v}")));
            sudo.arg(program);
            sudo
        }
    };
    let output = command
        .args(["show", "3", "--mistake", "one-at-a-time", "--seed", "1"])
        .args(["--timeout", "4"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let (_, file) = said.split_once("The figure is in ").unwrap();
    let page = fs::read_to_string(file.trim().trim_end_matches('.')).unwrap();
    let mut rest = page.as_str();
    for words in [
        "the packets by tcpdump",
        "d: connects",
        "SYN, ACK, seq 0, ack 1, to d",
        "ESTABLISHED, d's end",
        "d: sends",
        "PSH, ACK, 13 bytes, seq 1, ack 1, from d",
        "a: hangs up",
        "FIN-WAIT-1, a's end",
    ] {
        let (_, behind) = rest.split_once(words).expect(words);
        rest = behind;
    }
}

/// What each thread of the program called, and what each client did. When a
/// call returned, and in how many pieces something came, is left out, and so
/// are the numbers that the kernel gives to what is new, and which of two
/// threads was seen first.
fn told(figure: &str) -> Vec<(String, Vec<String>)> {
    let digit = |c: char| c.is_ascii_digit();
    let mut told = BTreeMap::<_, Vec<_>>::new();
    for line in figure.lines() {
        let Some((_, fact)) = line.split_once("<span>") else {
            continue;
        };
        let fact = fact.trim_end_matches("</div>");
        let Some((who, what)) = fact.split_once(": ") else {
            continue;
        };
        let what = what.trim_end_matches("</span>");
        let what = what.trim_end_matches(" returns");
        let is_call = what.starts_with("<code>") && !what.ends_with(" waits");
        let is_act = ["connects", "sends", "closes", "makes", "wanted"]
            .iter()
            .any(|act| what.starts_with(act));
        if is_call || is_act {
            // A program that connects to itself gets any port, too.
            let by_chance = ["socket(", "connect(", "accept4(", "close("];
            let what = if by_chance.iter().any(|c| what.contains(c)) {
                what.replace(digit, "")
            } else if let Some((call, arguments)) = what.split_once('(') {
                format!("{call}({}", arguments.trim_start_matches(digit))
            } else {
                what.to_owned()
            };
            told.entry(who.to_owned()).or_default().push(what);
        }
    }
    let unnumbered = |who: String| who.trim_end_matches(digit).to_owned();
    let told = told.into_iter();
    let mut told: Vec<_> = told.map(|(who, w)| (unnumbered(who), w)).collect();
    told.sort();
    told
}

#[test]
#[ignore = "needs strace"]
fn the_figures_of_the_book_are_what_is_recorded_now() {
    write_mistakes();
    side_by_side(AT_ONCE, &course::APPETIZERS, |(stem, id)| {
        if *stem == "08-dual-stack" && !harness::has_ipv6() {
            return;
        }
        let record = || recorded(|| course::appetizer(stem, id).unwrap());
        let (file, mut figure) = record();
        let drawn = told(&fs::read_to_string(&file).unwrap());
        assert!(drawn.len() > 1, "{}", file.display());
        // On a busy machine a thread may come too late for its act.
        for _ in 0..4 {
            if told(&figure) != drawn {
                (_, figure) = record();
            }
        }
        assert_eq!(
            drawn,
            told(&figure),
            "{} is not what is recorded now; `cargo course figures` writes it",
            file.display()
        );
    });
}
