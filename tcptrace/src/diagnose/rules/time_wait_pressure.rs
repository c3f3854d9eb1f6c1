//! `time-wait-pressure`: TIME_WAIT uses up the buckets, or the ports toward one destination.

use super::{Deadline, Finding, From, Judge, Rule, Scene, Setting, words};
use crate::{
    diagnose::{
        Confidence,
        case::number,
        finding::Subject,
        scene::{TimeWaits, Toward, Used},
    },
    event::{Ends, TcpState},
    flow::{FlowId, Role, minisocket::TIMER_SLACK_NS},
    sight::Kind,
    source::netns::Limits as Settings,
};

/// Percent of a limit from which on it is tight.
const TIGHT: u64 = 90;
/// Percent of the ports toward one destination.
const TIGHT_PORTS: u64 = 80;

pub(super) const RULE: Rule = Rule {
    name: "time-wait-pressure",
    states: &["TIME_WAIT"],
    says: "TIME_WAIT uses up tcp_max_tw_buckets, or the local ports toward one destination",
    judge: Judge::All(judge),
};

fn judge(scene: &Scene) -> Vec<Finding> {
    let mut findings: Vec<_> =
        scene.settings.iter().filter_map(|(netns, settings)| buckets(scene, *netns, settings)).collect();
    let tight = scene.toward.iter().filter_map(|(toward, used)| {
        let settings = scene.settings.get(&toward.netns)?;
        let (first, last) = settings.ports?;
        let all = u64::from(last - first) + 1;
        let tight = used.ports * 100 >= all * TIGHT_PORTS && used.time_wait.count * 2 >= used.ports;
        (tight && !taken_over(toward, used, settings, all)).then(|| ports(toward, used, settings, all))
    });
    findings.extend(tight);
    findings
}

/// connect() finds a port all the same: after a second it takes one over that is in TIME_WAIT (5.10 to 7.3).
fn taken_over(toward: &Toward, used: &Used, settings: &Settings, all: u64) -> bool {
    let ends = Ends { local: toward.local, remote: toward.remote, ..Ends::default() };
    let loopback = ends.remote().ip().is_loopback();
    match settings.tw_reuse {
        _ if settings.timestamps == Some(0) => false,
        Some(1 | 2) if loopback => true,
        // If the peer has timestamps too, as nearly all have.
        Some(1) => used.ports < all,
        _ => false,
    }
}

fn buckets(scene: &Scene, netns: u32, settings: &Settings) -> Option<Finding> {
    let limit = settings.max_tw_buckets.filter(|limit| *limit > 0)?;
    let minisockets =
        scene.cases.iter().filter(|case| case.sight.kind == Kind::Minisocket && case.sight.netns == netns);
    let time_wait = scene.time_wait.get(&netns).copied().unwrap_or_default();
    let waiting = time_wait.count;
    let used = waiting + minisockets.count() as u64;
    let overflow = scene.around.counters.get(&netns).and_then(|counted| counted.added("TCPTimeWaitOverflow"));
    let overflows = overflow.map_or(0, |(added, _)| added);
    if used.saturating_mul(100) < limit.saturating_mul(TIGHT) && overflows == 0 {
        return None;
    }
    let verdict = if overflows > 0 || used >= limit {
        format!("{used} of {limit} timewait buckets are used: further connections end without TIME_WAIT")
    } else {
        format!("{used} of {limit} timewait buckets are used: soon connections will end without TIME_WAIT")
    };
    let mut finding = about(verdict, netns, Ends::default(), used, time_wait);
    finding.evidence.push(words::shown(format!(
        "{waiting} in TIME_WAIT, {} in FIN_WAIT2 in the same table",
        words::count(used - waiting, "orphan")
    )));
    if overflows > 0 {
        finding.evidence.push(words::fact(
            From::Counters,
            format!("TCPTimeWaitOverflow grew by {overflows} since the look before"),
        ));
    }
    finding.settings.push(number("net.ipv4.tcp_max_tw_buckets", Some(limit)));
    finding.next_step = format!(
        "TIME_WAIT costs some 250 bytes each: raise net.ipv4.tcp_max_tw_buckets above {limit}, or keep connections open instead of closing them. {MYTHS}"
    );
    Some(finding)
}

/// What people try, and what it does not do.
const MYTHS: &str = "net.ipv4.tcp_fin_timeout does not shorten TIME_WAIT (fixed at 60 s); net.ipv4.tcp_tw_recycle is gone since Linux 4.12";

fn ports(toward: &Toward, used: &Used, settings: &Settings, all: u64) -> Finding {
    let ends = Ends { local: toward.local, remote: toward.remote, lport: 0, rport: toward.rport };
    let verdict = format!(
        "{} of {all} local ports toward {} are used, {} of them in TIME_WAIT: {}",
        used.ports,
        ends.remote(),
        used.time_wait.count,
        if used.ports >= all {
            "connect() finds none any more (EADDRNOTAVAIL)"
        } else {
            "connect() will soon find none"
        }
    );
    let mut finding = about(verdict, toward.netns, ends, used.ports, used.time_wait);
    finding.subject.role = Role::Active;
    let range = settings.ports.map(|(first, last)| format!("{first} {last}"));
    finding.evidence.push(words::shown(format!(
        "{} left from {} toward {}",
        words::count(all.saturating_sub(used.ports), "port"),
        ends.local().ip(),
        ends.remote()
    )));
    finding.settings.push(Setting { name: "net.ipv4.ip_local_port_range", value: range, meaning: None });
    let mut reuse = number("net.ipv4.tcp_tw_reuse", settings.tw_reuse);
    reuse.meaning = match settings.tw_reuse {
        Some(0) => Some("never"),
        Some(1) => Some("connect() takes a port over after 1 s in TIME_WAIT, if the peer uses timestamps"),
        Some(2) => Some("only on loopback"),
        _ => None,
    };
    finding.settings.push(reuse);
    finding.next_step = format!(
        "keep connections open and use them again; net.ipv4.tcp_tw_reuse=1 (safe for outgoing connections with timestamps), more ports (ip_local_port_range) or more addresses. {MYTHS}"
    );
    finding
}

fn about(verdict: String, netns: u32, ends: Ends, count: u64, time_wait: TimeWaits) -> Finding {
    Finding {
        name: RULE.name,
        subject: Subject {
            id: FlowId::None,
            netns,
            ends,
            role: Role::Unknown,
            state: TcpState::TimeWait,
            kind: Kind::Minisocket,
            owner: None,
            fd: None,
            closed_by: None,
            cgroup: None,
        },
        count,
        age: None,
        age_from: "",
        verdict,
        evidence: Vec::new(),
        missing: Vec::new(),
        confidence: Confidence::Certain,
        settings: Vec::new(),
        deadline: Deadline::In {
            earliest_ns: u64::from(time_wait.first_ms) * 1_000_000,
            latest_ns: u64::from(time_wait.last_ms) * 1_000_000 + TIMER_SLACK_NS,
            then: "the first, and the last of them, is free again 60 s after its connection ended",
            retries_left: 0,
        },
        next_step: String::new(),
    }
}
