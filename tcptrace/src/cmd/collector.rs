//! What `hist` and `diff` share: a run's entries into counts and times.

use crate::{
    enrich::Places,
    flow::{Entry, What, totals::Matrix},
    hist::{By, Containers, Hist, Report},
    process::Process,
    run::{Looked, Next, Reading, Sink, report::Resync},
    source::{netns::Limits, surroundings::Surroundings},
    summary::LostCounts,
};
use hashbrown::{HashMap, HashSet};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
};

/// Takes what a run says, and tells nothing.
pub struct Collector {
    hist: Hist,
    comms: Vec<String>,
    names: Names,
    /// Of the last list of all sockets.
    settings: Settings,
    /// Namespaces that had sockets in it.
    used: HashSet<u32>,
    /// The settings of all namespaces when it began.
    now: HashMap<u32, Arc<Limits>>,
}

/// The values of each setting, over all namespaces with sockets.
pub type Settings = BTreeMap<&'static str, BTreeSet<String>>;

impl Collector {
    /// Nothing yet. `comms`: the commands whose connections count; empty: all.
    pub fn new(by: Option<By>, comms: Vec<String>, places: Places) -> Self {
        let names = Names { places, known: HashMap::new() };
        Self {
            hist: Hist::new(by),
            comms,
            names,
            settings: Settings::new(),
            used: HashSet::new(),
            now: HashMap::new(),
        }
    }

    /// What the settings were at the last list of all sockets that had any.
    pub fn settings(&self) -> &Settings {
        &self.settings
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
            let Self { hist, comms, names, .. } = self;
            reading.ledger.states(reading.now_ns, |entry| {
                if Self::takes(comms, &entry) {
                    hist.open(&entry, names);
                }
            });
        }
        Ok(())
    }

    fn looking(&mut self, surroundings: &mut dyn Surroundings) -> io::Result<()> {
        self.now = surroundings.settings();
        self.used.clear();
        Ok(())
    }

    fn looked_at(&mut self, look: &Looked<'_>) {
        self.used.insert(look.sight.netns);
    }

    fn resynced(&mut self, _: u64, _: &Resync, _: &mut dyn Surroundings) -> io::Result<Next> {
        let mut settings = Settings::new();
        for limits in self.used.iter().filter_map(|netns| self.now.get(netns)) {
            for (name, value) in limits.each() {
                settings.entry(name).or_default().insert(value);
            }
        }
        if !settings.is_empty() {
            self.settings = settings;
        }
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
    fn of(&mut self, process: &Process) -> Option<Arc<str>> {
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
