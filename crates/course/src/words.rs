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

/// What a negative result says, and 0 bytes.
const ERRORS: [(&str, &str); 9] = [
    ("EAGAIN", "there is nothing to do now"),
    ("EADDRINUSE", "somebody else has this port"),
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
pub(crate) fn does(call: &str) -> String {
    words(call).map_or_else(String::new, |w| filled(w.does, call, ""))
}

/// What a call waits for; whom is the client of its connection.
pub(crate) fn waits(call: &str, whom: &str) -> String {
    match (name(call), words(call)) {
        ("read", _) if call.starts_with("read(0") => {
            "A thread waits in read for its standard input.".to_owned()
        }
        ("futex", _) => "A thread waits for another one: for a lock, for a \
                         message, or for its end."
            .to_owned(),
        ("clock_nanosleep", _) => "A thread sleeps.".to_owned(),
        ("wait4", _) => "A process waits for the end of another.".to_owned(),
        (_, Some(words)) => filled(words.waits, call, whom),
        (_, None) => String::new(),
    }
}

/// What a result means, if it is not just a number.
pub(crate) fn means(
    call: &str,
    result: &str,
    phase: Phase,
    whom: &str,
    is_udp: bool,
) -> String {
    if phase == Phase::Waits {
        return String::new();
    }
    let name = name(call);
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
