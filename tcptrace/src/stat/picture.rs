//! One look at all sockets: counted as they come. Only their cookies are kept, so that a million of them need some 20 MB.

use super::{
    Tally,
    by::{By, Groups, Listeners, Owners, Top},
    queues::{Queue, Queues},
};
use crate::{
    sight::{Sight, Taken},
    source::filter::FilterSpec,
};
use hashbrown::HashSet;

/// Counts sockets that pass a filter, each once: a socket that changes its kind while the kernel lists them, and every
/// one after the kernel has begun its list again, comes twice.
pub struct Count<'a> {
    filter: &'a FilterSpec,
    by: Option<(By, &'a Listeners, &'a dyn Owners)>,
    all: Tally,
    groups: Groups,
    queues: Queues,
    /// Namespace and cookie: before 5.13 each namespace gave its own.
    seen: HashSet<(u32, u64)>,
    taken: Option<Taken>,
}

impl<'a> Count<'a> {
    /// Nothing counted yet. `by`: how to group, who listens where, and whose sockets are.
    pub fn new(filter: &'a FilterSpec, by: Option<(By, &'a Listeners, &'a dyn Owners)>) -> Self {
        Self {
            filter,
            by,
            all: Tally::default(),
            groups: Groups::default(),
            queues: Queues::default(),
            seen: HashSet::new(),
            taken: None,
        }
    }

    /// Looks at a socket.
    pub fn add(&mut self, sight: &Sight) {
        if !self.filter.matches(sight) || !self.seen.insert((sight.netns, sight.cookie)) {
            return;
        }
        self.all.add(sight);
        self.queues.add(sight);
        if let Some((by, listeners, owners)) = self.by {
            self.groups.add(by.key(sight, listeners, owners), sight);
        }
    }

    /// Widens the time in which the sockets were looked at.
    pub fn took(&mut self, taken: Taken) {
        let so_far = self.taken.unwrap_or(taken);
        self.taken =
            Some(Taken { from_ns: so_far.from_ns.min(taken.from_ns), to_ns: so_far.to_ns.max(taken.to_ns) });
    }

    /// What it comes to, with the `top` largest groups.
    pub fn finish(self, top: usize) -> Picture {
        let (queues, queues_beyond) = self.queues.fullest_first();
        Picture {
            all: self.all,
            groups: self.by.map(|(by, ..)| (by, self.groups.top(top))),
            queues,
            queues_beyond,
            taken: self.taken.unwrap_or_default(),
        }
    }
}

/// All sockets that pass the filter, at one moment.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Counted by state.
    pub all: Tally,
    /// Grouped, where that was asked for.
    pub groups: Option<(By, Top<Tally>)>,
    /// The listeners' queues, the fullest first.
    pub queues: Vec<Queue>,
    /// Listeners whose queues were not kept.
    pub queues_beyond: u64,
    /// When.
    pub taken: Taken,
}

impl Picture {
    /// How many listeners have a full accept queue.
    pub fn full_queues(&self) -> usize {
        self.queues.iter().filter(|queue| queue.is_full()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{by::NoOwners, tests::*},
        *,
    };
    use crate::event::TcpState;

    #[test]
    fn what_comes_twice_counts_once() {
        let filter = FilterSpec::default();
        let mut count = Count::new(&filter, None);
        let listener = sight(TcpState::Listen, "0.0.0.0:80", "0.0.0.0:0");
        let elsewhere = Sight { netns: 8, ..listener };
        for sight in [listener, elsewhere, listener] {
            count.add(&sight);
        }
        let picture = count.finish(0);
        assert_eq!((picture.all.total(), picture.queues.len()), (2, 2));
    }

    #[test]
    fn what_the_filter_holds_back_is_nowhere() {
        let filter = FilterSpec { lport: vec![80..=80], ..FilterSpec::default() };
        let listeners = Listeners::from_iter([(7, 80), (7, 81)]);
        let mut count = Count::new(&filter, Some((By::Port, &listeners, &NoOwners)));
        for local in ["0.0.0.0:80", "0.0.0.0:81"] {
            count.add(&sight(TcpState::Listen, local, "0.0.0.0:0"));
        }
        count.add(&sight(TcpState::TimeWait, "10.0.0.1:80", "10.0.0.9:5"));
        count.add(&sight(TcpState::TimeWait, "10.0.0.1:81", "10.0.0.9:5"));
        count.took(Taken { from_ns: 5, to_ns: 6 });
        count.took(Taken { from_ns: 3, to_ns: 4 });
        let picture = count.finish(20);
        assert_eq!((picture.all.total(), picture.queues.len()), (2, 1));
        let (_, top) = picture.groups.expect("asked for");
        assert_eq!((top.groups.len(), top.groups[0].1.total()), (1, 2));
        assert_eq!(picture.taken, Taken { from_ns: 3, to_ns: 6 });
    }
}
