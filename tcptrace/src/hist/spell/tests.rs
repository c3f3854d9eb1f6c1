//! Entries as the ledger says them, and the times that follow.

use super::*;
use crate::{
    event::{Ends, Segment},
    flow::{
        Closed, DWELL_STATES, Role,
        cause::{Cause, Verdict},
    },
};
use TcpState as S;

const MS: u64 = 1_000_000;

fn entry(id: u64, time_ns: u64, role: Role, what: What) -> Entry {
    let ends = Ends { local: [1; 16], remote: [2; 16], lport: 1, rport: 2 };
    Entry { time_ns, who: Who { id: FlowId::Cookie(id), netns: 1, ends, role, owner: None }, what }
}

fn change(id: u64, time_ns: u64, old: S, new: S, in_state: Option<Span>, known: Known) -> Entry {
    entry(id, time_ns, Role::Active, What::Transition { old, new, in_state, by: None, known })
}

fn exact(ns: u64) -> Option<Span> {
    Some(Span { ns, exact: true })
}

fn closed(id: u64, time_ns: u64, old: S, continues_as: Option<S>) -> Entry {
    let closed = Closed {
        verdict: Verdict { cause: Cause::Orderly, continues_as },
        old,
        err: None,
        duration_ns: None,
        dwell_ns: [0; DWELL_STATES.len()],
        numbers: None,
        retransmits: [0; Segment::ALL.len()],
        closed_by: None,
    };
    entry(id, time_ns, Role::Active, What::Close(Box::new(closed)))
}

fn spells(entries: impl IntoIterator<Item = Entry>) -> Vec<Spell> {
    let mut spells = Spells::default();
    let mut told = Vec::new();
    let mut say = |_: &Who, spell| told.push(spell);
    entries.into_iter().for_each(|entry| spells.entry(&entry, &mut say));
    spells.finish(&mut say);
    told
}

fn spell(state: S, to: S, time: Time) -> Spell {
    Spell { state, to, time }
}

#[test]
fn a_closed_socket_leaves_its_state_to_time_wait() {
    let told = spells([
        change(1, 10 * MS, S::FinWait1, S::FinWait2, exact(4 * MS), Known::Event),
        change(1, 50 * MS, S::FinWait2, S::Close, exact(40 * MS), Known::Event),
        closed(1, 50 * MS, S::FinWait2, Some(S::TimeWait)),
        change(1, 50 * MS, S::FinWait2, S::TimeWait, None, Known::Seen),
        change(1, 60_050 * MS, S::TimeWait, S::Close, exact(60_000 * MS), Known::Seen),
    ]);
    let expected = [
        spell(S::FinWait1, S::FinWait2, Time::Exact(4 * MS)),
        spell(S::FinWait2, S::TimeWait, Time::Exact(40 * MS)),
        spell(S::TimeWait, S::Close, Time::Exact(60_000 * MS)),
    ];
    assert_eq!(told, expected);
}

#[test]
fn the_two_parts_of_an_orphans_fin_wait2_are_one_time() {
    let begins = |time_ns| change(1, time_ns, S::FinWait2, S::FinWait2, None, Known::Rule);
    let told_or_not = [vec![begins(50 * MS)], vec![]];
    for told in told_or_not {
        for (to, ends) in [(S::TimeWait, Known::Peer), (S::Close, Known::Timer)] {
            // Where the peer's FIN tells of the minisocket first, its beginning is not told.
            if told.is_empty() && to == S::Close {
                continue;
            }
            let closes = [
                change(1, 50 * MS, S::FinWait2, S::Close, exact(40 * MS), Known::Event),
                closed(1, 50 * MS, S::FinWait2, Some(S::FinWait2)),
            ];
            let goes = change(1, 52 * MS, S::FinWait2, to, exact(2 * MS), ends);
            let all = closes.into_iter().chain(told.clone()).chain([goes]);
            assert_eq!(spells(all), [spell(S::FinWait2, to, Time::Exact(42 * MS))]);
        }
    }
}

#[test]
fn a_minisocket_whose_beginning_nobody_saw_has_no_exact_time() {
    let told = spells([change(1, 52 * MS, S::FinWait2, S::Close, exact(2 * MS), Known::Seen)]);
    assert_eq!(told, [spell(S::FinWait2, S::Close, Time::AtLeast(2 * MS))]);
    let told = spells([
        change(1, 50 * MS, S::FinWait2, S::Close, None, Known::Event),
        change(1, 50 * MS, S::FinWait2, S::FinWait2, None, Known::Seen),
        change(1, 52 * MS, S::FinWait2, S::TimeWait, exact(2 * MS), Known::Seen),
    ]);
    assert_eq!(told, [spell(S::FinWait2, S::TimeWait, Time::AtLeast(2 * MS))]);
}

