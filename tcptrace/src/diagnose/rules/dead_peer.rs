//! `dead-peer`: an open connection whose other end is silent.

use super::{Case, Deadline, Finding, From, Judge, Rule, Scene, Setting, words};
use crate::{
    diagnose::{
        case::{number, seconds},
        ladder::{self, Ladder, Stall},
        limits,
    },
    event::TcpState,
    sight::TimerKind,
    units::Duration,
};

pub(super) const RULE: Rule = Rule {
    name: "dead-peer",
    states: &["ESTABLISHED"],
    says: "nothing is heard from the peer while data or keepalive probes are sent to it",
    judge: Judge::Each(judge),
};

fn judge(case: &Case, _: &Scene) -> Option<Finding> {
    if case.sight.state != TcpState::Established {
        return None;
    }
    if let Some(timer) = case.timer(TimerKind::Keepalive) {
        return keepalive(
            case,
            u32::from(timer.retransmits.max(case.sight.info.map_or(0, |info| info.probes))),
            timer.expires_ms,
        );
    }
    case.timer(TimerKind::Retransmit)?;
    let silent_ns = case.silent_ns()?;
    if limits::waiting(case).is_none() || case.heard_since_stall() {
        return None;
    }
    let remote = case.sight.ends.remote();
    let verdict = format!(
        "no ACK from {remote} for {}, sent again {}: nothing was heard from it for {}",
        words::bytes(case.sight.send_queue),
        words::times(case.tries()),
        Duration(silent_ns)
    );
    let mut finding = case.finding(RULE.name, verdict);
    finding.age = limits::waiting(case);
    finding.age_from = "the stall, not the connection";
    finding.evidence.push(words::timer(case));
    finding.evidence.extend(words::heard(case));
    keepalive_fact(case, &mut finding);
    words::stall(case, &mut finding, "the kernel ends the connection; the program gets ETIMEDOUT");
    let earlier = match case.user_timeout_ms() {
        Some(_) => "",
        None => " The program would see it earlier with TCP_USER_TIMEOUT",
    };
    finding.next_step = format!("ping {}: is the host gone, or the path?{earlier}", remote.ip());
    Some(finding)
}

fn keepalive_fact(case: &Case, finding: &mut Finding) {
    match case.options().keepalive {
        Some(true) => finding
            .evidence
            .push(words::fact(From::Socket, "SO_KEEPALIVE is on; it waits while data is unacknowledged")),
        Some(false) => finding.evidence.push(words::fact(
            From::Socket,
            "SO_KEEPALIVE is off: an idle connection to a dead peer would never end",
        )),
        None => finding.missing.push("whether SO_KEEPALIVE is on: only the BPF iterator shows it".to_owned()),
    }
}

fn keepalive(case: &Case, unanswered: u32, expires_ms: u32) -> Option<Finding> {
    if unanswered == 0 {
        return None;
    }
    let remote = case.sight.ends.remote();
    let silent = case.silent_ns().map_or("an unknown time".to_owned(), |ns| Duration(ns).to_string());
    let probes = words::count(u64::from(unanswered), "keepalive probe");
    let verdict = format!("{remote} does not answer: {probes} in vain, silent for {silent}");
    let mut finding = case.finding(RULE.name, verdict);
    finding.age = limits::waiting(case);
    finding.age_from = "the peer's silence";
    finding.evidence.push(words::timer(case));
    finding.evidence.extend(words::heard(case));
    let own_interval = case.options().keepalive_interval_ns.filter(|ns| *ns > 0);
    let own_probes = case.options().keepalive_probes.filter(|count| *count > 0);
    finding.settings.push(match own_interval {
        Some(ns) => {
            Setting { name: "TCP_KEEPINTVL", value: Some(format!("{} s", ns / 1_000_000_000)), meaning: None }
        }
        None => seconds("net.ipv4.tcp_keepalive_intvl", case.settings.keepalive_interval_ns),
    });
    finding.settings.push(match own_probes {
        Some(count) => Setting { name: "TCP_KEEPCNT", value: Some(count.to_string()), meaning: None },
        None => number("net.ipv4.tcp_keepalive_probes", case.settings.keepalive_probes),
    });
    if case.options().keepalive_interval_ns.is_none() {
        finding.missing.push("TCP_KEEPINTVL, TCP_KEEPCNT and TCP_USER_TIMEOUT, which would change the deadline: only the BPF iterator shows them".to_owned());
    }
    if let Some((_, mut setting)) = case.user_timeout() {
        setting.meaning = Some("replaces the number of probes");
        finding.settings.push(setting);
    }
    let (_, ladder) = ladder(case, unanswered, u64::from(expires_ms) * 1_000_000);
    finding.deadline = Deadline::of(
        &ladder,
        "the kernel ends the connection; the program gets ETIMEDOUT",
        Deadline::Unknown("more probes are left than are reckoned"),
    );
    finding.next_step = format!("ping {}: is the host gone, or the path?", remote.ip());
    Some(finding)
}

/// The time between two keepalive probes, and those that are left.
pub fn ladder(case: &Case, unanswered: u32, expires_ns: u64) -> (u64, Ladder) {
    let options = case.options();
    let own_interval = options.keepalive_interval_ns.filter(|ns| *ns > 0);
    let own_probes = options.keepalive_probes.filter(|count| *count > 0).map(u64::from);
    let interval_ns = own_interval.or(case.settings.keepalive_interval_ns).unwrap_or(75_000_000_000);
    let most = own_probes.or(case.settings.keepalive_probes).unwrap_or(9);
    let stall = Stall {
        tries: unanswered,
        rto_ns: interval_ns,
        expires_ns,
        elapsed_ns: case.silent_ns(),
        rto_max_ns: interval_ns,
        tick_ns: case.tick_ns,
    };
    (interval_ns, ladder::keepalive(stall, most, case.user_timeout().map(|(ns, _)| ns)))
}
