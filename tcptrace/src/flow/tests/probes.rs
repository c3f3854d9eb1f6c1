//! What the ledger makes of function probes: minisockets and requests without questions, and who accepted.

use super::*;
use crate::{
    event::{Accept, Object, Step},
    sight::Taken,
};

const S1: u64 = 1_000 * MS;
/// The kernel's jiffies a second, in these tests.
const HZ: u32 = 250;

fn probed() -> Ledger {
    let capabilities =
        Capabilities { cookies: true, resets: true, all_states: true, minisockets: true, requests: true };
    Ledger::new(capabilities, 1000, MS)
}

fn object(step: Step, state: S, cookie: u64, time_ns: u64, timeout_jiffies: u32) -> Event {
    // Minisockets and requests have addresses of their own.
    Event::Object(Object { head: head(SERVER + time_ns, cookie, time_ns), state, step, timeout_jiffies })
}

fn questions(ledger: &mut Ledger, now_ns: u64) -> usize {
    let mut questions = Vec::new();
    ledger.questions(now_ns, 100, &mut questions);
    questions.len()
}

fn told(entries: &[Entry]) -> Vec<(S, S, Known, u64)> {
    let transition = |entry: &Entry| match entry.what {
        What::Transition { old, new, known, .. } if known != Known::Event => {
            Some((old, new, known, entry.time_ns / MS))
        }
        _ => None,
    };
    entries.iter().filter_map(transition).collect()
}

/// A client's life to its close, with the minisocket right before the last event, as the kernel does it.
fn life_with(state: S, timeout_jiffies: u32, done: bool) -> Vec<Event> {
    let mut events = active_life();
    if let Some(Event::Transition(close)) = events.last_mut() {
        close.bits = Some(Bits { dead: true, done, has_socket: false });
    }
    let last = events.len() - 1;
    events.insert(last, object(Step::Begins, state, 1, 53 * MS, timeout_jiffies));
    events
}

#[test]
fn time_wait_begins_and_ends_when_the_kernel_does_it() {
    let mut ledger = probed();
    let mut out = fold(&mut ledger, life_with(S::TimeWait, 60 * HZ, true));
    assert_eq!(closes(&out), [(Cause::Orderly, Some(S::TimeWait))], "nothing more can explain it: no wait");
    assert_eq!(told(&out), [(S::FinWait2, S::TimeWait, Known::Probe, 53)]);
    assert_eq!((questions(&mut ledger, 30 * S1), questions(&mut ledger, 61 * S1)), (0, 0));

    out.clear();
    ledger.fold(&object(Step::Ends, S::TimeWait, 1, 61 * S1, 0), &mut out);
    assert_eq!(told(&out), [(S::TimeWait, S::Close, Known::Probe, 61_000)]);
    let What::Transition { in_state: Some(span), .. } = &out[0].what else { panic!() };
    assert_eq!((span.ns, span.exact), (61 * S1 - 53 * MS, true));
    assert_eq!(out[0].who.owner.as_ref().map(|owner| owner.process.pid), Some(42), "whose it was is kept");
    assert_eq!((ledger.len(), ledger.totals().unmade, questions(&mut ledger, 90 * S1)), (0, 0, 0));
}

#[test]
fn an_orphan_becomes_time_wait_by_its_own_word_and_nobody_is_asked() {
    let mut ledger = probed();
    let out = fold(&mut ledger, life_with(S::FinWait2, 60 * HZ, false));
    assert_eq!(closes(&out), [(Cause::FinWait2Minisocket, Some(S::FinWait2))]);
    assert_eq!(told(&out), [(S::FinWait2, S::FinWait2, Known::Probe, 53)], "FIN_WAIT2 goes on");
    // The peer, on this host too: its word comes later than the minisocket's own, and is not needed.
    let mut peer = change(SERVER, 2, 70 * MS, S::CloseWait, S::LastAck);
    peer.head.ends = Ends { local: v4(9), remote: v4(1), lport: 10000, rport: 40000 };
    let mut out = fold(&mut ledger, [Event::Transition(peer)]);
    assert_eq!(questions(&mut ledger, 70 * MS), 0);
    ledger.fold(&object(Step::Changes, S::TimeWait, 1, 71 * MS, 60 * HZ), &mut out);
    assert_eq!(told(&out), [(S::FinWait2, S::TimeWait, Known::Probe, 71)]);
    // A repeated FIN starts the 60 s again: nothing to tell.
    out.clear();
    ledger.fold(&object(Step::Changes, S::TimeWait, 1, S1, 60 * HZ), &mut out);
    assert!(out.is_empty());
    ledger.states(2 * S1, |entry| out.push(entry));
    let left = out.iter().find_map(|entry| match entry.what {
        What::State { state: S::TimeWait, left_ns, .. } => left_ns,
        _ => None,
    });
    assert_eq!(left, Some(59 * S1));
}

