//! `retransmitting`: a segment does not get through, though the peer is heard, or it does not leave this host.

use super::{Case, Finding, From, Judge, Rule, Scene, words};
use crate::{
    diagnose::{Confidence, limits},
    event::TcpState,
    sight::TimerKind,
    units::errno,
};

pub(super) const RULE: Rule = Rule {
    name: "retransmitting",
    states: &["ESTABLISHED"],
    says: "data is sent again and again and does not get through, though the peer is heard",
    judge: Judge::Each(judge),
};

fn judge(case: &Case, scene: &Scene) -> Option<Finding> {
    if case.sight.state != TcpState::Established
        || !(case.timer(TimerKind::Retransmit).is_some() || case.timer(TimerKind::Probe).is_some())
        || case.tries() == 0
    {
        return None;
    }
    let remote = case.sight.ends.remote();
    let failed = scene.failed(case);
    let held_back = case.timer(TimerKind::Probe).is_some();
    let verdict = match failed {
        Some(failed) => format!("segments cannot leave this host: {}", errno(failed.errno)),
        None if held_back => {
            "data is never sent, though the peer's window is open: something on this host drops it".to_owned()
        }
        None => format!(
            "no ACK for {}, sent again {}, though {} is heard",
            words::bytes(case.sight.send_queue),
            words::times(case.tries()),
            remote.ip()
        ),
    };
    let mut finding = case.finding(RULE.name, verdict);
    finding.age = limits::waiting(case);
    finding.age_from = "the stall, not the connection";
    finding.confidence = Confidence::Likely;
    if let Some(failed) = failed {
        let fact =
            format!("sending it again failed {} with {}", words::times(failed.count), errno(failed.errno));
        finding.evidence.push(words::fact(From::Events, fact));
    }
    finding.evidence.push(words::timer(case));
    finding.evidence.extend(words::heard(case));
    if let Some(info) = case.sight.info {
        finding.evidence.push(words::shown(format!(
            "{} in flight, {} sent again over its life",
            words::count(info.unacked.into(), "segment"),
            info.total_retrans
        )));
    }
    words::stall(case, &mut finding, "the kernel ends the connection; the program gets ETIMEDOUT");
    finding.next_step = if failed.is_some() || held_back {
        format!(
            "ip route get {ip}; nft list ruleset (or iptables -vnL OUTPUT): what drops packets to {ip}?",
            ip = remote.ip()
        )
    } else {
        format!(
            "do small segments pass and large ones not? {}: a router may swallow the ICMP that would say so",
            words::ping_large(remote.ip())
        )
    };
    Some(finding)
}
