//! Counters and what was added to them between two looks.

use crate::{
    event::{Direction, Reason, Segment},
    flow::totals::{Matrix, Totals},
    source::counters::Counters,
    summary::exact_matrix,
};
use tcptrace_common::counters as kernel;

/// A line of counters that belong together: the kernel's names, and the words people read.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What the line is about.
    pub title: &'static str,
    /// It is shown even when nothing has happened.
    pub always: bool,
    /// Name and word of each.
    pub counters: &'static [(&'static str, &'static str)],
}

/// What is shown, in this order. What each counts was read in the kernel (6.18); the names are those of `nstat`.
pub const ROWS: [Row; 8] = [
    Row {
        title: "opened",
        always: true,
        counters: &[
            ("ActiveOpens", "connects"),
            ("PassiveOpens", "accepts"),
            ("AttemptFails", "failed attempts"),
        ],
    },
    Row {
        title: "resets",
        always: true,
        counters: &[("EstabResets", "connections reset"), ("OutRsts", "RST sent")],
    },
    Row { title: "segments", always: true, counters: &[("InSegs", "in"), ("OutSegs", "out")] },
    Row {
        title: "sent again",
        always: true,
        counters: &[
            ("RetransSegs", "segments"),
            ("TCPLostRetransmit", "lost again"),
            ("TCPFastRetrans", "fast"),
            ("TCPSlowStartRetrans", "in slow start"),
            ("TCPTimeouts", "timeouts"),
            ("TCPSynRetrans", "SYN and SYN-ACK"),
            ("TCPLossProbes", "loss probes"),
        ],
    },
    Row {
        title: "listen",
        always: false,
        counters: &[
            ("ListenOverflows", "accept queue full"),
            ("ListenDrops", "dropped"),
            ("TCPReqQFullDrop", "SYN dropped"),
            ("TCPReqQFullDoCookies", "SYN queue full"),
        ],
    },
    Row {
        title: "SYN cookies",
        always: false,
        counters: &[
            ("SyncookiesSent", "sent"),
            ("SyncookiesRecv", "received"),
            ("SyncookiesFailed", "failed"),
        ],
    },
    Row {
        title: "TIME_WAIT",
        always: false,
        counters: &[("TCPTimeWaitOverflow", "no bucket left"), ("TWRecycled", "port taken over")],
    },
    Row {
        title: "aborted",
        always: false,
        counters: &[
            ("TCPAbortOnData", "data after close or linger 0"),
            ("TCPAbortOnClose", "data unread"),
            ("TCPAbortOnMemory", "orphan limit or memory"),
            ("TCPAbortOnTimeout", "timeout"),
            ("TCPAbortOnLinger", "linger2"),
            ("TCPAbortFailed", "RST not sent"),
        ],
    },
];

/// Values of every counter in [`ROWS`], in that order. `None`: this kernel does not have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(Vec<Option<u64>>);

/// The names in [`ROWS`], in that order.
pub fn names() -> impl Iterator<Item = &'static str> {
    ROWS.iter().flat_map(|row| row.counters).map(|(name, _)| *name)
}

impl Values {
    /// The values of one namespace.
    pub fn new(counters: &Counters) -> Self {
        Self(names().map(|name| counters.get(name)).collect())
    }

    /// Each name and value.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, Option<u64>)> {
        names().zip(self.0.iter().copied())
    }

    /// The value of this name.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.each().find(|(of, _)| *of == name)?.1
    }

    /// Combines two values of each name; what one side does not know stays unknown.
    fn with(&self, other: &Self, combine: impl Fn(u64, u64) -> Option<u64>) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, two)| combine((*one)?, (*two)?)).collect())
    }
}

/// Sums over namespaces, by the inode number of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading(pub Vec<(u32, Values)>);

impl Reading {
    /// All namespaces together.
    pub fn sum(&self) -> Values {
        let sum = self
            .0
            .iter()
            .map(|(_, values)| values.clone())
            .reduce(|one, two| one.with(&two, u64::checked_add));
        sum.unwrap_or_else(|| Values(names().map(|_| None).collect()))
    }

    /// What was added since `earlier`, in namespaces that were there then. In a new one everything was added. A counter
    /// that went back (it is another namespace, with the number of one that is gone) is unknown.
    pub fn since(&self, earlier: &Self) -> Values {
        let added = self.0.iter().map(|(netns, now)| {
            let before = earlier.0.iter().find(|(number, _)| number == netns);
            let values = match before {
                Some((_, before)) => now.with(before, u64::checked_sub),
                None => now.clone(),
            };
            (*netns, values)
        });
        Self(added.collect()).sum()
    }
}

