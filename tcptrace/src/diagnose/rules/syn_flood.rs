//! `syn-flood`: half-open requests from many addresses, one try each.

use super::{
    Case, Deadline, Finding, From, Judge, Rule, Scene, Setting,
    half_open::{self, Trouble},
    syn_ack_unanswered, words,
};
use crate::{
    diagnose::{Confidence, case::number},
    event::Ends,
    flow::{FlowId, Role},
    units::Duration,
};
use hashbrown::HashSet;

/// Cookies between two looks that no client answered: fewer may be under way.
const COOKIES: u64 = 64;

pub(super) const RULE: Rule = Rule {
    name: "syn-flood",
    states: &["SYN_RECV"],
    says: "many half-open requests from many addresses, one try each: forged SYNs, or a path that loses our answers",
    judge: Judge::All(judge),
};

fn judge(scene: &Scene) -> Vec<Finding> {
    let ports = half_open::ports(scene).into_iter();
    let mut findings: Vec<_> = ports
        .filter(|(netns, port)| scene.trouble(*netns, *port) == Trouble::Flood)
        .filter_map(|(netns, port)| half_open_flood(scene, netns, port))
        .collect();
    let told: HashSet<_> = findings.iter().map(|finding| finding.subject.netns).collect();
    let cookies = scene.around.counters.keys().filter(|netns| !told.contains(*netns));
    findings.extend(cookies.filter_map(|netns| cookie_flood(scene, *netns)).collect::<Vec<_>>());
    findings
}

fn half_open_flood(scene: &Scene, netns: u32, port: u16) -> Option<Finding> {
    let stuck: Vec<_> = half_open::stuck(scene, netns, port).collect();
    let sources: HashSet<_> = stuck.iter().map(|case| case.sight.ends.remote).collect();
    let oldest = stuck.iter().max_by_key(|case| case.told.age.map_or(0, |age| age.ns))?;
    let verdict = format!(
        "{} half-open requests on port {port} from {} addresses, one try each",
        stuck.len(),
        sources.len()
    );
    let mut finding = oldest.finding(RULE.name, verdict);
    finding.count = stuck.len() as u64;
    about_many(&mut finding, oldest, port);
    finding.confidence = Confidence::Likely;
    finding.evidence.push(words::shown(format!(
        "{} in all, {} past their limit; SYN-ACKs sent again {} at most",
        words::count(scene.half_open(netns, port).count() as u64, "request"),
        stuck.len(),
        words::times(stuck.iter().map(|case| case.tries()).max().unwrap_or(0))
    )));
    finding.missing.push("whether the addresses are forged: no packet says so".to_owned());
    finding.evidence.extend(cookies_sent(scene, netns));
    finding.settings = settings(oldest);
    finding.deadline = syn_ack_unanswered::deadline(oldest, scene);
    finding.next_step = next_step(port);
    Some(finding)
}

/// With cookies requests are not kept: only the counters show the flood.
fn cookie_flood(scene: &Scene, netns: u32) -> Option<Finding> {
    let counted = scene.around.counters.get(&netns)?;
    let (added, _) = counted.added("SyncookiesSent")?;
    // Clients that come all at once get cookies too, if the backlog is small, and answer them.
    let answered = counted.added("SyncookiesRecv").map_or(0, |(answered, _)| answered);
    if added.saturating_sub(answered) < COOKIES || answered * 2 > added {
        return None;
    }
    // The fullest listener of the namespace is the likeliest.
    let listener = scene
        .listeners
        .iter()
        .filter(|case| case.sight.netns == netns)
        .max_by_key(|case| case.half_open().map_or(0, |(queued, _)| queued))?;
    // A full accept queue makes cookies too, and has a finding of its own.
    if half_open::queue_full(listener, scene) {
        return None;
    }
    let mut finding = listener.finding(
        RULE.name,
        "more SYNs come than the queue holds: the kernel answers with cookies".to_owned(),
    );
    finding.count = added;
    let port = listener.sight.ends.lport;
    about_many(&mut finding, listener, port);
    finding.confidence = Confidence::Possible;
    finding.age = None;
    finding.evidence.extend(cookies_sent(scene, netns));
    finding.missing.push(
        "which listener it is: the counter is the namespace's; shown is the one with the most requests"
            .to_owned(),
    );
    finding.settings = settings(listener);
    finding.deadline = Deadline::Unknown("it lasts as long as the SYNs come; cookies keep no state");
    finding.next_step = next_step(port);
    Some(finding)
}

fn about_many(finding: &mut Finding, case: &Case, port: u16) {
    finding.subject.id = FlowId::None;
    finding.subject.role = Role::Passive;
    finding.subject.ends = Ends { local: case.sight.ends.local, lport: port, ..Ends::default() };
    finding.subject.state = crate::event::TcpState::SynRecv;
    finding.missing.retain(|missing| !missing.starts_with("whose"));
}

fn cookies_sent(scene: &Scene, netns: u32) -> Option<super::Evidence> {
    let counted = scene.around.counters.get(&netns)?;
    let (added, ns) = counted.added("SyncookiesSent")?;
    let answered = counted.added("SyncookiesRecv").map_or(0, |(answered, _)| answered);
    let fact = format!("SyncookiesSent grew by {added} in {}, SyncookiesRecv by {answered}", Duration(ns));
    Some(words::fact(From::Counters, fact))
}

fn settings(case: &Case) -> Vec<Setting> {
    let mut cookies = number("net.ipv4.tcp_syncookies", case.settings.syncookies);
    cookies.meaning = match case.settings.syncookies {
        Some(0) => Some("never: a full queue drops SYNs"),
        Some(1) => Some("when the queue is full"),
        Some(2) => Some("always"),
        _ => None,
    };
    vec![
        cookies,
        number("net.ipv4.tcp_max_syn_backlog", case.settings.max_syn_backlog),
        number("net.ipv4.tcp_synack_retries", case.settings.synack_retries),
    ]
}

fn next_step(port: u16) -> String {
    format!(
        "keep net.ipv4.tcp_syncookies at 1; tcpdump -ni any '(tcp[tcpflags] == tcp-syn or ip6[53] == 2) and dst port {port}' shows the sources; limit them upstream"
    )
}
