//! `peer-never-closed`: our side has closed, the peer's program has not.

use super::{Case, Deadline, Finding, Judge, Rule, Scene, Setting, words};
use crate::{
    diagnose::{Confidence, case::seconds, ladder, limits},
    event::TcpState,
    flow::Span,
    sight::{Kind, TimerKind},
    source::details::Linger2,
};

/// Above this a full socket waits first, then a minisocket for the part above (5.10 to 7.3).
const TIMEWAIT_NS: u64 = 60_000_000_000;

pub(super) const RULE: Rule = Rule {
    name: "peer-never-closed",
    states: &["FIN_WAIT2"],
    says: "our FIN is acknowledged, the peer's does not come: its program holds the connection in CLOSE_WAIT",
    judge: Judge::Each(judge),
};

fn judge(case: &Case, scene: &Scene) -> Option<Finding> {
    if case.sight.state != TcpState::FinWait2 {
        return None;
    }
    let orphan = case.is_orphan();
    // A program that shut its side down and still receives is at work.
    let receives = case.sight.info.is_some_and(|info| {
        let since = |age: Span| u64::from(info.last_data_recv_ms) * 1_000_000 < age.ns;
        u64::from(info.last_data_recv_ms) < limits::at_work_ms(case)
            && info.bytes_received > 1
            && case.told.age.is_some_and(since)
    });
    if !orphan && receives && scene.older_than_ns.is_none() {
        return None;
    }
    // It waits in a pool on this host, and is no leak yet: that is where it would be told.
    let pooled = |other: &&Case| limits::is_pooled(other) && limits::past(other, None) != limits::Past::Yes;
    if scene.older_than_ns.is_none()
        && scene
            .other_end(case)
            .filter(|other| other.sight.state == TcpState::CloseWait)
            .is_some_and(|other| pooled(&other))
    {
        return None;
    }
    let remote = case.sight.ends.remote();
    let other = scene.other_end(case).filter(|other| other.sight.state == TcpState::CloseWait);
    let whose = other.and_then(|other| match (&other.holder, &other.told.owner) {
        (Some(holder), _) => {
            Some(format!("{}/{} (descriptor {})", holder.process.comm, holder.process.pid, holder.fd))
        }
        (None, Some(owner)) => Some(format!("{}/{}", owner.process.comm, owner.process.pid)),
        _ => None,
    });
    let verdict = match (&whose, other) {
        (Some(whose), _) => {
            format!("the other end is on this host: {whose} has it in CLOSE_WAIT and does not close it")
        }
        (None, Some(_)) => {
            "the other end is on this host, in CLOSE_WAIT: its program does not close it".to_owned()
        }
        (None, None) => format!(
            "{} has acknowledged our FIN and does not send its own: its program does not close",
            remote.ip()
        ),
    };
    let mut finding = case.finding(RULE.name, verdict);
    finding.evidence.push(words::shown(match (case.sight.kind, orphan) {
        (Kind::Minisocket, _) => {
            "closed by its program; the kernel keeps a timewait minisocket for the peer's FIN"
        }
        (_, true) => "closed by its program; a full socket waits for the peer's FIN",
        (_, false) => "a program has the descriptor still: it has shut down its side only, and no timer runs",
    }));
    if other.is_none() {
        finding.confidence = Confidence::Likely;
        finding.missing.push(format!("the other end: look on {} for CLOSE_WAIT", remote.ip()));
    }
    let (_, mut setting) = timeout(case);
    setting.meaning = (!orphan).then_some("not before close(): while a program has it, no timer runs");
    finding.settings.push(setting);
    finding.deadline = deadline(case, orphan);
    finding.next_step = match whose {
        Some(whose) => format!("make {whose} close what its peers have closed"),
        None if orphan => {
            format!("on {}: ss -tanp state close-wait; the kernel here cleans up by itself", remote.ip())
        }
        None => format!(
            "on {}: ss -tanp state close-wait; here the program must close(), or set a time-out",
            remote.ip()
        ),
    };
    Some(finding)
}

fn deadline(case: &Case, orphan: bool) -> Deadline {
    const THEN: &str = "the kernel forgets the connection; what the peer sends later is answered with RST";
    if !orphan {
        return Deadline::Never("only the peer's FIN, or close() by the program here");
    }
    let Some(timer) = case.sight.timer else { return Deadline::Unknown("its timer is not shown") };
    let expires_ns = u64::from(timer.expires_ms) * 1_000_000;
    let (timeout_ns, _) = timeout(case);
    let above_ns = timeout_ns.map_or(0, |ns| ns.saturating_sub(TIMEWAIT_NS));
    let unknown = Deadline::Unknown("its timer is not shown");
    let whole_ns = if above_ns > 0 { above_ns } else { timeout_ns.unwrap_or(expires_ns) };
    let mut ladder = ladder::single(expires_ns, whole_ns, case.tick_ns);
    if let (TimerKind::Keepalive, Some(end)) = (timer.kind, &mut ladder.end) {
        end.in_ns = end.in_ns.saturating_add(above_ns);
        let late_ns = ladder::slack(above_ns, case.tick_ns);
        end.latest_ns = end.latest_ns.saturating_add(above_ns).saturating_add(late_ns);
    }
    Deadline::of(&ladder, THEN, unknown)
}

/// How long it may wait for the peer's FIN, and what says so.
fn timeout(case: &Case) -> (Option<u64>, Setting) {
    match case.options().linger2 {
        Some(Linger2::Time(ns)) => {
            let value = Some(format!("{} s", ns / 1_000_000_000));
            (Some(ns), Setting { name: "TCP_LINGER2", value, meaning: None })
        }
        _ => {
            let ns = case.settings.fin_timeout_ns;
            (ns, seconds("net.ipv4.tcp_fin_timeout", ns))
        }
    }
}
