//! What the kernel programs count before they reserve ring space, one copy a CPU: exact even when records
//! are lost.

use crate::{event::KINDS, state::STATES};

/// Index into `FLAGS`: the kernel sets it once any record was lost, on any CPU.
pub const FLAG_LOSSY: u32 = 0;
/// Index into `FLAGS`: user space sets it when it goes to sleep for longer; the next record clears it and wakes it.
pub const FLAG_IDLE: u32 = 1;
/// How many flags there are.
pub const FLAGS: u32 = 2;

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
        for (row, less) in added.matrix.iter_mut().zip(&earlier.matrix) {
            subtract_all(row, less);
        }
        subtract_all(&mut added.counted, &earlier.counted);
        subtract_all(&mut added.lost, &earlier.lost);
        added.attempts = added.attempts.saturating_sub(earlier.attempts);
        added.attempted_segments = added.attempted_segments.saturating_sub(earlier.attempted_segments);
        added.failed = added.failed.saturating_sub(earlier.failed);
        added
    }

    /// Adds another CPU's counters to these.
    pub fn add(&mut self, other: &Self) {
        for (row, more) in self.matrix.iter_mut().zip(&other.matrix) {
            add_all(row, more);
        }
        add_all(&mut self.counted, &other.counted);
        add_all(&mut self.lost, &other.lost);
        self.attempts += other.attempts;
        self.attempted_segments += other.attempted_segments;
        self.failed += other.failed;
    }
}

fn add_all<const N: usize>(sums: &mut [u64; N], more: &[u64; N]) {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum += more;
    }
}

fn subtract_all<const N: usize>(from: &mut [u64; N], what: &[u64; N]) {
    for (count, less) in from.iter_mut().zip(what) {
        *count = count.saturating_sub(*less);
    }
}

// SAFETY: only u64 arrays: no padding, and every bit pattern is a value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Counters {}
