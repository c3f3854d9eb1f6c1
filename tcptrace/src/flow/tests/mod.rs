//! The ledger, told made-up events: what no kernel can be made to do on demand.
mod dumps;
mod probes;
mod races;

use super::{cause::Cause, undecided::MAX_UNDECIDED, *};
use crate::event::{Bits, Carrier, Direction, Ends, LastNumbers, Reason, Reset};
use TcpState as S;
use proptest::prelude::*;
use tcptrace_common::event::{ERROR_KNOWN, NUMBERS_KNOWN, STALL_KNOWN};
use zerocopy::IntoBytes;

const MS: u64 = 1_000_000;
const CLIENT: u64 = 0xffff_8880_0000_1000;
const SERVER: u64 = 0xffff_8880_0000_2000;

fn ledger() -> Ledger {
    Ledger::new(
        Capabilities { cookies: true, resets: true, all_states: true, ..Capabilities::default() },
        1000,
        MS,
    )
}

fn v4(last: u8) -> [u8; 16] {
    let mut address = [0; 16];
    address[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, last]);
    address
}

fn head(sock: u64, cookie: u64, time_ns: u64) -> Head {
    let ends = Ends { local: v4(1), remote: v4(9), lport: 40000, rport: 10000 };
    Head { time_ns, sock, cookie, netns: 5, undecided: false, ends }
}

fn change(sock: u64, cookie: u64, time_ns: u64, old: S, new: S) -> Transition {
    let closes = new == S::Close;
    Transition {
        head: head(sock, cookie, time_ns),
        old,
        new,
        bits: Some(Bits { dead: true, done: true, has_socket: false }),
        shutdown: 3,
        task: None,
        numbers: closes.then(|| LastNumbers {
            known: NUMBERS_KNOWN | STALL_KNOWN | ERROR_KNOWN,
            ..LastNumbers::default()
        }),
        handshake_ns: None,
    }
}

fn task(pid: u32, comm: &str) -> Task {
    let mut bytes = [0; 2];
    bytes.as_mut_bytes()[..comm.len()].copy_from_slice(comm.as_bytes());
    Task { pid, tid: pid, uid: 0, spare: 0, cgroup: 1, comm: bytes }
}

fn reset(sock: u64, cookie: u64, time_ns: u64, direction: Direction, state: S, dead: bool) -> Event {
    Event::Reset(Reset {
        head: head(sock, cookie, time_ns),
        direction,
        reason: None,
        carrier: Carrier::Full,
        state: Some(state),
        dead: Some(dead),
        answers: None,
    })
}

fn fold(ledger: &mut Ledger, events: impl IntoIterator<Item = Event>) -> Vec<Entry> {
    let mut out = Vec::new();
    for event in events {
        ledger.fold(&event, &mut out);
    }
    out
}

fn settled(ledger: &mut Ledger) -> Vec<Entry> {
    let mut out = Vec::new();
    ledger.tick(u64::MAX / 2, &mut out);
    out
}

fn closes(entries: &[Entry]) -> Vec<(Cause, Option<S>)> {
    let closed = entries.iter().filter_map(|entry| match &entry.what {
        What::Close(closed) => Some((closed.verdict.cause, closed.verdict.continues_as)),
        _ => None,
    });
    closed.collect()
}

fn active_life() -> Vec<Event> {
    let mut open = change(CLIENT, 1, 10 * MS, S::Close, S::SynSent);
    open.head.ends.lport = 0;
    open.task = Some(task(42, "curl"));
    let mut close = change(CLIENT, 1, 50 * MS, S::Established, S::FinWait1);
    close.task = Some(task(43, "closer"));
    [
        open,
        change(CLIENT, 1, 12 * MS, S::SynSent, S::Established),
        close,
        change(CLIENT, 1, 51 * MS, S::FinWait1, S::FinWait2),
        change(CLIENT, 1, 53 * MS, S::FinWait2, S::Close),
    ]
    .map(Event::Transition)
    .into()
}

