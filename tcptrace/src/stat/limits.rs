//! What is used of what the kernel allows.

use crate::source::{counters::Settings, surroundings::Space};

/// So many of at most so many; `None`: it cannot be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Now.
    pub used: Option<u64>,
    /// At most.
    pub limit: Option<u64>,
}

impl Use {
    /// Hundredths of the limit, cut. A limit of 0 has none.
    pub fn percent(self) -> Option<u64> {
        let (used, limit) = (u128::from(self.used?), u128::from(self.limit?));
        u64::try_from((used * 100).checked_div(limit)?).ok()
    }
}

/// TCP's memory, in pages, against tcp_mem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Allocated now.
    pub pages: Option<u64>,
    /// Below `low` nothing is limited; above `pressure` buffers stop to grow, until it is below `low` again; above `high`
    /// segments are dropped and orphans reset.
    pub marks: Option<[u64; 3]>,
}

/// Use against limits. All of it is about whole namespaces or the whole machine, whatever a filter says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Timewait buckets of each namespace, the fullest first. FIN_WAIT2 minisockets take one, too.
    pub timewait: Vec<(u32, Use)>,
    /// Orphans of the machine.
    pub orphans: Use,
    /// Memory of the machine.
    pub memory: Memory,
    /// Full sockets of the machine in no state: made and never bound to a connection, or closed and still held. `None`
    /// unless every namespace was looked at.
    pub no_state: Option<u64>,
}

impl Limits {
    /// From what was seen. `first`: settings of the first namespace, the only one that shows those of the machine;
    /// `all`: no namespace is missing.
    pub fn new(spaces: &[Space], first: Settings, all: bool) -> Self {
        let mut timewait: Vec<_> = spaces
            .iter()
            .map(|space| {
                let of = Use { used: space.sockstat.timewait, limit: space.settings.max_tw_buckets };
                (space.netns, of)
            })
            .collect();
        timewait.sort_by_key(|(netns, of)| (std::cmp::Reverse((of.percent(), of.used)), *netns));
        let own = spaces.first().cloned().unwrap_or_default();
        let in_use: Option<u64> = spaces.iter().map(|space| space.sockstat.in_use).sum();
        let no_state = own.sockstat.allocated.zip(in_use).map(|(all, held)| all.saturating_sub(held));
        Self {
            timewait,
            orphans: Use { used: own.sockstat.orphans, limit: first.max_orphans },
            memory: Memory { pages: own.sockstat.memory_pages, marks: first.memory },
            no_state: no_state.filter(|_| all && !spaces.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::counters::Sockstat;

    fn space(netns: u32, timewait: u64, limit: u64) -> Space {
        let sockstat = Sockstat {
            in_use: Some(3),
            orphans: Some(4),
            timewait: Some(timewait),
            allocated: Some(8),
            memory_pages: Some(259),
        };
        let settings = Settings { max_tw_buckets: Some(limit), ..Settings::default() };
        Space { netns, label: String::new(), sockstat, settings }
    }

    #[test]
    fn percents_are_cut_and_unknown_stays_unknown() {
        let percent = |used, limit| Use { used, limit }.percent();
        assert_eq!(percent(Some(999), Some(1000)), Some(99));
        assert_eq!(percent(Some(u64::MAX), Some(1)), None, "beyond any number of ours");
        assert_eq!(percent(Some(u64::MAX), Some(u64::MAX)), Some(100));
        assert_eq!(
            (percent(Some(1), Some(0)), percent(None, Some(1)), percent(Some(1), None)),
            (None, None, None)
        );
    }

    #[test]
    fn namespaces_have_buckets_of_their_own() {
        let first = Settings { max_orphans: Some(100), memory: Some([1, 2, 3]), ..Settings::default() };
        let spaces = [space(7, 10, 1000), space(8, 10, 20)];
        let limits = Limits::new(&spaces, first, false);
        assert_eq!(limits.timewait.iter().map(|(netns, _)| *netns).collect::<Vec<_>>(), [8, 7]);
        assert_eq!(limits.orphans, Use { used: Some(4), limit: Some(100) });
        assert_eq!(limits.memory, Memory { pages: Some(259), marks: Some([1, 2, 3]) });
        assert_eq!(limits.no_state, None, "other namespaces may have some");
        assert_eq!(Limits::new(&spaces, first, true).no_state, Some(2));
        assert_eq!(Limits::new(&[], first, true).no_state, None);
        let unknown = Limits::new(&spaces, Settings::default(), false);
        assert_eq!((unknown.orphans.limit, unknown.memory.marks), (None, None));
    }
}
