//! Many sockets together, other ends, and what earlier looks showed.

use super::made::*;
use crate::{
    diagnose::{Counted, Finding, Machine, group::group},
    event::{Ends, TcpState as S_},
    sight::{Sight, TimerKind as T},
    source::counters::{Counters, Settings, Sockstat},
};

fn counters(name: &str, value: u64) -> Counters {
    Counters::parse("", &format!("TcpExt: {name}\nTcpExt: {value}\n"))
}

/// It grew by so many in a second.
fn grew(host: &mut Host, name: &str, by: u64) {
    let counted = Counted { now: counters(name, 1000 + by), before: Some((counters(name, 1000), S)) };
    host.around.counters.insert(NETNS, counted);
}

fn flood(count: u8, sources: u8) -> Vec<Sight> {
    let requests =
        (0..count).map(|number| request(100 + u64::from(number), 10 + number % sources, 4, 15_000));
    requests.chain([listener(1, 80, 0, 128)]).collect()
}

#[test]
fn half_open_requests_have_one_cause() {
    let finding = Host::of(flood(16, 16)).one();
    assert_eq!((finding.name, finding.count), ("syn-flood", 16));
    // A timer of 15 s of 16: 1 + 2 + 4 + 8 + 1 s at least.
    assert_eq!(finding.age.unwrap().ns, 16 * S);
    let few = Host::of(flood(15, 15)).judged();
    assert!(
        few.findings.len() == 15 && few.findings.iter().all(|finding| finding.name == "syn-ack-unanswered")
    );
    // The same clients again and again: nine of ten would be a flood.
    let same = Host::of(flood(20, 17)).judged();
    assert!(same.findings.iter().all(|finding| finding.name == "syn-ack-unanswered"), "{same:#?}");
    // Below the limit nothing is said of them.
    let young = flood(40, 40).into_iter().map(|mut sight| {
        if let Some(timer) = &mut sight.timer {
            timer.retransmits = 2;
        }
        sight
    });
    Host::of(young).none();
}

#[test]
fn a_full_accept_queue_explains_its_half_open_requests() {
    let mut sights = flood(20, 20);
    sights.pop();
    sights.push(listener(1, 80, 5, 4));
    let mut host = Host::of(sights).held(1, 42, "app");
    let diagnosis = host.judged();
    assert_eq!(diagnosis.unexplained, 0);
    let [finding] = &diagnosis.findings[..] else { panic!("{diagnosis:#?}") };
    assert_eq!((finding.name, finding.count, never(finding)), ("accept-queue-full", 25, true));
    assert_eq!(
        finding.verdict,
        "5 connections wait in an accept queue for 4: app/42 does not accept(), and 20 more handshakes cannot be completed"
    );
}

/// Full is one more than the backlog, and not only for a moment.
#[test]
fn a_queue_is_full_when_it_stays_full() {
    Host::of([listener(1, 80, 4, 4)]).none();
    let mut host = Host::of([listener(1, 80, 5, 4)]);
    assert!(host.judged().findings.is_empty(), "the first look");
    host.now_ns += 2 * S;
    grew(&mut host, "ListenOverflows", 3);
    let finding = host.clone().one();
    assert_eq!((finding.name, finding.age.unwrap().ns), ("accept-queue-full", 2 * S));
    assert!(
        finding
            .evidence
            .iter()
            .any(|evidence| evidence.fact.starts_with("ListenOverflows grew by 3 in 1.00 s"))
    );
    // Drained in between: it begins anew.
    host.sights[0].0.receive_queue = 0;
    host.judged();
    host.sights[0].0.receive_queue = 5;
    host.now_ns += 2 * S;
    assert!(host.judged().findings.is_empty());
    let mut one = Host::of([listener(1, 80, 1, 0)]);
    one.judged();
    one.now_ns += S;
    assert!(one.one().verdict.starts_with("1 connection waits in an accept queue for 0"));
}

#[test]
fn cookies_tell_of_a_flood_that_leaves_no_requests() {
    let host = |cookies| {
        let mut host = Host::of([listener(1, 80, 0, 128)]);
        grew(&mut host, "SyncookiesSent", cookies);
        host
    };
    host(63).none();
    let finding = host(64).one();
    assert_eq!((finding.name, finding.count, finding.subject.ends.lport), ("syn-flood", 64, 80));
    // Clients that come all at once answer them.
    let mut burst = host(0);
    let counted = |sent, received| {
        Counters::parse("", &format!("TcpExt: SyncookiesSent SyncookiesRecv\nTcpExt: {sent} {received}\n"))
    };
    let counted = Counted { now: counted(400, 320), before: Some((counted(0, 0), S)) };
    burst.around.counters.insert(NETNS, counted);
    burst.none();
    let mut none = Host::of([]);
    grew(&mut none, "SyncookiesSent", 50);
    none.none();
}

