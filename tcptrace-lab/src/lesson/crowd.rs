//! Lessons about what goes wrong by numbers.

use super::{Belief, CLIENT_CLOSES_FIRST, Instead, Lesson, SERVER_CLOSES_LAST, sysctl};

pub(crate) const SYN_FLOOD: Lesson = Lesson {
    story: "SYNs come from many addresses, one from each, and none completes the handshake: the addresses are made up, \
            so the SYN-ACKs reach nobody. Each leaves a half-open request that lives until the kernel has repeated its \
            SYN-ACK tcp_synack_retries times. When they fill the listener's queue, the kernel answers with cookies: it \
            remembers nothing, and real clients still get in. The lab sends fewer than that, so that they can be seen, \
            and lets them be forgotten after 7 s.",
    client: &[],
    server: &["CLOSE", "LISTEN", "SYN_RECV", "CLOSE"],
    sysctls: &[sysctl::SYNACK_RETRIES, sysctl::SYNCOOKIES, sysctl::MAX_SYN_BACKLOG, sysctl::SOMAXCONN],
    beliefs: &[
        Belief {
            believed: "A larger tcp_max_syn_backlog makes room for more half-open requests.",
            truth: "With cookies on, which is the default, the limit is the listener's backlog, and thereby \
                    somaxconn.",
        },
        Belief {
            believed: "tcp_syncookies=1 switches cookies on for every connection.",
            truth: "Only while the queue is full. 2 would do it always.",
        },
        Belief {
            believed: "Many SYN_RECV are a flood.",
            truth: "They may be few clients with a broken way back (see synack-drop), or a program that does not \
                    accept (see backlog-full). What tells a flood is many sources with one try each.",
        },
    ],
    instead: &[
        Instead {
            command: "netstat -nat | awk '/SYN_RECV/ {print $5}' | cut -d: -f1 | sort | uniq -c",
            shows: "`tcptrace stuck` counts the sources itself and tells a flood from its look-alikes.",
        },
        Instead {
            command: "sysctl net.ipv4.tcp_syncookies",
            shows: "`tcptrace stat` shows how many cookies were sent and came back, and how full each listener is.",
        },
    ],
};

pub(crate) const BACKLOG_FULL: Lesson = Lesson {
    story: "The kernel completes handshakes by itself and lets the connections wait until the program accepts them. \
            When as many wait as the backlog allows, and one more, new SYNs are dropped; and a handshake that was \
            under way is not completed: its third segment is ignored. That client has its SYN-ACK and believes to be \
            connected, the server still says SYN_RECV and repeats the SYN-ACK. What the client sends is lost until \
            the program accepts.",
    client: CLIENT_CLOSES_FIRST,
    server: SERVER_CLOSES_LAST,
    sysctls: &[sysctl::SOMAXCONN, sysctl::ABORT_ON_OVERFLOW, sysctl::SYNACK_RETRIES],
    beliefs: &[
        Belief {
            believed: "A connection that is ESTABLISHED at the client is so at the server.",
            truth: "Not here: it may be SYN_RECV, or gone.",
        },
        Belief {
            believed: "A larger somaxconn is enough.",
            truth: "The program has to ask for it too, in listen(); and when it does not accept at all, every queue \
                    is full after a while.",
        },
        Belief {
            believed: "SYN_RECV that does not go away is a SYN flood.",
            truth: "Look at the listener first: if as many connections wait as its backlog allows, it is its program.",
        },
    ],
    instead: &[
        Instead {
            command: "ss -tln",
            shows: "`tcptrace stat` shows how many wait at each listener, how many may, and which are full.",
        },
        Instead {
            command: "netstat -s | grep -i listen",
            shows: "`tcptrace stuck` names the listener, and the program that does not accept.",
        },
    ],
};

pub(crate) const TIME_WAIT_BURST: Lesson = Lesson {
    story: "Each connection that is closed here first leaves a TIME_WAIT for 60 s. A thousand a second are sixty \
            thousand of them: little memory, but at the client each keeps a port from being used again toward the same \
            destination, and the kernel keeps no more than tcp_max_tw_buckets. Above that the end is gone at once, and only a \
            counter of the kernel tells (TCPTimeWaitOverflow). The lab sets the limit to 20.",
    client: CLIENT_CLOSES_FIRST,
    server: SERVER_CLOSES_LAST,
    sysctls: &[sysctl::MAX_TW_BUCKETS, sysctl::TW_REUSE, sysctl::PORT_RANGE],
    beliefs: &[
        Belief {
            believed: "tcp_tw_recycle=1 is the cure.",
            truth: "It is gone since Linux 4.12, and it broke clients behind NAT while it was there.",
        },
        Belief {
            believed: "A smaller tcp_fin_timeout shortens TIME_WAIT.",
            truth: "It has nothing to do with it: TIME_WAIT is 60 s, always.",
        },
        Belief {
            believed: "tcp_tw_reuse frees the ports of a server.",
            truth: "It lets connect() take over a port after a second: for clients only. Best is not to close: keep \
                    connections and use them again.",
        },
    ],
    instead: &[
        Instead {
            command: "netstat -nat | grep -c TIME_WAIT",
            shows: "`tcptrace stat` counts them against the limit, FIN_WAIT2 without a program included.",
        },
        Instead {
            command: "sar -n SOCK 1",
            shows: "`tcptrace stat 1` shows how many are added by the second, and how many found no room.",
        },
        Instead {
            command: "sysctl net.ipv4.tcp_max_tw_buckets",
            shows: "The limit of the namespace that is looked at, beside its use.",
        },
    ],
};
