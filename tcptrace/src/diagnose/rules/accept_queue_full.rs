//! `accept-queue-full`: connections are complete, and the program does not take them.

use super::{Case, Deadline, Finding, From, Judge, Rule, Scene, half_open, words};
use crate::{
    diagnose::{Confidence, case::number},
    flow::Span,
    sight::Kind,
};

pub(super) const RULE: Rule = Rule {
    name: "accept-queue-full",
    states: &["LISTEN", "SYN_RECV"],
    says: "the accept queue of a listener is full: its program does not call accept() fast enough, and clients wait",
    judge: Judge::All(judge),
};

fn judge(scene: &Scene) -> Vec<Finding> {
    scene
        .listeners
        .iter()
        .filter(|listener| half_open::queue_full(listener, scene))
        .map(|listener| finding(listener, scene))
        .collect()
}

fn finding(listener: &Case, scene: &Scene) -> Finding {
    let (netns, port) = (listener.sight.netns, listener.sight.ends.lport);
    let (queued, limit) = (listener.sight.receive_queue, listener.sight.send_queue);
    let waiting = scene.half_open(netns, port).count();
    let whose =
        listener.holder.as_ref().map(|holder| format!("{}/{}", holder.process.comm, holder.process.pid));
    let program = whose.clone().unwrap_or_else(|| "the program".to_owned());
    let verdict = format!(
        "{} in an accept queue for {limit}: {program} does not accept(){}",
        if queued == 1 { "1 connection waits".to_owned() } else { format!("{queued} connections wait") },
        if waiting > 0 {
            format!(", and {} cannot be completed", words::count(waiting as u64, "more handshake"))
        } else {
            String::new()
        }
    );
    let mut finding = listener.finding(RULE.name, verdict);
    finding.count = u64::from(queued) + waiting as u64;
    finding.age = scene
        .remembered
        .full_since_ns(listener)
        .map(|since| Span { ns: scene.now_ns.saturating_sub(since), exact: false });
    finding.age_from = "full at every look since";
    finding.evidence.push(words::shown(format!(
        "accept queue {queued}, backlog {limit} (full is one more than the backlog)"
    )));
    let oldest = scene.half_open(netns, port).map(Case::tries).max().unwrap_or(0);
    if waiting > 0 {
        finding.evidence.push(words::shown(format!(
            "{}, SYN-ACKs sent again {} at most",
            words::count(waiting as u64, "half-open request"),
            words::times(oldest)
        )));
    }
    let mut progress = false;
    if let Some(counted) = scene.around.counters.get(&netns) {
        for name in ["ListenOverflows", "ListenDrops"] {
            if let Some((added, ns)) = counted.added(name).filter(|(added, _)| *added > 0) {
                progress |= added > 0;
                finding.evidence.push(words::fact(
                    From::Counters,
                    format!(
                        "{name} grew by {added} in {}, all listeners of the namespace",
                        crate::units::Duration(ns)
                    ),
                ));
            }
        }
    }
    if let Some((queued, young)) = listener.half_open() {
        finding.evidence.push(words::fact(
            From::Socket,
            format!("{queued} half open by the listener's own count, {young} of them young"),
        ));
    }
    finding.confidence = if waiting > 0 || progress { Confidence::Certain } else { Confidence::Likely };
    finding.settings.push(number("net.core.somaxconn", listener.settings.somaxconn));
    let mut overflow = number("net.ipv4.tcp_abort_on_overflow", listener.settings.abort_on_overflow);
    overflow.meaning = match listener.settings.abort_on_overflow {
        Some(0) => Some("clients are left waiting, not refused"),
        Some(_) => Some("clients get RST"),
        None => None,
    };
    finding.settings.push(overflow);
    finding.deadline = Deadline::Never("only accept() by the program makes room");
    finding.next_step = match &listener.holder {
        Some(holder) => format!(
            "what does {program} do instead of accept()? gdb -p {pid} -batch -ex 'thread apply all bt', or /proc/{pid}/stack; a larger backlog only helps against bursts",
            pid = holder.process.pid
        ),
        None => "find out what the listening program does instead of accept() (as root its name is shown)"
            .to_owned(),
    };
    finding.subject.kind = Kind::Full;
    finding
}
