//! Sentences and facts that several rules have.

use super::{Case, Deadline, Evidence, Finding, From, Scene};
use crate::{
    diagnose::ladder::{self, Ladder, Probing, Rule},
    event::TcpState,
    sight::TimerKind,
    units::{Bytes, Duration},
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
    let probes = case.timer(TimerKind::Probe).is_some();
    let (rule, setting) = case.rule();
    finding.settings.push(setting);
    if !matches!(rule, Rule::UserTimeout(_)) {
        case.note_user_timeout(&mut finding.missing);
    } else if probes {
        // Both count there, whichever is first.
        finding.settings.push(case.retries().1);
    }
    finding.deadline = match ladder(case) {
        _ if shrunk(case) => shrunk_deadline(case),
        Some(ladder) if ladder.end.is_none() && probes && answers_probes(case) => Deadline::of(
            &ladder,
            then,
            Deadline::Never("the peer answers every probe: only a program, here or there, can end it"),
        ),
        Some(ladder) => {
            Deadline::of(&ladder, then, Deadline::Unknown("more tries are left than are reckoned"))
        }
        None => Deadline::Unknown("its timer is not shown"),
    };
    if case.soft_error() {
        let fact = if case.is_orphan() {
            "an ICMP error came back: the kernel gives up at once when the time-out reaches its maximum"
        } else {
            "an ICMP error came back: it does not end the connection, but is what the program is told at the end"
        };
        finding.evidence.push(self::fact(From::Socket, fact));
    }
}

/// The window closed while data was in flight: the retransmission timer does the probing, and while a program has the
/// socket no number ends it (tcp_retransmit_timer, 5.10 to 7.3).
pub fn shrunk(case: &Case) -> bool {
    case.timer(TimerKind::Retransmit).is_some()
        && case.told_window() == Some(0)
        && !case.is_orphan()
        && !matches!(case.state(), TcpState::SynSent | TcpState::SynRecv)
}

fn shrunk_deadline(case: &Case) -> Deadline {
    if case.user_timeout_ms().is_some() {
        Deadline::Unknown(
            "TCP_USER_TIMEOUT ends it on kernels since 6.11, on earlier ones the peer's silence",
        )
    } else if case.heard_since_stall() {
        Deadline::Never(
            "the peer answers, and its window is closed: only a program, here or there, can end it",
        )
    } else {
        Deadline::Unknown(
            "the window is closed: the kernel gives up after minutes of silence, how many differs by version",
        )
    }
}

/// The retries that are left to this socket.
pub fn ladder(case: &Case) -> Option<Ladder> {
    let stall = case.stall()?;
    Some(match case.sight.timer?.kind {
        TimerKind::Probe => {
            let how = Probing {
                backoff: case.sight.info.map_or(0, |info| u32::from(info.backoff)),
                answered: answers_probes(case),
                rule: case.retries().0,
                user_timeout_ns: case.user_timeout_ms().map(|ms| u64::from(ms) * 1_000_000),
                most_doublings: case.settings.retries.unwrap_or(15),
            };
            ladder::probing(stall, how)
        }
        TimerKind::Retransmit => ladder::retransmission(stall, case.rule().0),
        TimerKind::Keepalive | TimerKind::TimeWait => ladder::single(stall.expires_ns),
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

/// The peer acknowledges window probes: their count starts again, the back-off does not.
pub fn answers_probes(case: &Case) -> bool {
    case.sight.info.is_some_and(|info| info.backoff > 0 && info.probes < info.backoff)
}

/// Who does not read at the other end, if that is on this host.
pub fn reader(case: &Case, scene: &Scene) -> Option<String> {
    let (unread, whose) = scene.reader(case)?;
    Some(match whose {
        Some(whose) => format!("the other end is on this host: {whose} has {} unread", bytes(unread)),
        None => format!("the other end is on this host and has {} unread", bytes(unread)),
    })
}
