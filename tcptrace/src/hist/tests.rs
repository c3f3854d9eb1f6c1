//! Any events, in any order: counts add up, whichever way they are grouped, and are the ledger's own.

use super::*;
use crate::{
    event::{Bits, Ends, Event, Head, LastNumbers, Transition},
    flow::{Capabilities, Ledger, Role},
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use tcptrace_common::event::{ERROR_KNOWN, NUMBERS_KNOWN};

const BY: [By; 6] = [By::Port, By::Process, By::Container, By::Peer, By::Netns, By::Role];

prop_compose! {
    fn any_change()(
        sock in 1..6_u64,
        step_ns in prop_oneof![Just(1_000), 0..40_000_000_u64, Just(61_000_000_000)],
        old in proptest::sample::select(TcpState::ALL.to_vec()),
        new in proptest::sample::select(TcpState::ALL.to_vec()),
        peer in 1..4_u8,
    ) -> (u64, Transition) {
        let address = |last| { let mut v6 = [0; 16]; v6[15] = last; v6 };
        let ends = Ends { local: address(9), remote: address(peer), lport: sock as u16, rport: 80 };
        let head = Head { time_ns: 0, sock, cookie: sock, netns: 5, undecided: false, ends };
        let bits = Some(Bits { dead: true, done: peer > 1, has_socket: false });
        let numbers = (new == TcpState::Close)
            .then(|| LastNumbers { known: NUMBERS_KNOWN | ERROR_KNOWN, ..LastNumbers::default() });
        (step_ns, Transition { head, old, new, bits, shutdown: 3, task: None, numbers, handshake_ns: None })
    }
}

/// What a ledger makes of it, its flows at the end, and itself.
fn entries(changes: Vec<(u64, Transition)>, finishes: bool) -> (Vec<Entry>, Vec<Entry>, Ledger) {
    let capabilities =
        Capabilities { cookies: true, resets: true, all_states: true, ..Capabilities::default() };
    let (mut now_ns, mut out) = (1_000_000, Vec::new());
    let mut ledger = Ledger::new(capabilities, 1000, now_ns);
    for (step_ns, mut change) in changes {
        now_ns += step_ns;
        change.head.time_ns = now_ns;
        ledger.fold(&Event::Transition(change), &mut out);
        ledger.overdue(now_ns, &mut out);
    }
    if finishes {
        ledger.finish(&mut out);
    }
    let mut open = Vec::new();
    ledger.states(now_ns, |entry| open.push(entry));
    (out, open, ledger)
}

fn collect(
    entries: &[Entry],
    open: &[Entry],
    by: Option<By>,
    kernel: Option<&Matrix>,
    most: usize,
) -> Report {
    let mut hist = Hist::new(by);
    entries.iter().for_each(|entry| hist.entry(entry, &mut NoContainers));
    open.iter().for_each(|entry| hist.open(entry, &mut NoContainers));
    hist.finish(kernel, most, &mut NoContainers)
}

/// By pair: events, others, times, exact times, all of these together, at least, unknown.
fn rows(tally: &Tally) -> BTreeMap<(TcpState, TcpState), [u64; 7]> {
    let row = |row: &Row| {
        let times = &row.times;
        let exact = (times.exact.count(), times.exact.sum_ns());
        [row.events, row.inferred, times.count(), exact.0, exact.1, times.at_least, times.unknown]
    };
    tally.rows().into_iter().map(|(pair, of)| (pair, row(of))).collect()
}

fn opens(tally: &Tally) -> BTreeMap<TcpState, u64> {
    let open = tally.states().into_iter().map(|(state, _, open)| (state, open.count()));
    open.filter(|(_, count)| *count > 0).collect()
}

/// The two kinds of SYN_RECV are one.
fn one_syn_recv(matrix: &Matrix) -> Matrix {
    let number = |state: TcpState| usize::from(state.number());
    let mut joined = Matrix::default();
    for old in TcpState::ALL {
        for new in TcpState::ALL {
            joined[number(spell::shown(old))][number(spell::shown(new))] += matrix[number(old)][number(new)];
        }
    }
    joined
}

proptest! {
    #[test]
    fn counts_are_the_ledgers(changes in proptest::collection::vec(any_change(), 0..80)) {
        let (entries, open, ledger) = entries(changes, true);
        let report = collect(&entries, &open, None, None, 1);
        prop_assert_eq!(report.all.matrix(true), one_syn_recv(&ledger.totals().matrix));
        prop_assert_eq!(report.all.matrix(false), one_syn_recv(&ledger.totals().inferred));
    }

    #[test]
    fn groups_add_up_to_all(
        changes in proptest::collection::vec(any_change(), 0..80),
        by in proptest::sample::select(BY.to_vec()),
        most in 1..5_usize,
        finishes: bool,
    ) {
        let (entries, open, _) = entries(changes, finishes);
        let report = collect(&entries, &open, Some(by), None, most);
        let (_, top) = report.groups.unwrap();
        prop_assert!(top.groups.len() <= most);
        let mut sum = top.others.clone();
        top.groups.iter().for_each(|(_, tally)| sum.merge(tally));
        prop_assert_eq!(rows(&sum), rows(&report.all));
        prop_assert_eq!(opens(&sum), opens(&report.all));
    }

    /// Entries that no ledger would say, in no order: nothing panics, and no time comes from nowhere.
    #[test]
    fn any_order_is_survived(
        changes in proptest::collection::vec(any_change(), 0..80),
        order in any::<u64>(),
    ) {
        let (mut entries, open, _) = entries(changes, true);
        let length = entries.len().max(1);
        let in_order = collect(&entries, &open, None, None, 1);
        entries.rotate_left(order as usize % length);
        entries.reverse();
        let report = collect(&entries, &open, None, None, 1);
        prop_assert_eq!(report.all.matrix(true), in_order.all.matrix(true));
        prop_assert_eq!(report.all.matrix(false), in_order.all.matrix(false));
        let left: u64 = report.all.states().iter().map(|(_, times, _)| times.count()).sum();
        prop_assert!(left <= report.all.events() + report.all.inferred());
    }
}

/// Half-open requests to a connection's end, by events that any kernel gives.
fn life() -> Vec<(u64, Transition)> {
    use TcpState::{Close, Established, FinWait1, FinWait2, Listen, SynRecv, SynSent};
    let address = |last| {
        let mut v6 = [0; 16];
        v6[15] = last;
        v6
    };
    let change = |sock: u64, step_ns, old, new| {
        let ends = Ends { local: address(1), remote: address(2), lport: 4000 + sock as u16, rport: 80 };
        let head = Head { time_ns: 0, sock, cookie: sock, netns: 5, undecided: false, ends };
        let bits = Some(Bits { dead: true, done: true, has_socket: false });
        let numbers = (new == Close)
            .then(|| LastNumbers { known: NUMBERS_KNOWN | ERROR_KNOWN, ..LastNumbers::default() });
        (step_ns, Transition { head, old, new, bits, shutdown: 3, task: None, numbers, handshake_ns: None })
    };
    vec![
        change(1, 0, Close, SynSent),
        change(1, 2_000_000, SynSent, Established),
        change(1, 30_000_000, Established, FinWait1),
        change(1, 1_000_000, FinWait1, FinWait2),
        change(1, 4_000_000, FinWait2, Close),
        change(2, 0, Close, Listen),
        change(3, 70_000_000_000, Listen, SynRecv),
        change(3, 5_000, SynRecv, Established),
    ]
}

#[test]
fn a_life_is_told_from_its_first_state_to_its_last() {
    let (entries, open, ledger) = entries(life(), true);
    let report = collect(&entries, &open, None, Some(&ledger.totals().matrix), 1);
    let states: Vec<_> = report
        .all
        .states()
        .into_iter()
        .map(|(state, times, open)| (state, times.exact.max_ns(), times.at_least, open.count()))
        .collect();
    let expected = [
        (TcpState::Listen, 0, 0, 1),
        (TcpState::SynSent, 2_000_000, 0, 0),
        (TcpState::SynRecv, 0, 1, 0),
        (TcpState::Established, 30_000_000, 0, 1),
        (TcpState::FinWait1, 1_000_000, 0, 0),
        (TcpState::FinWait2, 4_000_000, 0, 0),
        (TcpState::TimeWait, 60_000_000_000, 0, 0),
    ];
    assert_eq!(states, expected);
    assert_eq!((report.all.open(), report.counted_by_kernel), (1, true));
    let pairs: Vec<_> = report.all.rows().into_iter().map(|(pair, _)| pair).collect();
    assert_eq!(pairs[0].0, TcpState::Close, "a life begins there");
    assert!(pairs.contains(&(TcpState::FinWait2, TcpState::TimeWait)), "{pairs:?}");
}

#[test]
fn the_kernels_count_takes_the_place_of_ours() {
    let (entries, open, ledger) = entries(life(), true);
    let mut matrix = ledger.totals().matrix;
    matrix[usize::from(TcpState::SynSent.number())][usize::from(TcpState::Established.number())] += 5;
    let by = collect(&entries, &open, Some(By::Role), Some(&matrix), 9);
    assert_eq!(by.all.matrix(true), matrix);
    let (_, top) = by.groups.unwrap();
    let of = |role| top.groups.iter().find(|(key, _)| key.to_string() == Role::name(role)).unwrap();
    assert_eq!(of(Role::Active).1.events(), 5, "a group has what its events told");
}
