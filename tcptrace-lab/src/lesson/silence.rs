//! Lessons about what is lost while the connection is open.

use super::{
    Belief, CLIENT_CLOSES_FIRST, CLIENT_ENDS_AT_ONCE, Instead, Lesson, SERVER_CLOSES_LAST,
    SERVER_ENDS_AT_ONCE, sysctl,
};

pub(crate) const KEEPALIVE_TIMEOUT: Lesson = Lesson {
    story: "The peer vanishes while nobody has anything to say: the power fails, a firewall forgets the connection. TCP \
            does not notice, for it sends nothing. With SO_KEEPALIVE the kernel asks after a time of silence whether \
            the peer is there, and gives up after some probes in vain. Without it this end stays ESTABLISHED for ever, \
            as the server's does here, until it sends something and is answered with a RST. The lab asks after a \
            second instead of two hours.",
    client: CLIENT_ENDS_AT_ONCE,
    server: SERVER_ENDS_AT_ONCE,
    sysctls: &[sysctl::KEEPALIVE_TIME, sysctl::KEEPALIVE_INTVL, sysctl::KEEPALIVE_PROBES],
    beliefs: &[
        Belief {
            believed: "TCP notices when the peer is gone.",
            truth: "Only when there is something to send. Keepalive is off unless the program asks for it.",
        },
        Belief {
            believed: "A smaller tcp_keepalive_time protects all connections.",
            truth: "Only those whose program has set SO_KEEPALIVE and no time of its own.",
        },
    ],
    instead: &[
        Instead {
            command: "netstat -nato | grep keepalive",
            shows: "`tcptrace stuck` shows how many probes were in vain, and when the connection will end.",
        },
        Instead {
            command: "sysctl net.ipv4.tcp_keepalive_time",
            shows: "What counts is the socket's own timer: that is what is read.",
        },
    ],
};

pub(crate) const USER_TIMEOUT: Lesson = Lesson {
    story: "The peer vanishes while data is under way. The kernel sends it again, each time after twice as long, for \
            about a quarter of an hour (tcp_retries2), and the program learns nothing until then. TCP_USER_TIMEOUT \
            sets how long data may stay unacknowledged: the lab takes 9 s. Then the program reads \"connection timed \
            out\". No RST is sent; the server learns it when it speaks.",
    client: CLIENT_ENDS_AT_ONCE,
    server: SERVER_ENDS_AT_ONCE,
    sysctls: &[sysctl::RETRIES2],
    beliefs: &[
        Belief {
            believed: "tcp_retries2 = 15 means fifteen repeats.",
            truth: "It is turned into a time, 924 s, as if the first repeat had come after 200 ms. On a slow path there \
                    are fewer of them.",
        },
        Belief {
            believed: "Keepalive finds a dead peer while data is under way.",
            truth: "While data is unacknowledged no keepalive probe is sent: retransmission does the asking.",
        },
    ],
    instead: &[
        Instead {
            command: "ss -tino | grep -A1 'timer:(on'",
            shows: "`tcptrace stuck` shows how often it was sent in vain, since when nothing was heard, and when the \
                    kernel gives up.",
        },
        Instead {
            command: "sysctl net.ipv4.tcp_retries2",
            shows: "The deadline is computed from this setting or the program's own, whichever counts.",
        },
    ],
};

pub(crate) const LOSSY: Lesson = Lesson {
    story: "Some segments get lost, and are sent again: those with others behind them after a round trip, because the \
            receiver says what it misses; the last one after a timer. Everything arrives, later. Then one segment is \
            lost again and again, each time with twice the wait, while the other direction works: a path that loses, \
            an MTU that is too large, a bad cable. The peer is alive, for it is heard.",
    client: CLIENT_CLOSES_FIRST,
    server: SERVER_CLOSES_LAST,
    sysctls: &[sysctl::RETRIES2, sysctl::SACK],
    beliefs: &[
        Belief {
            believed: "A retransmission means that a segment was lost.",
            truth: "Some are sent too early: the segment, or its ACK, was only late.",
        },
        Belief {
            believed: "The counter of retransmissions shows who suffers.",
            truth: "It is the sum of the whole namespace. One connection that repeats one segment for minutes hardly \
                    shows in it.",
        },
    ],
    instead: &[
        Instead {
            command: "tc qdisc add dev eth0 root netem loss 10%",
            shows: "This lab: its wire drops the segments that it is told to, the same ones each time.",
        },
        Instead {
            command: "netstat -s | grep -i retrans",
            shows: "`tcptrace watch --only retransmits` shows each with its connection, its reason (rto, fast, tlp) and \
                    how often in a row.",
        },
    ],
};
