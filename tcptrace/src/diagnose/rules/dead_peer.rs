//! `dead-peer`: an open connection whose other end is silent.

use super::{Case, Deadline, Finding, From, Judge, Rule, Scene, Setting, words};
use crate::{
    diagnose::{
        case::{number, seconds},
        ladder::{self, Stall},
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
    let silent_ns = silent_ns(case)?;
    let waiting_ns = limits::waiting(case)?.ns;
    // Something was heard after the stall began: the peer lives.
    if silent_ns < waiting_ns / 10 * 9 {
        return None;
    }
    let remote = case.sight.ends.remote();
    let verdict = format!(
        "{} sent to {remote} and sent again {}; nothing was heard from it for {}",
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
    finding.next_step = format!(
        "ping {}: is the host gone, or the path? The program sees it earlier with TCP_USER_TIMEOUT",
        remote.ip()
    );
    Some(finding)
}

fn silent_ns(case: &Case) -> Option<u64> {
    let info = case.sight.info?;
    Some(u64::from(info.last_ack_recv_ms.min(info.last_data_recv_ms)) * 1_000_000)
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
    let silent = silent_ns(case).map_or("an unknown time".to_owned(), |ns| Duration(ns).to_string());
    let verdict =
        format!("{remote} does not answer: {unanswered} keepalive probes in a row, silent for {silent}");
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
        finding.missing.push("TCP_KEEPINTVL and TCP_KEEPCNT, which would change the deadline: only the BPF iterator shows them".to_owned());
    }
    let interval_ns = own_interval.or(case.settings.keepalive_interval_ns).unwrap_or(75_000_000_000);
    let most = own_probes.map(u64::from).or(case.settings.keepalive_probes).unwrap_or(9);
    let user_timeout = case.user_timeout();
    let user_timeout_ns = user_timeout.as_ref().map(|(ns, _)| *ns);
    if let Some((_, mut setting)) = user_timeout {
        setting.meaning = Some("replaces the number of probes");
        finding.settings.push(setting);
    }
    let stall = Stall {
        tries: unanswered,
        rto_ns: interval_ns,
        expires_ns: u64::from(expires_ms) * 1_000_000,
        elapsed_ns: silent_ns(case),
        rto_max_ns: interval_ns,
        tick_ns: case.tick_ns,
    };
    let ladder = ladder::keepalive(stall, most, user_timeout_ns);
    finding.deadline = Deadline::of(
        &ladder,
        "the kernel ends the connection; the program gets ETIMEDOUT",
        Deadline::Unknown("the ladder of probes is too long"),
    );
    finding.next_step = format!("ping {}: is the host gone, or the path?", remote.ip());
    Some(finding)
}
