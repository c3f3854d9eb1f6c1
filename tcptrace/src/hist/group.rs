//! Flows by group: of whom there may be more than can be kept.

use super::Tally;
use crate::{
    flow::{Role, Who},
    process::Process,
    stat::by::{Key, Listeners, Top, Why},
};
use hashbrown::HashMap;
use std::{cmp::Ordering, rc::Rc, sync::Arc};

/// Groups kept apart at once,
const MAX_GROUPS: usize = 4096;
/// and the memory that they may have. Beyond either the smaller half is counted together, and kept apart no more.
const MAX_BYTES: usize = 64 << 20;

/// What flows are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// The service's port: the local one of a connection that came in, else the remote one (→443)
    Port,
    /// The process that opened it, else the one that closed it
    Process,
    /// The container, or the unit, of that process
    Container,
    /// The remote address
    Peer,
    /// The network namespace
    Netns,
    /// Which side opened it
    Role,
}

impl By {
    /// The word users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Port => "port",
            Self::Process => "process",
            Self::Container => "container",
            Self::Peer => "peer",
            Self::Netns => "netns",
            Self::Role => "role",
        }
    }

    /// The group of a flow.
    pub fn key(self, who: &Who, listeners: &Listeners, containers: &mut dyn Containers) -> Key {
        let ends = &who.ends;
        let listening = who.role == Role::Listen;
        let owner = who.owner.as_ref().map(|owner| &owner.process);
        match self {
            Self::Port => match who.service(listeners.contains(&(who.netns, ends.lport))) {
                (true, port) => Key::Local(port),
                (false, port) => Key::Remote(port),
            },
            Self::Peer if listening => Key::None(Why::Listening),
            Self::Peer => Key::Peer(ends.remote().ip()),
            Self::Netns => Key::Netns(who.netns),
            Self::Role => Key::Role(who.role),
            Self::Process => {
                owner.map_or(Key::None(Why::Unknown), |process| Key::Process(Rc::clone(process)))
            }
            Self::Container => owner
                .and_then(|process| containers.of(process))
                .map_or(Key::None(Why::Unknown), Key::Container),
        }
    }
}

/// Where processes are.
pub trait Containers {
    /// Its container, or unit. `None`: it is not known.
    fn of(&mut self, process: &Process) -> Option<Arc<str>>;
}

/// Nothing is known of anybody.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoContainers;

impl Containers for NoContainers {
    fn of(&mut self, _: &Process) -> Option<Arc<str>> {
        None
    }
}

/// The tallies of all groups.
#[derive(Debug, Default)]
pub struct Groups {
    known: HashMap<Key, Tally>,
    /// Of `known`.
    bytes: usize,
    beyond: Tally,
    /// There were too many: what is in `beyond` may be anybody's.
    folded: bool,
}

impl Groups {
    /// Changes the tally of a group.
    pub fn change(&mut self, key: Key, change: &dyn Fn(&mut Tally)) {
        self.change_within(key, change, MAX_GROUPS, MAX_BYTES);
    }

    fn change_within(&mut self, key: Key, change: &dyn Fn(&mut Tally), groups: usize, bytes: usize) {
        let folded = self.folded;
        let mut new = false;
        let tally = self.known.entry(key).or_insert_with(|| {
            new = true;
            Tally::begun(folded)
        });
        let before = if new { 0 } else { tally.bytes() };
        change(tally);
        // A tally never shrinks.
        self.bytes += tally.bytes().saturating_sub(before);
        if self.known.len() > groups || (self.bytes > bytes && self.known.len() > 1) {
            self.fold();
        }
    }

    /// Forgets the smaller half; of equal ones always the same, so that the same entries give the same answer.
    fn fold(&mut self) {
        self.folded = true;
        let mut sizes: Vec<_> = self.known.iter().map(|(key, tally)| (tally.weight(), key)).collect();
        let last = (sizes.len() / 2).max(1) - 1;
        let (_, (weight, key), _) = sizes.select_nth_unstable_by(last, |one, other| smaller(*one, *other));
        let (weight, key) = (*weight, key.clone());
        let forgotten =
            self.known.extract_if(|other, tally| smaller((tally.weight(), other), (weight, &key)).is_le());
        for (_, tally) in forgotten {
            self.bytes = self.bytes.saturating_sub(tally.bytes());
            self.beyond.merge(&tally);
        }
    }

    /// The `most` largest groups.
    pub fn top(self, most: usize) -> Top<Tally> {
        Top::of(self.known, most, self.beyond, !self.folded, Tally::weight, Tally::merge)
    }
}

/// Which of two groups goes first; where they have the same name, too, both go.
fn smaller((weight, key): (u64, &Key), (other_weight, other): (u64, &Key)) -> Ordering {
    weight.cmp(&other_weight).then_with(|| match (key, other) {
        // There may be very many of them, and their names take long.
        (Key::Peer(key), Key::Peer(other)) => other.cmp(key),
        _ => other.order().cmp(&key.order()),
    })
}

#[cfg(test)]
mod tests;