#[test]
fn an_active_flow_is_told_from_birth_to_time_wait() {
    let mut ledger = ledger();
    let out = fold(&mut ledger, active_life());
    let spans: Vec<_> = out
        .iter()
        .map(|entry| match entry.what {
            What::Transition { in_state, .. } => in_state.map(|span| (span.ns / MS, span.exact)),
            _ => panic!("{entry:?}"),
        })
        .collect();
    assert_eq!(spans, [None, Some((2, true)), Some((38, true)), Some((1, true)), Some((2, true))]);
    assert_eq!(ledger.len(), 1, "the close waits for what may explain it");

    let out = settled(&mut ledger);
    assert_eq!(closes(&out), [(Cause::Orderly, Some(S::TimeWait))]);
    let (entry, What::Close(closed)) = (&out[0], &out[0].what) else { panic!() };
    assert_eq!(closed.duration_ns, Some(43 * MS));
    assert_eq!(entry.who.role, Role::Active);
    assert_eq!(entry.who.owner.as_ref().map(|o| (o.process.pid, o.source)), Some((42, Source::Connect)));
    assert_eq!(
        closed.closed_by.as_ref().map(|o| (&*o.process.comm, o.source)),
        Some(("closer", Source::Close))
    );
    assert_eq!(entry.who.ends.local().to_string(), "10.0.0.1:40000");
    assert_eq!((ledger.open_flows(), ledger.minisockets()), (0, 1));
}

#[test]
fn the_port_is_completed_from_later_events() {
    let mut ledger = ledger();
    let out = fold(&mut ledger, active_life());
    assert_eq!(out[0].who.ends.lport, 0);
    assert!(out[1..].iter().all(|entry| entry.who.ends.lport == 40000));
}

/// Up to 6.12 the child carries the listener's addresses and cookie at its first event.
#[test]
fn a_newborn_child_gets_its_own_identity() {
    let mut ledger = ledger();
    let mut listen = change(0xffff_8880_0000_3000, 7, 5 * MS, S::Close, S::Listen);
    listen.head.ends = Ends { local: v4(0), remote: v4(0), lport: 40000, rport: 0 };
    listen.task = Some(task(9, "nginx"));
    let mut newborn = change(SERVER, 0, 20 * MS, S::Listen, S::SynRecv);
    newborn.head.ends.rport = 0;
    newborn.head.ends.remote = v4(0);
    let out = fold(&mut ledger, [Event::Transition(listen), Event::Transition(newborn)]);
    assert_eq!(out.len(), 1, "the child waits for its next event");
    let out = fold(&mut ledger, [Event::Transition(change(SERVER, 2, 21 * MS, S::SynRecv, S::Established))]);
    assert_eq!(out.len(), 2);
    for entry in &out {
        assert_eq!(
            (entry.who.id, entry.who.ends.rport, entry.who.role),
            (FlowId::Cookie(2), 10000, Role::Passive)
        );
        assert_eq!(entry.who.owner.as_ref().map(|o| (o.process.pid, o.source)), Some((9, Source::Listener)));
    }
    assert_eq!(out[0].time_ns, 20 * MS);
    assert_eq!(ledger.len(), 2);
}

fn repeated_syn_ack(time_ns: u64, handshake_ns: Option<u64>) -> Event {
    Event::Retransmit(Retransmit {
        head: head(0xffff_8880_0000_4000, 2, time_ns),
        state: Some(S::NewSynRecv),
        segment: Segment::SynAck,
        reason: Reason::Unknown,
        evidence: "request",
        tcp_flags: None,
        sequence: None,
        segments: 1,
        err: None,
        stalled: 1,
        backoff: 0,
        handshake_ns,
        from_call: false,
    })
}

#[test]
fn a_half_open_request_and_its_child_are_one_flow() {
    let mut ledger = ledger();
    fold(&mut ledger, [repeated_syn_ack(1000 * MS, None)]);
    assert_eq!(ledger.len(), 1);
    let out = fold(
        &mut ledger,
        [
            Event::Transition(change(SERVER, 2, 1200 * MS, S::Listen, S::SynRecv)),
            Event::Transition(change(SERVER, 2, 1200 * MS, S::SynRecv, S::Established)),
        ],
    );
    assert_eq!(ledger.len(), 1);
    // In SYN_RECV since before the first repetition: at least since we began to watch.
    let What::Transition { in_state: Some(span), .. } = out[1].what else { panic!("{out:?}") };
    assert_eq!(span, Span { ns: 200 * MS, exact: false });
}

