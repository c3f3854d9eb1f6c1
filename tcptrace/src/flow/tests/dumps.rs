//! What dumps and answers make of the ledger: minisockets, half-open requests, sockets older than the trace, losses.

use super::*;
use crate::sight::{Kind, Sight, Taken, TcpInfo, Timer, TimerKind};

pub(super) const S1: u64 = 1_000 * MS;

pub(super) fn sight(cookie: u64, state: S) -> Sight {
    let ends = head(0, cookie, 0).ends;
    let (kind, timer) = match state {
        S::TimeWait => (Kind::Minisocket, Some((TimerKind::TimeWait, 59_000))),
        S::NewSynRecv => (Kind::Request, Some((TimerKind::Retransmit, 900))),
        _ => (Kind::Full, None),
    };
    let timer = timer.map(|(kind, expires_ms)| Timer { kind, expires_ms, retransmits: 0 });
    Sight {
        cookie,
        netns: 5,
        kind,
        state,
        ends,
        uid: 0,
        inode: 77,
        receive_queue: 0,
        send_queue: 0,
        timer,
        shutdown: None,
        cgroup: None,
        memory: None,
        info: None,
    }
}

pub(super) fn at(ns: u64) -> Taken {
    Taken { from_ns: ns, to_ns: ns + MS }
}

/// Asks all questions of this moment, and answers each the same.
pub(super) fn answer(ledger: &mut Ledger, now_ns: u64, sight: Option<&Sight>) -> (usize, Vec<Entry>) {
    let (mut questions, mut out) = (Vec::new(), Vec::new());
    ledger.questions(now_ns, 100, &mut questions);
    for question in &questions {
        ledger.answer(question, sight, at(now_ns), &mut out);
    }
    (questions.len(), out)
}

pub(super) fn told(entries: &[Entry]) -> Vec<(S, S, Known)> {
    let transition = |entry: &Entry| match entry.what {
        What::Transition { old, new, known, .. } if known != Known::Event => Some((old, new, known)),
        _ => None,
    };
    entries.iter().filter_map(transition).collect()
}

pub(super) fn closed_flow(ledger: &mut Ledger) -> Vec<Entry> {
    let mut out = fold(ledger, active_life());
    ledger.tick(100 * MS, &mut out);
    out
}

/// The client's end of a connection whose program is gone, waiting for the peer's FIN.
fn orphan(ledger: &mut Ledger) {
    let mut events = active_life();
    if let Some(Event::Transition(close)) = events.last_mut() {
        close.bits = Some(Bits { dead: true, done: false, has_socket: false });
    }
    let mut out = fold(ledger, events);
    ledger.tick(100 * MS, &mut out);
    assert_eq!(closes(&out), [(Cause::FinWait2Minisocket, Some(S::FinWait2))]);
    let mini = Sight { kind: Kind::Minisocket, ..sight(1, S::FinWait2) };
    let (_, out) = answer(ledger, 100 * MS, Some(&mini));
    assert_eq!(
        told(&out),
        [(S::FinWait2, S::FinWait2, Known::Seen)],
        "who follows the changes knows that it goes on"
    );
}

#[test]
fn time_wait_begins_and_ends_as_the_kernel_says() {
    let mut ledger = ledger();
    assert!(told(&closed_flow(&mut ledger)).is_empty(), "nothing is told before the kernel was asked");
    let (asked, out) = answer(&mut ledger, 100 * MS, Some(&sight(1, S::TimeWait)));
    assert_eq!((asked, told(&out)), (1, vec![(S::FinWait2, S::TimeWait, Known::Seen)]));
    assert_eq!(out[0].time_ns, 53 * MS, "it began with the close");
    assert_eq!(out[0].who.owner.as_ref().map(|owner| owner.process.pid), Some(42), "whose it was is kept");
    // Not before its time; then again and again, because the kernel's timers are late.
    assert_eq!(answer(&mut ledger, 30 * S1, None).0, 0);
    let due = 100 * MS + MS + 59 * S1;
    let late = Sight {
        timer: Some(Timer { kind: TimerKind::TimeWait, expires_ms: 0, retransmits: 0 }),
        ..sight(1, S::TimeWait)
    };
    assert_eq!(answer(&mut ledger, due, Some(&late)).1.len(), 0);
    assert_eq!(ledger.minisockets(), 1);
    let (asked, out) = answer(&mut ledger, due + S1, None);
    assert_eq!((asked, told(&out)), (1, vec![(S::TimeWait, S::Close, Known::Seen)]));
    assert_eq!(ledger.len(), 0);
}

