//! `zero-window-stall`: the peer's program does not read, so ours cannot send.

use super::{Case, Finding, Judge, Rule, Scene, words};
use crate::{
    diagnose::{Confidence, limits::waiting},
    event::TcpState,
    sight::TimerKind,
};

pub(super) const RULE: Rule = Rule {
    name: "zero-window-stall",
    states: &["ESTABLISHED"],
    says: "the peer's window is closed: its program does not read, and ours waits to send",
    judge: Judge::Each(judge),
};

fn judge(case: &Case, scene: &Scene) -> Option<Finding> {
    let shrunk = words::is_shrunk(case);
    if case.sight.state != TcpState::Established || !(shrunk || case.timer(TimerKind::Probe).is_some()) {
        return None;
    }
    // What is in flight does not fit into a window that closed meanwhile.
    let unsent = if shrunk { case.sight.send_queue } else { case.unsent().unwrap_or(case.sight.send_queue) };
    // A window that is open is another matter: what is sent does not leave.
    if case.window().is_some_and(|window| window > 0 && window >= unsent) {
        return None;
    }
    let remote = case.sight.ends.remote();
    let window = if case.window().is_some_and(|window| window > 0) { "too small" } else { "closed" };
    let answers = if shrunk { words::is_heard(case) } else { words::answers_probes(case) };
    let verdict = match answers {
        true => format!(
            "the program at {remote} does not read: its window is {window}, {} cannot be sent",
            words::bytes(unsent)
        ),
        false => format!(
            "the window of {remote} is {window}, {} cannot be sent, and it has stopped answering: the peer or the path is gone",
            words::bytes(unsent)
        ),
    };
    let mut finding = case.finding(RULE.name, verdict);
    finding.age = waiting(case);
    finding.age_from = "the stall, not the connection";
    if case.told_window().is_none() || !answers {
        finding.confidence = Confidence::Likely;
    }
    finding.evidence.push(words::window(case));
    finding.evidence.push(words::timer(case));
    finding.evidence.extend(words::heard(case));
    if shrunk {
        finding.evidence.push(words::shown(if answers {
            "the peer answers: the host is alive"
        } else {
            "nothing was heard since it was last sent again"
        }));
    } else {
        finding.evidence.push(words::probes_answered(case));
    }
    let reader = words::reader(case, scene);
    finding.evidence.extend(reader.clone().map(words::shown));
    words::stall(case, &mut finding, "the kernel ends the connection; the program gets ETIMEDOUT");
    finding.next_step = match reader {
        _ if !answers => format!("ping {}: is the host gone, or the path?", remote.ip()),
        Some(reader) => format!("{reader}: make it read"),
        None => format!("find out why the program at {remote} does not read"),
    };
    Some(finding)
}
