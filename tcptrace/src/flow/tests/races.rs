//! Dumps and events that cross each other, and minisockets that go without an event: found by random programs beside
//! `ss` (tests/differential).

use super::{
    dumps::{S1, answer, at, closed_flow, sight, told},
    *,
};

/// Not two flows with one cookie, the socket and what came after it.
#[test]
fn a_minisocket_takes_the_place_of_a_socket_whose_close_was_lost() {
    for by_question in [false, true] {
        let mut ledger = ledger();
        fold(&mut ledger, active_life().into_iter().take(3));
        let (seen, mut out) = (sight(1, S::TimeWait), Vec::new());
        ledger.begin_round();
        if by_question {
            let questions = ledger.unseen(|_| true, 10 * S1);
            ledger.answer(&questions[0], Some(&seen), at(10 * S1), &mut out);
        } else {
            ledger.sight(&seen, at(10 * S1), None, &mut out);
        }
        let inferred = [(S::FinWait1, S::Close, Known::Seen), (S::FinWait1, S::TimeWait, Known::Seen)];
        assert_eq!(told(&out), inferred);
        assert_eq!(closes(&out), [(Cause::Orderly, Some(S::TimeWait))]);
        // Of its 60 s 59 are left.
        assert_eq!(out.last().map(|entry| entry.time_ns), Some(9 * S1 + MS));
        assert_eq!((ledger.open_flows(), ledger.minisockets()), (0, 1));
        assert_eq!((ledger.reconciled().corrected, ledger.totals().sights), (1, 0));
        assert!(ledger.unseen(|_| true, 20 * S1).is_empty());
    }
    // An event that is younger than the sight is believed.
    let mut ledger = ledger();
    fold(&mut ledger, active_life().into_iter().take(3));
    ledger.sight(&sight(1, S::TimeWait), at(50 * MS), None, &mut Vec::new());
    assert_eq!((ledger.open_flows(), ledger.minisockets()), (1, 0));
}

/// What an RST or a SYN of the other end did to a minisocket is not waited for until its timer is due.
#[test]
fn a_minisocket_is_asked_for_when_the_other_end_sends_what_may_remove_it() {
    let turned = |event: Event| match event {
        Event::Reset(mut reset) => {
            reset.head.ends = reset.head.ends.turned_round();
            Event::Reset(reset)
        }
        Event::Transition(mut change) => {
            change.head.ends = change.head.ends.turned_round();
            Event::Transition(change)
        }
        other => other,
    };
    let own = |time| Event::Transition(change(CLIENT, 9, time, S::Close, S::SynSent));
    let syn = |time| turned(Event::Transition(change(SERVER, 8, time, S::Close, S::SynSent)));
    let rst = |time| turned(reset(SERVER, 2, time, Direction::Sent, S::CloseWait, false));
    let events: [&dyn Fn(u64) -> Event; 3] = [&own, &syn, &rst];
    for event in events {
        let mut ledger = ledger();
        closed_flow(&mut ledger);
        answer(&mut ledger, 100 * MS, Some(&sight(1, S::TimeWait)));
        assert_eq!(answer(&mut ledger, S1, None).0, 0);
        fold(&mut ledger, [event(2 * S1)]);
        let (asked, out) = answer(&mut ledger, 2 * S1 + 10 * MS, None);
        assert_eq!((asked, told(&out)), (1, vec![(S::TimeWait, S::Close, Known::Seen)]));
    }
}

/// The port that connect() picked is not known before the next event: a dump tells whose it was.
#[test]
fn a_port_that_a_dump_tells_of_ends_the_minisocket_that_had_it() {
    let mut ledger = ledger();
    closed_flow(&mut ledger);
    answer(&mut ledger, 100 * MS, Some(&sight(1, S::TimeWait)));
    let mut open = change(CLIENT, 9, 2 * S1, S::Close, S::SynSent);
    open.head.ends.lport = 0;
    fold(&mut ledger, [Event::Transition(open)]);
    let mut out = Vec::new();
    ledger.begin_round();
    ledger.sight(&sight(9, S::SynSent), at(3 * S1), None, &mut out);
    assert_eq!(told(&out), [(S::TimeWait, S::Close, Known::Reuse)]);
}