#[test]
fn where_nobody_can_ask_rule_and_timer_are_believed_and_said_to_be() {
    let mut ledger = ledger();
    closed_flow(&mut ledger);
    let (mut questions, mut out) = (Vec::new(), Vec::new());
    ledger.questions(100 * MS, 100, &mut questions);
    ledger.unanswered(&questions[0], 100 * MS, &mut out);
    assert_eq!(told(&out), [(S::FinWait2, S::TimeWait, Known::Rule)]);
    ledger.overdue(59 * S1, &mut out);
    assert_eq!(out.len(), 1);
    ledger.overdue(70 * S1, &mut out);
    assert_eq!(told(&out)[1..], [(S::TimeWait, S::Close, Known::Timer)]);
    assert_eq!(out[1].time_ns, 53 * MS + 60 * S1);
}

#[test]
fn a_full_table_makes_no_time_wait() {
    let mut ledger = ledger();
    closed_flow(&mut ledger);
    let (asked, out) = answer(&mut ledger, 100 * MS, None);
    assert_eq!((asked, out.len(), ledger.len(), ledger.totals().unmade), (1, 0, 0, 1));
    ledger.set_limits(5, Limits { max_minisockets: Some(0), ..Limits::default() });
    // Nobody can be asked: the settings are believed.
    closed_flow(&mut ledger);
    let (mut questions, mut out) = (Vec::new(), Vec::new());
    ledger.questions(100 * MS, 100, &mut questions);
    ledger.unanswered(&questions[0], 100 * MS, &mut out);
    assert_eq!((ledger.len(), out.len(), ledger.totals().unmade), (0, 0, 2));
    // The kernel is believed before them: they may have changed.
    closed_flow(&mut ledger);
    let (_, out) = answer(&mut ledger, 100 * MS, Some(&sight(1, S::TimeWait)));
    assert_eq!(told(&out), [(S::FinWait2, S::TimeWait, Known::Seen)]);
}

#[test]
fn an_orphan_goes_on_to_time_wait_when_the_other_end_is_told() {
    let mut ledger = ledger();
    orphan(&mut ledger);
    assert_eq!(ledger.minisockets(), 1);
    // The peer, on this host too: its FIN is acknowledged, and only the minisocket can have done that.
    let reversed = |mut event: Transition| {
        let Ends { local, remote, lport, rport } = event.head.ends;
        event.head.ends = Ends { local: remote, remote: local, lport: rport, rport: lport };
        Event::Transition(event)
    };
    let mut out = fold(
        &mut ledger,
        [
            reversed(change(SERVER, 2, 500 * MS, S::CloseWait, S::LastAck)),
            reversed(change(SERVER, 2, 501 * MS, S::LastAck, S::Close)),
        ],
    );
    ledger.tick(600 * MS, &mut out);
    assert_eq!(told(&out), [(S::FinWait2, S::TimeWait, Known::Peer)]);
    assert!(
        matches!(out.last().unwrap().what, What::Transition { in_state: Some(span), .. } if span.ns == 448 * MS)
    );
}

#[test]
fn an_orphan_that_is_seen_in_time_wait_has_been_told() {
    let mut ledger = ledger();
    orphan(&mut ledger);
    let mut out = Vec::new();
    ledger.begin_round();
    // 59 s left: its FIN came a second ago.
    ledger.sight(&sight(1, S::TimeWait), at(10 * S1), None, &mut out);
    assert_eq!(told(&out), [(S::FinWait2, S::TimeWait, Known::Seen)]);
    assert_eq!(out[0].time_ns, 9 * S1 + MS);
    assert_eq!(ledger.totals().corrected, 0, "that is no mistake");
}

