//! A sink that records what a run takes in, and hands everything on. Whoever is behind it sees the machine as the recording
//! has it, so that a replay shows the same.

use super::{
    frame::{Around, FRAME, Frame, Namespaces, Place, RECORD},
    recorded::Recorded,
};
use crate::{
    enrich::Places,
    flow::{Entry, Limits, What, owner::Owner},
    process::Process,
    run::{Looked, Next, Origin, Reading, Sink, Started, core::Input, report::Resync},
    sight::{Kind, Sight},
    source::surroundings::Surroundings,
    summary::LostCounts,
};
use hashbrown::{HashMap, HashSet};
use std::{hash::Hash, io, net::IpAddr};

/// Names of each kind that are remembered as written; what is beyond is written again.
const MAX_NAMES: usize = 65_536;
/// Sockets whose peer is remembered during a list, to ask for a route to it.
const MAX_PEERS: usize = 65_536;
/// Routes that are asked for, of one namespace.
const MAX_ROUTES: usize = 64;

/// Details in a frame: a file takes frames of a mebibyte.
const DETAILS: usize = 2048;

/// Names that a further file begins with.
const OPENING_NAMES: usize = 1000;

/// Where frames go.
pub trait Tape {
    /// Takes a frame. What cannot be kept is counted there: tracing goes on.
    fn put(&mut self, kind: u8, time_ns: u64, payload: &[u8]);
    /// What each further file begins with from now on.
    fn opening(&mut self, frames: &[&[u8]]);
    /// Called every second. `false`: it takes nothing more.
    fn tick(&mut self, now_ns: u64) -> bool;
}

/// Records, and hands on.
pub struct Recorder<T, S> {
    tape: T,
    inner: S,
    started: Started,
    places: Places,
    /// What was named.
    processes: HashSet<Process>,
    cgroups: HashSet<u64>,
    /// Time of what was taken in last.
    now_ns: u64,
    slept_ns: Option<u64>,
    /// Peers of the sockets of this list that may have none, by cookie.
    peers: HashMap<u64, IpAddr>,
    /// Namespaces that have sockets.
    spaces: HashSet<u32>,
    recorded: Recorded,
    /// Somebody wants to know every flow.
    asked_ns: Option<u64>,
    frame: Vec<u8>,
    essential: bool,
    /// Settings of every namespace so far.
    limits: Vec<(u32, Limits)>,
    /// The first of the names so far, as frames.
    opening: Vec<Vec<u8>>,
}

/// Begins anew when there are too many.
fn remember<T: Eq + Hash>(names: &mut HashSet<T>, name: T) {
    if names.len() >= MAX_NAMES {
        names.clear();
    }
    names.insert(name);
}

impl<T: Tape, S> Recorder<T, S> {
    /// Begins with how the trace began. `essential`: without the tape there is no use in going on.
    pub fn new(tape: T, started: &Started, origin: &Origin, essential: bool, inner: S) -> Self {
        let mut recorder = Self {
            tape,
            inner,
            started: started.clone(),
            places: origin.places.clone(),
            processes: HashSet::new(),
            cgroups: HashSet::new(),
            now_ns: started.began_ns,
            slept_ns: None,
            peers: HashMap::new(),
            spaces: HashSet::new(),
            recorded: Recorded::default(),
            asked_ns: None,
            frame: Vec::new(),
            essential,
            limits: Vec::new(),
            opening: Vec::new(),
        };
        recorder.open(None);
        recorder.put(&Frame::Started(Box::new(started.clone())));
        recorder
    }

    /// The tape, back again.
    pub fn into_tape(self) -> T {
        self.tape
    }

