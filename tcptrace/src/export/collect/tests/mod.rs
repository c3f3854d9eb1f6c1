//! What goes in is counted, by group and within bounds, and no counter goes back.

mod anything;
mod made;

use super::{groups::IDLE_NS, *};
use crate::{
    diagnose::{Confidence, Deadline, Finding, Subject},
    event::{Direction, Reason, Segment},
    flow::{FlowId, Known, Role, Span, cause::Cause},
    hist::Dwell,
    run::report::Broken,
    sight::Kind,
};
use made::*;
use tcptrace_common::state::TcpState::{
    Close, CloseWait, Established, FinWait2, NewSynRecv, SynRecv, TimeWait,
};

#[test]
fn what_happens_is_counted() {
    let mut counted = Counted::by(&[], 50);
    let flow = || who(9, "curl");
    counted.take([
        resend(1, flow(), Segment::Data, Reason::Rto, 2, 0),
        resend(2, flow(), Segment::Data, Reason::Rto, 1, 0),
        resend(3, flow(), Segment::Fin, Reason::Unknown, 1, -101),
        reset(4, flow(), Direction::Sent, Some("tcp-abort-on-close")),
        reset(5, flow(), Direction::Received, None),
        close(6, flow(), CloseWait, Cause::Orderly, None),
    ]);
    let snapshot = counted.at(SECOND_NS);
    assert_eq!(some(&snapshot, &RETRANSMITS), pairs(&[("data rto", 3.0)]));
    assert_eq!(values(&snapshot, &RETRANSMITS).len(), 20, "the others are 0, not missing");
    assert_eq!(values(&snapshot, &FAILED_SENDS), pairs(&[("", 1.0)]));
    let resets = pairs(&[("received unknown", 1.0), ("sent tcp-abort-on-close", 1.0)]);
    assert_eq!(some(&snapshot, &RESETS), resets);
    assert_eq!(values(&snapshot, &RESETS).len(), 3, "a series that was there stays");
    assert_eq!(some(&snapshot, &CLOSES), pairs(&[("orderly", 1.0)]));
    assert_eq!(values(&snapshot, &CLOSES).len(), Cause::ALL.len());
    assert!(values(&snapshot, &GROUPS_OTHER).is_empty(), "there are no groups");
    assert_eq!(values(&snapshot, &LOST).len(), 9);
    assert!(snapshot.at_unix_ns > snapshot.began_unix_ns);
}

/// The kernel's matrix is the one that counts; both kinds of SYN_RECV are one, and a change to the same state is none.
#[test]
fn transitions_are_the_kernels_own() {
    let mut counted = Counted::by(&[], 50);
    let at = |state: TcpState| usize::from(state.number());
    counted.counters.matrix[at(SynRecv)][at(Established)] = 3;
    counted.counters.matrix[at(NewSynRecv)][at(Established)] = 4;
    counted.counters.matrix[at(Close)][at(Close)] = 5;
    counted.counters.matrix[at(NewSynRecv)][at(SynRecv)] = 6;
    let snapshot = counted.at(SECOND_NS);
    assert_eq!(values(&snapshot, &TRANSITIONS), pairs(&[("SYN_RECV ESTABLISHED", 7.0)]));
}

fn dwell(snapshot: &Snapshot, state: &str) -> Option<Dwell> {
    let (_, samples) = snapshot.families.iter().find(|(family, _)| std::ptr::eq(*family, &DWELL))?;
    let sample = samples.iter().find(|sample| sample.labels[0].1 == state)?;
    let Value::Times(dwell) = &sample.value else { panic!("{sample:?}") };
    Some(Dwell::clone(dwell))
}

#[test]
fn times_are_those_whose_beginning_was_seen() {
    let mut counted = Counted::by(&[], 50);
    let flow = || who(9, "curl");
    let older = |old, ns| {
        let mut entry = moves(1, flow(), old, Close, Some(ns), Known::Event);
        if let What::Transition { in_state: Some(span), .. } = &mut entry.what {
            *span = Span { ns, exact: false };
        }
        entry
    };
    counted.take([
        moves(1, flow(), Established, CloseWait, Some(5), Known::Event),
        moves(1, flow(), Established, Established, Some(7), Known::Event),
        moves(1, flow(), CloseWait, Close, None, Known::Event),
        older(CloseWait, 9),
        moves(1, flow(), TimeWait, Close, Some(60 * SECOND_NS), Known::Timer),
        moves(1, flow(), NewSynRecv, Close, Some(11), Known::Seen),
    ]);
    let snapshot = counted.at(SECOND_NS);
    let expected = pairs(&[("SYN_RECV", 1.0), ("ESTABLISHED", 1.0), ("TIME_WAIT", 1.0)]);
    assert_eq!(values(&snapshot, &DWELL), expected);
    assert_eq!(dwell(&snapshot, "TIME_WAIT").unwrap().sum_ns(), 60 * SECOND_NS);
}

