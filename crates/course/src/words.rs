//! What a system call does, what it waits for, what its result means: for any
//! program, so it says nothing of what the program wants.

use flows::Phase;

/// One kind of call.
struct Words {
    names: &'static [&'static str],
    does: &'static str,
    waits: &'static str,
}

const CALLS: [Words; 10] = [
    Words {
        names: &["socket"],
        does: "socket makes a socket; it has no address yet.",
        waits: "",
    },
    Words {
        names: &["bind"],
        does: "bind gives the socket its address and port.",
        waits: "",
    },
    Words {
        names: &["listen"],
        does: "From listen on the kernel makes connections by itself, and \
               keeps them in the accept queue.",
        waits: "",
    },
    Words {
        names: &["accept", "accept4"],
        does: "accept takes the oldest connection out of the accept queue, \
               and returns a new descriptor for it.",
        waits: "It waits in accept for the next connection.",
    },
    Words {
        names: &["connect"],
        does: "connect asks for a connection; for UDP it only notes the \
               address.",
        waits: "It waits in connect for an answer.",
    },
    Words {
        names: &["recvfrom", "recvmsg", "recvmmsg", "read", "readv"],
        does: "CALL takes what has arrived out of the receive buffer, at \
               most as much as it asks for.",
        waits: "It waits in CALL until something comes from WHOM, or the \
                end. This thread does nothing else meanwhile.",
    },
    Words {
        names: &["sendto", "sendmsg", "sendmmsg", "write", "writev"],
        does: "CALL puts bytes into the send buffer; the kernel sends them.",
        waits: "It waits in CALL until there is room: WHOM does not read. \
                This thread does nothing else meanwhile.",
    },
    Words {
        names: &["close"],
        does: "close gives a descriptor back. For a connection that nobody \
               else holds the kernel sends the end (FIN), or a reset (RST) \
               if bytes were unread.",
        waits: "",
    },
    Words {
        names: &["shutdown"],
        does: "shutdown ends one direction of a connection, or both.",
        waits: "",
    },
    Words {
        names: &[
            "poll",
            "ppoll",
            "select",
            "pselect6",
            "epoll_wait",
            "epoll_pwait",
            "epoll_pwait2",
        ],
        does: "CALL returns when one of several sockets is ready, or when \
               its time is over.",
        waits: "It waits in CALL until one of its sockets is ready.",
    },
];

/// How a UDP socket is called that has a port.
pub(crate) const BOUND: &str = "bound";
/// What a UDP socket's state says.
pub(crate) const CONNECTED: &str = "For UDP, ESTABLISHED says only that this \
     socket is connected: it sends to one address, and takes datagrams from \
     there only. There was no handshake, and the other end does not know of it.";

/// How a call begins that reads the standard input.
const TYPED: &str = "read(0";

/// What a negative result says, and 0 bytes.
const ERRORS: [(&str, &str); 8] = [
    ("EAGAIN", "there is nothing to do now"),
    ("ECONNRESET", "the other end has reset the connection"),
    (
        "EPIPE",
        "the connection has ended, nobody takes these bytes",
    ),
    ("EMFILE", "the program has no descriptor left"),
    ("EBADF", "no such descriptor is open"),
    ("ENOTCONN", "there is no connection any more"),
    ("ECONNREFUSED", "nobody listens there"),
    ("EMSGSIZE", "the datagram is too long"),
];

/// The call's name, without its arguments.
pub(crate) fn name(call: &str) -> &str {
    call.split('(').next().unwrap_or_default()
}

/// The call's name, and whether it reads what somebody types.
pub(crate) fn kind(call: &str) -> &str {
    if call.starts_with(TYPED) {
        TYPED
    } else {
        name(call)
    }
}

fn words(call: &str) -> Option<&'static Words> {
    CALLS.iter().find(|words| words.names.contains(&name(call)))
}

