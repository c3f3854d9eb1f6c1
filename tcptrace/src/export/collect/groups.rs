//! The groups of `--label`: which are kept apart, and what becomes of the rest. Memory and time series are bounded, and no
//! counter of a series ever goes back.
//!
//! While there is room, a group is kept apart from the first thing that happens in it; the sockets that are there already
//! take the room in the order of how many they are. Then all others are counted together, as `other`. A group in which
//! nothing happened for [`IDLE_NS`], and that has no socket, makes room when others want it: its series end. They are not
//! added to `other`, which would look like a burst; everything was scraped long before.

use super::{
    Shown,
    label::{Key, Label, Labels},
    tally::Tally,
};
use crate::{
    flow::{Entry, Ledger, What, Who},
    hist::{Spell, Time},
    sight::Sight,
};
use hashbrown::HashMap;
use std::cmp::Reverse;
use tcptrace_common::state::{STATES, TcpState};

/// A group without a socket gives up its place after so long.
pub const IDLE_NS: u64 = 600_000_000_000;
/// Groups compared at a census; what comes after them is `other`.
const MOST_COMPARED: usize = 65_536;

/// All groups.
pub struct Groups {
    labels: Labels,
    most: usize,
    kept: Vec<Kept>,
    by_key: HashMap<Key, usize>,
    /// Without labels: everything.
    rest: Tally,
    /// Times that something was counted as `other`.
    pub overflow: u64,
    /// The same at the last census.
    overflow_before: u64,
}

struct Kept {
    key: Key,
    tally: Tally,
    began_ns: u64,
    last_ns: u64,
}

impl Groups {
    /// At most so many are kept apart.
    pub fn new(labels: &[Label], most: usize) -> Self {
        Self {
            labels: Labels::new(labels),
            most,
            kept: Vec::new(),
            by_key: HashMap::new(),
            rest: Tally::default(),
            overflow: 0,
            overflow_before: 0,
        }
    }

    /// Nothing is grouped.
    pub fn is_one(&self) -> bool {
        self.labels.is_empty()
    }

    /// Something that may tell who listens.
    pub fn told(&mut self, entry: &Entry) {
        self.labels.told(entry);
    }

    /// A socket in the kernel's list, likewise.
    pub fn seen(&mut self, sight: &Sight) {
        self.labels.seen(sight);
    }

    /// Where something that happened to this flow is counted.
    pub fn of(&mut self, who: &Who, now_ns: u64) -> &mut Tally {
        if self.labels.is_empty() {
            return &mut self.rest;
        }
        let key = self.labels.key(who);
        let index = match self.by_key.get(&key) {
            Some(index) => Some(*index),
            None => self.keep(key, now_ns),
        };
        match index.and_then(|index| self.kept.get_mut(index)) {
            Some(kept) => {
                kept.last_ns = now_ns;
                &mut kept.tally
            }
            None => {
                self.overflow += 1;
                &mut self.rest
            }
        }
    }

    /// A state was left; counted only if all of its time was seen.
    pub fn left(&mut self, who: &Who, spell: &Spell, now_ns: u64) {
        if let Time::Exact(ns) = spell.time {
            self.of(who, now_ns).dwell(spell.state, ns);
        }
    }

    /// `None`: there is no room.
    fn keep(&mut self, key: Key, now_ns: u64) -> Option<usize> {
        let index = self.kept.len();
        (index < self.most).then(|| {
            self.kept.push(Kept { key, tally: Tally::default(), began_ns: now_ns, last_ns: now_ns });
            self.by_key.insert(key, index);
            index
        })
    }

    /// Counts the sockets of every group.
    pub fn census(&mut self, ledger: &Ledger, now_ns: u64) {
        self.rest.sockets = [0; STATES];
        self.kept.iter_mut().for_each(|kept| kept.tally.sockets = [0; STATES]);
        let room = self.most.saturating_sub(self.kept.len());
        // Those that may be kept apart if they turn out to be the largest.
        let mut compared: HashMap<Key, Tally> = HashMap::new();
        ledger.states(now_ns, |entry| {
            let What::State { state, .. } = entry.what else { return };
            self.count(&entry.who, state, now_ns, room, &mut compared);
        });
        let mut compared: Vec<_> = compared.into_iter().collect();
        compared.sort_by_key(|(_, tally)| Reverse(tally.sockets.iter().sum::<u64>()));
        for (key, Tally { sockets, .. }) in compared {
            match self.keep(key, now_ns).and_then(|index| self.kept.get_mut(index)) {
                Some(kept) => kept.tally.sockets = sockets,
                None => self.rest.sockets.iter_mut().zip(sockets).for_each(|(sum, count)| *sum += count),
            }
        }
        self.make_room(now_ns);
    }

    fn count(
        &mut self,
        who: &Who,
        state: TcpState,
        now_ns: u64,
        room: usize,
        compared: &mut HashMap<Key, Tally>,
    ) {
        if self.labels.is_empty() {
            return self.rest.socket(state);
        }
        let key = self.labels.key(who);
        if let Some(kept) = self.by_key.get(&key).and_then(|index| self.kept.get_mut(*index)) {
            kept.last_ns = now_ns;
            kept.tally.socket(state);
        } else if room > 0 && (compared.len() < MOST_COMPARED || compared.contains_key(&key)) {
            compared.entry(key).or_default().socket(state);
        } else {
            self.rest.socket(state);
        }
    }

    /// Gives up idle groups, if others want their place.
    fn make_room(&mut self, now_ns: u64) {
        let wanted = self.overflow > self.overflow_before;
        self.overflow_before = self.overflow;
        if self.kept.len() < self.most || !wanted {
            return;
        }
        self.kept.retain(|kept| now_ns.saturating_sub(kept.last_ns) < IDLE_NS);
        self.by_key = self.kept.iter().enumerate().map(|(index, kept)| (kept.key, index)).collect();
    }

    /// The time series of every group. `first_ns`: when everything began.
    pub fn show(&self, first_ns: u64, shown: &mut Shown<'_>) {
        let one = self.labels.is_empty();
        shown.group(self.labels.values(None), None);
        self.rest.show(one, shown);
        for kept in &self.kept {
            let later = (kept.began_ns > first_ns).then_some(kept.began_ns);
            shown.group(self.labels.values(Some(&kept.key)), later);
            kept.tally.show(false, shown);
        }
    }
}
