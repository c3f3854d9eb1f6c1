//! What is around the sockets of each namespace: its settings, its counters, and the machine's limits.

use super::{
    counters::{Counters, Settings, Sockstat},
    live::boot_time_ns,
    netns::{Limits, Namespace, limits},
};
use hashbrown::HashMap;
use std::{collections::BTreeSet, sync::Arc};

/// Reads them again and again. Holds no namespace in between.
pub struct Surroundings {
    /// Empty: every namespace.
    wanted: BTreeSet<u32>,
    found: Vec<Namespace>,
    before: HashMap<u32, (Counters, u64)>,
}

/// The counters of one namespace, and what they were at the look before with its age in nanoseconds.
pub type Pair = (Counters, Option<(Counters, u64)>);

impl Surroundings {
    /// Of these namespaces, or (if there are none) of all.
    pub fn new(wanted: &BTreeSet<u32>) -> Self {
        Self { wanted: wanted.clone(), found: Vec::new(), before: HashMap::new() }
    }

    /// Finds the namespaces, and reads their settings. One that may not be entered has none.
    pub fn settings(&mut self) -> HashMap<u32, Arc<Limits>> {
        let found = Namespace::all().map(|all| all.found).unwrap_or_default();
        self.found = found
            .into_iter()
            .filter(|namespace| self.wanted.is_empty() || self.wanted.contains(&namespace.inode()))
            .collect();
        let of = |namespace: &Namespace| Some((namespace.inode(), Arc::new(limits(namespace).ok()?)));
        self.found.iter().filter_map(of).collect()
    }

    /// One of the namespaces that were found.
    pub fn namespace(&self, netns: u32) -> Option<&Namespace> {
        self.found.iter().find(|namespace| namespace.inode() == netns)
    }

    /// Reads the counters, and lets go of the namespaces.
    pub fn counters(&mut self) -> HashMap<u32, Pair> {
        let mut counted = HashMap::new();
        for namespace in std::mem::take(&mut self.found) {
            let Ok(Ok(now)) = namespace.enter(Counters::read) else { continue };
            let now_ns = boot_time_ns();
            let before = self.before.insert(namespace.inode(), (now.clone(), now_ns));
            let before = before.map(|(counters, at_ns)| (counters, now_ns.saturating_sub(at_ns)));
            counted.insert(namespace.inode(), (now, before));
        }
        self.before.retain(|netns, _| counted.contains_key(netns));
        counted
    }
}

/// Orphans and memory of the whole machine, and their limits.
pub fn machine() -> (Sockstat, Settings) {
    (Sockstat::read().unwrap_or_default(), machine_settings())
}

/// The limits of the whole machine, as far as this process may read them: only the first namespace shows them.
pub fn machine_settings() -> Settings {
    let own = Settings::read();
    if own.max_orphans.is_some() {
        return own;
    }
    Namespace::open("1").and_then(|first| first.enter(Settings::read)).unwrap_or(own)
}