fn filled(text: &str, call: &str, whom: &str) -> String {
    let whom = match whom {
        "" => "a client",
        whom => whom,
    };
    text.replace("CALL", name(call)).replace("WHOM", whom)
}

/// What a call does; nothing if its name says it all.
pub(crate) fn does(call: &str, is_udp: bool) -> String {
    match (kind(call), words(call)) {
        (TYPED, _) => "read takes what has come on its standard input.".into(),
        ("close", _) if is_udp => "close gives a descriptor back.".into(),
        (_, words) => words.map_or("".into(), |w| filled(w.does, call, "")),
    }
}

/// What a call waits for, which threads may make for several clients.
pub(crate) fn waits(call: &str, whom: &[&str], is_udp: bool) -> String {
    let ends = whom.iter().find_map(|whom| whom.strip_suffix("'s end"));
    match (name(call), words(call)) {
        ("futex", _) if ends.is_some() => {
            let thread = ends.unwrap_or_default();
            format!("A thread waits in futex for the end of {thread}.")
        }
        ("read", _) if kind(call) == TYPED => {
            "A thread waits in read for its standard input.".to_owned()
        }
        ("futex", _) => "A thread waits in futex for another one: for a lock \
                         or a message."
            .to_owned(),
        ("clock_nanosleep", _) => "A thread sleeps.".to_owned(),
        ("wait4", _) => "A process waits for the end of another.".to_owned(),
        (_, Some(words)) => match is_udp {
            // There is no end, and the next datagram may be anybody's, or only
            // that of the one to whom the socket is connected.
            true => filled(words.waits, call, "").replace(
                "something comes from a client, or the end",
                "a datagram comes that its socket takes",
            ),
            false => match whom {
                [first @ .., last] if !first.is_empty() => {
                    let whom = format!("{} or {last}", first.join(", "));
                    let text = words.waits.replace("It waits", "Threads wait");
                    let text = text.replace("This thread does", "Each does");
                    filled(&text, call, &whom)
                }
                whom => filled(words.waits, call, &whom.concat()),
            },
        },
        (_, None) => String::new(),
    }
}

/// Why an address is in use, by the states of the sockets with this port.
fn in_use(states: &[&str]) -> &'static str {
    let has = |wanted| states.contains(&wanted);
    if has("LISTEN") {
        "another socket listens on this port"
    } else if has(BOUND) {
        "another socket has this port"
    } else if has("TIME-WAIT") {
        "nobody listens on this port, but a connection of it is still in \
         TIME-WAIT"
    } else if !states.is_empty() {
        "nobody listens on this port, but a connection of it has not ended"
    } else {
        "this port is taken"
    }
}

/// What a result means, if it is not just a number. `states` are those of the
/// sockets that have the server's port.
pub(crate) fn means(
    call: &str,
    result: &str,
    phase: Phase,
    whom: &str,
    states: &[&str],
) -> String {
    if phase == Phase::Waits {
        return String::new();
    }
    let is_udp = states.contains(&BOUND);
    let name = name(call);
    if result.contains("EADDRINUSE") {
        return format!("{name} fails: {}.", in_use(states));
    }
    if name == "bind" && call.ends_with(":0)") {
        return "Port 0 asks for any free port: the table shows which one the \
                kernel has chosen."
            .to_owned();
    }
    let reads = words(call).is_some_and(|words| words.names.contains(&"read"));
    let polls = words(call).is_some_and(|words| words.names.contains(&"poll"));
    if let Some((_, meaning)) = ERRORS
        .iter()
        .find(|(error, _)| result.starts_with("-1") && result.contains(error))
    {
        return format!("{name} fails: {meaning}.");
    }
    match result.split(' ').next() {
        Some("0") if reads && !is_udp => {
            let whom = filled("WHOM", "", whom);
            format!("{name} returns 0: the end, {whom} sends no more.")
        }
        Some("0") if polls => {
            format!("{name} returns 0: its time is over, nothing is ready.")
        }
        _ => String::new(),
    }
}
