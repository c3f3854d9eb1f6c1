//! `zero-window-stall`: the peer's program does not read, so ours cannot send.

use super::{Case, Finding, Judge, Rule, Scene, words};
use crate::{diagnose::Confidence, event::TcpState, sight::TimerKind};

pub(super) const RULE: Rule = Rule {
    name: "zero-window-stall",
    states: &["ESTABLISHED"],
    says: "the peer's window is closed: its program does not read, and ours waits to send",
    judge: Judge::Each(judge),
};

fn judge(case: &Case, scene: &Scene) -> Option<Finding> {
    if case.sight.state != TcpState::Established || case.timer(TimerKind::Probe).is_none() {
        return None;
    }
    let unsent = case.unsent().unwrap_or(case.sight.send_queue);
    // A window that is open is another matter: what is sent does not leave.
    if case.window().is_some_and(|window| window > 0 && window >= unsent) {
        return None;
    }
    let remote = case.sight.ends.remote();
    let verdict = format!(
        "{} wait to be sent: the program at {remote} does not read, its window is closed",
        words::bytes(unsent)
    );
    let mut finding = case.finding(RULE.name, verdict);
    if case.told_window().is_none() {
        finding.confidence = Confidence::Likely;
    }
    finding.evidence.push(words::timer(case));
    finding.evidence.extend(words::heard(case));
    finding.evidence.push(words::probes_answered(case));
    let reader = words::reader(case, scene);
    finding.evidence.extend(reader.clone().map(words::shown));
    words::stall(case, &mut finding, "the kernel ends the connection; the program gets ETIMEDOUT");
    finding.next_step = match reader {
        Some(reader) => format!("{reader}: make it read"),
        None => format!("find out why the program at {remote} does not read"),
    };
    Some(finding)
}
