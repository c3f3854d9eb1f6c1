//! The ledger: every flow we know, and what an event means for it. Pure: it reads no clock, does no I/O and formats
//! nothing. It uses the events' own times, so a replay gives the same answers as the live run.

pub mod cause;
mod connection;
pub mod entry;
mod judge;
pub mod minisocket;
mod nearby;
mod objects;
pub mod owner;
mod sights;
mod spare;
mod told;
pub mod totals;
mod undecided;

pub use connection::{DWELL_STATES, FlowId, Role, Span};
pub use entry::{Closed, Entry, Known, Seen, What, Who};
pub use minisocket::{Limits, Question};
use sights::Dump;
pub use sights::{Bound, Reconciled, least_age, running_ns};
pub use told::Told;

use crate::{
    event::{Destroy, Ends, Event, Head, Retransmit, Segment, Task, TcpState, Transition},
    sight::Kind,
};
use connection::Flow;
use hashbrown::HashMap;
use hashlink::LinkedHashMap;
use minisocket::Minisockets;
use nearby::Nearby;
use owner::{Owner, Process, Processes, Source};
use spare::Spare;
use std::{collections::VecDeque, rc::Rc};
use totals::Totals;

/// How long a close waits for the RST that may explain it. The kernel traces it within microseconds; the wait covers
/// two CPUs whose records cross.
pub const HOLD_NS: u64 = 20_000_000;
/// Default limit of flows.
pub const DEFAULT_MAX_FLOWS: usize = 262_144;
/// How many children without an identity of their own, and listeners, are remembered.
const MAX_SIDE_TABLE: usize = 65_536;

/// What the source can do, which decides how flows are told apart and what silence means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Capabilities {
    /// Every event of a full socket carries its cookie.
    pub cookies: bool,
    /// RSTs in both directions are seen.
    pub resets: bool,
    /// Every transition of a flow passes the filter: no `--state`.
    pub all_states: bool,
    /// Probes tell when minisockets begin, change and end.
    pub minisockets: bool,
    /// Probes tell when half-open requests begin and end.
    pub requests: bool,
}

/// All flows.
#[derive(Debug)]
pub struct Ledger {
    capabilities: Capabilities,
    max_flows: usize,
    /// By cookie, else by socket address. In the order of their last event.
    flows: LinkedHashMap<u64, Flow, Nearby>,
    /// Closes that wait, in the order of their time.
    held: VecDeque<(u64, u64)>,
    /// Ends of half-open requests that may yet turn out to have become sockets, in the order of their time.
    unpromoted: VecDeque<(u64, u64)>,
    /// Flows whose filter is undecided, oldest first; also some that are decided by now.
    undecided: VecDeque<u64>,
    /// `LISTEN -> SYN_RECV` of children that still carry their listener's identity (up to 6.12), by socket address.
    newborn: HashMap<u64, Transition>,
    /// When the first SYN-ACK of a repeated one was sent, where no cookie leads from a request to its child: by namespace and ends.
    requests: HashMap<(u32, Ends), u64>,
    /// Who listens, by namespace and port.
    listeners: HashMap<(u32, u16), Rc<Process>>,
    processes: Processes,
    spare: Spare,
    totals: Totals,
    generation: u64,
    minisockets: Minisockets,
    /// The number of the dump that runs, or ran last.
    round: u32,
    reconciled: Reconciled,
    dump: Dump,
    /// Since when no event was lost: a flow we did not know was at least that long in its state. 0: never.
    complete_since_ns: u64,
}

impl Ledger {
    /// An empty ledger. `start_ns`: since when the source reports everything, on the boot-time clock.
    pub fn new(capabilities: Capabilities, max_flows: usize, start_ns: u64) -> Self {
        Self {
            capabilities,
            max_flows: max_flows.max(1),
            flows: LinkedHashMap::with_hasher(Nearby::default()),
            held: VecDeque::new(),
            unpromoted: VecDeque::new(),
            undecided: VecDeque::new(),
            newborn: HashMap::new(),
            requests: HashMap::new(),
            listeners: HashMap::new(),
            processes: Processes::default(),
            spare: Spare::default(),
            totals: Totals::default(),
            generation: 0,
            minisockets: Minisockets::default(),
            round: 0,
            reconciled: Reconciled::default(),
            dump: Dump::default(),
            complete_since_ns: if capabilities.all_states { start_ns } else { 0 },
        }
    }

