//! Everything at one moment, as the rules look at it: the sockets that may be stuck, who listens, what is used up, what
//! happened in the last seconds.

use super::{
    case::Case,
    history::{Burst, Failed, WINDOW_NS},
    memory::{Holding, Memory},
    rules::half_open::{Trouble, troubles},
};
use crate::{
    event::Ends,
    flow::{FlowId, Told},
    sight::{Kind, Sight, Taken},
    source::{
        counters::{Counters, Settings as MachineSettings, Sockstat},
        holders::Holder,
        netns::Limits as Settings,
    },
};
use hashbrown::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

/// One destination as seen from one local address: its connections need a local port each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Toward {
    /// Inode number of the namespace.
    pub netns: u32,
    /// Local address.
    pub local: [u8; 16],
    /// Remote address.
    pub remote: [u8; 16],
    /// Remote port.
    pub rport: u16,
}

/// Local ports in use toward one destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// By connections of any state, ports of the range that connect() picks from only.
    pub ports: u64,
    /// Of those in TIME_WAIT.
    pub time_wait: TimeWaits,
}

/// Sockets in TIME_WAIT, and when they end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeWaits {
    /// How many.
    pub count: u64,
    /// The first of them ends in so many milliseconds.
    pub first_ms: u32,
    /// The last.
    pub last_ms: u32,
}

impl TimeWaits {
    /// One more.
    pub fn add(&mut self, sight: &Sight) {
        let ms = sight.timer.map_or(0, |timer| timer.expires_ms);
        self.first_ms = if self.count == 0 { ms } else { self.first_ms.min(ms) };
        self.last_ms = self.last_ms.max(ms);
        self.count += 1;
    }
}

/// Connections with unread bytes: in which namespace, what is known of them, and how many bytes.
pub(super) type Readers = HashMap<Ends, Vec<(u32, Told, Option<Holder>, u32)>>;

/// What the whole machine shows.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Orphans, and memory in pages.
    pub sockstat: Sockstat,
    /// Their limits; only the first namespace shows them.
    pub settings: MachineSettings,
}

/// The kernel's counters of one namespace.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// Now.
    pub now: Counters,
    /// At the look before, and how long ago that was, in nanoseconds.
    pub before: Option<(Counters, u64)>,
}

impl Counted {
    /// What was added since the look before, and in what time.
    pub fn added(&self, name: &str) -> Option<(u64, u64)> {
        let (before, ns) = self.before.as_ref()?;
        Some((self.now.get(name)?.saturating_sub(before.get(name)?), *ns))
    }
}

/// What is around the sockets.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// The machine's limits.
    pub machine: Machine,
    /// Counters by namespace.
    pub counters: HashMap<u32, Counted>,
    /// What events told; `None`: nothing was traced.
    pub traced: Option<Traced>,
}

/// What events told of the last seconds.
#[derive(Clone, Debug, Default)]
pub struct Traced {
    /// For how long we have watched, in nanoseconds.
    pub watched_ns: u64,
    /// By place.
    pub bursts: Vec<Burst>,
    /// Sends that failed, by flow.
    pub failed: HashMap<FlowId, Failed>,
    /// Events that were lost meanwhile.
    pub lost: u64,
}

impl Traced {
    /// Of a number that makes a burst within the window: as much as the time we have watched is of it, at least half.
    pub fn burst(&self, many: u64) -> u64 {
        let share = u128::from(many) * u128::from(self.watched_ns) / u128::from(WINDOW_NS);
        u64::try_from(share).unwrap_or(many).clamp(many / 2, many)
    }
}

/// Everything at one moment.
#[derive(Debug)]
pub struct Scene {
    /// Now, on the boot-time clock, in nanoseconds.
    pub now_ns: u64,
    /// Sockets looked at.
    pub sockets: u64,
    /// When.
    pub taken: Taken,
    /// Those that may be stuck.
    pub cases: Vec<Case>,
    /// Those that listen.
    pub listeners: Vec<Case>,
    /// By namespace.
    pub settings: HashMap<u32, Arc<Settings>>,
    pub(super) by_ends: HashMap<Ends, Vec<usize>>,
    pub(super) readers: Readers,
    pub(super) locals: HashSet<(u32, [u8; 16])>,
    /// Sockets in CLOSE_WAIT by holder.
    pub holdings: HashMap<Holding, u64>,
    pub(super) troubles: OnceLock<HashMap<(u32, u16), Trouble>>,
    /// Ports in use, by destination.
    pub toward: HashMap<Toward, Used>,
    /// TIME_WAIT by namespace.
    pub time_wait: HashMap<u32, TimeWaits>,
    /// Namespaces and ports where connections wait to be accepted, and how long one of them has at least, in nanoseconds.
    pub unaccepted: HashMap<(u32, u16), Option<u64>>,
    /// What counts as stuck, instead of the limits of the namespaces.
    pub older_than_ns: Option<u64>,
    /// What is around.
    pub around: Around,
    /// What earlier looks showed.
    pub remembered: Memory,
}

impl Scene {
    /// The other end of a connection, if it is on this host too and may be stuck itself. Namespaces may use the same
    /// addresses: of several that fit none is taken.
    pub fn other_end(&self, case: &Case) -> Option<&Case> {
        let ends = case.sight.ends.turned_round();
        match self.by_ends.get(&ends).map(Vec::as_slice) {
            Some([one]) => self.cases.get(*one),
            _ => None,
        }
    }

    /// The other end, where it has bytes that its program has not read: how many, and whose it is.
    pub fn reader(&self, case: &Case) -> Option<(u32, Option<String>)> {
        let ends = case.sight.ends.turned_round();
        let Some([(_, told, holder, unread)]) = self.readers.get(&ends).map(Vec::as_slice) else {
            return None;
        };
        let name = match (holder, &told.owner) {
            (Some(holder), _) => Some(format!("{}/{}", holder.process.comm, holder.process.pid)),
            (None, Some(owner)) => Some(format!("{}/{}", owner.process.comm, owner.process.pid)),
            (None, None) => None,
        };
        Some((*unread, name))
    }

    /// Requests that a listener's port has half open.
    pub fn half_open(&self, netns: u32, port: u16) -> impl Iterator<Item = &Case> {
        self.cases.iter().filter(move |case| {
            case.sight.kind == Kind::Request && case.sight.netns == netns && case.sight.ends.lport == port
        })
    }

    /// Who listens on this port there.
    pub fn listener(&self, netns: u32, port: u16) -> Option<&Case> {
        self.listeners.iter().find(|case| case.sight.netns == netns && case.sight.ends.lport == port)
    }

    /// What is the matter with the half-open requests of this port; asked once for each of them, so reckoned once for all.
    pub(super) fn trouble(&self, netns: u32, port: u16) -> Trouble {
        let troubles = self.troubles.get_or_init(|| troubles(self));
        troubles.get(&(netns, port)).copied().unwrap_or(Trouble::Unanswered)
    }

    /// This listener is where connections to that address come in: the address is this namespace's.
    pub fn listens_at(&self, listener: &Case, address: [u8; 16]) -> bool {
        listener.sight.ends.local == address || self.locals.contains(&(listener.sight.netns, address))
    }

    /// What could not be sent of this socket.
    pub fn failed(&self, case: &Case) -> Option<Failed> {
        self.around.traced.as_ref()?.failed.get(&FlowId::Cookie(case.sight.cookie)).copied()
    }
}
