//! Transitions, retransmissions and resets by kind, from the kernel programs. The events themselves are folded and
//! dropped: the ledger is what knows a RST from something that only looks like one.

use crate::{
    error::StartError,
    flow::{DEFAULT_MAX_FLOWS, Entry, Ledger},
    run::{Questions, Ready, capabilities},
    sandbox::Sandbox,
    source::{
        filter::FilterSpec,
        holders::HolderSource,
        live::{Live, boot_time_ns},
        load::LoadOptions,
    },
    stat::rates::Traced,
    summary::LostCounts,
};
use std::io;

/// Records folded at once.
const BATCH: usize = 4096;
/// Batches between two looks at signals and the clock: under full load the ring may never become empty.
const BATCHES: usize = 64;

/// A trace that only counts.
pub struct Tracing {
    live: Live,
    ledger: Ledger,
    entries: Vec<Entry>,
}

impl Tracing {
    /// Attaches; and what finds holders, if those are to be asked for and cannot be found out later.
    ///
    /// # Errors
    /// Why nothing can be traced, for people, in one line.
    pub fn start(
        filter: FilterSpec,
        holders: bool,
        sandbox: Sandbox,
    ) -> Result<(Self, Option<HolderSource>), String> {
        let all_states = filter.states.is_empty();
        let options = LoadOptions { filter, ..LoadOptions::default() };
        let questions = Questions { holders, details: false };
        let Ready { live, holders, .. } =
            Ready::start(&options, questions, sandbox).map_err(|error| why(&error))?;
        let ledger = Ledger::new(capabilities(live.loaded(), all_states), DEFAULT_MAX_FLOWS, boot_time_ns());
        Ok((Self { live, ledger, entries: Vec::new() }, holders))
    }

    /// Waits until the ring fills up.
    ///
    /// # Errors
    /// The reactor's.
    pub async fn filling_up(&mut self) -> io::Result<()> {
        self.live.filling_up().await
    }

    /// Empties the ring, or a good part of it.
    pub fn drain(&mut self) {
        let now_ns = boot_time_ns();
        let (ledger, entries) = (&mut self.ledger, &mut self.entries);
        for _ in 0..BATCHES {
            let count = self.live.drain(BATCH, |event, _, _| ledger.fold(event, entries));
            entries.clear();
            if count < BATCH {
                ledger.tick(now_ns, entries);
                entries.clear();
                return;
            }
        }
    }

    /// What was counted since it was attached.
    pub fn read(&mut self) -> Traced {
        self.drain();
        let counters = self.live.counters();
        let lost = LostCounts::new(&counters, self.live.missed(), self.live.undecodable()).total();
        Traced::new(&counters, self.ledger.totals(), lost)
    }
}

fn why(error: &StartError) -> String {
    const WHAT: &str = "changes of state by pair, retransmissions by kind, RSTs by direction";
    match error {
        StartError::Capability { missing, .. } => format!("needs root: {WHAT} ({})", missing.join(" and ")),
        error => {
            let text = error.to_string();
            format!("no {WHAT}: {}", text.lines().next().unwrap_or_default())
        }
    }
}
