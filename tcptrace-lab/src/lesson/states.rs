//! What each state means: whose turn it is, and until when.

/// The states of RFC 9293 as `netstat` prints them, in the order of a connection's life.
pub(super) const STATES: [(&str, &str); 11] = [
    ("CLOSE", "There is no connection: not yet, or no more."),
    ("LISTEN", "A server's program waits for connections. This socket never becomes one: each gets its own."),
    ("SYN_SENT", "A program has called connect(): the SYN is sent, and nothing has come back yet."),
    (
        "SYN_RECV",
        "A SYN has come and was answered; the third segment of the handshake is missing. It is a small request, no \
         socket, and no program knows of it.",
    ),
    ("ESTABLISHED", "Both directions are open. It ends only when someone ends it: silence alone does not."),
    (
        "FIN_WAIT1",
        "This end has closed. Its FIN, or data before it, is not acknowledged: it is the network's turn, or the \
         peer's kernel's.",
    ),
    (
        "FIN_WAIT2",
        "This end has closed and the peer's kernel has acknowledged that. It is the turn of the peer's program to \
         close.",
    ),
    (
        "CLOSING",
        "Both ends have closed at the same time: the peer's FIN has come, but not yet the ACK of our own.",
    ),
    (
        "TIME_WAIT",
        "All is over. Who closed first remembers the connection for 60 s, so that segments that come late do no harm \
         to a new one with the same ports.",
    ),
    (
        "CLOSE_WAIT",
        "The peer has closed, and the program here has not. Only this program can end it: no timer of the kernel \
         will.",
    ),
    (
        "LAST_ACK",
        "The peer had closed first, now this end has closed too. Only the ACK of its FIN is missing.",
    ),
];
