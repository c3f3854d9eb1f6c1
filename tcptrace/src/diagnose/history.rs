//! What events told in the last seconds that no socket shows afterwards: refused connects, RSTs, sends that failed.

use crate::{
    event::{Carrier, Direction, Ends, TcpState},
    flow::{Closed, Entry, FlowId, Role, What, Who, cause::Cause, owner::Owner},
};
use hashbrown::{HashMap, hash_map::Entry as Slot};
use hashlink::LruCache;
use std::collections::VecDeque;

/// How far back a burst reaches.
pub const WINDOW_NS: u64 = 10_000_000_000;
/// Bursts are counted in steps of this.
const STEP_NS: u64 = 500_000_000;
/// Places that are told apart; what is beyond is counted as one.
const MAX_PLACES: usize = 1024;
/// Sockets whose failed sends are remembered.
const MAX_FAILED: usize = 4096;

/// A service: where its sockets are, and its address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Inode number of the namespace.
    pub netns: u32,
    /// The service is ours: connections come in.
    pub incoming: bool,
    /// Address of the service: of the peer, or our own.
    pub addr: [u8; 16],
    /// Port of the service.
    pub port: u16,
}

impl Place {
    /// The service that this flow belongs to: what it connected to, or the port that it came in on.
    pub fn of(netns: u32, ends: &Ends, role: Role) -> Self {
        // Of what is older than the trace the lower port is the service's, in all likelihood.
        let incoming = match role {
            Role::Active => false,
            Role::Passive | Role::Listen => true,
            Role::Unknown => ends.lport < ends.rport,
        };
        let (addr, port) = if incoming { (ends.local, ends.lport) } else { (ends.remote, ends.rport) };
        Self { netns, incoming, addr, port }
    }

    /// Ends of which only those of the service are set.
    pub fn ends(&self) -> Ends {
        if self.incoming {
            Ends { local: self.addr, lport: self.port, ..Ends::default() }
        } else {
            Ends { remote: self.addr, rport: self.port, ..Ends::default() }
        }
    }
}

/// Numbers of the last [`WINDOW_NS`].
#[derive(Clone, Debug, Default)]
struct Recent(VecDeque<(u64, u64)>);

impl Recent {
    fn add(&mut self, now_ns: u64) {
        let step = now_ns / STEP_NS;
        match self.0.back_mut() {
            Some((last, count)) if *last >= step => *count += 1,
            _ => self.0.push_back((step, 1)),
        }
        // Whoever looks rarely would keep what no look counts any more.
        while self.0.front().is_some_and(|(first, _)| *first + WINDOW_NS / STEP_NS < step) {
            self.0.pop_front();
        }
    }

    /// How many there were, and since when (the step of the first).
    fn within(&mut self, now_ns: u64) -> (u64, u64) {
        let oldest = now_ns.saturating_sub(WINDOW_NS) / STEP_NS;
        while self.0.front().is_some_and(|(step, _)| *step < oldest) {
            self.0.pop_front();
        }
        let first = self.0.front().map_or(now_ns, |(step, _)| step * STEP_NS);
        (self.0.iter().map(|(_, count)| count).sum(), first)
    }

    /// The most of them within a second.
    fn at_once(&self) -> u64 {
        let next =
            |step: u64| self.0.iter().find(|(other, _)| *other == step + 1).map_or(0, |(_, count)| *count);
        self.0.iter().map(|(step, count)| count + next(*step)).max().unwrap_or(0)
    }
}

/// What happened at one place.
#[derive(Clone, Debug, Default)]
struct Happened {
    refused: Recent,
    closed: Recent,
    sent: Recent,
    received: Recent,
    unheard: Recent,
    /// Why: the last cause.
    sent_cause: Option<Cause>,
    owner: Option<Owner>,
}

/// What happened at one place in the last seconds.
#[derive(Clone, Debug)]
pub struct Burst {
    /// Where.
    pub place: Place,
    /// Connects that were refused.
    pub refused: u64,
    /// The most of them within a second.
    pub refused_at_once: u64,
    /// Connections that ended, however.
    pub closed: u64,
    /// Connections that our side reset.
    pub sent: u64,
    /// Connections that the peer reset.
    pub received: u64,
    /// RSTs sent because there was no socket.
    pub unheard: u64,
    /// The most of them within a second.
    pub unheard_at_once: u64,
    /// The last cause of a reset that we sent.
    pub sent_cause: Option<Cause>,
    /// Whose the last one was.
    pub owner: Option<Owner>,
    /// Since when, on the boot-time clock: the first within the window.
    pub since_ns: u64,
}