/// Events are folded up to the moment a batch arrives, which is later than what it shows.
#[test]
fn a_batch_that_is_older_than_the_end_of_a_socket_does_not_bring_it_back() {
    let mut ledger = ledger();
    let (mut out, mini) = (Vec::new(), sight(1, S::TimeWait));
    ledger.begin_round();
    closed_flow(&mut ledger);
    ledger.sight(&sight(1, S::FinWait2), at(52 * MS), None, &mut out);
    assert_eq!((out.len(), ledger.open_flows(), ledger.minisockets()), (0, 0, 1));
    let aborted = [
        Event::Transition(change(SERVER, 2, 60 * MS, S::Established, S::Close)),
        Event::Transition(change(CLIENT, 9, 150 * MS, S::SynSent, S::Established)),
    ];
    fold(&mut ledger, aborted);
    ledger.tick(200 * MS, &mut out);
    out.clear();
    for old in [sight(2, S::Established), mini] {
        ledger.sight(&old, at(55 * MS), None, &mut out);
    }
    assert_eq!((out.len(), ledger.open_flows(), ledger.minisockets()), (0, 1, 0));
    // The next dump is another matter.
    ledger.end_round();
    ledger.begin_round();
    ledger.sight(&sight(2, S::Listen), at(S1), None, &mut out);
    assert_eq!(out.len(), 1);
}

/// The program for resets may be attached before the one for state changes.
#[test]
fn a_flow_known_by_an_event_before_the_dump_is_asked_for() {
    let mut ledger = ledger();
    ledger.begin_round();
    fold(&mut ledger, [reset(CLIENT, 1, 10 * MS, Direction::Received, S::Established, false)]);
    assert_eq!((ledger.open_flows(), ledger.unseen(|_| true, 20 * MS).len()), (1, 1));
}

/// The kernel copies the cookie before the event that makes us ask for it.
#[test]
fn a_socket_that_ends_as_its_first_event_leaves_a_minisocket_with_another_cookie() {
    let last = || Event::Transition(change(CLIENT, 1, 53 * MS, S::FinWait2, S::Close));
    let one_of_cookie_7 = |ledger: &mut Ledger| {
        let mut flows = Vec::new();
        ledger.states(S1, |entry| flows.push(entry.who.id));
        assert_eq!((flows, ledger.totals().unmade), (vec![FlowId::Cookie(7)], 0));
    };
    for dump_first in [false, true] {
        let mut ledger = ledger();
        let mut out = fold(&mut ledger, [last()]);
        if dump_first {
            ledger.sight(&sight(7, S::TimeWait), at(52 * MS), None, &mut out);
        }
        ledger.tick(100 * MS, &mut out);
        assert_eq!(closes(&out), [(Cause::Orderly, Some(S::TimeWait))]);
        let mut questions = Vec::new();
        ledger.questions(100 * MS, 100, &mut questions);
        assert_eq!(questions[0].cookie, if dump_first { 7 } else { 0 });
        ledger.answer(&questions[0], Some(&sight(7, S::TimeWait)), at(101 * MS), &mut out);
        one_of_cookie_7(&mut ledger);
        ledger.sight(&sight(7, S::TimeWait), at(200 * MS), None, &mut out);
        one_of_cookie_7(&mut ledger);
    }
}

/// sock_diag makes a request's cookie while its child, which was made from it just before, gets another: one connection.
#[test]
fn a_request_that_a_dump_showed_under_a_cookie_of_its_own_is_its_childs() {
    let born = |time| Event::Transition(change(SERVER, 5, time, S::Listen, S::SynRecv));
    for child_first in [true, false] {
        let mut ledger = ledger();
        let mut out = Vec::new();
        ledger.begin_round();
        if child_first {
            out.extend(fold(&mut ledger, [born(S1 + MS)]));
        }
        ledger.sight(&sight(4, S::NewSynRecv), at(S1), None, &mut out);
        ledger.end_round();
        if !child_first {
            out.extend(fold(&mut ledger, [born(S1 + MS)]));
        }
        assert_eq!(ledger.open_flows(), 1, "child first: {child_first}");
        let (asked, later) = answer(&mut ledger, 9 * S1, None);
        assert_eq!((asked, told(&later).len()), (0, 0));
        assert_eq!(u64::from(!child_first), ledger.totals().sights);
    }
    // Much later the same ends are another connection's.
    let mut ledger = ledger();
    ledger.begin_round();
    ledger.sight(&sight(4, S::NewSynRecv), at(S1), None, &mut Vec::new());
    fold(&mut ledger, [born(2 * S1)]);
    let (_, out) = answer(&mut ledger, 9 * S1, None);
    assert_eq!(closes(&out), [(Cause::HalfOpenGone, None)]);
}
