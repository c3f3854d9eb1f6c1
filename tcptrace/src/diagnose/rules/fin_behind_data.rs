//! `fin-behind-data`: data written before the close is not acknowledged, so the FIN is not either.

use super::{Case, Finding, Judge, Rule, Scene, words};
use crate::{event::TcpState, sight::TimerKind};

pub(super) const RULE: Rule = Rule {
    name: "fin-behind-data",
    states: &["FIN_WAIT1", "CLOSING", "LAST_ACK"],
    says: "data written before the close is sent again and again in vain, and the FIN with it",
    judge: Judge::Each(judge),
};

fn judge(case: &Case, _: &Scene) -> Option<Finding> {
    if !matches!(case.sight.state, TcpState::FinWait1 | TcpState::Closing | TcpState::LastAck)
        || case.sight.send_queue <= 1
    {
        return None;
    }
    case.timer(TimerKind::Retransmit)?;
    let verdict = format!(
        "no ACK for {} written before the close, sent again {}; the FIN waits with it",
        words::bytes(case.sight.send_queue.saturating_sub(1)),
        words::times(case.tries())
    );
    let mut finding = case.finding(RULE.name, verdict);
    let unsent = case.unsent().unwrap_or(0);
    finding.evidence.push(words::shown(format!(
        "{} not acknowledged (the FIN counts as one), {} of that never sent, {} in flight",
        words::bytes(case.sight.send_queue),
        words::bytes(unsent),
        words::count(case.sight.info.map_or(0, |info| info.unacked).into(), "segment")
    )));
    finding.evidence.push(words::timer(case));
    finding.evidence.extend(words::heard(case));
    words::stall(case, &mut finding, "the kernel gives up, and the data is lost");
    let remote = case.sight.ends.remote();
    finding.next_step = format!(
        "check the path to {ip}: ping {ip}; a firewall in between; the MTU: {}",
        words::ping_large(remote.ip()),
        ip = remote.ip()
    );
    Some(finding)
}
