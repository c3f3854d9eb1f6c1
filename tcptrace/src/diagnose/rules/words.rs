//! Sentences and facts that several rules have.

use super::{Case, Deadline, Evidence, Finding, From, Scene};
use crate::{
    diagnose::ladder::{self, Ladder, Probing, Rule},
    event::TcpState,
    sight::TimerKind,
    units::{Bytes, Duration, errno},
};
use std::net::IpAddr;

/// A fact of the kernel's list of sockets.
pub fn shown(fact: impl Into<String>) -> Evidence {
    Evidence { from: From::SockDiag, fact: fact.into() }
}

/// A fact from a source.
pub fn fact(from: From, fact: impl Into<String>) -> Evidence {
    Evidence { from, fact: fact.into() }
}

/// `once`, `3 times`.
pub fn times(count: u32) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

/// `1 probe`, `3 probes`, `2 retries`.
pub fn count(count: u64, what: &str) -> String {
    match (count, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {what}s"),
    }
}

/// How a path is tested for segments that are too large for it; ICMP and its header take 28 bytes, of IPv6 48.
pub fn ping_large(ip: IpAddr) -> String {
    let size = if ip.is_ipv4() { 1472 } else { 1452 };
    format!("ping -M do -s {size} {ip}")
}

/// `512 B`, `1.4 KiB`.
pub fn bytes(count: u32) -> String {
    Bytes(u64::from(count)).to_string()
}

/// A time of so many milliseconds.
pub fn ms(ms: u32) -> Duration {
    Duration(u64::from(ms) * 1_000_000)
}

/// The timer that runs as a fact.
pub fn timer(case: &Case) -> Evidence {
    let Some(timer) = case.sight.timer else { return shown("no timer runs") };
    let (kind, next) = (timer.kind.name(), ms(timer.expires_ms));
    // Answers set the number of probes back, but not the back-off.
    let tries = match (timer.kind, case.sight.info) {
        (TimerKind::Probe, Some(info)) => info.probes.into(),
        _ => case.tries(),
    };
    let tries = if tries == 0 { "no expiry".to_owned() } else { count(tries.into(), "expiry") };
    shown(match (case.stall(), case.sight.info) {
        (Some(stall), Some(info)) if timer.kind != TimerKind::Keepalive => format!(
            "{kind} timer: {tries} without an answer, back-off {}, time-out {}, next in {next}",
            info.backoff,
            Duration(stall.rto_ns)
        ),
        _ => format!("{kind} timer: {tries} without an answer, next in {next}"),
    })
}

/// When the peer was last heard.
pub fn heard(case: &Case) -> Option<Evidence> {
    let info = case.sight.info?;
    // Data that acknowledges nothing new is not counted as an ACK. Before any came its time means nothing.
    let data = if info.bytes_received > 0 && info.last_data_recv_ms < info.last_ack_recv_ms {
        format!(", last data {} ago", ms(info.last_data_recv_ms))
    } else {
        String::new()
    };
    Some(shown(format!("last ACK from the peer {} ago{data}", ms(info.last_ack_recv_ms))))
}

/// What ends an unanswered stall: the ladder by the rule of the socket, with its setting and what may be wrong with it.
pub fn stall(case: &Case, finding: &mut Finding, then: &'static str) {
    let user_timeout = case.user_timeout();
    let (_, setting) = case.retries();
    // For retransmissions it replaces the number of retries, for probes it comes beside it.
    let both = case.timer(TimerKind::Probe).is_some();
    let alone = user_timeout.is_some() && !both;
    finding.settings.extend(user_timeout.map(|(_, setting)| setting));
    if !alone && !is_shrunk(case) {
        finding.settings.push(setting);
    }
    case.note_user_timeout(&mut finding.missing);
    finding.deadline = match ladder(case) {
        _ if is_shrunk(case) => shrunk_deadline(case),
        Some(ladder) if ladder.end.is_none() && both && answers_probes(case) => Deadline::of(
            &ladder,
            then,
            Deadline::Never("the peer answers every probe: only a program, here or there, can end it"),
        ),
        Some(ladder) => {
            Deadline::of(&ladder, then, Deadline::Unknown("more tries are left than are reckoned"))
        }
        None => Deadline::Unknown("its timer is not shown"),
    };
    if case.soft_error() != 0 && case.no_route.is_none() {
        let noted = errno(u16::try_from(case.soft_error()).unwrap_or(0));
        let then = if case.is_orphan() {
            "the kernel gives up at once when the time-out reaches its maximum"
        } else {
            "it does not end the connection, but is what the program is told at the end"
        };
        let text = format!("the socket has {noted}, from an ICMP message or the routes of this host: {then}");
        finding.evidence.push(fact(From::Socket, text));
    }
}