/// A retransmission that could not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed {
    /// How often, since we watch.
    pub count: u32,
    /// The last errno, positive.
    pub errno: u16,
}

/// What is remembered.
#[derive(Debug)]
pub struct History {
    places: HashMap<Place, Happened>,
    /// Events at places beyond the limit.
    pub beyond: u64,
    failed: LruCache<FlowId, Failed>,
}

impl Default for History {
    fn default() -> Self {
        Self { places: HashMap::new(), beyond: 0, failed: LruCache::new(MAX_FAILED) }
    }
}

impl History {
    /// Takes an entry in.
    pub fn take(&mut self, entry: &Entry) {
        match &entry.what {
            What::Close(closed) => self.close(entry.time_ns, &entry.who, closed),
            What::Retransmit(event) => {
                if let Some(err) = event.err.filter(|err| *err < 0) {
                    let errno = err.unsigned_abs() as u16;
                    let count = self.failed.get(&entry.who.id).map_or(0, |failed| failed.count);
                    self.failed.insert(entry.who.id, Failed { count: count.saturating_add(1), errno });
                }
            }
            What::Reset(reset) if reset.direction == Direction::Sent && reset.carrier == Carrier::None => {
                let place = Place::of(entry.who.netns, &entry.who.ends, Role::Listen);
                let time_ns = entry.time_ns;
                if let Some(happened) = self.at(place) {
                    happened.unheard.add(time_ns);
                }
            }
            _ => {}
        }
    }

    fn close(&mut self, time_ns: u64, who: &Who, closed: &Closed) {
        if closed.old == TcpState::Listen {
            return;
        }
        let place = Place::of(who.netns, &who.ends, who.role);
        let cause = closed.verdict.cause;
        let owner = closed.closed_by.clone().or_else(|| who.owner.clone());
        let Some(happened) = self.at(place) else { return };
        happened.closed.add(time_ns);
        match cause {
            Cause::Refused => happened.refused.add(time_ns),
            Cause::ResetReceived => happened.received.add(time_ns),
            Cause::UnreadData | Cause::Aborted | Cause::DataAfterClose | Cause::Destroyed => {
                happened.sent.add(time_ns);
                happened.sent_cause = Some(cause);
            }
            _ => return,
        }
        happened.owner = owner;
    }

    fn at(&mut self, place: Place) -> Option<&mut Happened> {
        let full = self.places.len() >= MAX_PLACES;
        match self.places.entry(place) {
            Slot::Occupied(slot) => Some(slot.into_mut()),
            Slot::Vacant(_) if full => {
                self.beyond += 1;
                None
            }
            Slot::Vacant(slot) => Some(slot.insert(Happened::default())),
        }
    }

    /// What could not be sent, by flow.
    pub fn all_failed(&self) -> HashMap<FlowId, Failed> {
        self.failed.iter().map(|(id, failed)| (*id, *failed)).collect()
    }

    /// What happened in the last seconds; places where nothing did are forgotten.
    pub fn bursts(&mut self, now_ns: u64) -> Vec<Burst> {
        let mut bursts = Vec::new();
        self.places.retain(|place, happened| {
            let parts = [
                &mut happened.refused,
                &mut happened.closed,
                &mut happened.sent,
                &mut happened.received,
                &mut happened.unheard,
            ];
            let counted = parts.map(|recent| recent.within(now_ns));
            let [refused, closed, sent, received, unheard] = counted.map(|(count, _)| count);
            let since_ns = counted.iter().filter(|(count, _)| *count > 0).map(|(_, since)| *since).min();
            let Some(since_ns) = since_ns else { return false };
            bursts.push(Burst {
                place: *place,
                refused,
                refused_at_once: happened.refused.at_once(),
                closed,
                sent,
                received,
                unheard,
                unheard_at_once: happened.unheard.at_once(),
                sent_cause: happened.sent_cause,
                owner: happened.owner.clone(),
                since_ns,
            });
            true
        });
        self.beyond = 0;
        bursts
    }
}
