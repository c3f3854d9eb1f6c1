//! Lessons about closes that do not come to their end.

use super::{Belief, CLIENT_CLOSES_FIRST, Instead, Lesson, SERVER_CLOSES_LAST, sysctl};

pub(crate) const CLOSE_WAIT_LEAK: Lesson = Lesson {
    story: "The peer has closed, the kernel here has acknowledged it, and the program does nothing: it does not read \
            the end of the stream, or forgets to close. The connection stays in CLOSE_WAIT for as long as the program \
            lives, with its descriptor, its buffers and what nobody has read. They pile up until the program has no \
            descriptors left. At the other end it is a FIN_WAIT2.",
    client: CLIENT_CLOSES_FIRST,
    server: SERVER_CLOSES_LAST,
    sysctls: &[sysctl::FIN_TIMEOUT],
    beliefs: &[
        Belief {
            believed: "A sysctl shortens CLOSE_WAIT: tcp_fin_timeout, or tcp_keepalive_time.",
            truth: "None ends it. Keepalive finds a peer that answers, and tcp_fin_timeout is for the other end. The \
                    program must close, or end.",
        },
        Belief {
            believed: "The network is to blame.",
            truth: "CLOSE_WAIT is always the turn of the program on this host.",
        },
    ],
    instead: &[
        Instead {
            command: "netstat -nat | awk '/^tcp/ {++S[$NF]} END {for (s in S) print s, S[s]}'",
            shows: "`tcptrace stat` counts the states, and `tcptrace stat --by process` who has them.",
        },
        Instead {
            command: "lsof -nP -i:10000 | grep CLOSE_WAIT",
            shows: "`tcptrace stuck` names process and descriptor, how long it has been so, and what is unread.",
        },
    ],
};

pub(crate) const FIN_WAIT2_ORPHAN: Lesson = Lesson {
    story: "The client has closed and no program holds its end any more; the server's kernel has acknowledged that, \
            its program holds on. The client's kernel keeps a small remainder of the socket, waits tcp_fin_timeout for \
            the FIN, and drops it without a word. When the server closes at last, its FIN meets a host that knows \
            nothing, and is answered with a RST. The lab takes 8 s instead of 60.",
    client: &["CLOSE", "SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "CLOSE"],
    server: SERVER_CLOSES_LAST,
    sysctls: &[sysctl::FIN_TIMEOUT, sysctl::MAX_TW_BUCKETS],
    beliefs: &[
        Belief {
            believed: "tcp_fin_timeout is the length of TIME_WAIT.",
            truth: "It is the length of this: FIN_WAIT2 without a program. TIME_WAIT is always 60 s.",
        },
        Belief {
            believed: "A FIN_WAIT2 without a program is a socket, and counts against tcp_max_orphans.",
            truth: "With up to 60 s it is a remainder that counts against tcp_max_tw_buckets instead.",
        },
    ],
    instead: &[
        Instead {
            command: "netstat -nat | grep FIN_WAIT2",
            shows: "`tcptrace stuck` shows since when, and when the kernel will end it.",
        },
        Instead {
            command: "cat /proc/sys/net/ipv4/tcp_fin_timeout",
            shows: "The value of the namespace that the connection is in, which need not be this one.",
        },
        Instead {
            command: "sar -n SOCK 1",
            shows: "`tcptrace stat 1` shows the same by state, remainders apart.",
        },
    ],
};

pub(crate) const FIN_WAIT1_DROP: Lesson = Lesson {
    story: "The client closes, and its FIN is not acknowledged: the peer is gone, or the path is. No program holds the \
            socket any more, so nobody gets an error; the kernel repeats the FIN, each time after twice as long, until \
            tcp_orphan_retries is over. The server still believes that the connection is open. The lab repairs the \
            path before the kernel gives up.",
    client: CLIENT_CLOSES_FIRST,
    server: SERVER_CLOSES_LAST,
    sysctls: &[sysctl::ORPHAN_RETRIES, sysctl::MAX_ORPHANS, sysctl::RETRIES2],
    beliefs: &[
        Belief {
            believed: "tcp_orphan_retries = 0 means that the FIN is not repeated.",
            truth: "0 means 8. It is counted as time: some 105 s on a fast path, three minutes where the round trip \
                    is long.",
        },
        Belief {
            believed: "FIN_WAIT1 can hang for ever.",
            truth: "Not without a program. With the descriptor still open (shutdown) it follows tcp_retries2: about a \
                    quarter of an hour.",
        },
        Belief {
            believed: "tcp_max_orphans is set for each namespace.",
            truth: "It is one number for the whole machine, and shown in the first namespace only.",
        },
    ],
    instead: &[
        Instead {
            command: "iptables -A INPUT -p tcp --tcp-flags FIN FIN -j DROP",
            shows: "This lab: its wire lets nothing through to the server, and no rule is left behind.",
        },
        Instead {
            command: "netstat -nat | grep FIN_WAIT1",
            shows: "`tcptrace stuck` shows how often the FIN was sent, when it is sent next, when the kernel gives up, \
                    and which program had closed it, which netstat cannot know any more.",
        },
    ],
};

pub(crate) const FIN_WAIT1_ZERO_WINDOW: Lesson = Lesson {
    story: "The server's program does not read, so its kernel has told the client to send nothing more: the window is \
            zero. Then the client closes. The FIN comes after the data that waits, so it cannot be sent either. The \
            client's kernel asks now and then whether there is room (window probes), and the server's answers: no. \
            The path is fine and both kernels are well; one program does not read.",
    client: CLIENT_CLOSES_FIRST,
    server: SERVER_CLOSES_LAST,
    sysctls: &[sysctl::ORPHAN_RETRIES, sysctl::RMEM],
    beliefs: &[
        Belief {
            believed: "FIN_WAIT1 means that the FIN was lost.",
            truth: "It may not have been sent. Then there is no retransmission to be seen, only probes.",
        },
        Belief {
            believed: "As long as the peer answers, the connection stays.",
            truth: "Not without a program: after some minutes the kernel drops it, with what it had to send, though \
                    the peer answers.",
        },
    ],
    instead: &[
        Instead {
            command: "netstat -nato | grep -E 'FIN_WAIT1.*probe'",
            shows: "`tcptrace stuck` tells a FIN that waits behind a zero window from one that was sent and lost, with \
                    the bytes that wait.",
        },
        Instead {
            command: "tcpdump -ni any 'tcp[14:2] = 0'",
            shows: "The window is read from the socket: there is no need to catch the segment that closed it.",
        },
    ],
};
