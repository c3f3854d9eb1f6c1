//! What the kernel programs add up where no record is to be sent for each event (`export --aggregate kernel`): a [`Cell`]
//! a port class and CPU, and a [`Since`] a socket.

use crate::state::STATES;

/// Upper limits of the buckets that times are counted in, in nanoseconds, each inclusive: from a round trip to a day. The
/// timers of TIME_WAIT and FIN_WAIT2 end after 60 to 62.2 s (every kernel): they are below 65 s.
pub const BOUNDS_NS: [u64; 13] = [
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
    500_000_000,
    1_000_000_000,
    3_000_000_000,
    10_000_000_000,
    30_000_000_000,
    65_000_000_000,
    300_000_000_000,
    3_600_000_000_000,
    86_400_000_000_000,
];

/// Buckets of one state: [`BOUNDS_NS`], what is longer, and room up to a power of two, so that a mask keeps an index
/// inside where a verifier has to be convinced.
pub const BUCKETS: usize = 16;

/// Kinds of segments sent again that are told apart, in the order of [`Cell::resent`].
pub const RESENT: usize = 8;
/// Index into [`Cell::resent`].
pub const RESENT_SYN: usize = 0;
/// Index into [`Cell::resent`].
pub const RESENT_SYN_ACK: usize = 1;
/// Index into [`Cell::resent`]: a FIN without data.
pub const RESENT_FIN: usize = 2;
/// Index into [`Cell::resent`].
pub const RESENT_DATA: usize = 3;
/// Index into [`Cell::resent`]: the kernel's segment could not be read.
pub const RESENT_UNKNOWN: usize = 4;

/// The class of every port that is in no other; classes are numbered from here.
pub const OTHER_CLASS: u8 = 0;
/// Classes there can be, [`OTHER_CLASS`] included.
pub const MOST_CLASSES: usize = 1 << 8;

/// What one CPU has added up of one port class. Everything only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Cell {
    /// Transitions, `[old][new]`.
    pub matrix: [[u64; STATES]; STATES],
    /// Times in a state whose beginning and end were seen, by state and bucket.
    pub dwell: [[u64; BUCKETS]; STATES],
    /// All of those times together, by state, in nanoseconds.
    pub sum_ns: [u64; STATES],
    /// Segments sent again, by kind.
    pub resent: [u64; RESENT],
    /// Segments to be sent again that could not leave (6.17 and later).
    pub failed: u64,
    /// Beginnings for which there was no room: the time that began is counted nowhere.
    pub unkept: u64,
}

impl Cell {
    /// Nothing happened.
    pub const ZERO: Self = Self {
        matrix: [[0; STATES]; STATES],
        dwell: [[0; BUCKETS]; STATES],
        sum_ns: [0; STATES],
        resent: [0; RESENT],
        failed: 0,
        unkept: 0,
    };

    /// Adds another CPU's, or another class's.
    pub fn add(&mut self, other: &Self) {
        let all = |counts: &mut [u64], others: &[u64]| {
            counts.iter_mut().zip(others).for_each(|(count, more)| *count = count.wrapping_add(*more));
        };
        all(self.matrix.as_flattened_mut(), other.matrix.as_flattened());
        all(self.dwell.as_flattened_mut(), other.dwell.as_flattened());
        all(&mut self.sum_ns, &other.sum_ns);
        all(&mut self.resent, &other.resent);
        self.failed += other.failed;
        self.unkept += other.unkept;
    }
}

/// Since when a socket is in its state, kept until it leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Since {
    /// CLOCK_MONOTONIC, in nanoseconds; 0: not seen.
    pub time_ns: u64,
    /// The state; 0: nothing is known of this socket.
    pub state: u8,
    /// The state before it, of a transition that the filter could not decide and that is not counted yet; 0: none.
    pub owed: u8,
    /// The port class, the same from the first event on.
    pub class: u8,
    /// Zero.
    pub spare: [u8; 5],
}

impl Since {
    /// Nothing known.
    pub const NOTHING: Self = Self { time_ns: 0, state: 0, owed: 0, class: OTHER_CLASS, spare: [0; 5] };
}

/// The bucket that a time belongs to.
#[inline(always)]
pub const fn bucket(ns: u64) -> usize {
    // Written out, so that the limits are constants in the instructions. Most times end at the first comparisons.
    macro_rules! first {
        ($($index:literal)*) => {
            $(if ns <= BOUNDS_NS[$index] {
                return $index;
            })*
        };
    }
    first!(0 1 2 3 4 5 6 7 8 9 10 11 12);
    BOUNDS_NS.len()
}

const _: () = assert!(BOUNDS_NS.len() < BUCKETS);

// SAFETY: only u64 arrays: no padding, and every bit pattern is a value.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Cell {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_one_bucket_and_limits_are_inclusive() {
        assert_eq!((bucket(0), bucket(u64::MAX)), (0, BOUNDS_NS.len()));
        for (index, limit) in BOUNDS_NS.into_iter().enumerate() {
            assert_eq!((bucket(limit), bucket(limit + 1)), (index, index + 1));
        }
    }

    #[test]
    fn cells_add_up_everywhere() {
        let mut one = Cell::ZERO;
        (one.matrix[1][4], one.dwell[5][13], one.sum_ns[5], one.resent[RESENT_FIN]) = (1, 2, 3, 4);
        (one.failed, one.unkept) = (5, 6);
        let mut sum = one;
        sum.add(&one);
        assert_eq!((sum.matrix[1][4], sum.dwell[5][13], sum.sum_ns[5], sum.resent[RESENT_FIN]), (2, 4, 6, 8));
        assert_eq!((sum.failed, sum.unkept), (10, 12));
    }
}