#[test]
fn a_new_connection_with_the_same_ends_is_the_end_of_time_wait() {
    let mut ledger = ledger();
    closed_flow(&mut ledger);
    answer(&mut ledger, 100 * MS, Some(&sight(1, S::TimeWait)));
    let mut open = change(CLIENT, 9, 2 * S1, S::Close, S::SynSent);
    open.head.ends.lport = 0;
    let out = fold(
        &mut ledger,
        [
            Event::Transition(open),
            Event::Transition(change(CLIENT, 9, 2 * S1 + MS, S::SynSent, S::Established)),
        ],
    );
    assert_eq!(told(&out), [(S::TimeWait, S::Close, Known::Reuse)]);
    assert_eq!((ledger.minisockets(), ledger.open_flows()), (0, 1));
    // connect() may be refused because of it.
    closed_flow(&mut ledger);
    answer(&mut ledger, 100 * MS, Some(&sight(1, S::TimeWait)));
    let refused = change(CLIENT, 9, 2 * S1 + MS, S::SynSent, S::Close);
    assert!(told(&fold(&mut ledger, [Event::Transition(refused)])).is_empty());
    let (asked, _) = answer(&mut ledger, 3 * S1, Some(&sight(1, S::TimeWait)));
    assert_eq!((asked, ledger.minisockets()), (1, 1));
    // The same ends elsewhere are another connection's.
    let mut ledger = self::ledger();
    closed_flow(&mut ledger);
    answer(&mut ledger, 100 * MS, Some(&sight(1, S::TimeWait)));
    let mut elsewhere = change(CLIENT, 11, 3 * S1, S::SynSent, S::Established);
    elsewhere.head.netns = 6;
    fold(&mut ledger, [Event::Transition(elsewhere)]);
    assert_eq!(ledger.minisockets(), 1);
}

#[test]
fn sockets_older_than_the_trace_are_met_once() {
    let mut ledger = ledger();
    let (mut out, info) = (Vec::new(), TcpInfo { last_ack_recv_ms: 7000, ..TcpInfo::default() });
    let old = Sight { info: Some(info), ..sight(3, S::CloseWait) };
    let holder = Rc::new(Process { pid: 99, uid: 0, cgroup: 0, comm: "leaky".into() });
    for time in [20 * S1, 50 * S1] {
        ledger.begin_round();
        ledger.sight(&old, at(time), Some(&holder), &mut out);
    }
    let [Entry { who, what: What::Sight(seen), .. }] = &out[..] else { panic!("{out:?}") };
    assert_eq!(seen.age, Some(Span { ns: 7 * S1, exact: false }));
    assert_eq!(
        who.owner.as_ref().map(|owner| (owner.process.pid, owner.source)),
        Some((99, Source::Descriptor))
    );
    // What comes next knows how long the state lasted at least.
    let out = fold(&mut ledger, [Event::Transition(change(CLIENT, 3, 60 * S1, S::CloseWait, S::LastAck))]);
    let What::Transition { in_state, .. } = out[0].what else { panic!() };
    assert_eq!(in_state, Some(Span { ns: 47 * S1, exact: false }));
    assert_eq!(ledger.totals().gaps, 0);
}

#[test]
fn an_event_is_believed_before_an_older_sight() {
    let mut ledger = ledger();
    fold(&mut ledger, active_life().into_iter().take(2));
    let mut out = Vec::new();
    ledger.begin_round();
    // Taken while, or before, the event happened.
    ledger.sight(&sight(1, S::SynSent), Taken { from_ns: 11 * MS, to_ns: 13 * MS }, None, &mut out);
    assert!(out.is_empty() && ledger.totals().corrected == 0);
    // Taken after it: something was lost.
    ledger.sight(&sight(1, S::FinWait1), at(40 * MS), None, &mut out);
    assert_eq!(told(&out), [(S::Established, S::FinWait1, Known::Seen)]);
    assert_eq!((ledger.totals().corrected, ledger.reconciled().corrected), (1, 1));
    // And what the events say next fits again.
    fold(&mut ledger, active_life().into_iter().skip(3));
    assert_eq!(ledger.totals().gaps, 0);
}

#[test]
fn what_a_dump_does_not_show_is_asked_for_and_then_gone() {
    let mut ledger = ledger();
    fold(&mut ledger, active_life().into_iter().take(2));
    ledger.begin_round();
    assert!(ledger.unseen(|_| true, 12 * MS).is_empty(), "younger than the dump");
    assert!(ledger.unseen(|netns| netns == 6, S1).is_empty(), "another namespace");
    let questions = ledger.unseen(|_| true, S1);
    assert_eq!(questions.len(), 1);
    let mut out = Vec::new();
    ledger.answer(&questions[0], None, at(2 * S1), &mut out);
    assert_eq!(told(&out), [(S::Established, S::Close, Known::Seen)]);
    assert_eq!(closes(&out), [(Cause::Unseen, None)]);
    assert_eq!((ledger.len(), ledger.reconciled().vanished), (0, 1));
}

