//! Sentences and facts that several rules have.

use super::{Case, Deadline, Evidence, Finding, From, Scene};
use crate::{
    diagnose::ladder::{self, Ladder, Rule},
    sight::TimerKind,
    units::{Bytes, Duration},
};

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

/// `1 byte`, `1.4 KiB`.
pub fn bytes(count: u32) -> String {
    Bytes(u64::from(count)).to_string()
}

/// A time of so many milliseconds.
pub fn ms(ms: u32) -> Duration {
    Duration(u64::from(ms) * 1_000_000)
}

/// The retransmission timer as a fact.
pub fn timer(case: &Case) -> Evidence {
    let Some(timer) = case.sight.timer else { return shown("no timer runs") };
    let (rto, backoff) = case.sight.info.map_or((0, 0), |info| (info.rto_us, info.backoff));
    shown(format!(
        "{} timer: {} expiries without an answer, back-off {backoff}, time-out {}, next in {}",
        timer.kind.name(),
        case.tries(),
        Duration(u64::from(rto) * 1000),
        ms(timer.expires_ms)
    ))
}

/// When the peer was last heard.
pub fn heard(case: &Case) -> Option<Evidence> {
    let info = case.sight.info?;
    Some(shown(format!("last ACK from the peer {} ago", ms(info.last_ack_recv_ms))))
}

/// What ends an unanswered stall: the ladder by the rule of the socket, with its setting and what may be wrong with it.
pub fn stall(case: &Case, finding: &mut Finding, then: &'static str) {
    let (rule, setting) = case.rule();
    finding.settings.push(setting);
    if !matches!(rule, Rule::UserTimeout(_)) {
        case.note_user_timeout(&mut finding.missing);
    }
    let unknown = Deadline::Unknown("its timer is not shown");
    finding.deadline = match ladder(case) {
        Some(ladder) => Deadline::of(
            &ladder,
            then,
            Deadline::Never("the peer answers every probe: only a program, here or there, can end it"),
        ),
        None => unknown,
    };
    if case.detail.is_some_and(|detail| detail.soft_error != 0) {
        finding.evidence.push(fact(
            From::Socket,
            "an ICMP error came back: the kernel gives up at once when the time-out reaches its maximum",
        ));
    }
}

/// The retries that are left to this socket.
pub fn ladder(case: &Case) -> Option<Ladder> {
    let stall = case.stall()?;
    let (rule, _) = case.rule();
    Some(match case.sight.timer?.kind {
        TimerKind::Probe => {
            let backoff = case.sight.info.map_or(0, |info| u32::from(info.backoff));
            ladder::probing(stall, backoff, answers_probes(case), rule, case.is_orphan())
        }
        TimerKind::Retransmit => ladder::retransmission(stall, rule),
        TimerKind::Keepalive | TimerKind::TimeWait => ladder::single(stall.expires_ns),
    })
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
