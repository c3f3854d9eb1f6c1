//! `syn-ack-unanswered`: our SYN-ACK, or the ACK of it, does not arrive.

use super::{Case, Deadline, Finding, From, Judge, Rule, Scene, Setting, half_open::Trouble, words};
use crate::{
    diagnose::{
        Confidence,
        case::number,
        ladder::{self, Ladder, RTO_MAX_NS},
    },
    event::TcpState,
    sight::Kind,
    source::details::Request,
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
    if request(case).and_then(|request| request.acked) == Some(true) {
        finding.evidence.push(words::fact(
            From::Socket,
            "an ACK did come once: there was no room in the accept queue then, or TCP_DEFER_ACCEPT waits for data",
        ));
    } else {
        finding.missing.push("which of the two is lost, SYN-ACK or ACK: only the other end knows".to_owned());
    }
    if repeats_its_syn(case) {
        finding.evidence.push(words::fact(
            From::Socket,
            "the client repeats its SYN, so that it is the SYN-ACK that is lost",
        ));
        finding.missing.push(
            "when the client sends its SYN again: each time the timer starts anew, and the end comes later"
                .to_owned(),
        );
    }
    finding.settings.push(match case.listener_syn_count {
        Some(count) => Setting { name: "TCP_SYNCNT", value: Some(count.to_string()), meaning: None },
        None => number("net.ipv4.tcp_synack_retries", case.settings.synack_retries),
    });
    let listener = scene.listener(case.sight.netns, case.sight.ends.lport);
    if listener.is_some_and(|listener| listener.detail.is_none()) {
        finding.missing.push(
            "TCP_SYNCNT of the listener, which would change the deadline: only the BPF iterator shows it"
                .to_owned(),
        );
    }
    finding.deadline = deadline(case, scene);
    finding.next_step = format!(
        "tcpdump -ni any host {ip} and port {port}: does the ACK come? If not, the way back to {ip} is closed, or its address was forged",
        ip = remote.ip(),
        port = case.sight.ends.lport
    );
    Some(finding)
}

fn request(case: &Case) -> Option<&Request> {
    case.detail.as_ref()?.request()
}

/// A SYN that comes again is answered at once, and starts the timer anew (tcp_check_req): more answers than time-outs.
fn repeats_its_syn(case: &Case) -> bool {
    request(case)
        .and_then(|request| request.retransmits.zip(request.timeouts))
        .is_some_and(|(repeated, timeouts)| repeated > timeouts)
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
    let mut retries = case.listener_syn_count.or(case.settings.synack_retries).unwrap_or(5);
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
    // Who has sent its ACK may wait as long as TCP_DEFER_ACCEPT says (syn_ack_recalc).
    if request(case).and_then(|request| request.acked) == Some(true) {
        let queue = listener.and_then(|listener| listener.detail.as_ref()?.queue());
        retries = retries.max(queue.and_then(|queue| queue.defer_accept).map_or(0, u64::from));
    }
    let timeouts =
        request(case).and_then(|request| request.timeouts).map_or(u32::from(timer.retransmits), u32::from);
    let rto_max_ns = case.settings.rto_max_ns.unwrap_or(RTO_MAX_NS);
    let expires_ns = u64::from(timer.expires_ms) * 1_000_000;
    Some(ladder::syn_ack(timeouts, expires_ns, retries, rto_max_ns, case.tick_ns))
}