#[test]
fn time_wait_is_counted_against_the_buckets() {
    let host = |time_wait: u64, fin_wait2: u64| {
        let sights = (1..=time_wait).map(|cookie| minisocket(cookie, S_::TimeWait, 30_000));
        let waiting = (1..=fin_wait2).map(|cookie| minisocket(1000 + cookie, S_::FinWait2, 59_000));
        Host::of(sights.chain(waiting)).set(|all| all.max_tw_buckets = Some(20))
    };
    host(17, 0).none();
    let finding = host(17, 1).one();
    assert_eq!(
        finding.verdict,
        "18 of 20 timewait buckets are used: soon connections will end without TIME_WAIT"
    );
    assert!(finding.evidence[0].fact.contains("17 in TIME_WAIT, 1 orphan in FIN_WAIT2"));
    assert!(host(20, 0).one().verdict.contains("further connections end without TIME_WAIT"));
    let mut overflows = host(3, 0);
    grew(&mut overflows, "TCPTimeWaitOverflow", 4);
    assert!(overflows.one().verdict.contains("further connections"));
    host(30, 0).set(|all| all.max_tw_buckets = None).none();
    host(30, 0).set(|all| all.max_tw_buckets = Some(0)).none();
}

#[test]
fn ports_are_counted_toward_one_destination() {
    // Ten ports, of which `used` by connections in TIME_WAIT and `open` by others.
    let host = |used: u16, open: u16| {
        let at = |cookie: u16, state| {
            let socket = if state == S_::TimeWait {
                minisocket(cookie.into(), state, 30_000)
            } else {
                sight(cookie.into(), state)
            };
            Sight { ends: Ends { lport: 40_000 + cookie, ..socket.ends }, ..socket }
        };
        let waiting = (0..used).map(|number| at(number, S_::TimeWait));
        let others = (used..used + open).map(|number| at(number, S_::Established));
        Host::of(waiting.chain(others)).set(|all| all.ports = Some((40_000, 40_009)))
    };
    host(7, 0).none();
    let tight = host(8, 0).one();
    assert_eq!((tight.name, tight.count), ("time-wait-pressure", 8));
    assert!(
        tight
            .verdict
            .starts_with("8 of 10 local ports toward 10.0.0.9:10000 are used, 8 of them in TIME_WAIT")
    );
    assert!(tight.evidence[0].fact.starts_with("2 ports left from 10.0.0.1"));
    assert!(host(5, 4).one().evidence[0].fact.starts_with("1 port left"));
    host(4, 5).none(); // used, but not by TIME_WAIT
    assert!(host(10, 0).one().verdict.contains("EADDRNOTAVAIL"));
    host(10, 0).set(|all| all.ports = None).none();
    // Taken over from TIME_WAIT, as long as there is one left.
    host(9, 0).set(|all| all.tw_reuse = Some(1)).none();
    host(10, 0).set(|all| all.tw_reuse = Some(1)).one();
    host(9, 0).set(|all| (all.tw_reuse, all.timestamps) = (Some(1), Some(0))).one();
    // Not where connect() picks from: the server's side of the same connections.
    host(10, 0).set(|all| all.ports = Some((50_000, 50_009))).none();
}

#[test]
fn orphans_are_counted_against_their_limit() {
    let host = |orphans, max_orphans| {
        let mut host = Host::of([orphan(sight(1, S_::FinWait1))]);
        host.around.machine = Machine {
            sockstat: Sockstat { orphans, ..Sockstat::default() },
            settings: Settings { max_orphans, ..Settings::default() },
        };
        host
    };
    host(Some(49), Some(100)).none();
    let finding = host(Some(50), Some(100)).one();
    assert_eq!((finding.name, finding.count), ("orphan-pressure", 50));
    for (orphans, limit) in [(None, Some(100)), (Some(50), None), (Some(50), Some(0))] {
        host(orphans, limit).none();
    }
}

