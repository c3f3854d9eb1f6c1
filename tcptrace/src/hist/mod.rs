//! How often and for how long: transitions by pair of states, times in states, for all flows or by group. Pure, as the
//! ledger is.

pub mod dwell;
pub mod group;
pub mod spell;
pub mod tally;

pub use dwell::Dwell;
pub use group::{By, Containers, NoContainers};
pub use spell::{Spell, Spells, Time};
pub use tally::{Row, Tally, Times};

use crate::{
    event::TcpState,
    flow::{Entry, Known, What, owner::Source, totals::Matrix},
    stat::by::{Listeners, Top},
};
use group::Groups;

/// Who listens is remembered for so many ports.
const MAX_LISTENERS: usize = 65_536;

/// Collects entries.
#[derive(Debug, Default)]
pub struct Hist {
    by: Option<By>,
    spells: Spells,
    listeners: Listeners,
    all: Tally,
    groups: Groups,
}

/// What was collected.
#[derive(Clone, Debug)]
pub struct Report {
    /// All of it.
    pub all: Tally,
    /// `true`: the kernel counted the events of `all`; `false`: we did, as in every group.
    pub counted_by_kernel: bool,
    /// By what, and the groups.
    pub groups: Option<(By, Top<Tally>)>,
}

impl Hist {
    /// Nothing yet. `by`: what flows are grouped by, if at all.
    pub fn new(by: Option<By>) -> Self {
        Self { by, ..Self::default() }
    }

    /// Takes an entry.
    pub fn entry(&mut self, entry: &Entry, containers: &mut dyn Containers) {
        self.learn_listener(entry);
        let Self { by, spells, listeners, all, groups } = self;
        let mut of = |who: &_, change: &dyn Fn(&mut Tally)| {
            change(all);
            if let Some(by) = by {
                groups.change(by.key(who, listeners, containers), change);
            }
        };
        if let What::Transition { old, new, known, .. } = &entry.what
            && let Some(counted) = counted(*old, *new, *known)
        {
            let owner = entry.who.owner.as_ref();
            let guess = u64::from(owner.is_some_and(|owner| owner.source == Source::Listener));
            of(&entry.who, &|tally| {
                tally.count(counted, *known == Known::Event, 1);
                tally.guesses += guess;
            });
        }
        spells.entry(entry, &mut |who, spell| of(who, &|tally| tally.left(&spell)));
    }

    /// Takes the flows that go on when the trace ends: [`What::State`], as the ledger believes.
    pub fn open(&mut self, entry: &Entry, containers: &mut dyn Containers) {
        let Some((state, time)) = self.spells.so_far(entry) else { return };
        if state == TcpState::Close {
            return;
        }
        self.all.goes_on(state, time);
        if let Some(by) = self.by {
            let key = by.key(&entry.who, &self.listeners, containers);
            self.groups.change(key, &|tally| tally.goes_on(state, time));
        }
    }

    /// What was collected; of the groups the `most` largest. `kernel`: its own count of the events, where no condition but
    /// its filter chose the entries.
    pub fn finish(mut self, kernel: Option<&Matrix>, most: usize, containers: &mut dyn Containers) -> Report {
        let Self { by, spells, listeners, all, groups } = &mut self;
        spells.finish(&mut |who, spell| {
            all.left(&spell);
            if let Some(by) = by {
                groups.change(by.key(who, listeners, containers), &|tally| tally.left(&spell));
            }
        });
        if let Some(matrix) = kernel {
            self.all.set_events(matrix);
        }
        Report {
            all: self.all,
            counted_by_kernel: kernel.is_some(),
            groups: self.by.map(|by| (by, self.groups.top(most))),
        }
    }

    /// The port of somebody who listens is a service's.
    fn learn_listener(&mut self, entry: &Entry) {
        let listens = match &entry.what {
            What::Transition { new, .. } => *new == TcpState::Listen,
            What::Sight(seen) => seen.sight.state == TcpState::Listen,
            _ => false,
        };
        if self.by == Some(By::Port) && listens && self.listeners.len() < MAX_LISTENERS {
            self.listeners.insert((entry.who.netns, entry.who.ends.lport));
        }
    }
}

/// The pair that an entry counts for; `None`: it takes something back.
fn counted(old: TcpState, new: TcpState, known: Known) -> Option<(TcpState, TcpState)> {
    let corrected = (old, new) == (TcpState::TimeWait, TcpState::FinWait2) && known != Known::Event;
    (!corrected).then(|| (spell::shown(old), spell::shown(new)))
}

#[cfg(test)]
mod tests;