/// The child is made when its handshake ends.
#[test]
fn a_handshake_counts_from_its_first_syn_ack() {
    let cases = [(false, true), (true, false), (true, true), (false, false)];
    for ((repeated, measured), cookies) in cases.into_iter().flat_map(|case| [(case, true), (case, false)]) {
        let capabilities =
            Capabilities { cookies, resets: true, all_states: true, ..Capabilities::default() };
        let mut ledger = Ledger::new(capabilities, 1000, MS);
        if repeated {
            fold(&mut ledger, [repeated_syn_ack(1030 * MS, Some(1020 * MS))]);
        }
        let mut ends = change(SERVER, 2, 1200 * MS, S::SynRecv, S::Established);
        ends.handshake_ns = measured.then_some(1190 * MS);
        let out = fold(
            &mut ledger,
            [Event::Transition(change(SERVER, 2, 1199 * MS, S::Listen, S::SynRecv)), Event::Transition(ends)],
        );
        let What::Transition { in_state, .. } = out[1].what else { panic!("{out:?}") };
        let exact = repeated || measured;
        let ns = if exact { 1190 * MS } else { MS };
        assert_eq!(in_state, Some(Span { ns, exact }), "{repeated} {measured}");
        let out = fold(
            &mut ledger,
            [Event::Transition(change(SERVER, 2, 1300 * MS, S::Established, S::CloseWait))],
        );
        let What::Transition { in_state, .. } = out[0].what else { panic!("{out:?}") };
        assert_eq!(in_state, Some(Span { ns: 100 * MS, exact: true }));
    }
}

#[test]
fn a_flow_older_than_the_trace_says_at_least() {
    let mut ledger = ledger();
    let out = fold(&mut ledger, [Event::Transition(change(CLIENT, 1, 31 * MS, S::Established, S::FinWait1))]);
    let What::Transition { in_state, .. } = out[0].what else { panic!() };
    assert_eq!(in_state, Some(Span { ns: 30 * MS, exact: false }));
    // After a loss the silence before it is no evidence.
    ledger.lost(40 * MS);
    let out =
        fold(&mut ledger, [Event::Transition(change(SERVER, 2, 45 * MS, S::Established, S::CloseWait))]);
    let What::Transition { in_state, .. } = out[0].what else { panic!() };
    assert_eq!(in_state, Some(Span { ns: 5 * MS, exact: false }));
}

#[test]
fn a_gap_makes_the_time_unknown_and_is_counted() {
    let mut ledger = ledger();
    let out = fold(
        &mut ledger,
        [
            Event::Transition(change(CLIENT, 1, 10 * MS, S::Close, S::SynSent)),
            Event::Transition(change(CLIENT, 1, 30 * MS, S::FinWait1, S::FinWait2)),
        ],
    );
    let What::Transition { in_state, .. } = out[1].what else { panic!() };
    assert_eq!((in_state, ledger.totals().gaps), (None, 1));
}

/// The RST of close() with unread data is traced after the CLOSE event.
#[test]
fn a_close_waits_for_the_reset_that_explains_it() {
    let mut ledger = ledger();
    let mut close = change(SERVER, 2, 10 * MS, S::Established, S::Close);
    close.task = Some(task(77, "server"));
    close.bits = Some(Bits { dead: false, done: false, has_socket: true });
    if let Some(numbers) = &mut close.numbers {
        numbers.unread = 5;
    }
    let mut out = fold(&mut ledger, [Event::Transition(close)]);
    out.extend(fold(&mut ledger, [reset(SERVER, 2, 10 * MS + 900, Direction::Sent, S::Close, false)]));
    assert!(closes(&out).is_empty());
    let out = settled(&mut ledger);
    assert_eq!(closes(&out), [(Cause::UnreadData, None)]);
    let What::Close(closed) = &out[0].what else { panic!() };
    assert_eq!(closed.closed_by.as_ref().map(|owner| owner.process.pid), Some(77));
}

/// `tcp_receive_reset` fires for data that reaches a closed socket; no RST came then.
/// A SYN that meets an old TIME_WAIT is answered with an ACK, and that with an RST: the connection comes all the same.
#[test]
fn a_reset_before_the_last_change_is_no_evidence() {
    let mut ledger = ledger();
    let mut events = active_life();
    events.insert(1, reset(CLIENT, 1, 11 * MS, Direction::Sent, S::SynSent, false));
    // Within what a close waits for evidence.
    for (event, time_ns) in events.iter_mut().zip(10 * MS..) {
        if let Event::Transition(change) = event {
            change.head.time_ns = time_ns;
            change.bits = Some(Bits { dead: true, done: false, has_socket: false });
        }
    }
    fold(&mut ledger, events);
    assert_eq!(closes(&settled(&mut ledger)), [(Cause::FinWait2Minisocket, Some(S::FinWait2))]);
}

