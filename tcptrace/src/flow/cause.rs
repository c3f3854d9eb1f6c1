//! Why a connection ended: a table, as code. Each row was seen on kernels 5.10 to 7.3 (unless
//! marked); evidence that fits no row is `unknown`, never a guess.

use crate::event::TcpState;
use std::sync::Arc;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// Both FINs were sent and acknowledged. The side that closed first goes on in TIME_WAIT.
    Orderly,
    /// Our FIN is acknowledged, the program is gone, the peer's FIN is still to come: the kernel replaces the
    /// socket by a FIN_WAIT2 minisocket that waits tcp_fin_timeout.
    FinWait2Minisocket,
    /// FIN_WAIT2 outlived its time without a minisocket.
    FinWait2Expired,
    /// The other end answered our SYN with RST: nobody listens.
    Refused,
    /// ICMP said that the other end cannot be reached.
    Unreachable,
    /// No answer in time: to the SYN, to data, or to window probes.
    Timeout,
    /// Keepalive probes were not answered.
    KeepaliveTimeout,
    /// The other end sent RST.
    ResetReceived,
    /// Data arrived after our program had closed the socket: answered with RST.
    DataAfterClose,
    /// Our program closed with received data unread: the kernel sends RST instead of FIN.
    UnreadData,
    /// Our program aborted: SO_LINGER 0, connect(AF_UNSPEC), or TCP_LINGER2 below 0.
    Aborted,
    /// The listener was closed before anyone accepted this connection.
    NeverAccepted,
    /// Somebody destroyed the socket (`ss -K`).
    Destroyed,
    /// The program was gone and the peer never acknowledged our FIN or the data before it.
    OrphanGaveUp,
    /// The program was gone and the kernel was short of memory or over tcp_max_orphans.
    OrphanLimit,
    /// The network namespace was deleted.
    NamespaceGone,
    /// connect() found no free local port.
    NoLocalPort,
    /// The program gave up before the connection was there.
    Abandoned,
    /// The listener was closed.
    ListenerClosed,
    /// The socket is gone and its close was not seen: lost, or older than we are.
    Unseen,
    /// A half-open request is gone: never completed, reset, or its listener closed. No event tells which.
    HalfOpenGone,
    /// The evidence does not tell.
    Unknown,
}

impl Cause {
    /// Every cause, in their order.
    pub const ALL: [Self; 22] = [
        Self::Orderly,
        Self::FinWait2Minisocket,
        Self::FinWait2Expired,
        Self::Refused,
        Self::Unreachable,
        Self::Timeout,
        Self::KeepaliveTimeout,
        Self::ResetReceived,
        Self::DataAfterClose,
        Self::UnreadData,
        Self::Aborted,
        Self::NeverAccepted,
        Self::Destroyed,
        Self::OrphanGaveUp,
        Self::OrphanLimit,
        Self::NamespaceGone,
        Self::NoLocalPort,
        Self::Abandoned,
        Self::ListenerClosed,
        Self::Unseen,
        Self::HalfOpenGone,
        Self::Unknown,
    ];