    /// Takes an event; what it means is appended to `out`.
    pub fn fold(&mut self, event: &Event, out: &mut Vec<Entry>) {
        self.settle(event.head().time_ns, out);
        match event {
            Event::Transition(event) => self.transition(event, out),
            Event::Retransmit(event) => self.retransmit(event, out),
            Event::Reset(event) => self.reset(event, out),
            Event::Destroy(event) => self.destroy(event, out),
            Event::Object(event) => self.object(event, out),
            Event::Accept(event) => self.accept(event),
        }
    }

    /// Takes entries back that everybody has read, and leaves none: their memory is used again.
    pub fn take_back(&mut self, entries: &mut Vec<Entry>) {
        // Entries are large: only what is kept of them is moved, and something small is put in its place.
        const KEPT: What =
            What::State { state: TcpState::Close, kind: Kind::Full, in_state: None, left_ns: None };
        let boxed = |what: &What| matches!(what, What::Close(_) | What::Retransmit(_) | What::Reset(_));
        for entry in entries.iter_mut().filter(|entry| boxed(&entry.what)) {
            match std::mem::replace(&mut entry.what, KEPT) {
                What::Close(mut closed) => {
                    closed.closed_by = None;
                    self.spare.closed.take(closed);
                }
                What::Retransmit(event) => self.spare.retransmits.take(event),
                What::Reset(mut event) => {
                    event.reason = None;
                    self.spare.resets.take(event);
                }
                _ => {}
            }
        }
        entries.clear();
    }

    /// Judges the closes that have waited long enough at `now_ns`. To be called when every event before that time has
    /// been folded.
    pub fn tick(&mut self, now_ns: u64, out: &mut Vec<Entry>) {
        self.settle(now_ns, out);
    }

    /// Events were lost before `now_ns`: what we did not see since is no evidence any more.
    pub fn lost(&mut self, now_ns: u64) {
        if self.complete_since_ns != 0 {
            self.complete_since_ns = now_ns;
        }
    }

    /// Judges everything that still waits: the source has ended.
    pub fn finish(&mut self, out: &mut Vec<Entry>) {
        // Their children's events may be the ones that came too late: the hooks go one by one.
        self.unpromoted.clear();
        self.settle(u64::MAX, out);
        for (_, event) in std::mem::take(&mut self.newborn) {
            if !event.head.undecided {
                self.start_passive(&event, out);
            }
        }
        self.tell_beginnings(out);
    }

    /// How many flows are known now, minisockets included.
    pub fn len(&self) -> usize {
        self.flows.len() + self.minisockets.len()
    }

    /// How many of them are sockets that passed the filter and go on.
    pub fn open_flows(&self) -> usize {
        self.flows.iter().filter(|(_, flow)| !flow.is_undecided()).count()
    }

    /// How many of them are minisockets.
    pub fn minisockets(&self) -> usize {
        self.minisockets.len()
    }

