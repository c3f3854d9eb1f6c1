//! What earlier looks showed: since when a queue is full, how many leaked sockets there were.

use super::case::Case;
use crate::event::TcpState;
use hashbrown::HashMap;

/// Things remembered; what is beyond is not.
const MAX_REMEMBERED: usize = 16_384;

/// How many sockets a process had in CLOSE_WAIT at a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// When that was, on the boot-time clock.
    pub at_ns: u64,
    /// How many.
    pub count: u64,
}

/// Whose sockets, and on which local port (0: its own, toward others).
pub type Holding = (u32, u32, u16);

/// What earlier looks showed.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Listeners whose accept queue is full, by cookie: since when at every look, on the boot-time clock.
    full_since_ns: HashMap<u64, u64>,
    /// Sockets in CLOSE_WAIT at the first look that found any, by holder.
    close_wait: HashMap<Holding, Earlier>,
}

impl Memory {
    /// Takes a look in.
    pub(super) fn remember(&mut self, now_ns: u64, cases: &[Case], listeners: &[Case]) {
        let full: HashMap<u64, u64> = listeners
            .iter()
            .filter(|case| is_full(case))
            .take(MAX_REMEMBERED)
            .map(|case| {
                let cookie = case.sight.cookie;
                (cookie, self.full_since_ns.get(&cookie).copied().unwrap_or(case.taken_ns))
            })
            .collect();
        self.full_since_ns = full;
        let counts = holdings(cases);
        self.close_wait.retain(|holding, _| counts.contains_key(holding));
        for (holding, count) in counts {
            if self.close_wait.len() < MAX_REMEMBERED {
                self.close_wait.entry(holding).or_insert(Earlier { at_ns: now_ns, count });
            }
        }
    }

    /// Since when this listener's queue is full.
    pub fn full_since_ns(&self, case: &Case) -> Option<u64> {
        self.full_since_ns.get(&case.sight.cookie).copied()
    }

    /// What the first look showed of this holder's sockets in CLOSE_WAIT.
    pub fn close_wait(&self, holding: &Holding) -> Option<Earlier> {
        self.close_wait.get(holding).copied()
    }
}

/// The kernel takes a connection more than the limit (sk_acceptq_is_full is `>`): at the limit one still fits.
pub fn is_full(listener: &Case) -> bool {
    listener.sight.receive_queue > listener.sight.send_queue
}

/// Who has a socket in CLOSE_WAIT, and on which service; `None`: nobody knows.
pub fn holding(case: &Case) -> Option<Holding> {
    let pid = match (&case.holder, &case.told.owner) {
        (Some(holder), _) => holder.process.pid,
        (None, Some(owner)) => owner.process.pid,
        (None, None) => return None,
    };
    let place = super::history::Place::of(case.sight.netns, &case.sight.ends, case.told.role);
    Some((case.sight.netns, pid, place.port))
}

/// Sockets in CLOSE_WAIT by holder.
pub fn holdings(cases: &[Case]) -> HashMap<Holding, u64> {
    let mut counts = HashMap::new();
    for holding in cases.iter().filter(|case| case.sight.state == TcpState::CloseWait).filter_map(holding) {
        *counts.entry(holding).or_default() += 1;
    }
    counts
}