    /// The stable word in NDJSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Orderly => "orderly",
            Self::FinWait2Minisocket => "fin-wait2-minisocket",
            Self::FinWait2Expired => "fin-wait2-expired",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::KeepaliveTimeout => "keepalive-timeout",
            Self::ResetReceived => "reset-received",
            Self::DataAfterClose => "data-after-close",
            Self::UnreadData => "unread-data",
            Self::Aborted => "aborted",
            Self::NeverAccepted => "never-accepted",
            Self::Destroyed => "destroyed",
            Self::OrphanGaveUp => "orphan-gave-up",
            Self::OrphanLimit => "orphan-limit",
            Self::NamespaceGone => "namespace-gone",
            Self::NoLocalPort => "no-local-port",
            Self::Abandoned => "abandoned",
            Self::ListenerClosed => "listener-closed",
            Self::Unseen => "unseen",
            Self::HalfOpenGone => "half-open-gone",
            Self::Unknown => "unknown",
        }
    }

    /// One clause for people.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Orderly => "closed in order by both ends",
            Self::FinWait2Minisocket => {
                "our FIN is acknowledged; the kernel waits for the peer's FIN without us"
            }
            Self::FinWait2Expired => "the peer never sent its FIN; the kernel stopped waiting",
            Self::Refused => "refused: nobody listens there",
            Self::Unreachable => "unreachable, said ICMP",
            Self::Timeout => "timed out without an answer",
            Self::KeepaliveTimeout => "keepalive probes went unanswered",
            Self::ResetReceived => "reset by the other end",
            Self::DataAfterClose => "data came after our close(); answered with RST",
            Self::UnreadData => "closed with unread data; RST sent instead of FIN",
            Self::Aborted => "aborted by our program (linger 0 or disconnect)",
            Self::NeverAccepted => "the listener closed before anyone accepted it",
            Self::Destroyed => "destroyed through sock_diag (ss -K)",
            Self::OrphanGaveUp => "gave up: the program is gone and the peer never acknowledged",
            Self::OrphanLimit => "dropped: too many orphans or out of memory",
            Self::NamespaceGone => "its network namespace was deleted",
            Self::NoLocalPort => "no free local port",
            Self::Abandoned => "given up by our program before it was connected",
            Self::ListenerClosed => "listener closed",
            Self::Unseen => "gone; its close was not seen",
            Self::HalfOpenGone => "the handshake was never completed",
            Self::Unknown => "the evidence does not tell why",
        }
    }
}

/// An RST sent by this socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentReset {
    /// The kernel's reason, where it gives one.
    pub reason: Option<Arc<str>>,
}

impl SentReset {
    fn is(&self, name: &str) -> bool {
        self.reason.as_deref() == Some(name)
    }
}

/// What is known when a close is judged. `None`: could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The state it left.
    pub old: TcpState,
    /// `sk_err`.
    pub err: Option<u16>,
    /// `sk_err_soft`: an ICMP hint that becomes the error when a timeout strikes.
    pub soft: u16,
    /// close() had been called.
    pub dead: Option<bool>,
    /// A FIN had been received.
    pub done: Option<bool>,
    /// A `struct socket` was attached.
    pub has_socket: Option<bool>,
    /// Segments in flight.
    pub packets_out: Option<u32>,
    /// Bytes received and never read.
    pub unread: Option<u32>,
    /// TCP_LINGER2 was below zero.
    pub linger2_negative: bool,
    /// The socket had a local port.
    pub local_port: bool,
    /// `sk_shutdown`: 3 when the program itself closed.
    pub shutdown: u8,
    /// Retransmissions of the current stall.
    pub retransmits: u8,
    /// How old the socket was; `None`: older than we are.
    pub age_ns: Option<u64>,
    /// RST sent shortly before the close.
    pub sent_before: Option<SentReset>,
    /// RST sent shortly after it.
    pub sent_after: Option<SentReset>,
    /// `tcp_receive_reset` shortly before it.
    pub received: bool,
    /// The RST hooks are there: "no RST" means that there was none.
    pub resets_visible: bool,
    /// A probe saw a minisocket take its place, in this state.
    pub minisocket: Option<TcpState>,
}

/// How a flow goes on after CLOSE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Why it ended.
    pub cause: Cause,
    /// The state of the minisocket that goes on in the kernel, where there is one.
    pub continues_as: Option<TcpState>,
}

const EPIPE: u16 = 32;
const ECONNABORTED: u16 = 103;
const ECONNRESET: u16 = 104;
const ETIMEDOUT: u16 = 110;
const ECONNREFUSED: u16 = 111;

