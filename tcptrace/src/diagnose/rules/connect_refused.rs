//! `connect-refused`: connects are refused, one after another.

use super::{Deadline, Finding, From, Judge, Rule, Scene, words};
use crate::{
    diagnose::{
        Confidence,
        finding::Subject,
        history::{Burst, WINDOW_NS},
    },
    event::TcpState,
    flow::{FlowId, Role, Span},
    sight::Kind,
    units::Duration,
};
use std::net::Ipv6Addr;

/// Refused within a second: more than by a program that tries again and again until another one has started. As
/// [`MANY`], fewer where we have watched for less than the window.
const AT_ONCE: u64 = 10;
/// Refused within the window; where we have watched for less, in proportion ([`crate::diagnose::Traced::burst`]).
const MANY: u64 = 30;

pub(super) const RULE: Rule = Rule {
    name: "connect-refused",
    states: &["SYN_SENT"],
    says: "connects are refused in a row: nobody listens there",
    judge: Judge::All(judge),
};

fn judge(scene: &Scene) -> Vec<Finding> {
    let Some(traced) = &scene.around.traced else { return Vec::new() };
    let (most, most_at_once) = (traced.burst(MANY), traced.burst(AT_ONCE));
    let many = |count: u64, at_once: u64| count >= most || at_once >= most_at_once;
    let refused: Vec<_> = traced
        .bursts
        .iter()
        .filter(|burst| many(burst.refused, burst.refused_at_once) && !falls_back(burst, scene))
        .collect();
    // Where both ends are on this host the client's side tells the whole story.
    let ours = |burst: &Burst| {
        refused
            .iter()
            .any(|client| client.place.port == burst.place.port && client.place.addr == burst.place.addr)
    };
    let unheard = traced
        .bursts
        .iter()
        .filter(|burst| many(burst.unheard, burst.unheard_at_once) && burst.place.incoming && !ours(burst));
    let unheard = unheard.filter(|burst| scene.listener(burst.place.netns, burst.place.port).is_none());
    let mut findings: Vec<_> = refused.iter().map(|burst| client(burst, scene)).collect();
    findings.extend(unheard.map(|burst| server(burst, scene)));
    findings
}

/// `localhost` is ::1 first, and then 127.0.0.1, where the program listens: programs try both, each time.
fn falls_back(burst: &Burst, scene: &Scene) -> bool {
    let place = burst.place;
    place.ends().remote().ip() == Ipv6Addr::LOCALHOST
        && scene.listeners.iter().any(|listener| {
            listener.sight.netns == place.netns
                && listener.sight.ends.lport == place.port
                && listener.sight.ends.local().is_ipv4()
        })
}

fn client(burst: &Burst, scene: &Scene) -> Finding {
    let place = burst.place.ends().remote();
    let verdict = format!(
        "{} connects to {place} were refused in the last {}: nobody listens there",
        burst.refused,
        window(burst, scene)
    );
    let mut finding = about(RULE.name, burst, scene, verdict, burst.refused);
    finding.subject.state = TcpState::SynSent;
    finding.evidence.push(words::fact(
        From::Events,
        format!(
            "{} times SYN_SENT -> CLOSE by RST, {} connections ended there in all",
            burst.refused, burst.closed
        ),
    ));
    finding.next_step = format!(
        "on {}: ss -ltnp 'sport = :{}': does the program run, and listen on that address?",
        place.ip(),
        place.port()
    );
    finding
}

fn server(burst: &Burst, scene: &Scene) -> Finding {
    let place = burst.place.ends().local();
    let verdict = format!(
        "{} segments to {place} were answered with RST in the last {}: nobody listens on port {}",
        burst.unheard,
        window(burst, scene),
        place.port()
    );
    let mut finding = about(RULE.name, burst, scene, verdict, burst.unheard);
    finding.subject.state = TcpState::Close;
    finding.confidence = Confidence::Likely;
    finding.evidence.push(words::fact(From::Events, format!("{} RSTs sent without a socket", burst.unheard)));
    finding.next_step =
        format!("ss -ltnp 'sport = :{}': start the program that should listen there", place.port());
    finding
}

/// How long the burst lasts so far.
pub(super) fn window(burst: &Burst, scene: &Scene) -> Duration {
    Duration(scene.now_ns.saturating_sub(burst.since_ns).min(WINDOW_NS))
}

/// A finding about a burst.
pub(super) fn about(
    name: &'static str,
    burst: &Burst,
    scene: &Scene,
    verdict: String,
    count: u64,
) -> Finding {
    let place = burst.place;
    let lost = scene.around.traced.as_ref().map_or(0, |traced| traced.lost);
    let missing = if lost > 0 {
        vec![format!("{lost} events were lost: there were at least so many")]
    } else {
        Vec::new()
    };
    Finding {
        name,
        subject: Subject {
            id: FlowId::None,
            netns: place.netns,
            ends: place.ends(),
            role: if place.incoming { Role::Passive } else { Role::Active },
            state: TcpState::Established,
            kind: Kind::Full,
            owner: burst.owner.clone(),
            fd: None,
            closed_by: None,
            cgroup: None,
        },
        count,
        age: Some(Span { ns: scene.now_ns.saturating_sub(burst.since_ns), exact: false }),
        age_from: "since the first of them",
        verdict,
        evidence: Vec::new(),
        missing,
        confidence: Confidence::Certain,
        settings: Vec::new(),
        deadline: Deadline::Never("it lasts as long as programs try"),
        next_step: String::new(),
    }
}
