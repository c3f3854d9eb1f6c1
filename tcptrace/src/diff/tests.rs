//! Two made-up traces.

use super::*;
use crate::hist::{Spell, Time};
use TcpState as S;

const MS: u64 = 1_000_000;

fn side(seconds: u64, fill: impl FnOnce(&mut Tally)) -> Side {
    let mut all = Tally::default();
    fill(&mut all);
    Side {
        name: "trace".into(),
        ended_ns: 0,
        duration_ns: seconds * 1_000_000_000,
        kernel: "6.18".into(),
        filter: None,
        settings: BTreeMap::new(),
        report: Report { all, counted_by_kernel: true, groups: None },
        lost: 0,
        findings: Ok(BTreeMap::new()),
        flaws: Vec::new(),
    }
}

fn opened(count: u64) -> impl FnOnce(&mut Tally) {
    move |tally| tally.count((S::SynSent, S::Established), true, count)
}

fn waits(count: u64, ns: u64) -> impl FnOnce(&mut Tally) {
    move |tally| {
        let spell = Spell { state: S::FinWait2, to: S::TimeWait, time: Time::Exact(ns) };
        (0..count).for_each(|_| tally.left(&spell));
    }
}

fn changes(a: Side, b: Side) -> Vec<Change> {
    Diff::new([a, b]).changes
}

#[test]
fn a_longer_trace_of_the_same_is_the_same() {
    assert_eq!(changes(side(10, opened(1000)), side(60, opened(6000))), []);
    assert_eq!(changes(side(10, |_| {}), side(60, |_| {})), []);
    assert_eq!(changes(side(0, opened(5)), side(0, opened(5))), [], "not even by the second");
}

#[test]
fn rates_differ_if_chance_does_not_explain_it() {
    let pair = (S::SynSent, S::Established);
    let told = |per_second| vec![Change::Rate { pair, per_second }];
    assert_eq!(changes(side(10, opened(1000)), side(20, opened(1000))), told([100.0, 50.0]));
    assert_eq!(changes(side(10, opened(10)), side(10, opened(15))), [], "a few more, by chance");
    assert_eq!(changes(side(10, opened(1000)), side(10, opened(1200))), [], "less than a quarter");
    let gone = changes(side(10, opened(20)), side(10, |_| {}));
    assert_eq!((gone[0].factor(), gone), (None, told([2.0, 0.0])));
}

#[test]
fn times_differ_if_there_are_enough_of_them() {
    let time = |quantile, ns| Change::Time { state: S::FinWait2, quantile, ns };
    let told = changes(side(10, waits(60, 60_000 * MS)), side(10, waits(60, 2_000 * MS)));
    let [Change::Time { ns: p50, .. }, Change::Time { ns: p90, .. }] = told[..] else { panic!("{told:?}") };
    assert_eq!(told, [time("p50", p50), time("p90", p90)]);
    assert!(told[0].factor().is_some_and(|factor| (0.033..0.0345).contains(&factor)), "{told:?}");
    assert_eq!(changes(side(10, waits(19, 60_000 * MS)), side(10, waits(60, 2_000 * MS))), []);
    assert_eq!(changes(side(10, waits(60, 1_000 * MS)), side(10, waits(60, 1_200 * MS))), []);
}

#[test]
fn findings_come_first_and_unknown_is_not_none() {
    let found = |count| Ok(BTreeMap::from([("fin-unanswered", Found { count, oldest_ns: Some(5) })]));
    let a = || side(10, opened(1000));
    let b = || Side { findings: found(3), ..side(10, opened(10)) };
    let told = changes(a(), b());
    assert_eq!(told[0], Change::Finding { name: "fin-unanswered", count: [0, 3] });
    assert_eq!(told.len(), 2, "{told:?}");
    let unseen = || Side { findings: Err("nobody looked".into()), ..a() };
    let diff = Diff::new([unseen(), b()]);
    assert_eq!(diff.findings()[0].1, [None, Some(Found { count: 3, oldest_ns: Some(5) })]);
    assert!(!diff.changes.iter().any(|change| matches!(change, Change::Finding { .. })));
    assert!(diff.notes()[0].contains("nobody looked"));
}

#[test]
fn what_else_may_be_the_reason_is_noted() {
    let a = side(10, opened(10));
    let b = Side { kernel: "6.1".into(), filter: Some("--port 80".into()), lost: 7, ..a.clone() };
    let notes = Diff::new([a.clone(), b]).notes();
    let all = notes.join("\n");
    for word in ["6.18 and 6.1", "none and --port 80", "7 events were lost"] {
        assert!(all.contains(word), "{word}: {all}");
    }
    assert_eq!(Diff::new([a.clone(), a]).notes(), [] as [&str; 0]);
}

#[test]
fn both_sides_rows_are_there() {
    let diff = Diff::new([side(10, opened(10)), side(10, waits(5, MS))]);
    let pairs: Vec<_> =
        diff.pairs().into_iter().map(|(pair, rows)| (pair, rows.map(|row| row.events))).collect();
    let expected = [((S::SynSent, S::Established), [10, 0]), ((S::FinWait2, S::TimeWait), [0, 0])];
    assert_eq!(pairs, expected);
    let states: Vec<_> =
        diff.states().into_iter().map(|(state, sides)| (state, sides.map(|(t, _)| t.count()))).collect();
    assert_eq!(states, [(S::FinWait2, [0, 5])]);
}