/// How many minutes of silence end it differs by version, and TCP_USER_TIMEOUT counts since 6.11 only
/// (tcp_rtx_probe0_timed_out, read in the source).
fn shrunk_deadline(case: &Case) -> Deadline {
    if case.user_timeout().is_some() {
        Deadline::Unknown(
            "TCP_USER_TIMEOUT ends it on kernels since 6.11, on earlier ones the peer's silence",
        )
    } else if is_heard(case) {
        Deadline::Never(
            "the peer answers, and its window is closed: only a program, here or there, can end it",
        )
    } else {
        Deadline::Unknown(
            "the window is closed: the kernel gives up after minutes of silence, how many differs by version",
        )
    }
}

/// The retries that are left to this socket; none are counted where the window closed over data in flight.
pub fn ladder(case: &Case) -> Option<Ladder> {
    let stall = case.stall()?;
    let user_timeout_ns = case.user_timeout().map(|(ns, _)| ns);
    let (retries, _) = case.retries();
    Some(match case.sight.timer?.kind {
        TimerKind::Probe => {
            let how = Probing {
                backoff: case.sight.info.map_or(0, |info| u32::from(info.backoff)),
                most_backoff: case.settings.retries.unwrap_or(15),
                answered: answers_probes(case),
                orphan: case.is_orphan(),
                rule: retries,
                user_timeout_ns,
            };
            ladder::probing(stall, how)
        }
        TimerKind::Retransmit if is_shrunk(case) => Ladder::default(),
        TimerKind::Retransmit => {
            ladder::retransmission(stall, user_timeout_ns.map_or(retries, Rule::UserTimeout))
        }
        TimerKind::Keepalive | TimerKind::TimeWait => {
            ladder::single(stall.expires_ns, stall.expires_ns, case.tick_ns)
        }
    })
}

/// The peer's window as a fact.
pub fn window(case: &Case) -> Evidence {
    match (case.told_window(), case.window()) {
        (Some(window), _) => fact(From::Socket, format!("the peer's window is {}", bytes(window))),
        (None, Some(window)) => shown(format!("the peer's window is {}", bytes(window))),
        (None, None) => shown("the peer's window is closed, or this kernel does not show it (before 6.2)"),
    }
}

/// The peer has closed its window over what is in flight, and a program has the socket: then the kernel does not count
/// (tcp_retransmit_timer; 5.10 to 7.3).
pub fn is_shrunk(case: &Case) -> bool {
    case.timer(TimerKind::Retransmit).is_some()
        && case.told_window() == Some(0)
        && !case.is_orphan()
        && !matches!(case.state(), TcpState::SynSent | TcpState::SynRecv)
}

/// The peer has sent something since our segment was last sent again: it is there, and does not acknowledge it.
pub fn is_heard(case: &Case) -> bool {
    let Some((info, stall)) = case.sight.info.zip(case.stall()) else { return false };
    let since_ns = stall.rto_ns.saturating_sub(stall.expires_ns);
    case.tries() > 0 && u64::from(info.last_ack_recv_ms) * 1_000_000 <= since_ns + TICKS_NS
}

/// Times of the kernel are rounded to its ticks.
const TICKS_NS: u64 = 20_000_000;

/// A probe that is answered at all is answered within this time.
const ANSWER_NS: u64 = 1_000_000_000;

/// The peer acknowledges window probes: their count starts again, the back-off does not. One may be under way.
pub fn answers_probes(case: &Case) -> bool {
    let Some((info, stall)) = case.sight.info.zip(case.stall()) else { return false };
    let under_way = info.probes == 1 && stall.rto_ns.saturating_sub(stall.expires_ns) < ANSWER_NS;
    info.backoff > info.probes && (info.probes == 0 || under_way)
}

/// Whether it does, as a fact.
pub fn probes_answered(case: &Case) -> Evidence {
    if answers_probes(case) {
        return shown("the peer's kernel answers the probes: the host is alive");
    }
    let (probes, backoff) = case.sight.info.map_or((0, 0), |info| (info.probes, info.backoff));
    shown(if probes < backoff {
        format!("earlier probes were answered, the last {probes} were not: the peer may be gone by now")
    } else {
        "no probe was answered: the peer may be gone altogether".to_owned()
    })
}

/// Who does not read at the other end, if that is on this host.
pub fn reader(case: &Case, scene: &Scene) -> Option<String> {
    let (unread, whose) = scene.reader(case)?;
    Some(match whose {
        Some(whose) => format!("the other end is on this host: {whose} has {} unread", bytes(unread)),
        None => format!("the other end is on this host and has {} unread", bytes(unread)),
    })
}
