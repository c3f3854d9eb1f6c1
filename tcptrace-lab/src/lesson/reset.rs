//! Lessons about connections that end with a RST.

use super::{Belief, CLIENT_ENDS_AT_ONCE, Instead, Lesson, SERVER_ENDS_AT_ONCE};

const TCPDUMP: Instead = Instead {
    command: "tcpdump -ni any 'tcp[tcpflags] & tcp-rst != 0'",
    shows: "`tcptrace watch --only resets,closes` shows each RST with the program that sent it and the reason.",
};

pub(crate) const RST_UNREAD: Lesson = Lesson {
    story: "The server's program closes while data that it has not read waits in the receive buffer. A FIN would say \
            \"I have seen it all\", which is not so: the kernel sends a RST (RFC 1122, 4.2.2.13). The client reads \
            \"connection reset by peer\", and may lose an answer that was already on its way. Nothing is left on \
            either side, no TIME_WAIT. Typical: a server that answers and closes without reading a request to its \
            end.",
    client: CLIENT_ENDS_AT_ONCE,
    server: SERVER_ENDS_AT_ONCE,
    sysctls: &[],
    beliefs: &[
        Belief {
            believed: "close() always sends a FIN.",
            truth: "Only if everything was read. Otherwise, and with SO_LINGER at zero, it sends a RST.",
        },
        Belief {
            believed: "A RST is the fault of who receives it, or of the network.",
            truth: "It says that the sender's program closed with data unread: to be mended at the sender.",
        },
    ],
    instead: &[
        TCPDUMP,
        Instead {
            command: "nstat TcpExtTCPAbortOnClose",
            shows: "A count without a name. `tcptrace watch` says which connection (cause `unread-data`), and whose.",
        },
    ],
};

pub(crate) const RST_LINGER: Lesson = Lesson {
    story: "The client's program has set SO_LINGER with a time of zero: close() throws away what is not yet sent, and \
            sends a RST instead of a FIN. There is no TIME_WAIT, which is why programs do it. The price: the server \
            reads an error instead of the end of the stream, and nobody knows what has arrived.",
    client: CLIENT_ENDS_AT_ONCE,
    server: SERVER_ENDS_AT_ONCE,
    sysctls: &[],
    beliefs: &[
        Belief {
            believed: "SO_LINGER at zero is the good way to avoid TIME_WAIT.",
            truth: "It avoids the guarantee as well: data that was sent may never arrive. Let the other end close \
                    first, or keep connections open.",
        },
        Belief {
            believed: "Every RST is an error.",
            truth: "Some programs end all their connections so: load generators and health checks. What matters is \
                    who sends them and how many.",
        },
    ],
    instead: &[
        TCPDUMP,
        Instead {
            command: "netstat -s | grep -i 'resets sent'",
            shows: "`tcptrace stat 1` shows RSTs by the second, `tcptrace watch` the cause `aborted` and the program.",
        },
    ],
};