#[test]
fn what_was_to_go_on_and_never_did_has_ended() {
    let close = || change(1, 50 * MS, S::FinWait2, S::Close, exact(40 * MS), Known::Event);
    let end = [spell(S::FinWait2, S::Close, Time::Exact(40 * MS))];
    assert_eq!(spells([close(), closed(1, 50 * MS, S::FinWait2, Some(S::TimeWait))]), end);
    assert_eq!(spells([close(), closed(1, 50 * MS, S::FinWait2, None)]), end);

    // Others go on meanwhile: it is told after a while, and its ends may be anybody's then.
    let mut spells = Spells::default();
    let mut told = Vec::new();
    let later = closed(2, 50 * MS + LEAVING_NS + 1, S::LastAck, None);
    for entry in [close(), later] {
        spells.entry(&entry, &mut |_, spell| told.push(spell));
    }
    assert_eq!(told, end);
}

#[test]
fn a_half_open_requests_time_is_its_childs() {
    let passive = |entry: Entry| Entry { who: Who { role: Role::Passive, ..entry.who }, ..entry };
    let child = [
        change(1, 50 * MS, S::Listen, S::SynRecv, None, Known::Event),
        change(1, 50 * MS, S::SynRecv, S::Established, exact(40 * MS), Known::Event),
    ]
    .map(passive);
    let syn = passive(change(1, 10 * MS, S::Listen, S::NewSynRecv, None, Known::Probe));
    let told = spells([syn.clone()].into_iter().chain(child.clone()));
    assert_eq!(told, [spell(S::SynRecv, S::Established, Time::Exact(40 * MS))]);
    assert_eq!(spells(child), told, "when it began the child's own event may tell");
    let gone = passive(change(1, 50 * MS, S::NewSynRecv, S::Close, exact(40 * MS), Known::Probe));
    assert_eq!(spells([syn, gone]), [spell(S::SynRecv, S::Close, Time::Exact(40 * MS))]);
}

#[test]
fn some_changes_leave_no_state_of_a_connection() {
    let told = spells([
        change(1, MS, S::Close, S::SynSent, None, Known::Event),
        change(1, 2 * MS, S::FinWait2, S::FinWait2, exact(MS), Known::Event),
        change(1, 3 * MS, S::Close, S::Close, exact(MS), Known::Event),
        change(1, 4 * MS, S::TimeWait, S::FinWait2, None, Known::Seen),
    ]);
    assert_eq!(told, []);
}

#[test]
fn a_state_that_was_corrected_was_left_all_the_same() {
    let told = spells([change(1, 4 * MS, S::FinWait1, S::FinWait2, None, Known::Seen)]);
    assert_eq!(told, [spell(S::FinWait1, S::FinWait2, Time::Unknown)]);
}

#[test]
fn an_open_orphan_counts_from_its_sockets_fin_wait2() {
    let mut spells = Spells::default();
    let entries = [
        change(1, 50 * MS, S::FinWait2, S::Close, exact(40 * MS), Known::Event),
        change(1, 50 * MS, S::FinWait2, S::FinWait2, None, Known::Rule),
    ];
    entries.iter().for_each(|entry| spells.entry(entry, &mut |_, spell| panic!("{spell:?}")));
    let open = |id, state, kind| {
        let what = What::State { state, kind, in_state: exact(5 * MS), left_ns: None };
        spells.so_far(&entry(id, 55 * MS, Role::Passive, what))
    };
    assert_eq!(open(1, S::FinWait2, Kind::Minisocket), Some((S::FinWait2, Time::Exact(45 * MS))));
    assert_eq!(open(2, S::FinWait2, Kind::Minisocket), Some((S::FinWait2, Time::AtLeast(5 * MS))));
    assert_eq!(open(2, S::SynRecv, Kind::Full), Some((S::SynRecv, Time::Exact(5 * MS))));
    assert_eq!(open(2, S::NewSynRecv, Kind::Request), Some((S::SynRecv, Time::Exact(5 * MS))));
    assert_eq!(open(2, S::Established, Kind::Full), Some((S::Established, Time::Exact(5 * MS))));
}