#[test]
fn data_after_close_is_not_a_received_reset() {
    let mut ledger = ledger();
    let mut close = change(CLIENT, 1, 10 * MS, S::FinWait1, S::Close);
    if let Some(numbers) = &mut close.numbers {
        numbers.sk_err = 104;
    }
    let mut out = fold(
        &mut ledger,
        [
            reset(CLIENT, 1, 10 * MS - 100, Direction::Received, S::FinWait1, true),
            Event::Transition(close),
            reset(CLIENT, 1, 10 * MS + 100, Direction::Sent, S::Close, true),
        ],
    );
    out.extend(settled(&mut ledger));
    assert_eq!(closes(&out), [(Cause::DataAfterClose, None)]);
    assert_eq!(ledger.totals().reset_count(Direction::Received), 0);
    assert_eq!(ledger.totals().reset_count(Direction::Sent), 1);
}

#[test]
fn a_real_reset_of_an_orphan_is_told_once_it_is_certain() {
    let mut ledger = ledger();
    let mut close = change(CLIENT, 1, 10 * MS, S::FinWait1, S::Close);
    if let Some(numbers) = &mut close.numbers {
        numbers.sk_err = 104;
    }
    let events =
        [reset(CLIENT, 1, 10 * MS - 100, Direction::Received, S::FinWait1, true), Event::Transition(close)];
    let out = fold(&mut ledger, events);
    assert_eq!(out.len(), 1, "only the transition");
    let out = settled(&mut ledger);
    assert_eq!(out.len(), 2);
    assert_eq!(closes(&out), [(Cause::ResetReceived, None)]);
    assert_eq!(ledger.totals().reset_count(Direction::Received), 1);
}

/// The kernel filter could not know the local port of a SYN; the next event of the flow tells.
#[test]
fn undecided_flows_show_only_if_they_come_again() {
    let undecided = || {
        let mut first = change(CLIENT, 1, 10 * MS, S::Close, S::SynSent);
        first.head.undecided = true;
        first.head.ends.lport = 0;
        Event::Transition(first)
    };
    let mut matched = ledger();
    assert!(fold(&mut matched, [undecided()]).is_empty());
    let out = fold(&mut matched, [Event::Transition(change(CLIENT, 1, 11 * MS, S::SynSent, S::Established))]);
    assert_eq!(out.len(), 2);
    assert_eq!((out[0].time_ns, out[0].who.ends.lport), (10 * MS, 40000));
    let cell = (S::Close.number() as usize, S::SynSent.number() as usize);
    assert_eq!(matched.totals().decided_late[cell.0][cell.1], 1);

    // No free local port: the attempt ends as undecided as it began.
    let mut portless = change(CLIENT, 1, 11 * MS, S::SynSent, S::Close);
    portless.head.undecided = true;
    portless.head.ends.lport = 0;
    let mut ended = ledger();
    assert!(fold(&mut ended, [undecided(), Event::Transition(portless)]).is_empty());
    assert!(settled(&mut ended).is_empty() && ended.is_empty());

    let mut unmatched = ledger();
    assert!(fold(&mut unmatched, [undecided()]).is_empty());
    let mut out = Vec::new();
    unmatched.finish(&mut out);
    assert!(out.is_empty());
    assert_eq!(unmatched.totals().decided_late[cell.0][cell.1], 0);
}

/// Flows that never match do not push out those that did.
#[test]
fn undecided_flows_are_few() {
    let mut ledger = Ledger::new(
        Capabilities { cookies: true, resets: true, all_states: true, ..Capabilities::default() },
        1_000_000,
        MS,
    );
    for cookie in 1..=(MAX_UNDECIDED as u64 + 100) {
        let mut first = change(CLIENT, cookie, cookie, S::Close, S::SynSent);
        first.head.undecided = true;
        fold(&mut ledger, [Event::Transition(first)]);
    }
    assert_eq!((ledger.len(), ledger.open_flows(), ledger.totals().evicted), (MAX_UNDECIDED, 0, 0));
}