    /// What a further file begins with: enough to understand it without those before it. The next list of all sockets tells
    /// the rest.
    fn open(&mut self, counted: Option<Frame>) {
        let mut frames = vec![Frame::Started(Box::new(self.started.clone()))];
        frames.extend(counted);
        frames.push(Frame::Settings(self.limits.clone()));
        let encoded = frames.iter().map(|frame| {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes).map(|()| bytes)
        });
        let Ok(encoded) = encoded.collect::<Result<Vec<_>, _>>() else { return };
        self.tape.opening(&encoded.iter().chain(&self.opening).map(Vec::as_slice).collect::<Vec<_>>());
    }

    fn put(&mut self, frame: &Frame) {
        match frame.encode(&mut self.frame) {
            Ok(()) => self.tape.put(FRAME, self.now_ns, &self.frame),
            Err(error) => log::warn!("something cannot be recorded: {error}"),
        }
    }

    fn name_owner(&mut self, owner: &Option<Owner>) {
        if let Some(owner) = owner {
            self.name_process(&owner.process);
        }
    }

    fn name_process(&mut self, process: &Process) {
        self.name_cgroup(process.cgroup);
        if self.processes.contains(process) {
            return;
        }
        remember(&mut self.processes, process.clone());
        let path = self.places.of_owner(process).map(|place| place.path.to_string());
        self.tell(Place::Process { process: process.clone(), path });
    }

    fn name_cgroup(&mut self, id: u64) {
        if id == 0 || self.cgroups.contains(&id) {
            return;
        }
        // What is not known yet may be known the next time.
        if let Some(place) = self.places.of(id) {
            remember(&mut self.cgroups, id);
            self.tell(Place::Cgroup { id, path: place.path.to_string() });
        }
    }

    fn tell(&mut self, place: Place) {
        self.put(&Frame::Place(place));
        if self.opening.len() < OPENING_NAMES {
            self.opening.push(self.frame.clone());
        }
    }

    /// Asks for everything that any view would ask for.
    fn around(&mut self, surroundings: &mut dyn Surroundings) -> Around {
        let mut around = Around::default();
        for netns in std::mem::take(&mut self.spaces) {
            let Some(details) = surroundings.details(netns) else { continue };
            let noted = details.values().filter(|detail| detail.soft_error != 0);
            let mut peers: Vec<_> =
                noted.filter_map(|detail| self.peers.get(&detail.cookie)).copied().collect();
            peers.sort_unstable();
            peers.dedup();
            peers.truncate(MAX_ROUTES);
            if !peers.is_empty() {
                let errors = surroundings.routes(netns, &peers);
                around.routes.extend(peers.into_iter().zip(errors).map(|(peer, errno)| (netns, peer, errno)));
            }
            let details: Vec<_> = details.into_values().collect();
            // The first tells that they were asked, even if there is none.
            for some in std::iter::once(&[][..]).chain(details.chunks(DETAILS)) {
                self.recorded.detailed(netns, some);
                self.put(&Frame::Details(netns, some.to_vec()));
            }
        }
        around.spaces = surroundings.spaces();
        around.whole = surroundings.whole();
        for (netns, (now, before)) in surroundings.counters() {
            around.counters.push((netns, now));
            around.ages.extend(before.map(|(_, age_ns)| (netns, age_ns)));
        }
        self.peers.clear();
        around
    }
}

/// It may lack a route: neither in order nor gone.
fn may_lack_route(sight: &Sight) -> bool {
    sight.kind == Kind::Full && sight.timer.is_some_and(|timer| timer.retransmits > 0)
}

impl<T: Tape, S: Sink> Sink for Recorder<T, &mut S> {
    fn record(&mut self, bytes: &[u8], slept_ns: u64) {
        if self.slept_ns != Some(slept_ns) {
            self.slept_ns = Some(slept_ns);
            self.put(&Frame::Slept(slept_ns));
        }
        self.tape.put(RECORD, self.now_ns, bytes);
        self.inner.record(bytes, slept_ns);
    }

