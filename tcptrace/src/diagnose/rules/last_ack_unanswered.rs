//! `last-ack-unanswered`: both sides have closed, and the last ACK does not come.

use super::{Case, Finding, Judge, Rule, Scene, words};
use crate::event::TcpState;

pub(super) const RULE: Rule = Rule {
    name: "last-ack-unanswered",
    states: &["LAST_ACK", "CLOSING"],
    says: "both sides have closed, and the ACK of our FIN does not come",
    judge: Judge::Each(judge),
};

fn judge(case: &Case, _: &Scene) -> Option<Finding> {
    if !matches!(case.sight.state, TcpState::LastAck | TcpState::Closing) {
        return None;
    }
    let remote = case.sight.ends.remote();
    let verdict = format!(
        "both sides have closed; our FIN was sent again {} and {} does not acknowledge it{}",
        words::times(case.tries()),
        remote.ip(),
        if words::is_heard(case) { ", though it answers" } else { "" }
    );
    let mut finding = case.finding(RULE.name, verdict);
    finding.evidence.push(words::timer(case));
    finding.evidence.extend(words::heard(case));
    words::stall(case, &mut finding, "the kernel gives up; nothing is lost, as both sides had closed");
    finding.next_step =
        format!("harmless if few; if many, the path to {} loses packets, or the peer vanished", remote.ip());
    Some(finding)
}
