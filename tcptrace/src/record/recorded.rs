//! The machine as a recording has it: the answers that were given then.

use super::frame::{Around, Namespaces};
use crate::source::{
    counters::{Counters, Settings, Sockstat},
    details::SocketDetail,
    netns::Limits,
    surroundings::{Pair, Space, Surroundings},
};
use hashbrown::HashMap;
use std::{net::IpAddr, sync::Arc};

/// Answers what was asked when the recording was made; anything else is unknown.
#[derive(Default)]
pub struct Recorded {
    namespaces: Namespaces,
    around: Around,
    before: HashMap<u32, Counters>,
    /// By namespace and cookie; of the list that has ended last.
    details: HashMap<u32, HashMap<u64, SocketDetail>>,
    /// Of the one that runs.
    coming: HashMap<u32, HashMap<u64, SocketDetail>>,
}

impl Recorded {
    /// A list of all sockets begins.
    pub fn looking(&mut self, namespaces: Namespaces) {
        self.namespaces = namespaces;
    }

    /// Sockets told something of themselves.
    pub fn detailed(&mut self, netns: u32, details: &[SocketDetail]) {
        self.coming.entry(netns).or_default().extend(details.iter().map(|detail| (detail.cookie, *detail)));
    }

    /// It has ended.
    pub fn looked(&mut self, around: Around) {
        self.details = std::mem::take(&mut self.coming);
        let before = std::mem::replace(&mut self.around, around);
        self.before = before.counters.into_iter().collect();
    }
}

impl Surroundings for Recorded {
    fn settings(&mut self) -> HashMap<u32, Arc<Limits>> {
        self.namespaces.settings.iter().map(|(netns, limits)| (*netns, Arc::new(limits.clone()))).collect()
    }

    fn tick_ns(&mut self) -> Option<u64> {
        self.namespaces.tick_ns
    }

    fn details(&mut self, netns: u32) -> Option<HashMap<u64, SocketDetail>> {
        self.details.get(&netns).cloned()
    }

    fn routes(&mut self, netns: u32, peers: &[IpAddr]) -> Vec<Option<u16>> {
        let known = |peer: &IpAddr| {
            let of = |(of, to, _): &&(u32, IpAddr, Option<u16>)| *of == netns && to == peer;
            self.around.routes.iter().find(of).and_then(|(_, _, errno)| *errno)
        };
        peers.iter().map(known).collect()
    }

    fn spaces(&mut self) -> Vec<Space> {
        self.around.spaces.clone()
    }

    fn counters(&mut self) -> HashMap<u32, Pair> {
        let age = |netns| self.around.ages.iter().find(|(of, _)| *of == netns).map(|(_, age_ns)| *age_ns);
        let pair = |(netns, now): &(u32, Counters)| {
            let before = self.before.get(netns).cloned().zip(age(*netns));
            (*netns, (now.clone(), before))
        };
        self.around.counters.iter().map(pair).collect()
    }

    fn whole(&mut self) -> (Sockstat, Settings) {
        self.around.whole
    }
}
