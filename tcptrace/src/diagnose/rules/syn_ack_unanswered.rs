//! `syn-ack-unanswered`: our SYN-ACK, or the ACK of it, does not arrive.

use super::{Case, Deadline, Finding, Judge, Rule, Scene, half_open::Trouble, words};
use crate::{
    diagnose::{
        Confidence,
        case::number,
        ladder::{self, Ladder, RTO_MAX_NS},
    },
    event::TcpState,
    sight::Kind,
};

pub(super) const RULE: Rule = Rule {
    name: "syn-ack-unanswered",
    states: &["SYN_RECV"],
    says: "the SYN-ACK was sent again and again, and the handshake is not completed",
    judge: Judge::Each(judge),
};

fn judge(case: &Case, scene: &Scene) -> Option<Finding> {
    if case.sight.kind != Kind::Request && case.sight.state != TcpState::SynRecv {
        return None;
    }
    // The whole listener is in trouble: its own rules say so, once.
    if scene.trouble(case.sight.netns, case.sight.ends.lport) != Trouble::Unanswered {
        return None;
    }
    let remote = case.sight.ends.remote();
    let verdict = format!(
        "{} asked for a connection; our SYN-ACK was sent again {}, and its ACK does not come",
        remote.ip(),
        words::times(case.tries())
    );
    let mut finding = case.finding(RULE.name, verdict);
    finding.confidence = Confidence::Likely;
    finding.evidence.push(words::timer(case));
    finding.missing.push("which of the two is lost, SYN-ACK or ACK: only the other end knows".to_owned());
    finding.settings.push(number("net.ipv4.tcp_synack_retries", case.settings.synack_retries));
    finding.deadline = deadline(case, scene);
    finding.next_step = format!(
        "tcpdump -ni any host {ip} and port {port}: does the ACK come? If not, the way back to {ip} is closed, or its address was forged",
        ip = remote.ip(),
        port = case.sight.ends.lport
    );
    Some(finding)
}

/// When the request is forgotten.
pub(super) fn deadline(case: &Case, scene: &Scene) -> Deadline {
    let otherwise = Deadline::Unknown("its timer is not shown");
    match ladder(case, scene) {
        Some(ladder) => Deadline::of(
            &ladder,
            "the kernel forgets the request; the client gets RST if it sends",
            otherwise,
        ),
        None => otherwise,
    }
}

/// The repetitions that are left.
pub fn ladder(case: &Case, scene: &Scene) -> Option<Ladder> {
    let timer = case.sight.timer?;
    let listener = scene.listener(case.sight.netns, case.sight.ends.lport);
    let own = listener.and_then(Case::syn_count);
    let mut retries = own.or(case.settings.synack_retries).unwrap_or(5);
    // More than half full, the queue throws old requests out earlier (reqsk_timer_handler).
    if let Some(listener) = listener
        && let Some((queued, young)) = listener.half_open()
        && u64::from(queued) * 2 > u64::from(listener.sight.send_queue.max(8))
    {
        let mut young = u64::from(young) * 2;
        while retries > 2 && u64::from(queued) >= young {
            retries -= 1;
            young *= 2;
            if young == 0 {
                retries = 2;
            }
        }
    }
    let timeouts = case
        .detail
        .as_ref()
        .and_then(|detail| detail.request()?.timeouts)
        .map_or(u32::from(timer.retransmits), u32::from);
    let rto_max_ns = case.settings.rto_max_ns.unwrap_or(RTO_MAX_NS);
    Some(ladder::syn_ack(timeouts, u64::from(timer.expires_ms) * 1_000_000, retries, rto_max_ns))
}
