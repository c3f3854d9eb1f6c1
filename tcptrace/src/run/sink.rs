//! Who gets what a run comes to: the trait, and what is handed over beside entries.

use super::{core::Input, report::Resync};
use crate::{
    flow::{Entry, Ledger, totals::Matrix},
    sight::{Sight, Taken},
    source::{holders::Holder, surroundings::Surroundings},
    summary::{LostCounts, exact_matrix},
};
use std::io;
use tcptrace_common::counters::Counters;

/// What a sink wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// More.
    Continue,
    /// Enough, e.g. `--count` is reached.
    Enough,
}

/// Where entries go.
pub trait Sink {
    /// A record of the ring, before it is taken in: for whoever records. `slept_ns`: from its clock to the boot-time clock.
    fn record(&mut self, _bytes: &[u8], _slept_ns: u64) {}

    /// Anything else, before it is taken in.
    ///
    /// # Errors
    /// It cannot be written.
    fn input(&mut self, _input: &Input<'_>) -> io::Result<()> {
        Ok(())
    }

    /// Every entry that has come so far of what was taken in has been handed over.
    ///
    /// # Errors
    /// It cannot be written.
    fn handed_over(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// One entry. A broken pipe ends the run quietly.
    ///
    /// # Errors
    /// It cannot be written.
    fn entry(&mut self, entry: &Entry) -> io::Result<Next>;

    /// Events were lost since the last call.
    ///
    /// # Errors
    /// It cannot be written.
    fn lost(&mut self, now_ns: u64, lost: &LostCounts) -> io::Result<()>;

    /// The counters were read, as they are every second and once more at the end.
    ///
    /// # Errors
    /// It cannot be written.
    fn counted(&mut self, _reading: &Reading<'_>) -> io::Result<()> {
        Ok(())
    }

    /// The kernel is about to be asked for all its sockets.
    ///
    /// # Errors
    /// It cannot be written.
    fn looking(&mut self, _surroundings: &mut dyn Surroundings) -> io::Result<()> {
        Ok(())
    }

    /// A socket that it shows, after the ledger has taken it in.
    fn looked_at(&mut self, _look: &Looked<'_>) {}

    /// The kernel was asked for all its sockets.
    ///
    /// # Errors
    /// It cannot be written.
    fn resynced(
        &mut self,
        now_ns: u64,
        resync: &Resync,
        surroundings: &mut dyn Surroundings,
    ) -> io::Result<Next>;

    /// A batch is complete: show it.
    ///
    /// # Errors
    /// It cannot be written.
    fn flush(&mut self) -> io::Result<()>;
}

/// A socket in the kernel's list, and who knows more of it.
pub struct Looked<'a> {
    /// What the kernel shows.
    pub sight: &'a Sight,
    /// When.
    pub taken: Taken,
    /// Who has its descriptor.
    pub holder: Option<&'a Holder>,
    /// What events told: [`Ledger::told`].
    pub ledger: &'a Ledger,
}

/// What the kernel counted up to a moment, and what the ledger knows then.
pub struct Reading<'a> {
    /// When, on the boot-time clock, in nanoseconds.
    pub now_ns: u64,
    /// The kernel's counters; they only grow.
    pub counters: &'a Counters,
    /// What was lost since the beginning.
    pub lost: LostCounts,
    /// Every flow, as it is now.
    pub ledger: &'a Ledger,
    /// Nothing is traced any more: flows that are open now stay so.
    pub last: bool,
}

impl Reading<'_> {
    /// Transitions by pair of states, exact even when records were lost.
    pub fn matrix(&self) -> Matrix {
        exact_matrix(self.counters, self.ledger.totals())
    }
}