/// The state goes on in a minisocket: its time is one time.
#[test]
fn an_orphans_fin_wait2_is_one_time() {
    let mut counted = Counted::by(&[], 50);
    let flow = || who(9, "curl");
    counted.take([
        moves(1, flow(), FinWait2, Close, Some(3), Known::Event),
        close(1, flow(), FinWait2, Cause::FinWait2Minisocket, Some(FinWait2)),
        moves(1, flow(), FinWait2, FinWait2, None, Known::Rule),
    ]);
    assert!(dwell(&counted.at(SECOND_NS), "FIN_WAIT2").is_none(), "it goes on");
    counted.take([moves(50, flow(), FinWait2, TimeWait, Some(40), Known::Seen)]);
    let first = dwell(&counted.at(2 * SECOND_NS), "FIN_WAIT2").unwrap();
    // Another, that ended in TIME_WAIT at once.
    counted.take([
        moves(60, flow(), FinWait2, Close, Some(5), Known::Event),
        close(60, flow(), FinWait2, Cause::Orderly, Some(TimeWait)),
        moves(60, flow(), FinWait2, TimeWait, None, Known::Rule),
    ]);
    let both = dwell(&counted.at(3 * SECOND_NS), "FIN_WAIT2").unwrap();
    assert_eq!((first.count(), first.sum_ns()), (1, 43));
    assert_eq!((both.count(), both.sum_ns()), (2, 48));
}

/// Of a change to the same state nothing is forgotten.
#[test]
fn the_beginning_of_the_minisocket_is_not_its_end() {
    let mut counted = Counted::by(&[], 50);
    let flow = || who(9, "curl");
    counted.take([
        moves(1, flow(), FinWait2, Close, Some(3), Known::Event),
        close(1, flow(), FinWait2, Cause::FinWait2Minisocket, Some(FinWait2)),
        moves(1, flow(), FinWait2, FinWait2, None, Known::Rule),
        moves(50, flow(), FinWait2, Close, Some(40), Known::Timer),
    ]);
    assert_eq!(dwell(&counted.at(SECOND_NS), "FIN_WAIT2").unwrap().sum_ns(), 43);
}

fn finding(name: &'static str, count: u64, age_ns: Option<u64>) -> Finding {
    Finding {
        name,
        subject: Subject {
            id: FlowId::None,
            netns: 7,
            ends: ends(9, 443),
            role: Role::Active,
            state: CloseWait,
            kind: Kind::Full,
            owner: None,
            fd: None,
            closed_by: None,
            cgroup: None,
        },
        count,
        age: age_ns.map(|ns| Span { ns, exact: false }),
        age_from: "test",
        verdict: String::new(),
        evidence: Vec::new(),
        missing: Vec::new(),
        confidence: Confidence::Certain,
        settings: Vec::new(),
        deadline: Deadline::Never("test"),
        next_step: String::new(),
    }
}

#[test]
fn findings_are_of_the_last_look() {
    let mut counted = Counted::by(&[], 50);
    assert!(values(&counted.at(SECOND_NS), &STUCK).is_empty(), "nobody has looked");
    let findings = vec![
        finding("close-wait-leak", 3, Some(90 * SECOND_NS)),
        finding("close-wait-leak", 1, None),
        finding("close-wait-leak", 1, Some(95 * SECOND_NS)),
        finding("half-told", 1, None),
    ];
    counted.collector.diagnosed(&Diagnosis { findings, unexplained: 2, ..Diagnosis::default() });
    let snapshot = counted.at(2 * SECOND_NS);
    let expected = pairs(&[("close-wait-leak", 5.0), ("half-told", 1.0)]);
    assert_eq!(some(&snapshot, &STUCK), expected);
    assert_eq!(values(&snapshot, &STUCK_AGE), pairs(&[("close-wait-leak", 95.0)]));
    assert_eq!(values(&snapshot, &UNEXPLAINED), pairs(&[("", 2.0)]));
    counted.collector.diagnosed(&Diagnosis::default());
    let snapshot = counted.at(3 * SECOND_NS);
    assert_eq!((some(&snapshot, &STUCK), values(&snapshot, &STUCK_AGE)), (vec![], vec![]));
    assert_eq!(values(&snapshot, &STUCK).len(), RULES.len());
}

#[test]
fn looks_are_counted_by_what_they_were_for() {
    let mut counted = Counted::by(&[], 50);
    assert!(values(&counted.at(SECOND_NS), &LAST_RESYNC).is_empty());
    for why in [Why::Start, Why::Timer, Why::Timer] {
        let (broken, reconciled) = (Broken::default(), Default::default());
        let resync = Resync { why, duration_ns: 1, namespaces: 1, unread: 4, broken, reconciled };
        counted.collector.looks.looked(SECOND_NS, &resync);
    }
    let snapshot = counted.at(SECOND_NS);
    assert_eq!(some(&snapshot, &RESYNCS), pairs(&[("start", 1.0), ("timer", 2.0)]));
    assert_eq!(values(&snapshot, &UNREAD), pairs(&[("", 4.0)]));
    assert_eq!(values(&snapshot, &LAST_RESYNC)[0].1, snapshot.at_unix_ns as f64 / 1e9);
}

