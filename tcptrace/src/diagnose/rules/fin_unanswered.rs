//! `fin-unanswered`: the FIN is sent again and again, and nobody answers.

use super::{Case, Finding, Judge, Rule, Scene, words};
use crate::{event::TcpState, sight::TimerKind};

pub(super) const RULE: Rule = Rule {
    name: "fin-unanswered",
    states: &["FIN_WAIT1"],
    says: "the FIN was sent again and again, and is not acknowledged: the peer or the path is gone",
    judge: Judge::Each(judge),
};

fn judge(case: &Case, scene: &Scene) -> Option<Finding> {
    if case.sight.state != TcpState::FinWait1 || case.sight.send_queue > 1 {
        return None;
    }
    case.timer(TimerKind::Retransmit)?;
    let remote = case.sight.ends.remote();
    let heard = words::is_heard(case);
    let verdict = format!(
        "the FIN was sent again {} and {} does not acknowledge it: {}",
        words::times(case.tries()),
        remote.ip(),
        match (heard, case.told_window()) {
            (true, Some(0)) => "it answers, with its window closed",
            (true, _) => "it answers, but does not take the FIN",
            (false, _) => "the peer or the path is gone",
        }
    );
    let mut finding = case.finding(RULE.name, verdict);
    finding.evidence.push(words::timer(case));
    finding.evidence.extend(words::heard(case));
    finding.evidence.push(words::shown(if case.is_orphan() {
        "no descriptor: its program has closed it, the kernel goes on alone"
    } else {
        "a program has the descriptor still (shutdown, not close): the longer limit applies"
    }));
    if let Some(other) = scene.other_end(case) {
        finding
            .evidence
            .push(words::shown(format!("the other end is on this host, in {}", other.state().name())));
    }
    words::stall(case, &mut finding, "the kernel gives up and forgets the connection; the peer is not told");
    finding.next_step = format!(
        "ping {ip}; tcpdump -ni any host {ip} and port {port}: does the FIN leave, does an ACK come? To drop it now: tcptrace kill --all-netns --flow {cookie}",
        ip = remote.ip(),
        port = remote.port(),
        cookie = case.sight.cookie
    );
    Some(finding)
}
