//! From when on a state counts as stuck: by the settings of the socket's own namespace and by its own timers.

use super::{
    case::Case,
    history::Place,
    look::fin_wait2_ns,
    rules::{answers_probes, stall_ladder},
};
use crate::{
    event::TcpState,
    flow::Span,
    sight::{Kind, TimerKind},
    source::{details::Linger2, netns::Limits as Settings},
};

/// Expiries of a timer in a row, without an answer, that are no accident any more.
const TRIES: u64 = 3;
/// tcp_retries1, where a namespace does not show it.
const SUSPICION_RETRIES: u64 = 3;
/// What tcp_orphan_retries means where it is 0 (tcp_orphan_retries(), 5.10 to 7.3).
const ORPHAN_RETRIES: u64 = 8;
/// The first time-out of a SYN-ACK (TCP_TIMEOUT_INIT).
const SYN_ACK_NS: u64 = 1_000_000_000;
/// tcp_fin_timeout, where a namespace does not show it.
const FIN_TIMEOUT_NS: u64 = 60_000_000_000;

/// From when on it is stuck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Its timer has expired so often in a row.
    Tries(u64),
    /// It has been in its state for so long, in nanoseconds.
    Age(u64),
}

/// Whether a limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// It is stuck.
    Yes,
    /// Not yet.
    NotYet,
    /// It may be: nothing tells its age.
    Unknown,
}

/// Where few retries are allowed the last but one is late enough.
fn few(most: u64, allowed: Option<u64>) -> u64 {
    most.min(allowed.map_or(most, |allowed| allowed.saturating_sub(1).max(1)))
}

/// Expiries after which what was sent, or waits to be sent, counts as stuck.
pub fn tries_in_flight(case: &Case) -> u64 {
    let settings = &case.settings;
    let allowed = if case.is_orphan() {
        settings.orphan_retries.filter(|retries| *retries > 0)
    } else {
        settings.retries
    };
    // A program may pause for long before it reads on, and its kernel answers: as patient as ours is with an orphan whose
    // peer does not, less one try.
    let reads_slowly = case.timer(TimerKind::Probe).is_some() && answers_probes(case) && !case.is_held_back();
    match reads_slowly {
        // No number of answered probes ends a connection that a program has; but there are no more doublings to count than
        // tcp_retries2 allows (tcp_send_probe0).
        true if !case.is_orphan() => {
            settings.retries.map_or(ORPHAN_RETRIES - 1, |most| most.clamp(1, ORPHAN_RETRIES - 1))
        }
        true => few(ORPHAN_RETRIES - 1, allowed),
        false => few(suspicious(settings), allowed),
    }
}

/// More than half of the time is over that the kernel gives a connection behind a closed window: TCP_USER_TIMEOUT, or the
/// longest time-out of an orphan, may be short.
fn half_over(case: &Case) -> bool {
    let end = || stall_ladder(case)?.end;
    case.timer(TimerKind::Probe).is_some()
        && case.tries() > 0
        && stalled(case).zip(end()).is_some_and(|(waited, end)| waited.ns >= end.in_ns)
}

/// The kernel suspects the path after so many (RFC 9293 3.8.3, R1): a short break of it costs as many.
fn suspicious(settings: &Settings) -> u64 {
    settings.suspicion_retries.unwrap_or(SUSPICION_RETRIES).saturating_add(1)
}

/// The limit of a socket's state; `None`: this state has none.
pub fn limit(case: &Case) -> Option<Limit> {
    let settings = &case.settings;
    let fin_timeout_ns = settings.fin_timeout_ns.unwrap_or(FIN_TIMEOUT_NS);
    Some(match case.state() {
        TcpState::SynSent => {
            let linear = settings.syn_linear_timeouts.unwrap_or(0);
            let allowed =
                case.syn_count().or(settings.syn_retries).map(|retries| retries.saturating_add(linear));
            // Those a second apart are over when an older kernel has not tried a third time.
            Limit::Tries(few(TRIES.max(linear.saturating_add(1)), allowed))
        }
        TcpState::SynRecv => {
            Limit::Tries(few(suspicious(settings), case.listener_syn_count.or(settings.synack_retries)))
        }
        TcpState::FinWait1 | TcpState::Closing | TcpState::LastAck => Limit::Tries(tries_in_flight(case)),
        // A quarter of the time that the kernel itself gives the peer's program; a peer that is a client may have the
        // connection in a pool, and notice at its next use: half.
        TcpState::FinWait2 if case.is_orphan() => {
            let own = match case.options().linger2 {
                Some(Linger2::Time(ns)) => Some(ns),
                _ => None,
            };
            let share = if is_incoming(case) { 2 } else { 4 };
            Limit::Age(fin_wait2_ns(own.unwrap_or(fin_timeout_ns)) / share)
        }
        // Half-closed on purpose: the program may wait for a long answer.
        TcpState::FinWait2 => Limit::Age(fin_timeout_ns),
        // What came is not even read: a quarter of the time that the peer's kernel remembers the connection for.
        TcpState::CloseWait if case.unread() > 0 => Limit::Age(fin_timeout_ns / 4),
        TcpState::CloseWait if is_pooled(case) => Limit::Age(fin_timeout_ns),
        // All is read: a server may work on an answer for a client that has only ended its side.
        TcpState::CloseWait => Limit::Age(fin_timeout_ns / 2),
        TcpState::Established if case.timer(TimerKind::Keepalive).is_some() => {
            let own = case.options().keepalive_probes.filter(|count| *count > 0).map(u64::from);
            Limit::Tries(few(TRIES, own.or(settings.keepalive_probes)))
        }
        TcpState::Established => Limit::Tries(tries_in_flight(case)),
        _ => return None,
    })
}

