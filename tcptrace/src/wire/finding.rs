//! `finding`: something that does not move. `stuck`: what a look came to.

use super::{
    line::{OwnerJson, begin, end_with},
    plain,
};
use crate::{
    diagnose::{Deadline, Diagnosis, Evidence, Finding, OnTheWay, Scene, Setting, limits::Limit},
    enrich::{Place, Places},
    flow::{Who, owner::Owner},
    wall::Wall,
};
use serde::Serialize;
use serde_json::{Value, json};

#[derive(Serialize)]
struct Body<'a> {
    owner_fd: Option<u32>,
    closed_by: Option<OwnerJson<'a>>,
    made_in: Option<&'a str>,
    name: &'static str,
    state: &'static str,
    socket: &'static str,
    count: u64,
    age_ns: Option<u64>,
    exact: bool,
    age_from: Option<&'static str>,
    verdict: &'a str,
    evidence: Vec<Fact<'a>>,
    missing: &'a [String],
    confidence: &'static str,
    sysctl: Vec<Governs<'a>>,
    deadline: &'static str,
    deadline_ns: Option<u64>,
    deadline_latest_ns: Option<u64>,
    deadline_says: &'static str,
    retries_left: Option<u32>,
    next_step: &'a str,
}

#[derive(Serialize)]
struct Fact<'a> {
    from: &'static str,
    fact: &'a str,
}

#[derive(Serialize)]
struct Governs<'a> {
    name: &'static str,
    value: Option<&'a str>,
    meaning: Option<&'static str>,
}

/// Writes a finding as one line. `taken_ns`: when the sockets were looked at.
///
/// # Errors
/// None: memory is all it writes to.
pub fn line(
    out: &mut Vec<u8>,
    wall: &mut Wall,
    places: &Places,
    taken_ns: u64,
    finding: &Finding,
) -> serde_json::Result<()> {
    let made_in = finding.subject.cgroup.and_then(|id| places.of(id)).filter(|place| !place.is_root());
    let subject = &finding.subject;
    let place = |owner: &Option<Owner>| places.of_owner(&owner.as_ref()?.process);
    let (place, closer) = (place(&subject.owner), place(&subject.closed_by));
    let ends = &subject.ends;
    let known = |address: &[u8; 16], port: u16| port != 0 || *address != [0; 16];
    let (here, there) = (known(&ends.local, ends.lport), known(&ends.remote, ends.rport));
    let (earliest, latest, says, retries_left) = match &finding.deadline {
        Deadline::Never(why) | Deadline::Unknown(why) => (None, None, *why, None),
        Deadline::In { earliest_ns, latest_ns, then, retries_left } => {
            (Some(*earliest_ns), Some(*latest_ns), *then, Some(*retries_left))
        }
    };
    let ends = (
        (here || there).then(|| if here { ends.family() } else { ends.turned_round().family() }),
        here.then(|| ends.local().into()),
        there.then(|| ends.remote().into()),
    );
    let who = Who {
        id: subject.id,
        netns: subject.netns,
        ends: subject.ends,
        role: subject.role,
        owner: subject.owner.clone(),
    };
    let body = Body {
        owner_fd: subject.fd,
        closed_by: subject.closed_by.as_ref().map(|owner| OwnerJson::new(owner, closer.as_deref())),
        made_in: made_in.as_deref().map(Place::name),
        name: finding.name,
        state: subject.state.name(),
        socket: subject.kind.name(),
        count: finding.count,
        age_ns: finding.age.map(|age| age.ns),
        exact: finding.age.is_some_and(|age| age.exact),
        age_from: finding.age.map(|_| finding.age_from),
        verdict: &finding.verdict,
        evidence: finding
            .evidence
            .iter()
            .map(|Evidence { from, fact }| Fact { from: from.name(), fact })
            .collect(),
        missing: &finding.missing,
        confidence: finding.confidence.name(),
        sysctl: finding
            .settings
            .iter()
            .map(|Setting { name, value, meaning }| Governs {
                name,
                value: value.as_deref(),
                meaning: *meaning,
            })
            .collect(),
        deadline: match finding.deadline {
            Deadline::Never(_) => "never",
            Deadline::In { .. } => "kernel",
            Deadline::Unknown(_) => "unknown",
        },
        deadline_ns: earliest,
        deadline_latest_ns: latest,
        deadline_says: says,
        retries_left,
        next_step: &finding.next_step,
    };
    begin(out, wall, "finding", (taken_ns, &who), ends, place.as_deref());
    end_with(out, body)
}

/// The line after the findings of a look.
///
/// # Errors
/// None: memory is all it writes to.
pub fn end(
    out: &mut Vec<u8>,
    wall: &mut Wall,
    scene: &Scene,
    diagnosis: &Diagnosis,
    notes: &[String],
) -> serde_json::Result<()> {
    let stuck: u64 = diagnosis.findings.iter().map(|finding| finding.count).sum();
    let traced = scene.around.traced.as_ref();
    let body = json!({
        "findings": diagnosis.findings.len(),
        "stuck": stuck,
        "sockets": scene.sockets,
        "namespaces": scene.settings.len(),
        "on_the_way": diagnosis.on_the_way.iter().map(on_the_way).collect::<Vec<_>>(),
        "unexplained": diagnosis.unexplained,
        "traced_ns": traced.map(|traced| traced.watched_ns),
        "lost": traced.map(|traced| traced.lost),
        "notes": notes,
    });
    plain(out, wall, "stuck", scene.taken.from_ns, body)
}

fn on_the_way(way: &OnTheWay) -> Value {
    let (limit_ns, limit_tries) = match way.limit {
        Some(Limit::Age(ns)) => (Some(ns), None),
        Some(Limit::Tries(tries)) => (None, Some(tries)),
        None => (None, None),
    };
    json!({
        "state": way.state.name(),
        "count": way.count,
        "perhaps_older": way.perhaps_older,
        "oldest_ns": way.oldest.map(|age| age.ns),
        "limit_ns": limit_ns,
        "limit_tries": limit_tries,
    })
}
