//! What `hist` and `diff` share: a run's entries into counts and times.

use crate::{
    enrich::Places,
    flow::{Entry, What, totals::Matrix},
    hist::{By, Containers, Hist, Report},
    process::Process,
    run::{Next, Reading, Sink, report::Resync},
    source::surroundings::Surroundings,
    summary::LostCounts,
};
use hashbrown::HashMap;
use std::{io, sync::Arc};

/// Takes what a run says, and tells nothing.
pub struct Collector {
    hist: Hist,
    comms: Vec<String>,
    names: Names,
}

impl Collector {
    /// Nothing yet. `comms`: the commands whose connections count; empty: all.
    pub fn new(by: Option<By>, comms: Vec<String>, places: Places) -> Self {
        Self { hist: Hist::new(by), comms, names: Names { places, known: HashMap::new() } }
    }

    /// As [`Hist::finish`].
    pub fn finish(self, kernel: Option<&Matrix>, most: usize) -> Report {
        let Self { hist, mut names, .. } = self;
        hist.finish(kernel, most, &mut names)
    }

    fn takes(comms: &[String], entry: &Entry) -> bool {
        let owner = entry.who.owner.as_ref();
        comms.is_empty() || owner.is_some_and(|owner| comms.iter().any(|comm| **comm == *owner.process.comm))
    }
}

impl Sink for Collector {
    fn entry(&mut self, entry: &Entry) -> io::Result<Next> {
        // Somebody asked for these; nothing happened.
        if !matches!(entry.what, What::State { .. }) && Self::takes(&self.comms, entry) {
            self.hist.entry(entry, &mut self.names);
        }
        Ok(Next::Continue)
    }

    fn lost(&mut self, _: u64, _: &LostCounts) -> io::Result<()> {
        Ok(())
    }

    fn counted(&mut self, reading: &Reading<'_>) -> io::Result<()> {
        if reading.last {
            let Self { hist, comms, names } = self;
            reading.ledger.states(reading.now_ns, |entry| {
                if Self::takes(comms, &entry) {
                    hist.open(&entry, names);
                }
            });
        }
        Ok(())
    }

    fn resynced(&mut self, _: u64, _: &Resync, _: &mut dyn Surroundings) -> io::Result<Next> {
        Ok(Next::Continue)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Units and containers by process, each name once.
struct Names {
    places: Places,
    known: HashMap<Box<str>, Arc<str>>,
}

/// More names than this are made again when they are needed.
const MAX_NAMES: usize = 4096;

impl Containers for Names {
    fn of(&mut self, process: &Arc<Process>) -> Option<Arc<str>> {
        let place = self.places.of_owner(process)?;
        if let Some(name) = self.known.get(place.name()) {
            return Some(Arc::clone(name));
        }
        if self.known.len() >= MAX_NAMES {
            self.known.clear();
        }
        let name: Arc<str> = place.name().into();
        self.known.insert(place.name().into(), Arc::clone(&name));
        Some(name)
    }
}