#[test]
fn sockets_are_those_that_are_there() {
    let mut counted = Counted::by(&[Label::Peer], 2);
    (1..=3).for_each(|peer| connects(&mut counted.ledger, peer));
    let mut second = 9;
    for cookie in [100, 101, 102] {
        // Three more to the third peer: it is the largest.
        second += 1;
        begins(&mut counted.ledger, head(second, cookie, ends(3, 443)));
    }
    let snapshot = counted.at(SECOND_NS);
    let mut sockets = some(&snapshot, &SOCKETS);
    sockets.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(sockets.len(), 3, "{sockets:?}");
    assert!(sockets.contains(&("SYN_SENT 10.0.0.3".into(), 4.0)), "{sockets:?}");
    assert!(sockets.contains(&("SYN_SENT other".into(), 1.0)), "{sockets:?}");
    assert_eq!(values(&snapshot, &FLOWS), pairs(&[("", 6.0)]));
}

/// As many peers as there are: memory and series are bounded, and everything is counted once.
#[test]
fn a_hundred_thousand_peers_are_bounded() {
    const PEERS: u32 = 100_000;
    const MOST: usize = 50;
    let mut counted = Counted::by(&[Label::Peer, Label::Process], MOST);
    for peer in 0..PEERS {
        let comm = format!("c{peer}");
        counted.take([
            moves(2, who(peer, &comm), Established, CloseWait, Some(u64::from(peer) * 1000), Known::Event),
            close(2, who(peer, &comm), CloseWait, Cause::Orderly, None),
            reset(2, who(peer, &comm), Direction::Sent, None),
        ]);
    }
    let snapshot = counted.at(SECOND_NS);
    for family in [&CLOSES, &RESETS, &DWELL] {
        let values = values(&snapshot, family);
        assert_eq!(values.len(), MOST + 1, "{}", family.name);
        assert_eq!(values.iter().map(|(_, value)| value).sum::<f64>(), f64::from(PEERS), "{}", family.name);
    }
    let other = f64::from(PEERS - MOST as u32);
    assert!(values(&snapshot, &CLOSES).contains(&("orderly other other".into(), other)));
    assert_eq!(values(&snapshot, &GROUPS_OTHER), pairs(&[("", 3.0 * other)]));
}

/// More peers than are compared: the largest is kept all the same, and every socket is counted once.
#[test]
fn a_census_of_as_many_peers_is_bounded() {
    const PEERS: u32 = 100_000;
    let mut counted = Counted::by(&[Label::Peer], 5);
    (1..=PEERS).for_each(|peer| connects(&mut counted.ledger, peer));
    let snapshot = counted.at(SECOND_NS);
    let sockets = some(&snapshot, &SOCKETS);
    assert_eq!(sockets.len(), 6, "{sockets:?}");
    assert_eq!(sockets.iter().map(|(_, count)| count).sum::<f64>(), f64::from(PEERS));
}

#[test]
fn an_idle_group_makes_room_only_for_another() {
    let mut counted = Counted::by(&[Label::Peer], 1);
    let closes = |peer, time_ns| close(time_ns, who(peer, "curl"), CloseWait, Cause::Orderly, None);
    counted.take([closes(1, 5)]);
    let one = pairs(&[("orderly 10.0.0.1", 1.0)]);
    assert_eq!(values(&counted.at(5 * IDLE_NS), &CLOSES), one, "nobody wants its place");
    counted.take([closes(1, 5 * IDLE_NS), closes(2, 5 * IDLE_NS)]);
    counted.at(5 * IDLE_NS + 1);
    counted.take([closes(2, 5 * IDLE_NS + 2)]);
    let both = pairs(&[("orderly other", 2.0), ("orderly 10.0.0.1", 2.0)]);
    assert_eq!(values(&counted.at(5 * IDLE_NS + 3), &CLOSES), both, "it is not idle");
    counted.take([closes(2, 7 * IDLE_NS)]);
    counted.at(7 * IDLE_NS);
    counted.take([closes(2, 7 * IDLE_NS + 1)]);
    let snapshot = counted.at(7 * IDLE_NS + 2);
    let new = pairs(&[("orderly other", 3.0), ("orderly 10.0.0.2", 1.0)]);
    assert_eq!(values(&snapshot, &CLOSES), new, "its series ended, and `other` has not grown by them");
    let (_, samples) = snapshot.families.iter().find(|(family, _)| std::ptr::eq(*family, &CLOSES)).unwrap();
    let began: Vec<_> = samples.iter().map(|sample| sample.began_unix_ns).collect();
    assert!(began[0].is_none() && began[1] > Some(snapshot.began_unix_ns), "{began:?}");
}

/// Who reads a snapshot keeps it as it was.
#[test]
fn a_snapshot_does_not_change_any_more() {
    let mut counted = Counted::by(&[], 50);
    counted.take([moves(1, who(9, "curl"), Established, CloseWait, Some(5), Known::Event)]);
    let before = counted.at(SECOND_NS);
    counted.take([moves(1, who(9, "curl"), Established, CloseWait, Some(5), Known::Event)]);
    let after = counted.at(2 * SECOND_NS);
    let count = |snapshot| dwell(snapshot, "ESTABLISHED").unwrap().count();
    assert_eq!((count(&before), count(&after)), (1, 2));
}
