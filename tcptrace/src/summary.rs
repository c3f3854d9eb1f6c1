//! What is left when a trace ends: counts, and what is missing from them.

use crate::flow::totals::{Matrix, Totals, combine};
use serde::{Deserialize, Serialize};
use tcptrace_common::{
    counters::Counters,
    event::{KINDS, Kind},
};

/// Events that users do not see, and why. Exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostCounts {
    /// Found the ring full, by record kind.
    ring: [u64; KINDS],
    /// The kernel skipped the program: it was running already on that CPU.
    missed: u64,
    /// Could not be decoded.
    undecodable: u64,
}

impl LostCounts {
    /// From the kernel's counters and what the source noticed.
    pub fn new(counters: &Counters, missed: u64, undecodable: u64) -> Self {
        Self { ring: counters.lost, missed, undecodable }
    }

    /// Name and count of each kind that users are told of.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
        const NAMES: [&str; 7] =
            ["transition", "retransmit", "syn-ack", "reset", "destroy", "object", "accept"];
        let of = |name: &str| {
            Kind::ALL
                .iter()
                .zip(self.ring)
                .filter(|(kind, _)| kind.name() == name)
                .map(|(_, count)| count)
                .sum()
        };
        let ring = NAMES.map(|name| (name, of(name)));
        ring.into_iter().chain([("missed", self.missed), ("undecodable", self.undecodable)])
    }

    /// Times that the kernel skipped a program: nobody counted those events, not even in the matrix.
    pub fn skipped(&self) -> u64 {
        self.missed
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.each().map(|(_, count)| count).sum()
    }

    /// What was lost since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut ring = self.ring;
        for (now, before) in ring.iter_mut().zip(earlier.ring) {
            *now = now.saturating_sub(before);
        }
        Self {
            ring,
            missed: self.missed.saturating_sub(earlier.missed),
            undecodable: self.undecodable.saturating_sub(earlier.undecodable),
        }
    }
}

/// What the function probe counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calls {
    /// Calls of `tcp_retransmit_skb`.
    pub attempts: u64,
    /// Segments they asked for.
    pub segments: u64,
    /// Calls that failed.
    pub failed: u64,
}

/// The end of a trace.
#[derive(Clone, Debug)]
pub struct Summary {
    /// When it ended, on the boot-time clock, in nanoseconds.
    pub ended_ns: u64,
    /// How long it ran.
    pub duration_ns: u64,
    /// Transitions by pair of states, exact even when records were lost.
    pub matrix: Matrix,
    /// The kernel counted them; else (of a recording whose beginning is not there, or with a filter of its own) the ledger.
    pub by_kernel: bool,
    /// What the ledger counted.
    pub totals: Totals,
    /// The function probe's counts; `None` where it is not attached.
    pub calls: Option<Calls>,
    /// What is missing.
    pub lost: LostCounts,
    /// Sockets that go on.
    pub open_flows: usize,
    /// Minisockets that go on.
    pub minisockets: usize,
}

impl Summary {
    /// Joins the kernel's counts with the ledger's. `calls`: the function probe is attached.
    pub fn new(
        [started_ns, ended_ns]: [u64; 2],
        counters: &Counters,
        totals: Totals,
        lost: LostCounts,
        calls: bool,
        [open_flows, minisockets]: [usize; 2],
    ) -> Self {
        let matrix = exact_matrix(counters, &totals);
        let calls = calls.then_some(Calls {
            attempts: counters.attempts,
            segments: counters.attempted_segments,
            failed: counters.failed,
        });
        let duration_ns = ended_ns.saturating_sub(started_ns);
        Self { ended_ns, duration_ns, matrix, by_kernel: true, totals, calls, lost, open_flows, minisockets }
    }
}

/// Transitions by pair of states: the kernel's count, and those that it left to us because their filter was undecided.
pub fn exact_matrix(counters: &Counters, totals: &Totals) -> Matrix {
    combine(&counters.matrix, &totals.decided_late, |kernel, late| kernel + late)
}