/// The event that ended a state may be missing without anybody knowing.
#[test]
fn a_state_that_should_have_passed_is_asked_for() {
    let mut ledger = ledger();
    fold(&mut ledger, active_life().into_iter().take(3));
    assert_eq!(answer(&mut ledger, 900 * MS, None).0, 0, "50 ms + 1 s");
    // It is there, and rightly so: asked again, ever more rarely.
    let stuck = sight(1, S::FinWait1);
    assert_eq!(answer(&mut ledger, 1100 * MS, Some(&stuck)).0, 1);
    assert_eq!(answer(&mut ledger, 2000 * MS, Some(&stuck)).0, 0);
    assert_eq!(answer(&mut ledger, 9 * S1, Some(&stuck)).0, 1);
    assert_eq!((answer(&mut ledger, 11 * S1, Some(&stuck)).0, ledger.totals().corrected), (0, 0));
    // It has gone on without telling.
    let (asked, out) = answer(&mut ledger, 20 * S1, Some(&sight(1, S::TimeWait)));
    assert_eq!(asked, 1);
    assert_eq!(closes(&out), [(Cause::Orderly, Some(S::TimeWait))]);
    assert_eq!((ledger.open_flows(), ledger.minisockets(), ledger.totals().corrected), (0, 1, 1));
    // What passes as usual is not asked for.
    let mut ledger = self::ledger();
    closed_flow(&mut ledger);
    answer(&mut ledger, 100 * MS, Some(&sight(1, S::TimeWait)));
    assert_eq!(answer(&mut ledger, 30 * S1, None).0, 0);
}

#[test]
fn a_half_open_request_becomes_its_child_or_is_gone() {
    for completes in [true, false] {
        let mut ledger = ledger();
        let mut out = Vec::new();
        ledger.begin_round();
        ledger.sight(&sight(4, S::NewSynRecv), at(S1), None, &mut out);
        assert!(matches!(out[0].what, What::Sight(_)));
        assert_eq!(out[0].who.role, Role::Passive);
        if completes {
            let out = fold(
                &mut ledger,
                [
                    Event::Transition(change(SERVER, 4, S1 + 20 * MS, S::Listen, S::SynRecv)),
                    Event::Transition(change(SERVER, 4, S1 + 21 * MS, S::SynRecv, S::Established)),
                ],
            );
            assert!(out.iter().all(|entry| entry.who.id == FlowId::Cookie(4)));
            assert_eq!((answer(&mut ledger, 9 * S1, None).0, ledger.open_flows()), (0, 1));
        } else {
            assert_eq!(answer(&mut ledger, S1 + 500 * MS, None).0, 0, "its timer is not due");
            let (_, out) = answer(&mut ledger, 3 * S1, None);
            assert_eq!(told(&out), [(S::NewSynRecv, S::Close, Known::Seen)]);
            assert_eq!(closes(&out), [(Cause::HalfOpenGone, None)]);
            assert_eq!(ledger.totals().vanished, 0, "no event was to be expected");
        }
    }
}

#[test]
fn ages_are_bounds_that_hold() {
    let info = TcpInfo { rto_us: 1_600_000, unacked: 1, last_ack_recv_ms: 3_600_000, ..TcpInfo::default() };
    let timer = Some(Timer { kind: TimerKind::Retransmit, expires_ms: 600, retransmits: 3 });
    let stuck = Sight { info: Some(info), timer, send_queue: 1, ..sight(1, S::FinWait1) };
    // 200 + 400 + 800 ms; the 1 s of the 1.6 only if no TCP_USER_TIMEOUT has shortened that.
    assert_eq!(least_age(&stuck), (1_400 * MS, Bound::Retransmits));
    assert_eq!(running_ns(&stuck), 1_000 * MS);
    // Data in front of the FIN may be what is repeated: an hour without ACK says nothing about the FIN.
    assert_eq!(least_age(&Sight { send_queue: 1000, ..stuck }), (0, Bound::Watched));
    assert_eq!(least_age(&sight(1, S::TimeWait)), (S1, Bound::Timer));
}