/// How long a jiffy is only a TIME_WAIT tells; until then the namespace's setting is believed.
#[test]
fn a_timer_in_jiffies_is_understood() {
    let left = |ledger: &Ledger| {
        let mut left = None;
        ledger.states(53 * MS, |entry| {
            if let What::State { left_ns, .. } = entry.what {
                left = left_ns;
            }
        });
        left
    };
    let mut ledger = probed();
    fold(&mut ledger, life_with(S::FinWait2, 5 * HZ, false));
    assert_eq!(left(&ledger), Some(60 * S1));
    fold(&mut ledger, [object(Step::Changes, S::TimeWait, 1, 54 * MS, 60 * HZ)]);
    fold(&mut ledger, [object(Step::Ends, S::TimeWait, 1, 55 * MS, 0)]);
    fold(&mut ledger, life_with(S::FinWait2, 5 * HZ, false));
    assert_eq!(left(&ledger), Some(5 * S1));
}

#[test]
fn an_end_that_was_lost_is_asked_for_in_the_end() {
    let mut ledger = probed();
    fold(&mut ledger, life_with(S::TimeWait, 60 * HZ, true));
    let (mut asked, mut out) = (Vec::new(), Vec::new());
    ledger.questions(70 * S1, 100, &mut asked);
    assert_eq!(asked.len(), 1);
    let taken = Taken { from_ns: 70 * S1, to_ns: 70 * S1 + MS };
    ledger.answer(&asked[0], None, taken, &mut out);
    assert_eq!(told(&out), [(S::TimeWait, S::Close, Known::Seen, 70_000)]);
    assert_eq!(ledger.len(), 0);
}

#[test]
fn a_beginning_that_was_not_seen_is_asked_for_as_ever() {
    let mut ledger = probed();
    let mut out = fold(&mut ledger, active_life());
    ledger.tick(100 * MS, &mut out);
    assert_eq!(questions(&mut ledger, 100 * MS), 1);
    // Its end is believed all the same, and tells that it began.
    out.clear();
    ledger.fold(&object(Step::Ends, S::TimeWait, 1, 200 * MS, 0), &mut out);
    assert_eq!(
        told(&out),
        [(S::FinWait2, S::TimeWait, Known::Rule, 53), (S::TimeWait, S::Close, Known::Probe, 200)]
    );
}

#[test]
fn what_the_resets_could_not_tell_the_minisocket_does() {
    let mut ledger = Ledger::new(Capabilities { resets: false, ..probed().capabilities }, 1000, MS);
    let out = fold(&mut ledger, life_with(S::FinWait2, 60 * HZ, false));
    assert_eq!(closes(&out), [(Cause::FinWait2Minisocket, Some(S::FinWait2))]);
}

/// With a filter on users or cgroups the programs cannot tell whose a minisocket is.
#[test]
fn minisockets_of_others_leave_nothing_behind() {
    let mut ledger = probed();
    let others = (0..100_000).map(|n| object(Step::Begins, S::TimeWait, 1000 + n, n * MS, 60 * HZ));
    assert!(fold(&mut ledger, others).is_empty());
    let ends = (0..100_000).map(|n| object(Step::Ends, S::TimeWait, 1000 + n, 200 * S1, 0));
    assert!(fold(&mut ledger, ends).is_empty());
    assert_eq!((ledger.len(), ledger.totals().evicted), (0, 0));
}

fn child(time_ns: u64, old: S, new: S) -> Event {
    Event::Transition(change(CLIENT, 7, time_ns, old, new))
}

#[test]
fn a_request_is_a_flow_from_its_syn_on_and_becomes_the_child() {
    for before_6_16 in [false, true] {
        let mut ledger = probed();
        let mut out = fold(&mut ledger, [object(Step::Begins, S::NewSynRecv, 7, 10 * MS, 0)]);
        assert_eq!(told(&out), [(S::Listen, S::NewSynRecv, Known::Probe, 10)]);
        assert_eq!((out[0].who.role, ledger.open_flows(), questions(&mut ledger, S1)), (Role::Passive, 1, 0));
        out.clear();
        let mut born = change(CLIENT, 7, 40 * MS, S::Listen, S::SynRecv);
        if before_6_16 {
            born.head.cookie = 3; // the listener's
            born.head.ends.rport = 0;
        }
        let ends = object(Step::Ends, S::NewSynRecv, 7, 41 * MS, 0);
        out.extend(fold(
            &mut ledger,
            [Event::Transition(born), ends, child(42 * MS, S::SynRecv, S::Established)],
        ));
        out.extend(settled(&mut ledger));
        assert!(told(&out).is_empty() && closes(&out).is_empty(), "{out:?}");
        let What::Transition { in_state: Some(span), .. } = &out[1].what else { panic!("{out:?}") };
        assert_eq!((span.ns, span.exact), (32 * MS, true), "half open since the SYN");
        assert_eq!((ledger.len(), ledger.totals().gaps), (1, 0));
    }
}