    /// No flow is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was counted so far.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    fn transition(&mut self, event: &Transition, out: &mut Vec<Entry>) {
        let head = &event.head;
        let newborn = event.old == TcpState::Listen && event.new == TcpState::SynRecv;
        if newborn && head.ends.rport == 0 {
            // Its own addresses and cookie come with the next event of the same socket.
            if self.newborn.len() >= MAX_SIDE_TABLE {
                self.newborn.clear(); // their next events were filtered out or lost
            }
            self.newborn.insert(head.sock, event.clone());
            return;
        }
        if event.old == TcpState::SynRecv
            && let Some(mut first) = self.newborn.remove(&head.sock)
        {
            first.head.cookie = head.cookie;
            first.head.ends = head.ends;
            self.count_late(&first);
            self.start_passive(&first, out);
        }
        if newborn {
            return self.start_passive(event, out);
        }
        let key = self.key(head);
        let born = event.old == TcpState::Close && event.new != TcpState::Close;
        if born {
            // A socket that disconnected and connects again, or an address that was used again.
            self.end(key, None, out);
            let role = if event.new == TcpState::Listen { Role::Listen } else { Role::Active };
            self.insert(key, head, TcpState::Close, role, head.time_ns);
            if head.undecided {
                let actor = self.actor(event);
                let first = self.spare.firsts.boxed(event.clone());
                if let Some(flow) = self.flows.get_mut(&key) {
                    flow.rare(&mut self.spare).first = Some(first);
                    flow.enter(event.new, head.time_ns);
                    actor.iter().for_each(|actor| flow.acted(actor));
                }
                if let Some(actor) = actor {
                    self.learn_listener(key, event, &actor.process);
                }
                self.wait_for_decision(key);
                return;
            }
        } else {
            if head.undecided && self.flows.get(&key).is_none_or(Flow::is_undecided) {
                self.flows.remove(&key); // it ended without ever passing
                return;
            }
            self.count_late(event);
            self.confirm(key, head, out);
            if self.ensure(key, head, event.old) {
                self.step(key, event, out);
                if let Some(closing) = self.flows.get_mut(&key).and_then(Flow::closing) {
                    closing.nameless = self.capabilities.cookies;
                }
                return;
            }
        }
        self.step(key, event, out);
    }

    /// `LISTEN -> SYN_RECV` of a child whose identity is known. Its half-open request may be known already: the child
    /// inherits the request's cookie.
    fn start_passive(&mut self, event: &Transition, out: &mut Vec<Entry>) {
        let key = self.key(&event.head);
        self.bear(key, &event.head);
        let half_open = self.flows.get(&key).is_some_and(|flow| flow.state == TcpState::NewSynRecv);
        if !half_open {
            self.end(key, None, out);
            self.insert(key, &event.head, TcpState::Listen, Role::Passive, event.head.time_ns);
        }
        self.step(key, event, out);
    }

    /// A state change of a flow that exists.
    fn step(&mut self, key: u64, event: &Transition, out: &mut Vec<Entry>) {
        let actor = self.actor(event);
        let head = &event.head;
        let repeated = if event.old == TcpState::SynRecv {
            self.requests.remove(&(head.netns, head.ends))
        } else {
            None
        };
        let Some(flow) = self.flows.get_mut(&key) else { return };
        flow.ends.complete(&head.ends);
        actor.iter().for_each(|actor| flow.acted(actor));
        let child = event.old == TcpState::Listen && event.new == TcpState::SynRecv;
        let known = flow.state == event.old || (child && flow.state == TcpState::NewSynRecv);
        if known && let Some(began_ns) = before(head, event.handshake_ns).or(repeated) {
            flow.began(began_ns);
        }
        // The child was no time in its listener's state.
        let in_state = if known && !child { flow.span(head.time_ns) } else { None };
        if !known {
            self.totals.gaps += 1;
            (flow.since_ns, flow.at_least_since_ns) = (0, 0);
            flow.state = event.old;
        }
        if event.old == event.new {
            // The descriptor was closed; the state goes on.
        } else if child && flow.state == TcpState::NewSynRecv {
            flow.state = TcpState::SynRecv;
        } else if child {
            // It is made when the handshake ends: its SYN came before.
            flow.enter_late(event.new, head.time_ns);
        } else {
            flow.enter(event.new, head.time_ns);
            self.minisockets.doubt_later(key, event.new, head.time_ns, self.capabilities);
            if event.new != TcpState::Close
                && let Some(rare) = &mut flow.rare
            {
                // It was not that RST that ended the connection. (An ACK out of TIME_WAIT is answered so in SYN_SENT.)
                (rare.sent, rare.received_ns) = (None, None);
            }
        }
        self.totals.matrix[event.old.number() as usize][event.new.number() as usize] += 1;
        let (who, ends) = (who(flow), flow.ends);
        let by = actor.map(|actor| actor.process);
        if [event.old, event.new].contains(&TcpState::Listen)
            && let Some(process) = &by
        {
            self.learn_listener(key, event, process);
        }
        let connects = event.old == TcpState::SynSent && event.new != TcpState::Close;
        if child || connects {
            self.replaced(head.netns, &ends, head.time_ns, out);
        } else if [event.old, event.new].contains(&TcpState::SynSent) {
            // The kernel looks for the ends after CLOSE -> SYN_SENT, and refuses if they cannot be had.
            self.doubt_minisocket(head.netns, &ends, head.time_ns);
        }
        if [event.old, event.new].contains(&TcpState::SynSent) {
            self.doubt_peer(head.netns, &ends, head.time_ns);
        }
        out.push(Entry {
            time_ns: head.time_ns,
            who,
            what: What::Transition { old: event.old, new: event.new, in_state, by, known: Known::Event },
        });
        match (event.old, event.new) {
            // The descriptor of a socket that had ended before we looked.
            (TcpState::Close, TcpState::Close) => drop(self.flows.remove(&key)),
            (_, TcpState::Close) => self.hold(key, event, out),
            (TcpState::CloseWait, TcpState::LastAck) => self.peer_closes(head.netns, &ends),
            _ => {}
        }
    }

    /// Who made a transition that runs in the caller's context (docs/kernel.md).
    fn actor(&mut self, event: &Transition) -> Option<Owner> {
        use TcpState::{Close, CloseWait, Established, FinWait1, LastAck, Listen, SynSent};
        let task = event.task.as_ref()?;
        let source = match (event.old, event.new) {
            (Close, SynSent) => Source::Connect,
            (Close, Listen) => Source::Listen,
            // shutdown(SHUT_WR) leaves the receive side open; close() does not.
            (Established, FinWait1) | (CloseWait, LastAck) if event.shutdown == 2 => Source::Shutdown,
            (Established, FinWait1) | (CloseWait, LastAck) | (Listen, Close) => Source::Close,
            (old, new) if old == new => Source::Close,
            _ => return None,
        };
        Some(Owner { process: self.process(task), source })
    }

    /// Somebody begins to listen, or ends it.
    fn learn_listener(&mut self, key: u64, event: &Transition, process: &Rc<Process>) {
        let Some(flow) = self.flows.get(&key) else { return };
        let place = (event.head.netns, flow.ends.lport);
        if place.1 == 0 {
            return; // listen() without bind(): the kernel picks the port after this event
        }
        match (event.old, event.new) {
            (TcpState::Close, TcpState::Listen) => self.remember_listener(place, process),
            // With SO_REUSEPORT another process may listen on.
            (TcpState::Listen, TcpState::Close) if self.listeners.get(&place) == flow.opened.as_ref() => {
                self.listeners.remove(&place);
            }
            _ => {}
        }
    }

    fn remember_listener(&mut self, place: (u32, u16), process: &Rc<Process>) {
        if self.listeners.len() < MAX_SIDE_TABLE {
            self.listeners.insert(place, Rc::clone(process));
        }
    }

    fn process(&mut self, task: &Task) -> Rc<Process> {
        self.processes.of(task)
    }

    fn retransmit(&mut self, event: &Retransmit, out: &mut Vec<Entry>) {
        let head = &event.head;
        let key = self.key(head);
        let state = event.state.unwrap_or(TcpState::Established);
        // A request has an address of its own: only the cookie ties it to the child.
        let request = state == TcpState::NewSynRecv && !self.capabilities.cookies;
        let failed = event.err.is_some_and(|err| err != 0);
        let segments = u64::from(event.segments);
        if failed {
            self.totals.failed_sends += segments;
        } else {
            self.totals.retransmit(event.segment, event.reason, segments);
        }
        let began_ns = before(head, event.handshake_ns);
        if request && let Some(began_ns) = began_ns {
            if self.requests.len() >= MAX_SIDE_TABLE {
                self.requests.clear(); // most never became sockets
            }
            self.requests.insert((head.netns, head.ends), began_ns);
        }
        let mut who = stranger(head);
        if state == TcpState::NewSynRecv {
            who.role = Role::Passive; // only a listener's side answers SYNs
        }
        if !request && head.sock != 0 {
            self.confirm(key, head, out);
            self.ensure(key, head, state);
            if let Some(flow) = self.flows.get_mut(&key) {
                flow.ends.complete(&head.ends);
                if flow.state == TcpState::NewSynRecv
                    && let Some(began_ns) = began_ns
                {
                    flow.began(began_ns);
                }
                let slot = Segment::ALL.iter().position(|kind| *kind == event.segment).unwrap_or(0);
                let rare = flow.rare(&mut self.spare);
                let counter = if failed { &mut rare.failed_sends } else { &mut rare.retransmits[slot] };
                *counter = counter.saturating_add(u32::from(event.segments));
                who = self::who(flow);
            }
        }
        let what = What::Retransmit(self.spare.retransmits.boxed(event.clone()));
        out.push(Entry { time_ns: head.time_ns, who, what });
    }

    fn destroy(&mut self, event: &Destroy, out: &mut Vec<Entry>) {
        let key = self.key(&event.head);
        self.newborn.remove(&event.head.sock);
        let Some(flow) = self.flows.get_mut(&key) else { return };
        // A close that waits is judged when its time has come: its RST may still follow. One that never came is lost,
        // or was filtered out.
        if flow.closing().is_some() {
            return;
        }
        if self.capabilities.all_states {
            self.end(key, Some(event.head.time_ns), out);
        } else {
            self.flows.remove(&key); // its close was not asked for
        }
    }

    /// Cookie if there are cookies, else address.
    fn key(&self, head: &Head) -> u64 {
        if self.capabilities.cookies && head.cookie != 0 { head.cookie } else { head.sock }
    }

    /// `true`: a flow that shows up without its beginning.
    fn ensure(&mut self, key: u64, head: &Head, state: TcpState) -> bool {
        let unknown = self.flows.to_back(&key).is_none();
        if unknown {
            let role = if state == TcpState::Listen { Role::Listen } else { Role::Unknown };
            self.insert(key, head, state, role, 0);
            // The birth of a half-open request raises no event: that we saw everything says nothing of it.
            let half_open = state == TcpState::NewSynRecv;
            let since = if half_open { head.time_ns } else { self.complete_since_ns };
            if let Some(flow) = self.flows.get_mut(&key) {
                flow.at_least_since_ns = since;
                if half_open {
                    flow.role = Role::Passive;
                    self.watch_half_open(key, head.time_ns);
                }
            }
        }
        unknown
    }

    /// `born_ns` 0: older than we are.
    fn insert(&mut self, key: u64, head: &Head, state: TcpState, role: Role, born_ns: u64) {
        self.make_room();
        let id = if self.capabilities.cookies && head.cookie != 0 {
            FlowId::Cookie(head.cookie)
        } else {
            self.generation += 1;
            FlowId::Generation(self.generation)
        };
        let mut flow = Flow {
            id,
            ends: head.ends,
            netns: head.netns,
            state,
            role,
            opened_source: Source::Connect,
            closed_source: Source::Close,
            born_ns,
            since_ns: 0,
            at_least_since_ns: 0,
            dwell_ns: [0; DWELL_STATES.len()],
            opened: None,
            closed: None,
            // The event may be older than the dump that runs.
            round: self.round.wrapping_sub(1),
            met_ns: 0,
            rare: None,
        };
        if matches!(role, Role::Passive | Role::Unknown)
            && let Some(listener) = self.listeners.get(&(head.netns, head.ends.lport))
        {
            (flow.opened, flow.opened_source) = (Some(Rc::clone(listener)), Source::Listener);
        }
        self.flows.insert(key, flow);
    }

    /// For one flow or minisocket more. What has ended goes first: minisockets, then closes that wait; then the flow whose
    /// last event is longest ago.
    fn make_room(&mut self) {
        if self.len() < self.max_flows {
            return;
        }
        self.totals.evicted += 1;
        if self.minisockets.evict() {
            return;
        }
        while let Some((_, key)) = self.held.pop_front() {
            if self.flows.get_mut(&key).is_some_and(|flow| flow.closing().is_some()) {
                self.flows.remove(&key);
                return;
            }
        }
        self.flows.pop_front();
    }
}

/// The time that lies so long before an event.
fn before(head: &Head, ns: Option<u64>) -> Option<u64> {
    ns.map(|ns| head.time_ns.saturating_sub(ns))
}

fn who(flow: &Flow) -> Who {
    Who { id: flow.id, netns: flow.netns, ends: flow.ends, role: flow.role, owner: flow.owner() }
}

/// Somebody whose flow we do not know.
fn stranger(head: &Head) -> Who {
    let id = if head.cookie != 0 { FlowId::Cookie(head.cookie) } else { FlowId::None };
    Who { id, netns: head.netns, ends: head.ends, role: Role::Unknown, owner: None }
}

#[cfg(test)]
mod tests;