/// The other end opened it, as far as is known.
fn is_incoming(case: &Case) -> bool {
    Place::of(case.sight.netns, &case.sight.ends, case.told.role).incoming
}

/// A connection of a client that has all its answers, as pools keep them: they notice at the next use that the server has
/// closed.
pub fn is_pooled(case: &Case) -> bool {
    let sight = &case.sight;
    !is_incoming(case) && case.unread() == 0 && sight.send_queue == 0 && !case.is_unaccepted()
}

/// A program that has said or heard something since the state began is at work for so long after it, in milliseconds:
/// tcp_fin_timeout, and at least 30 s, as answers in parts may have a long pace.
pub fn at_work_ms(case: &Case) -> u64 {
    const PACE_MS: u64 = 30_000;
    (case.settings.fin_timeout_ns.unwrap_or(FIN_TIMEOUT_NS) / 1_000_000).max(PACE_MS)
}

/// How long a socket has not moved: its time in the state, or that of its stall, which may have begun before; for a
/// connection in use the time of its stall alone.
pub fn waiting(case: &Case) -> Option<Span> {
    if case.state() == TcpState::Established {
        return stalled(case);
    }
    match (case.told.age, stalled(case)) {
        (Some(age), _) if age.exact => Some(age),
        (Some(age), Some(stall)) if age.ns >= stall.ns => Some(age),
        (age, None) => age,
        (_, stall) => stall,
    }
}

/// How long the timer that runs has been in vain.
fn stalled(case: &Case) -> Option<Span> {
    if case.sight.kind == Kind::Request {
        return requested(case);
    }
    let stall = case.stall()?;
    let keepalive = case.timer(TimerKind::Keepalive).is_some();
    if keepalive && case.state() == TcpState::Established {
        let silent_ms = case.sight.info.map(|info| info.last_ack_recv_ms.min(info.last_data_recv_ms))?;
        return Some(Span { ns: u64::from(silent_ms) * 1_000_000, exact: true });
    }
    let tries = case.tries();
    if keepalive || (tries == 0 && case.state() != TcpState::Established) {
        return None;
    }
    let before = (1..=tries).map(|back| stall.rto_ns >> back.min(63)).sum::<u64>();
    // What is known is since the first expiry. TCP_USER_TIMEOUT shortens the time that runs, so what has run of it says
    // less then. A window that opens for a moment ends the back-off, but not the time that the kernel notes (6.18).
    let probes = case.timer(TimerKind::Probe).is_some();
    let ns = stall.elapsed_ns.filter(|_| !probes).map_or_else(
        || before + stall.rto_ns.saturating_sub(stall.expires_ns),
        |known| known + (stall.rto_ns >> tries.min(63)),
    );
    Some(Span { ns, exact: false })
}

/// How old a half-open request is at least: by the time-outs, not the repetitions, as a SYN that comes again makes one, too.
fn requested(case: &Case) -> Option<Span> {
    let timeouts = u32::from(case.detail.as_ref()?.request()?.timeouts?).min(30);
    let left_ns = u64::from(case.sight.timer?.expires_ms) * 1_000_000;
    let before_ns = ((1_u64 << timeouts) - 1) * SYN_ACK_NS;
    Some(Span { ns: before_ns + (SYN_ACK_NS << timeouts).saturating_sub(left_ns), exact: false })
}

/// Whether the socket is past its limit, or past `older_than_ns` where that is given instead.
pub fn past(case: &Case, older_than_ns: Option<u64>) -> Past {
    if let Some(least_ns) = older_than_ns {
        return match waiting(case) {
            Some(age) if age.ns >= least_ns => Past::Yes,
            Some(age) if age.exact => Past::NotYet,
            // At least so long, and perhaps longer.
            _ => Past::Unknown,
        };
    }
    match limit(case) {
        None => Past::NotYet,
        Some(Limit::Tries(tries)) if u64::from(case.tries()) >= tries || half_over(case) => Past::Yes,
        Some(Limit::Tries(_)) => Past::NotYet,
        Some(Limit::Age(limit_ns)) => match case.told.age {
            Some(age) if age.ns >= limit_ns => Past::Yes,
            Some(age) if age.exact => Past::NotYet,
            _ => Past::Unknown,
        },
    }
}
