//! `syn-unanswered`: nobody answers our SYN.

use super::{Case, Deadline, Finding, From, Judge, Rule, Scene, words};
use crate::{
    diagnose::{
        case::number,
        finding::Setting,
        ladder::{self, Ladder},
        memory::is_full,
    },
    event::TcpState,
    units::errno,
};

pub(super) const RULE: Rule = Rule {
    name: "syn-unanswered",
    states: &["SYN_SENT"],
    says: "the SYN was sent again and again, and nobody answers: a firewall, no host, or a full accept queue",
    judge: Judge::Each(judge),
};

fn judge(case: &Case, scene: &Scene) -> Option<Finding> {
    if case.sight.state != TcpState::SynSent {
        return None;
    }
    let remote = case.sight.ends.remote();
    let failed = scene.failed(case);
    let verdict = match failed {
        Some(failed) => format!("the SYN cannot leave this host: {}", errno(failed.errno)),
        None => {
            format!("the SYN was sent again {}, and {remote} does not answer", words::times(case.tries()))
        }
    };
    let mut finding = case.finding(RULE.name, verdict);
    finding.evidence.push(words::timer(case));
    if let Some(failed) = failed {
        let fact =
            format!("sending it again failed {} with {}", words::times(failed.count), errno(failed.errno));
        finding.evidence.push(words::fact(From::Events, fact));
    }
    let mut full = scene
        .listeners
        .iter()
        .filter(|listener| listener.sight.ends.lport == remote.port() && is_full(listener))
        .filter(|listener| scene.listens_at(listener, case.sight.ends.remote));
    let queue = full.next().map(|listener| {
        format!(
            "a listener on port {} of this host has a full accept queue ({} of {})",
            remote.port(),
            listener.sight.receive_queue,
            listener.sight.send_queue
        )
    });
    finding.evidence.extend(queue.clone().map(words::shown));
    let (ladder, settings) = ladder(case)?;
    finding.settings = settings;
    if case.options().syn_retries.is_none() {
        finding.missing.push("TCP_SYNCNT and TCP_USER_TIMEOUT, which would change the deadline: only the BPF iterator shows them".to_owned());
    }
    finding.deadline =
        Deadline::of(&ladder, "connect() fails with ETIMEDOUT", Deadline::Unknown("its timer is not shown"));
    finding.next_step = match queue {
        Some(_) => format!(
            "the program that listens on port {} must accept() faster, or its backlog be larger",
            remote.port()
        ),
        None => format!(
            "is {ip} right? ping {ip}; a firewall that drops silently, here (nft list ruleset) or on the way; there: ss -ltn 'sport = :{port}', is Recv-Q above Send-Q?",
            ip = remote.ip(),
            port = remote.port()
        ),
    };
    Some(finding)
}

/// The retries that are left, and the settings that say so.
pub(super) fn ladder(case: &Case) -> Option<(Ladder, Vec<Setting>)> {
    let stall = case.stall()?;
    let own = case.syn_count();
    let linear = case.settings.syn_linear_timeouts;
    let retries = own.or(case.settings.syn_retries).unwrap_or(6);
    let mut settings = vec![match own {
        Some(count) => Setting { name: "TCP_SYNCNT", value: Some(count.to_string()), meaning: None },
        None => number("net.ipv4.tcp_syn_retries", case.settings.syn_retries),
    }];
    if linear.is_some() {
        settings.push(number("net.ipv4.tcp_syn_linear_timeouts", linear));
    }
    let user_timeout = case.user_timeout();
    let user_timeout_ns = user_timeout.as_ref().map(|(ns, _)| *ns);
    settings.extend(user_timeout.map(|(_, setting)| setting));
    Some((ladder::syn(stall, retries, linear.unwrap_or(0), user_timeout_ns), settings))
}