/// The other end on this host, if it is the only one with these addresses.
#[test]
fn the_other_end_is_named_where_there_is_one() {
    let ours = minisocket(1, S_::FinWait2, 30_000);
    let theirs =
        |netns| Sight { netns, ends: ours.ends.turned_round(), ..sight(u64::from(netns), S_::CloseWait) };
    let named = |others: &[u32]| {
        let mut host = Host::of([ours]).held(2, 42, "app");
        host.sights.extend(others.iter().map(|netns| (theirs(*netns), told(exactly(S)))));
        host.one().verdict
    };
    assert_eq!(
        named(&[2]),
        "the other end is on this host: app/42 (descriptor 7) has it in CLOSE_WAIT and does not close it"
    );
    assert!(named(&[3]).starts_with("the other end is on this host, in CLOSE_WAIT"));
    assert!(named(&[2, 3]).starts_with("10.0.0.9 has acknowledged"), "two namespaces use the same addresses");
    assert!(named(&[]).starts_with("10.0.0.9 has acknowledged"));
}

#[test]
fn who_does_not_read_is_named_where_it_is_known() {
    let ours = orphan(stalled(1, S_::FinWait1, T::Probe, 7, 700));
    let theirs = |netns| Sight {
        netns,
        ends: ours.ends.turned_round(),
        receive_queue: 1536,
        ..sight(u64::from(netns), S_::Established)
    };
    let facts = |others: &[u32]| {
        let mut host = Host::of([ours]).held(2, 42, "app");
        host.sights.extend(others.iter().map(|netns| (theirs(*netns), told(None))));
        let evidence = host.one().evidence;
        evidence
            .into_iter()
            .map(|evidence| evidence.fact)
            .filter(|fact| fact.contains("on this host"))
            .collect::<Vec<_>>()
    };
    assert_eq!(facts(&[2]), ["the other end is on this host: app/42 has 1.5 KiB unread"]);
    assert_eq!(facts(&[3]), ["the other end is on this host and has 1.5 KiB unread"]);
    assert!(facts(&[2, 3]).is_empty());
    // The kernel may list a socket twice.
    assert_eq!(facts(&[2, 2]).len(), 1);
}

#[test]
fn what_is_alike_is_one_group() {
    let mut sights: Vec<_> =
        (1..=3).map(|cookie| orphan(stalled(cookie, S_::FinWait1, T::Retransmit, 4, 1))).collect();
    sights[2].timer.as_mut().unwrap().expires_ms -= 1000;
    sights.push(orphan(Sight { ends: Ends { remote: v4(8), ..sights[0].ends }, ..sights[0] }));
    sights[3].cookie = 4;
    let mut findings = Host::of(sights).judged().findings;
    findings[0].subject.owner = None;
    let groups = group(findings);
    assert_eq!(groups.iter().map(|group| group.count).collect::<Vec<_>>(), [3, 1]);
    let (soonest, latest) = groups[0].deadline_ns.unwrap();
    assert_eq!((soonest, groups[0].peers()), ((511 * 204 - (15 * 204 + 100) - 1000) * MS, 1));
    assert!(latest > soonest);
}

/// Those without an end are apart, and one whose end is not known leaves the group without one.
#[test]
fn groups_have_an_end_only_if_all_have() {
    let known = orphan(stalled(1, S_::FinWait1, T::Retransmit, 4, 1));
    let unknown = Sight { cookie: 2, info: None, ..known };
    let groups = group(Host::of([known, unknown]).judged().findings);
    assert_eq!((groups.len(), groups[0].count, groups[0].deadline_ns), (1, 2, None));
}

#[test]
fn growth_takes_two_looks() {
    let leaks = |count: u64| (1..=count).map(|cookie| (sight(cookie, S_::CloseWait), told(exactly(400 * S))));
    let mut host = Host::of([]);
    for cookie in 1..=9 {
        host = host.held(cookie, 42, "app");
    }
    let says = |finding: &Finding| {
        finding
            .evidence
            .iter()
            .find(|evidence| evidence.fact.contains("this process"))
            .map(|evidence| evidence.fact.clone())
    };
    host.sights = leaks(3).collect();
    let first = host.judged();
    assert_eq!(says(&first.findings[0]), None);
    assert!(first.findings[0].missing.iter().any(|missing| missing.contains("two looks")));
    for (count, fact) in [
        (3, "3 of this process on this port, as many as 2.00 s ago"),
        (5, "5 of this process on this port, 2 more than 4.00 s ago"),
        (1, "1 of this process on this port, 2 fewer than 6.00 s ago"),
    ] {
        host.sights = leaks(count).collect();
        host.now_ns += 2 * S;
        assert_eq!(says(&host.judged().findings[0]).as_deref(), Some(fact));
    }
}
