//! Lessons about how connections end when nothing goes wrong.

use super::{Belief, CLIENT_CLOSES_FIRST, Instead, Lesson, SERVER_CLOSES_LAST, sysctl};

const NO_TW_RECYCLE: Belief = Belief {
    believed: "tcp_tw_recycle=1 gets rid of TIME_WAIT.",
    truth: "It broke clients behind NAT and is gone since Linux 4.12.",
};
const NOT_FIN_TIMEOUT: Belief = Belief {
    believed: "tcp_fin_timeout sets how long TIME_WAIT lasts.",
    truth: "It governs FIN_WAIT2 without a program. TIME_WAIT is 60 s, a constant of the kernel.",
};

pub(crate) const CLOSE_CLIENT_FIRST: Lesson = Lesson {
    story: "Who closes first sends the first FIN and goes through FIN_WAIT1 and FIN_WAIT2 into TIME_WAIT; the other one \
            goes through CLOSE_WAIT and LAST_ACK, and is done with the last ACK. Of the two waits in the middle one is \
            the network's (FIN_WAIT1: a round trip), the other is a program's (FIN_WAIT2 here, CLOSE_WAIT there: until \
            it closes).",
    client: CLIENT_CLOSES_FIRST,
    server: SERVER_CLOSES_LAST,
    sysctls: &[sysctl::FIN_TIMEOUT, sysctl::MAX_TW_BUCKETS],
    beliefs: &[
        NOT_FIN_TIMEOUT,
        Belief {
            believed: "The client is always the one in TIME_WAIT.",
            truth: "Whoever closes first is. See close-server-first.",
        },
    ],
    instead: &[Instead {
        command: "netstat -nat | grep -E 'FIN_WAIT|CLOSE_WAIT|LAST_ACK|TIME_WAIT'",
        shows: "`tcptrace watch` shows each step with the time spent in the state before, TIME_WAIT to its end.",
    }],
};

pub(crate) const CLOSE_SERVER_FIRST: Lesson = Lesson {
    story: "The same close with the parts exchanged: the server's program closes first, as HTTP servers do that end \
            idle connections, and so TIME_WAIT is at the server. There it takes a place in a table and some memory, \
            but no port: a server's connections all have the same local port, and new clients come with other ones.",
    client: &["CLOSE", "SYN_SENT", "ESTABLISHED", "CLOSE_WAIT", "LAST_ACK", "CLOSE"],
    server: &["CLOSE", "LISTEN", "SYN_RECV", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE"],
    sysctls: &[sysctl::MAX_TW_BUCKETS, sysctl::TW_REUSE],
    beliefs: &[
        NO_TW_RECYCLE,
        Belief {
            believed: "TIME_WAIT at a server keeps new clients out.",
            truth: "It holds a pair of addresses and ports, not the server's port. Only the same client with the same \
                    port would meet it, and a newer SYN of that client is let in.",
        },
    ],
    instead: &[Instead {
        command: "netstat -nat | grep TIME_WAIT",
        shows: "`tcptrace stat` counts them against the room there is, `tcptrace watch` shows which end closed first.",
    }],
};

pub(crate) const HALF_CLOSE: Lesson = Lesson {
    story: "shutdown(SHUT_WR) ends one direction only: the client says \"I have sent everything\" and goes on \
            receiving. Its state is FIN_WAIT2, the server's is CLOSE_WAIT, and both are at work. As long as a program \
            holds the client's end, no timer limits FIN_WAIT2. When the server closes, the client's kernel goes to \
            TIME_WAIT, whatever its program does.",
    client: CLIENT_CLOSES_FIRST,
    server: SERVER_CLOSES_LAST,
    sysctls: &[sysctl::FIN_TIMEOUT],
    beliefs: &[
        Belief {
            believed: "FIN_WAIT2 and CLOSE_WAIT are signs of a leak.",
            truth: "With a program that waits, and another that still sends, they are a half-closed connection. What \
                    tells a leak is age, and that nothing moves.",
        },
        Belief {
            believed: "tcp_fin_timeout ends every FIN_WAIT2.",
            truth: "Only those that no program holds any more.",
        },
    ],
    instead: &[
        Instead {
            command: "nc -N 10.0.0.9 10000 < request",
            shows: "This lab: the client ends its direction, and the answer comes through all the same.",
        },
        Instead {
            command: "netstat -nat | grep FIN_WAIT2",
            shows: "`tcptrace watch` tells a FIN_WAIT2 that a program holds from one that only the kernel keeps.",
        },
    ],
};

pub(crate) const SIMULTANEOUS_CLOSE: Lesson = Lesson {
    story: "Both ends close before either has heard of the other's FIN. Each gets a FIN where it expected an ACK, \
            answers it, and is in CLOSING: both have closed, and our own FIN is not acknowledged yet. When the ACKs \
            have crossed too, both are in TIME_WAIT. It lasts for half a round trip, so hardly anybody has seen it.",
    client: &["CLOSE", "SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "CLOSING", "TIME_WAIT", "CLOSE"],
    server: &["CLOSE", "LISTEN", "SYN_RECV", "ESTABLISHED", "FIN_WAIT1", "CLOSING", "TIME_WAIT", "CLOSE"],
    sysctls: &[sysctl::ORPHAN_RETRIES],
    beliefs: &[Belief {
        believed: "One end is always spared TIME_WAIT.",
        truth: "Not here: both closed first, so both remember.",
    }],
    instead: &[Instead {
        command: "netstat -nat | grep CLOSING",
        shows: "`tcptrace watch --state CLOSING` waits for it, however short it is.",
    }],
};
