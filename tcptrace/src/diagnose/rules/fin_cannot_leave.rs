//! `fin-cannot-leave`: the FIN does not get out of this host.

use super::{Case, Evidence, Finding, From, Judge, Rule, Scene, words};
use crate::{event::TcpState, units::errno};

pub(super) const RULE: Rule = Rule {
    name: "fin-cannot-leave",
    states: &["FIN_WAIT1", "CLOSING", "LAST_ACK"],
    says: "the FIN does not leave this host: a local firewall rule, a route, or the device",
    judge: Judge::Each(judge),
};

fn judge(case: &Case, scene: &Scene) -> Option<Finding> {
    if !matches!(case.sight.state, TcpState::FinWait1 | TcpState::Closing | TcpState::LastAck) {
        return None;
    }
    let failed = scene.failed(case);
    let (verdict, evidence) = match failed {
        Some(failed) => (
            format!("the FIN cannot leave this host: {}", errno(failed.errno)),
            words::fact(
                From::Events,
                format!(
                    "sending it again failed {} with {}",
                    words::times(failed.count),
                    errno(failed.errno)
                ),
            ),
        ),
        None if case.no_route.is_some() => no_route(case)?,
        None if case.is_held_back() => (
            "the FIN was never sent, though the peer's window is open: something on this host drops it"
                .to_owned(),
            words::shown(format!(
                "the probe timer runs with a window of {} open: the kernel counts the FIN as unsent",
                words::bytes(case.window().unwrap_or(0))
            )),
        ),
        None => return None,
    };
    let mut finding = case.finding(RULE.name, verdict);
    finding.evidence.push(evidence);
    finding.evidence.push(words::timer(case));
    words::stall(case, &mut finding, "the kernel gives up and forgets the connection; the peer is not told");
    let remote = case.sight.ends.remote().ip();
    finding.evidence.extend(words::heard(case));
    finding.next_step = format!(
        "ip route get {remote}; nft list ruleset (or iptables -vnL OUTPUT): look for what drops packets to {remote}"
    );
    Some(finding)
}

/// Nothing was sent while we watched, but the kernel has no way to send it.
fn no_route(case: &Case) -> Option<(String, Evidence)> {
    let why = errno(case.no_route?);
    let fact = format!("asked for a route to {} now, the kernel says {why}", case.sight.ends.remote().ip());
    Some((format!("the FIN cannot leave this host: {why}"), words::fact(From::Inferred, fact)))
}
