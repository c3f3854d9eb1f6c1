//! `fin-behind-zero-window`: the peer does not read, so the FIN has to wait.

use super::{Case, Finding, From, Judge, Rule, Scene, words};
use crate::{diagnose::Confidence, event::TcpState, sight::TimerKind};

pub(super) const RULE: Rule = Rule {
    name: "fin-behind-zero-window",
    states: &["FIN_WAIT1", "LAST_ACK"],
    says: "the FIN was never sent: it waits behind data that the peer's closed window holds back",
    judge: Judge::Each(judge),
};

fn judge(case: &Case, scene: &Scene) -> Option<Finding> {
    if !matches!(case.sight.state, TcpState::FinWait1 | TcpState::LastAck)
        || case.timer(TimerKind::Probe).is_none()
    {
        return None;
    }
    // The kernel counts the FIN as one, here and there.
    let unsent = case.unsent().unwrap_or(case.sight.send_queue).saturating_sub(1);
    let verdict = match unsent {
        0 => "the FIN was never sent: the peer's window is closed, its program does not read".to_owned(),
        _ => format!(
            "the FIN waits behind {} never sent: the peer's window is closed, its program does not read",
            words::bytes(unsent)
        ),
    };
    let mut finding = case.finding(RULE.name, verdict);
    finding.evidence.push(words::shown(format!(
        "{} not acknowledged, {} of that never sent; the FIN counts as one",
        words::bytes(case.sight.send_queue),
        words::bytes(case.unsent().unwrap_or(case.sight.send_queue))
    )));
    finding.evidence.push(words::window(case));
    finding.evidence.push(words::timer(case));
    finding.evidence.extend(words::heard(case));
    finding.evidence.push(words::probes_answered(case));
    if let Some(reader) = words::reader(case, scene) {
        finding.evidence.push(words::fact(From::SockDiag, reader));
    }
    if case.told_window().is_none() {
        finding.confidence = Confidence::Likely;
    }
    words::stall(case, &mut finding, "the kernel gives up, and the unsent data is lost");
    finding.next_step = format!("find out why the program at {} does not read", case.sight.ends.remote());
    Some(finding)
}
