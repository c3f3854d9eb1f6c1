//! `close-wait-busy`: the peer has closed its side, and our program still sends.

use super::{Case, Deadline, Finding, Judge, Rule, Scene, words};
use crate::{diagnose::Confidence, event::TcpState, flow::Span};

/// Data that was sent within this time: the program is at work.
const AT_WORK_MS: u32 = 10_000;

pub(super) const RULE: Rule = Rule {
    name: "close-wait-busy",
    states: &["CLOSE_WAIT"],
    says: "the peer has closed its side, and the program here still sends: no leak, but a long answer or a peer that is gone",
    judge: Judge::Each(judge),
};

fn judge(case: &Case, _: &Scene) -> Option<Finding> {
    if case.sight.state != TcpState::CloseWait || case.is_unaccepted() {
        return None;
    }
    let info = case.sight.info?;
    let pending = case.sight.send_queue > 0;
    // Without data ever sent the time runs from the connection's beginning. And what was sent before the peer closed, and
    // made it close perhaps, says nothing.
    let since = |age: Span| u64::from(info.last_data_sent_ms) * 1_000_000 < age.ns;
    let sends =
        info.bytes_sent > 0 && info.last_data_sent_ms < AT_WORK_MS && case.told.age.is_some_and(since);
    if !pending && !sends {
        return None;
    }
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