/// What tracing counted. From a source that loses records only `matrix` is exact, and `lost` says how many are missing
/// elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traced {
    /// Transitions, `[old][new]`.
    pub matrix: Matrix,
    /// Segments sent again, `[segment][reason]`.
    pub retransmits: [[u64; Reason::ALL.len()]; Segment::ALL.len()],
    /// RSTs sent, RSTs received.
    pub resets: [u64; 2],
    /// Records that did not get here.
    pub lost: u64,
}

impl Traced {
    /// As the kernel programs and the ledger have counted until now.
    pub fn new(counters: &kernel::Counters, totals: &Totals, lost: u64) -> Self {
        Self {
            matrix: exact_matrix(counters, totals),
            retransmits: totals.retransmits,
            resets: [Direction::Sent, Direction::Received].map(|way| totals.reset_count(way)),
            lost,
        }
    }

    /// What was added since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut added = self.clone();
        subtract(added.matrix.as_flattened_mut(), earlier.matrix.as_flattened());
        subtract(added.retransmits.as_flattened_mut(), earlier.retransmits.as_flattened());
        subtract(&mut added.resets, &earlier.resets);
        added.lost = added.lost.saturating_sub(earlier.lost);
        added
    }
}

fn subtract(from: &mut [u64], what: &[u64]) {
    from.iter_mut().zip(what).for_each(|(count, less)| *count = count.saturating_sub(*less));
}

/// A second's worth of what was added in `interval_ns`.
pub fn per_second(added: u64, interval_ns: u64) -> f64 {
    added as f64 * 1e9 / interval_ns.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(opens: u64, drops: u64) -> Values {
        Values::new(&Counters::parse(
            &format!("Tcp: ActiveOpens\nTcp: {opens}\n"),
            &format!("TcpExt: ListenDrops\nTcpExt: {drops}\n"),
        ))
    }

    #[test]
    fn each_name_is_there_once() {
        let mut all: Vec<_> = names().collect();
        all.sort_unstable();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count);
    }

    #[test]
    fn this_kernel_has_every_name() {
        let here = Values::new(&Counters::read().unwrap());
        let missing: Vec<_> = here.each().filter(|(_, value)| value.is_none()).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn what_was_added_is_added_up_over_namespaces() {
        let earlier = Reading(vec![(1, values(10, 0)), (2, values(5, 5)), (3, values(100, 0))]);
        let now = Reading(vec![(1, values(12, 1)), (2, values(5, 6)), (4, values(7, 0))]);
        let added = now.since(&earlier);
        assert_eq!(
            added.get("ActiveOpens"),
            Some(9),
            "2 and 0, and 7 in the new one; the one that is gone has none"
        );
        assert_eq!(added.get("ListenDrops"), Some(2));
        assert_eq!(added.get("OutRsts"), None, "this kernel lacks it");
        assert_eq!(now.sum().get("ActiveOpens"), Some(24));
        assert_eq!(Reading::default().sum().get("ActiveOpens"), None);
    }

    #[test]
    fn a_counter_that_went_back_is_unknown() {
        let added = Reading(vec![(1, values(3, 9))]).since(&Reading(vec![(1, values(10, 4))]));
        assert_eq!((added.get("ActiveOpens"), added.get("ListenDrops")), (None, Some(5)));
    }

    #[test]
    fn traced_counts_are_subtracted() {
        let mut now = Traced { resets: [5, 2], lost: 3, ..Traced::default() };
        now.matrix[1][4] = 9;
        now.retransmits[3][0] = 4;
        let mut earlier = Traced { resets: [1, 2], lost: 3, ..Traced::default() };
        earlier.matrix[1][4] = 2;
        let added = now.since(&earlier);
        assert_eq!(
            (added.matrix[1][4], added.retransmits[3][0], added.resets, added.lost),
            (7, 4, [4, 0], 0)
        );
        assert_eq!(now.since(&now), Traced::default());
    }

    proptest! {
        #[test]
        fn no_numbers_overflow(a: u64, b: u64, c: u64, d: u64, interval: u64) {
            let earlier = Reading(vec![(1, values(a, b)), (2, values(c, d))]);
            let now = Reading(vec![(1, values(c, a)), (2, values(d, b)), (3, values(b, c))]);
            let _ = (now.since(&earlier), now.sum());
            prop_assert!(per_second(a, interval).is_finite());
        }
    }
}
