//! Lessons about how connections begin, or fail to.

use super::{Belief, CLIENT_CLOSES_FIRST, Instead, Lesson, SERVER_CLOSES_LAST, sysctl};

const TCPDUMP: Instead = Instead {
    command: "tcpdump -ni any tcp port 10000",
    shows: "`tcptrace watch --port 10000` shows what the segments did to the sockets: each change of state with the \
            time spent in the state before, and which program it was.",
};

pub(crate) const HANDSHAKE: Lesson = Lesson {
    story: "The client sends a SYN, the server answers SYN-ACK, the client answers ACK: three segments, and both know \
            that the other hears them. For the client the connection is open when the SYN-ACK comes, for the server \
            half a round trip later. Between the second and the third segment the server has no socket, only a small \
            request that netstat calls SYN_RECV. Each direction is closed by a FIN of its own, and each FIN is \
            acknowledged.",
    client: CLIENT_CLOSES_FIRST,
    server: SERVER_CLOSES_LAST,
    sysctls: &[sysctl::SYN_RETRIES, sysctl::SYNACK_RETRIES, sysctl::SOMAXCONN],
    beliefs: &[
        Belief {
            believed: "The server's connection is made by accept().",
            truth: "The kernel makes it when the third segment comes; accept() only hands it to the program. A program \
                    that never accepts has ESTABLISHED connections all the same, until its queue is full.",
        },
        Belief {
            believed: "SYN_RECV is a socket in the listener's queue.",
            truth: "Since Linux 4.4 it is a request in the kernel's table of connections. The socket is made by the \
                    third segment.",
        },
    ],
    instead: &[
        TCPDUMP,
        Instead {
            command: "netstat -nat | grep 10000",
            shows: "The same states, without having to look at the right moment: SYN_SENT lasts a round trip.",
        },
    ],
};

pub(crate) const REFUSED: Lesson = Lesson {
    story: "Nobody listens at the port, so the server's kernel answers the SYN with a RST at once. It needs no socket \
            for that, and keeps nothing. The client's connect() fails with \"connection refused\" after one round \
            trip. A program that tries again without waiting makes hundreds of these a second, and each is a real \
            answer: the host is up, the path is open, the service is not there.",
    client: &["CLOSE", "SYN_SENT", "CLOSE"],
    server: &["CLOSE"],
    sysctls: &[sysctl::SYN_RETRIES],
    beliefs: &[
        Belief {
            believed: "Refused means that a firewall is in the way.",
            truth: "A firewall that drops leaves the client in SYN_SENT (see syn-drop). Refused is an answer: of the \
                    host itself, or of a firewall that was told to reject with a RST.",
        },
        Belief {
            believed: "A RST to a SYN is tried again tcp_syn_retries times.",
            truth: "It ends the attempt at once. Only silence is tried again.",
        },
    ],
    instead: &[
        Instead {
            command: "telnet 10.0.0.9 10000",
            shows: "`tcptrace watch --only closes` shows every failed attempt with its cause (`refused`) and the program \
                    that made it, without trying oneself.",
        },
        Instead {
            command: "tcpdump -ni any 'tcp[tcpflags] & tcp-rst != 0'",
            shows: "`tcptrace watch --only resets` shows RSTs with their reason, those that no socket sent included.",
        },
    ],
};

pub(crate) const SYN_DROP: Lesson = Lesson {
    story: "The SYN gets lost, or something drops it. The client hears nothing, so it waits and sends the SYN again: \
            some times a second apart, then after twice as long each time. With the defaults connect() blocks for more \
            than two minutes before it fails with \"connection timed out\". The server never knows. The lab takes \
            shorter settings: 9 s in all, 15 s before Linux 6.5.",
    client: &["CLOSE", "SYN_SENT", "CLOSE"],
    server: &["CLOSE", "LISTEN"],
    sysctls: &[sysctl::SYN_RETRIES, sysctl::SYN_LINEAR_TIMEOUTS],
    beliefs: &[
        Belief {
            believed: "A connect fails after 127 s.",
            truth: "That was so before Linux 6.5. Since then four repeats come one second apart before the others: \
                    131 s.",
        },
        Belief {
            believed: "Many SYN_SENT mean that this host is flooded.",
            truth: "SYN_SENT is always an attempt of a program of this host. SYN_RECV is what others try here.",
        },
    ],
    instead: &[
        Instead {
            command: "iptables -A INPUT -p tcp --dport 10000 --syn -j DROP",
            shows: "This lab: its wire drops the SYNs between two private hosts, and no rule is left behind.",
        },
        Instead {
            command: "netstat -nat | grep SYN_SENT",
            shows: "`tcptrace stuck` shows how often each SYN was sent, when the next one goes and when the kernel \
                    gives up.",
        },
    ],
};

pub(crate) const SYNACK_DROP: Lesson = Lesson {
    story: "One way is open, the other is not: the SYN arrives, the SYN-ACK does not. Now two hosts try again. The \
            client repeats its SYN, and the server answers each; the server's own timer repeats the SYN-ACK too. At \
            the server it looks like one source of a SYN flood, at the client like a lost SYN. Common causes: a wrong \
            route back, a firewall that lets in only one direction, asymmetric routing through a stateful firewall.",
    client: &["CLOSE", "SYN_SENT", "CLOSE"],
    server: &["CLOSE", "LISTEN", "SYN_RECV", "CLOSE"],
    sysctls: &[sysctl::SYN_RETRIES, sysctl::SYN_LINEAR_TIMEOUTS, sysctl::SYNACK_RETRIES],
    beliefs: &[
        Belief {
            believed: "The client's host shows that the SYN was lost.",
            truth: "It shows that no answer came. Only the server, or a look at both, tells which of the two was lost.",
        },
        Belief {
            believed: "netstat shows how often a SYN-ACK was sent because of the client's repeats.",
            truth: "Its count is of the server's own timer. Every repeated SYN delays that timer, and is answered \
                    beside it.",
        },
    ],
    instead: &[
        Instead {
            command: "iptables -A INPUT -p tcp --sport 10000 --tcp-flags SYN,ACK SYN,ACK -j DROP",
            shows: "This lab: its wire drops the SYN-ACKs, and no rule is left behind.",
        },
        Instead {
            command: "netstat -nat | grep SYN_RECV",
            shows: "`tcptrace watch` shows every repeated SYN-ACK, `tcptrace stuck` the requests that nobody completes \
                    and when they are forgotten.",
        },
    ],
};
