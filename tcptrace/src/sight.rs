//! A socket as the kernel shows it when asked (sock_diag), not as an event: what is true at one moment.

use crate::event::{Ends, TcpState};
use serde::{Deserialize, Serialize};

/// When something was looked at, on the boot-time clock, in nanoseconds: the kernel answered between these two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Not before.
    pub from_ns: u64,
    /// Not after.
    pub to_ns: u64,
}

/// What kind of object holds the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A full socket, listeners included.
    Full,
    /// A half-open request: SYN received, handshake not complete. Its state is [`TcpState::NewSynRecv`].
    Request,
    /// A timewait minisocket, in TIME_WAIT or in FIN_WAIT2 (an orphan that waits for the peer's FIN).
    Minisocket,
}

impl Kind {
    /// The word users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Request => "half-open",
            Self::Minisocket => "timewait",
        }
    }
}

/// Which timer runs (`idiag_timer`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TimerKind {
    /// Retransmission of data, SYN, FIN or SYN-ACK (also loss probes and RACK reordering).
    Retransmit,
    /// Keepalive; for an orphan in FIN_WAIT2 the rest of a long tcp_fin_timeout.
    Keepalive,
    /// The end of a minisocket.
    TimeWait,
    /// Zero-window probe.
    Probe,
}

impl TimerKind {
    /// The word users see; the same as `ss -o` where it has one.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Retransmit => "retransmit",
            Self::Keepalive => "keepalive",
            Self::TimeWait => "timewait",
            Self::Probe => "probe",
        }
    }
}

/// A running timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// Which.
    pub kind: TimerKind,
    /// Milliseconds until it expires, as the kernel rounds them (jiffies).
    pub expires_ms: u32,
    /// How often it has expired in the current stall: retransmissions, probes or SYN-ACK repetitions.
    pub retransmits: u8,
}

/// Memory of a full socket, in bytes (`INET_DIAG_SKMEMINFO`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Allocated to the receive queue.
    pub receive: u32,
    /// Limit of it.
    pub receive_limit: u32,
    /// Allocated to sent, unacknowledged segments in the device queues.
    pub transmit: u32,
    /// Limit of the send buffer.
    pub send_limit: u32,
    /// Reserved and not used.
    pub forward: u32,
    /// Queued for sending, headers included.
    pub queued: u32,
    /// Socket options.
    pub options: u32,
    /// Waiting for the owner of the socket's lock.
    pub backlog: u32,
    /// Segments dropped for want of memory; a count, not bytes.
    pub drops: u32,
}

/// The part of `struct tcp_info` that we use. Fields that this kernel does not have are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpInfo {
    /// Retransmissions of the current stall.
    pub retransmits: u8,
    /// Unanswered window or keepalive probes.
    pub probes: u8,
    /// Exponential back-off of the current stall.
    pub backoff: u8,
    /// Retransmission time-out now, in microseconds, back-off included.
    pub rto_us: u32,
    /// Segments in flight.
    pub unacked: u32,
    /// Segments known to be lost.
    pub lost: u32,
    /// Milliseconds since data was last sent. Never sent: since the connection began, or more.
    pub last_data_sent_ms: u32,
    /// Milliseconds since data was last received.
    pub last_data_recv_ms: u32,
    /// Milliseconds since an ACK was last received.
    pub last_ack_recv_ms: u32,
    /// Smoothed round-trip time in microseconds.
    pub rtt_us: u32,
    /// Smallest round-trip time in microseconds; 0: never measured.
    pub min_rtt_us: u32,
    /// Segments retransmitted over the connection's life.
    pub total_retrans: u32,
    /// Bytes acknowledged by the peer.
    pub bytes_acked: u64,
    /// Bytes received in order.
    pub bytes_received: u64,
    /// Payload bytes sent, retransmissions included (4.19).
    pub bytes_sent: u64,
    /// Bytes written and not yet sent.
    pub notsent_bytes: u32,
    /// The peer's window in bytes (6.2).
    pub snd_wnd: u32,
}

/// A socket at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// Cookie; the same in events, in the minisocket, in `ss -e` (there in hexadecimal). Never 0.
    pub cookie: u64,
    /// Inode number of the network namespace it was seen in.
    pub netns: u32,
    /// What object.
    pub kind: Kind,
    /// Its state; [`TcpState::NewSynRecv`] for requests, `FinWait2` or `TimeWait` for minisockets.
    pub state: TcpState,
    /// Both ends.
    pub ends: Ends,
    /// Owner of the socket; 0 for minisockets, too.
    pub uid: u32,
    /// Inode of the socket file; 0: nobody holds a descriptor (orphan, not accepted yet, request, minisocket).
    pub inode: u32,
    /// Bytes received and not read; of a listener: connections that wait to be accepted.
    pub receive_queue: u32,
    /// Bytes written and not acknowledged; of a listener: the limit of the accept queue.
    pub send_queue: u32,
    /// The timer that runs, if one does.
    pub timer: Option<Timer>,
    /// `sk_shutdown`: 1 receive, 2 send, 3 both; `None`: not told.
    pub shutdown: Option<u8>,
    /// cgroup v2 id of the socket; `None`: not told (before 5.9, minisockets, requests).
    pub cgroup: Option<u64>,
    /// Memory; `None`: not asked for, or none.
    pub memory: Option<Memory>,
    /// TCP's own numbers; `None`: not asked for, or none.
    pub info: Option<TcpInfo>,
}

impl Sight {
    /// Nobody holds a descriptor, and the connection has been closed by its program: an orphan.
    pub fn is_orphan(&self) -> bool {
        use TcpState::{Closing, FinWait1, FinWait2, LastAck};
        self.kind == Kind::Full
            && self.inode == 0
            && matches!(self.state, FinWait1 | FinWait2 | Closing | LastAck)
    }
}