/// Judges a close.
pub fn judge(evidence: &Evidence) -> Verdict {
    let e = evidence;
    let ends = |cause| Verdict { cause, continues_as: None };
    // Says the same in every state.
    if e.err == Some(ECONNABORTED) && e.soft != ECONNABORTED {
        return ends(Cause::Destroyed);
    }
    match e.old {
        TcpState::SynSent => ends(unconnected(e)),
        TcpState::SynRecv | TcpState::NewSynRecv => ends(half_open(e)),
        TcpState::Established | TcpState::CloseWait => ends(open(e)),
        TcpState::FinWait1 => ends(fin_sent(e)),
        TcpState::FinWait2 => fin_acknowledged(e),
        TcpState::Closing | TcpState::LastAck => both_fins(e),
        TcpState::Listen => ends(Cause::ListenerClosed),
        TcpState::TimeWait | TcpState::Close => ends(Cause::Unknown),
    }
}

/// A timer gave up: ETIMEDOUT, or the ICMP hint in its place.
fn timed_out(e: &Evidence) -> bool {
    matches!(e.err, Some(err) if err == ETIMEDOUT || (err != 0 && err == e.soft))
}

/// The SYN would have been sent once more by now, and was not: the kernel gave up. Each time-out is twice the one before it, or
/// no longer than it (tcp_syn_linear_timeouts, 6.5). An ICMP error comes sooner, right after a SYN.
fn timer_is_over(e: &Evidence) -> bool {
    /// TCP_TIMEOUT_INIT, less than what a timer may be early by.
    const FIRST_NS: u64 = 990_000_000;
    let timeouts = (1_u64 << (u32::from(e.retransmits) + 1).min(30)) - 1;
    e.age_ns.is_some_and(|age_ns| age_ns >= FIRST_NS.saturating_mul(timeouts))
}

fn unconnected(e: &Evidence) -> Cause {
    match e.err {
        // The program may be woken before the event (seen on 5.10), and have read, and so cleared, the error already:
        // an RST is an RST all the same.
        Some(ECONNREFUSED | 0) | None if e.received => Cause::Refused,
        Some(ETIMEDOUT) => Cause::Timeout,
        Some(0) if !e.local_port => Cause::NoLocalPort,
        Some(0) if e.shutdown == 3 || e.retransmits == 0 => Cause::Abandoned,
        // Likewise read and cleared before the event (seen on 5.10): ETIMEDOUT, or the ICMP hint in its place.
        Some(0) if timer_is_over(e) && e.soft == 0 => Cause::Timeout,
        Some(0) if timer_is_over(e) => Cause::Unreachable,
        Some(0) | None => Cause::Unknown,
        Some(_) if e.received => Cause::ResetReceived,
        Some(_) => Cause::Unreachable,
    }
}

fn half_open(e: &Evidence) -> Cause {
    match e.err {
        _ if e.received => Cause::ResetReceived,
        Some(0) if e.sent_after.is_some() => Cause::NeverAccepted,
        Some(_) if timed_out(e) => Cause::Timeout,
        _ => Cause::Unknown,
    }
}

fn open(e: &Evidence) -> Cause {
    match e.err {
        Some(ECONNRESET | EPIPE | 0) | None if e.received => Cause::ResetReceived,
        Some(_) if timed_out(e) && e.sent_before.is_some() => Cause::KeepaliveTimeout,
        Some(_) if timed_out(e) => Cause::Timeout,
        Some(0) | None => match &e.sent_after {
            Some(_) if e.has_socket == Some(false) => Cause::NeverAccepted,
            Some(reset) => aborted(e, reset),
            None => Cause::Unknown,
        },
        Some(_) => Cause::Unknown,
    }
}