#[test]
fn a_request_that_ends_without_a_child_is_gone() {
    let mut ledger = probed();
    let steps = [Step::Begins, Step::Ends, Step::Ends];
    let times = [10 * MS, 64 * S1, 64 * S1];
    let events = steps.iter().zip(times).map(|(step, time)| object(*step, S::NewSynRecv, 7, time, 0));
    assert_eq!(fold(&mut ledger, events).len(), 1, "a child may still come");
    let out = settled(&mut ledger);
    assert_eq!(told(&out), [(S::NewSynRecv, S::Close, Known::Probe, 64_000)]);
    let What::Transition { in_state: Some(span), .. } = &out[0].what else { panic!("{out:?}") };
    assert_eq!((span.ns, span.exact), (64 * S1 - 10 * MS, true));
    assert_eq!(closes(&out), [(Cause::HalfOpenGone, None)]);
    assert_eq!((ledger.len(), ledger.totals().vanished), (0, 0));
}

/// A dump has shown it, so it is asked for, too, at the time when its last timer expires.
#[test]
fn the_probe_says_when_a_request_ended_whatever_is_answered_meanwhile() {
    let mut ledger = probed();
    let mut out = fold(&mut ledger, [object(Step::Begins, S::NewSynRecv, 7, 10 * MS, 0)]);
    out.extend(fold(&mut ledger, [object(Step::Ends, S::NewSynRecv, 7, 3 * S1, 0)]));
    let answered_ns = 3 * S1 + 5 * MS;
    out.clear();
    ledger.absent(7, Taken { from_ns: answered_ns, to_ns: answered_ns }, &mut out);
    out.extend(settled(&mut ledger));
    assert_eq!(told(&out), [(S::NewSynRecv, S::Close, Known::Probe, 3_000)]);
    assert_eq!(closes(&out), [(Cause::HalfOpenGone, None)]);
}

/// The hooks are detached one by one: at the end the child's events may be missing.
#[test]
fn a_request_that_ends_with_the_trace_is_not_said_to_be_gone() {
    let mut ledger = probed();
    let mut out = fold(&mut ledger, [object(Step::Begins, S::NewSynRecv, 7, 10 * MS, 0)]);
    out.extend(fold(&mut ledger, [object(Step::Ends, S::NewSynRecv, 7, 11 * MS, 0)]));
    ledger.finish(&mut out);
    assert!(closes(&out).is_empty(), "{out:?}");
}

#[test]
fn who_accepts_replaces_the_guess_but_not_who_connected() {
    let mut ledger = probed();
    let mut listen = change(SERVER, 3, 5 * MS, S::Close, S::Listen);
    listen.head.ends = Ends { local: v4(1), lport: 40000, ..Ends::default() };
    listen.task = Some(task(50, "parent"));
    fold(
        &mut ledger,
        [
            Event::Transition(listen),
            child(10 * MS, S::Listen, S::SynRecv),
            child(10 * MS, S::SynRecv, S::Established),
        ],
    );
    let accept = |cookie, time_ns| {
        Event::Accept(Accept { head: head(CLIENT, cookie, time_ns), task: task(51, "worker") })
    };
    assert!(fold(&mut ledger, [accept(7, 11 * MS)]).is_empty());
    let out = fold(&mut ledger, [child(20 * MS, S::Established, S::CloseWait)]);
    let owner = out[0].who.owner.as_ref().map(|owner| (owner.process.pid, owner.source));
    assert_eq!(owner, Some((51, Source::Accept)));

    // A self-connected or simultaneously opened socket was not accepted by anybody; a stranger is not made a flow.
    let mut ledger = probed();
    fold(&mut ledger, active_life().into_iter().take(2));
    fold(&mut ledger, [accept(1, 13 * MS), accept(99, 13 * MS)]);
    let out =
        fold(&mut ledger, [Event::Transition(change(CLIENT, 1, 14 * MS, S::Established, S::CloseWait))]);
    let owner = out[0].who.owner.as_ref().map(|owner| (owner.process.pid, owner.source));
    assert_eq!((owner, ledger.len()), (Some((42, Source::Connect)), 1));
}
