//! Counts across all flows, for the summary.

use super::cause::Cause;
use crate::event::{Direction, Reason, Segment, TcpState};
use std::collections::BTreeMap;
use tcptrace_common::state::STATES;

/// Transition counts, `[old][new]` by state number.
pub type Matrix = [[u64; STATES]; STATES];

/// Joins two of them, pair by pair.
pub fn combine(one: &Matrix, two: &Matrix, with: impl Fn(u64, u64) -> u64) -> Matrix {
    let mut both = *one;
    for (row, other) in both.iter_mut().zip(two) {
        row.iter_mut().zip(other).for_each(|(count, other)| *count = with(*count, *other));
    }
    both
}

/// What the ledger has counted since it began.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Transitions folded. With a live source the kernel's own matrix is the exact one.
    pub matrix: Matrix,
    /// Of those, the ones that the kernel left to us to count (their filter was undecided).
    pub decided_late: Matrix,
    /// Segments sent again: `[segment][reason]`, by their positions in `ALL`.
    pub retransmits: [[u64; Reason::ALL.len()]; Segment::ALL.len()],
    /// Retransmissions that could not leave.
    pub failed_sends: u64,
    /// RSTs by direction and the kernel's reason (`""`: none given).
    pub resets: BTreeMap<(&'static str, String), u64>,
    /// Closes by cause.
    pub causes: BTreeMap<Cause, u64>,
    /// Transitions whose old state was not the one we knew: something was lost or filtered out between.
    pub gaps: u64,
    /// Flows forgotten because there were too many.
    pub evicted: u64,
    /// State changes that no event told, by pair of states.
    pub inferred: Matrix,
    /// Sockets that were there before any event told of them.
    pub sights: u64,
    /// States that were not what we believed, when the kernel was asked.
    pub corrected: u64,
    /// Flows that were gone when the kernel was asked.
    pub vanished: u64,
    /// Minisockets that were to be expected, but were not there when the kernel was asked: too many of them, no memory,
    /// or their ends were used again at once.
    pub unmade: u64,
}

impl Totals {
    pub(super) fn inferred(&mut self, old: TcpState, new: TcpState) {
        self.inferred[old.number() as usize][new.number() as usize] += 1;
    }

    pub(super) fn retransmit(&mut self, segment: Segment, reason: Reason, segments: u64) {
        if let (Some(row), Some(column)) = (
            Segment::ALL.iter().position(|kind| *kind == segment),
            Reason::ALL.iter().position(|kind| *kind == reason),
        ) {
            self.retransmits[row][column] += segments;
        }
    }

    pub(super) fn reset(&mut self, direction: Direction, reason: Option<&str>) {
        let key = (direction.name(), reason.unwrap_or_default().to_owned());
        *self.resets.entry(key).or_default() += 1;
    }

    /// All segments sent again.
    pub fn retransmitted(&self) -> u64 {
        self.retransmits.iter().flatten().sum()
    }

    /// All RSTs of one direction.
    pub fn reset_count(&self, direction: Direction) -> u64 {
        self.resets.iter().filter(|((way, _), _)| *way == direction.name()).map(|(_, count)| count).sum()
    }
}