/// Without cookies the address names the flow, and it is used again within microseconds.
#[test]
fn an_address_used_again_is_another_flow() {
    let mut ledger = Ledger::new(
        Capabilities { cookies: false, resets: true, all_states: true, ..Capabilities::default() },
        1000,
        MS,
    );
    let mut out = Vec::new();
    for life in 0..3 {
        for event in active_life() {
            let Event::Transition(mut event) = event else { panic!() };
            event.head.cookie = 0;
            event.head.time_ns += life * 44 * MS;
            ledger.fold(&Event::Transition(event), &mut out);
        }
        let gone = Head { time_ns: (54 + life * 44) * MS, ..head(CLIENT, 0, 0) };
        ledger.fold(&Event::Destroy(Destroy { head: gone }), &mut out);
    }
    out.extend(settled(&mut ledger));
    assert_eq!(closes(&out), [(Cause::Orderly, Some(S::TimeWait)); 3]);
    let ids: std::collections::HashSet<_> = out.iter().map(|entry| entry.who.id).collect();
    assert_eq!(ids.len(), 3);
}

#[test]
fn a_flow_whose_close_was_lost_ends_unseen() {
    let mut ledger = ledger();
    fold(&mut ledger, [Event::Transition(change(CLIENT, 1, 10 * MS, S::Close, S::SynSent))]);
    let out = fold(&mut ledger, [Event::Destroy(Destroy { head: head(CLIENT, 1, 60 * MS) })]);
    assert_eq!(closes(&out), [(Cause::Unseen, None)]);
    assert!(ledger.is_empty());
}

#[test]
fn the_table_stays_within_its_limit() {
    let mut ledger = Ledger::new(
        Capabilities { cookies: true, resets: true, all_states: true, ..Capabilities::default() },
        10,
        MS,
    );
    let births = (1..=100).map(|n| Event::Transition(change(CLIENT + n, n, n * MS, S::Close, S::SynSent)));
    fold(&mut ledger, births);
    assert_eq!((ledger.len(), ledger.totals().evicted), (10, 90));
}

fn any_event() -> impl Strategy<Value = Event> {
    let parts = (0u8..4, 0u64..4, 0u64..6, 0u64..200, 1u8..=12, 1u8..=12, any::<[bool; 4]>());
    parts.prop_map(|(kind, sock, cookie, time, old, new, [a, b, c, undecided])| {
        let (old, new) = (S::from_number(old).unwrap(), S::from_number(new).unwrap());
        let mut event = change(CLIENT + sock, cookie, time * MS, old, new);
        event.head.undecided = undecided && a;
        event.head.ends.rport = if b { 10000 } else { 0 };
        event.task = c.then(|| task(sock as u32, "any"));
        let direction = if a { Direction::Sent } else { Direction::Received };
        match kind {
            0 | 1 => Event::Transition(event),
            2 => reset(CLIENT + sock, cookie, time * MS, direction, old, b),
            _ => Event::Destroy(Destroy { head: event.head }),
        }
    })
}

proptest! {
    /// Any events in any order, with or without cookies: no panic, every limit kept, everything accounted for.
    #[test]
    fn any_order_and_any_loss_are_survived(events in proptest::collection::vec(any_event(), 0..200), cookies: bool) {
        let mut ledger = Ledger::new(Capabilities { cookies, resets: true, all_states: true, ..Capabilities::default() }, 3, MS);
        let mut out = Vec::new();
        for event in &events {
            ledger.fold(event, &mut out);
            prop_assert!(ledger.len() <= 3);
        }
        ledger.finish(&mut out);
        let transitions = events.iter().filter(|event| matches!(event, Event::Transition(_))).count();
        let told = out.iter().filter(|entry| matches!(entry.what, What::Transition { known: Known::Event, .. })).count();
        prop_assert!(told <= transitions);
        let counted: u64 = ledger.totals().matrix.iter().flatten().sum();
        prop_assert_eq!(counted, told as u64);
    }

    /// However many events are lost, what remains never makes a time longer than the trace.
    #[test]
    fn no_time_is_longer_than_the_trace(keep in proptest::collection::vec(any::<bool>(), 5)) {
        let mut ledger = ledger();
        let kept = active_life().into_iter().zip(keep).filter(|(_, keep)| *keep).map(|(event, _)| event);
        let mut out = fold(&mut ledger, kept);
        out.extend(settled(&mut ledger));
        for entry in &out {
            match &entry.what {
                What::Transition { in_state: Some(span), .. } => prop_assert!(span.ns <= 53 * MS),
                What::Close(closed) => prop_assert!(closed.dwell_ns.iter().sum::<u64>() <= 53 * MS),
                _ => {}
            }
        }
    }
}
