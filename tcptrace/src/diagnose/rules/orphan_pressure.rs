//! `orphan-pressure`: so many connections without a program that the kernel throws some out.

use super::{Deadline, Finding, From, Judge, Rule, Scene, words};
use crate::diagnose::case::number;

/// Percent of tcp_max_orphans from which on it is tight. The kernel counts an idle orphan double, one that met ICMP
/// errors four times (tcp_out_of_resources).
const TIGHT: u64 = 50;

pub(super) const RULE: Rule = Rule {
    name: "orphan-pressure",
    states: &["FIN_WAIT1", "LAST_ACK", "CLOSING"],
    says: "orphans come near tcp_max_orphans: the kernel begins to reset connections that are being closed",
    judge: Judge::All(judge),
};

fn judge(scene: &Scene) -> Vec<Finding> {
    let machine = &scene.around.machine;
    let (Some(orphans), Some(limit)) =
        (machine.sockstat.orphans, machine.settings.max_orphans.filter(|limit| *limit > 0))
    else {
        return Vec::new();
    };
    if orphans.saturating_mul(100) < limit.saturating_mul(TIGHT) {
        return Vec::new();
    }
    let Some(oldest) = scene
        .cases
        .iter()
        .filter(|case| case.is_orphan())
        .max_by_key(|case| case.told.age.map_or(0, |age| age.ns))
    else {
        return Vec::new();
    };
    let verdict = format!(
        "{orphans} orphans on this machine, the limit is {limit} (idle ones count double): the kernel resets some at their next time-out"
    );
    let mut finding = oldest.finding(RULE.name, verdict);
    finding.subject.id = crate::flow::FlowId::None;
    finding.subject.ends = crate::event::Ends::default();
    finding.subject.owner = None;
    finding.subject.closed_by = None;
    finding.missing.clear();
    finding.count = orphans;
    finding.evidence = vec![words::fact(From::Counters, format!("sockstat: {orphans} orphans"))];
    finding.settings.push(number("net.ipv4.tcp_max_orphans", Some(limit)));
    finding.deadline = Deadline::Unknown("checked at every time-out of an orphan");
    finding.next_step =
        "see the other findings for why they cannot finish; each orphan pins up to 64 KiB: raise tcp_max_orphans only with memory to spare".to_owned();
    vec![finding]
}