    fn input(&mut self, input: &Input<'_>) -> io::Result<()> {
        match *input {
            Input::Tick { now_ns } => {
                self.now_ns = now_ns;
                self.put(&Frame::Tick(now_ns));
            }
            Input::Ask { now_ns, most } => {
                self.put(&Frame::Ask { now_ns, most: u32::try_from(most).unwrap_or(u32::MAX) });
            }
            Input::Answers { now_ns, answers } => {
                self.put(&Frame::Answers { now_ns, answers: answers.to_vec() });
            }
            Input::Overdue { now_ns } => self.put(&Frame::Overdue(now_ns)),
            Input::Settings(settings) => {
                self.limits.retain(|(netns, _)| settings.iter().all(|(new, _)| new != netns));
                self.limits.extend(settings);
                self.put(&Frame::Settings(settings.to_vec()));
            }
            // With what is asked then.
            Input::Looking | Input::Looked { .. } => {}
            Input::Sights { taken, sights, holders } => {
                self.now_ns = self.now_ns.max(taken.to_ns);
                let held = |sight: &Sight| Some((sight.inode, holders.get(sight.inode)?.clone()));
                let holders: Vec<_> = sights.iter().filter_map(held).collect();
                self.put(&Frame::Sights { taken, sights: sights.to_vec(), holders });
            }
            Input::Unseen { covered, began_ns } => {
                self.put(&Frame::Unseen { covered: covered.to_vec(), began_ns });
            }
            // After the names that its entries need.
            Input::States { now_ns } => self.asked_ns = Some(now_ns),
            Input::Counted { now_ns, counters, lost, last } => {
                self.now_ns = self.now_ns.max(now_ns);
                self.put(&Frame::Counted { now_ns, counters: Box::new(*counters), lost, last });
            }
            Input::End { now_ns } => self.put(&Frame::End(now_ns)),
        }
        self.inner.input(input)
    }

    fn entry(&mut self, entry: &Entry) -> io::Result<Next> {
        self.name_owner(&entry.who.owner);
        match &entry.what {
            What::Transition { by: Some(by), .. } => self.name_process(by),
            What::Close(closed) => self.name_owner(&closed.closed_by),
            _ => {}
        }
        self.inner.entry(entry)
    }

    fn handed_over(&mut self) -> io::Result<()> {
        let frame = self.asked_ns.take().map_or(Frame::HandedOver, Frame::States);
        self.put(&frame);
        self.inner.handed_over()
    }

    fn lost(&mut self, now_ns: u64, lost: &LostCounts) -> io::Result<()> {
        self.inner.lost(now_ns, lost)
    }

    fn counted(&mut self, reading: &Reading<'_>) -> io::Result<()> {
        let Reading { now_ns, counters, lost, .. } = *reading;
        self.open(Some(Frame::Joined { counters: Box::new(*counters), lost }));
        if !self.tape.tick(now_ns) && self.essential {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.inner.counted(reading)
    }

    fn looking(&mut self, surroundings: &mut dyn Surroundings) -> io::Result<()> {
        let settings = surroundings.settings().into_iter().map(|(netns, limits)| (netns, (*limits).clone()));
        let namespaces = Namespaces { settings: settings.collect(), tick_ns: surroundings.tick_ns() };
        self.put(&Frame::Looking(Box::new(namespaces.clone())));
        self.recorded.looking(namespaces);
        self.inner.looking(&mut self.recorded)
    }

    fn looked_at(&mut self, look: &Looked<'_>) {
        let sight = look.sight;
        if let Some(id) = sight.cgroup {
            self.name_cgroup(id);
        }
        if let Some(holder) = look.holder {
            self.name_process(&holder.process);
        }
        self.spaces.insert(sight.netns);
        if may_lack_route(sight) && self.peers.len() < MAX_PEERS {
            self.peers.insert(sight.cookie, sight.ends.remote().ip());
        }
        self.inner.looked_at(look);
    }

    fn resynced(
        &mut self,
        now_ns: u64,
        resync: &Resync,
        surroundings: &mut dyn Surroundings,
    ) -> io::Result<Next> {
        let around = self.around(surroundings);
        self.now_ns = self.now_ns.max(now_ns);
        self.put(&Frame::Looked { now_ns, round: *resync, around: Box::new(around.clone()) });
        self.recorded.looked(around);
        self.inner.resynced(now_ns, resync, &mut self.recorded)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
