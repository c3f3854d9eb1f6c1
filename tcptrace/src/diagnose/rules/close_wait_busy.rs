//! `close-wait-busy`: the peer has closed its side, and our program still sends.

use super::{Case, Deadline, Finding, Judge, Rule, Scene, words};
use crate::{
    diagnose::{Confidence, limits},
    event::TcpState,
    flow::Span,
};

pub(super) const RULE: Rule = Rule {
    name: "close-wait-busy",
    states: &["CLOSE_WAIT"],
    says: "the peer has closed its side, and the program here still sends: no leak, but a long answer or a peer that is gone",
    judge: Judge::Each(judge),
};

/// The program still sends.
pub(super) fn sends(case: &Case) -> bool {
    let Some(info) = case.sight.info else { return false };
    // Without data ever sent the time runs from the connection's beginning. And what was sent before the peer closed, and
    // made it close perhaps, says nothing.
    let since = |age: Span| u64::from(info.last_data_sent_ms) * 1_000_000 < age.ns;
    let lately = info.bytes_sent > 0
        && u64::from(info.last_data_sent_ms) < limits::at_work_ms(case)
        && case.told.age.is_some_and(since);
    case.sight.send_queue > 0 || lately
}

/// It sends, and the peer takes it: a long answer to a client that has asked everything.
pub(super) fn gets_through(case: &Case) -> bool {
    let most = limits::tries_in_flight(case);
    sends(case) && u64::from(case.tries()) < most
}

fn judge(case: &Case, scene: &Scene) -> Option<Finding> {
    if case.sight.state != TcpState::CloseWait || case.is_unaccepted() || !sends(case) {
        return None;
    }
    if gets_through(case) && scene.older_than_ns.is_none() {
        return None;
    }
    let info = case.sight.info?;
    let pending = case.sight.send_queue > 0;
    let verdict = if case.tries() > 0 {
        format!(
            "the peer has closed its side; no ACK for {} that the program sent since, sent again {}",
            words::bytes(case.sight.send_queue),
            words::times(case.tries())
        )
    } else if pending {
        format!(
            "the peer has closed its side, and the program still sends to it: {} under way",
            words::bytes(case.sight.send_queue)
        )
    } else {
        format!(
            "the peer has closed its side, and the program sent to it {} ago",
            words::ms(info.last_data_sent_ms)
        )
    };
    let mut finding = case.finding(RULE.name, verdict);
    finding.confidence = Confidence::Likely;
    finding.evidence.push(words::timer(case));
    finding.evidence.extend(words::heard(case));
    if pending && case.sight.timer.is_some() {
        words::stall(case, &mut finding, "the kernel ends the connection; the program gets an error");
        if case.tries() == 0 {
            finding.deadline = Deadline::Never("as long as the peer acknowledges what is sent");
        }
    } else {
        finding.deadline = Deadline::Never("only close() by the program");
    }
    finding.next_step =
        "no action if the answer is meant to take that long (half-close); otherwise as close-wait-leak"
            .to_owned();
    Some(finding)
}
