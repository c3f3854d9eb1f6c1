//! What the kernel programs count before they reserve ring space, one copy a CPU: exact even when records
//! are lost.

use crate::{event::KINDS, state::STATES};

/// One CPU's counters. All of them only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(serde::Serialize, serde::Deserialize))]
#[repr(C)]
pub struct Counters {
    /// Transitions that passed the filter for certain, `[old][new]`.
    pub matrix: [[u64; STATES]; STATES],
    /// Other records that should have been sent, by kind; transitions only as far as their filter was undecided.
    pub counted: [u64; KINDS],
    /// Of those, the ones that found the ring full.
    pub lost: [u64; KINDS],
    /// Calls of `tcp_retransmit_skb` (function probe only).
    pub attempts: u64,
    /// Segments those calls asked for.
    pub attempted_segments: u64,
    /// Calls that returned an error.
    pub failed: u64,
}

impl Counters {
    /// All zero.
    pub const ZERO: Self = Self {
        matrix: [[0; STATES]; STATES],
        counted: [0; KINDS],
        lost: [0; KINDS],
        attempts: 0,
        attempted_segments: 0,
        failed: 0,
    };

    /// What was added since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut added = *self;
        added.each_with(earlier, |count, less| *count = count.saturating_sub(less));
        added
    }

    /// Adds another CPU's counters to these.
    pub fn add(&mut self, other: &Self) {
        self.each_with(other, |count, more| *count += more);
    }

    fn each_with(&mut self, other: &Self, change: impl Fn(&mut u64, u64)) {
        let all = |counts: &mut [u64], others: &[u64]| {
            counts.iter_mut().zip(others).for_each(|(count, other)| change(count, *other));
        };
        all(self.matrix.as_flattened_mut(), other.matrix.as_flattened());
        all(&mut self.counted, &other.counted);
        all(&mut self.lost, &other.lost);
        change(&mut self.attempts, other.attempts);
        change(&mut self.attempted_segments, other.attempted_segments);
        change(&mut self.failed, other.failed);
    }
}

// SAFETY: only u64 arrays: no padding, and every bit pattern is a value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Counters {}