fn fin_sent(e: &Evidence) -> Cause {
    match e.err {
        // Nobody sent us an RST: the same kernel function handles data for a closed socket, then resets it.
        Some(ECONNRESET | 0) | None if e.received && e.sent_after.is_some() => Cause::DataAfterClose,
        Some(ECONNRESET | 0) | None if e.received => Cause::ResetReceived,
        Some(_) if timed_out(e) && e.dead == Some(true) => Cause::OrphanGaveUp,
        Some(_) if timed_out(e) => Cause::Timeout,
        Some(0) => match (e.dead, &e.sent_before, &e.sent_after) {
            (Some(true), Some(_), _) => Cause::OrphanLimit,
            (Some(true), None, None) if e.resets_visible => Cause::NamespaceGone, // read in the source, not run
            (_, _, Some(reset)) => aborted(e, reset),
            _ => Cause::Unknown,
        },
        _ => Cause::Unknown,
    }
}

/// The program itself ended it with an RST: because of data it had not read, or because it wanted to.
fn aborted(e: &Evidence, reset: &SentReset) -> Cause {
    match e.unread {
        _ if reset.is("tcp-abort-on-close") => Cause::UnreadData,
        Some(0) => Cause::Aborted,
        Some(_) => Cause::UnreadData,
        None => Cause::Unknown,
    }
}

fn fin_acknowledged(e: &Evidence) -> Verdict {
    let ends = |cause| Verdict { cause, continues_as: None };
    match e.minisocket {
        Some(TcpState::FinWait2) => return fin_wait2_minisocket(),
        Some(_) => return time_wait(),
        None => {}
    }
    match (e.err, e.done, e.dead) {
        (Some(ECONNRESET | 0) | None, ..) if e.received && e.sent_after.is_some() => {
            ends(Cause::DataAfterClose)
        }
        (Some(ECONNRESET | 0) | None, ..) if e.received => ends(Cause::ResetReceived),
        (Some(_), ..) if timed_out(e) && e.sent_before.is_some() => ends(Cause::KeepaliveTimeout),
        (Some(_), ..) if timed_out(e) => ends(Cause::Timeout),
        (Some(0), Some(true), _) => time_wait(),
        (Some(0), Some(false), Some(true)) => match (&e.sent_before, &e.sent_after) {
            (_, Some(_)) if e.linger2_negative => ends(Cause::Aborted),
            (_, Some(reset)) if reset.is("tcp-abort-on-linger") => ends(Cause::Aborted),
            (_, Some(_)) => ends(Cause::DataAfterClose),
            (Some(_), None) => ends(Cause::FinWait2Expired),
            (None, None) if e.resets_visible && !e.linger2_negative => fin_wait2_minisocket(),
            (None, None) => ends(Cause::Unknown),
        },
        (Some(0), Some(false), Some(false)) => {
            ends(e.sent_after.as_ref().map_or(Cause::Unknown, |reset| aborted(e, reset)))
        }
        _ => ends(Cause::Unknown),
    }
}

/// CLOSING and LAST_ACK: both FINs are on their way.
fn both_fins(e: &Evidence) -> Verdict {
    let ends = |cause| Verdict { cause, continues_as: None };
    if e.minisocket.is_some() {
        return time_wait();
    }
    match e.err {
        Some(_) | None if e.received => ends(Cause::ResetReceived),
        Some(_) if timed_out(e) && e.dead == Some(true) => ends(Cause::OrphanGaveUp),
        Some(_) if timed_out(e) => ends(Cause::Timeout),
        Some(0) => match (e.packets_out, e.dead) {
            (Some(0), _) if e.old == TcpState::Closing => time_wait(),
            (Some(0), _) => ends(Cause::Orderly),
            // SO_LINGER 0 in these states ends the socket without any RST.
            (Some(_), Some(false)) => ends(Cause::Aborted),
            (Some(_), Some(true)) if e.sent_before.is_some() => ends(Cause::OrphanLimit),
            _ => ends(Cause::Unknown),
        },
        _ => ends(Cause::Unknown),
    }
}

fn fin_wait2_minisocket() -> Verdict {
    Verdict { cause: Cause::FinWait2Minisocket, continues_as: Some(TcpState::FinWait2) }
}

fn time_wait() -> Verdict {
    Verdict { cause: Cause::Orderly, continues_as: Some(TcpState::TimeWait) }
}

#[cfg(test)]
mod tests;
