//! What is around the sockets of each namespace: its settings, its counters, and the machine's limits.

use super::{
    counters::{Counters, Settings, Sockstat},
    details::{DetailSource, SocketDetail, tick_ns},
    live::boot_time_ns,
    netns::{Limits, Namespace, limits},
};
use hashbrown::HashMap;
use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    sync::Arc,
};

/// What a sink may ask beside the list of sockets: of the machine itself, or of a recording of it.
pub trait Surroundings {
    /// Of each namespace; asked for when a list of all sockets begins. One that may not be entered has none.
    fn settings(&mut self) -> HashMap<u32, Arc<Limits>>;
    /// How long a tick of the kernel's clock is, in nanoseconds; `None`: unknown.
    fn tick_ns(&mut self) -> Option<u64>;
    /// What sockets tell themselves that may end by a timer, by cookie; `None`: they cannot be asked.
    fn details(&mut self, netns: u32) -> Option<HashMap<u64, SocketDetail>>;
    /// Whether there is a route to each of these addresses: the errno if not.
    fn routes(&mut self, netns: u32, peers: &[IpAddr]) -> Vec<Option<u16>>;
    /// How many sockets each namespace has by the kernel's own count, and what it allows.
    fn spaces(&mut self) -> Vec<Space>;
    /// The counters, and those of the list before. Asked for last: afterwards namespaces are let go.
    fn counters(&mut self) -> HashMap<u32, Pair>;
    /// Orphans and memory of the whole machine, and their limits.
    fn whole(&mut self) -> (Sockstat, Settings);
}

/// What the kernel says of a namespace as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Space {
    /// Its inode number.
    pub netns: u32,
    /// The name people know.
    pub label: String,
    /// How many sockets there are.
    pub sockstat: Sockstat,
    /// How many there may be.
    pub settings: Settings,
}

impl Space {
    /// What its files said.
    pub fn new(namespace: &Namespace, sockstat: Sockstat, settings: Settings) -> Self {
        Self { netns: namespace.inode(), label: namespace.label(), sockstat, settings }
    }
}

/// This machine, now.
pub struct LiveSurroundings {
    namespaces: Namespaces,
    /// Loaded when there is something to ask for.
    details: Option<DetailSource>,
}

impl LiveSurroundings {
    /// Of these namespaces, or (if there are none) of all.
    pub fn new(wanted: &BTreeSet<u32>) -> Self {
        Self { namespaces: Namespaces::new(wanted), details: None }
    }

    /// Asks sockets with this, if there is one already.
    pub fn with(mut self, details: Option<DetailSource>) -> Self {
        self.details = details;
        self
    }
}

impl Surroundings for LiveSurroundings {
    fn settings(&mut self) -> HashMap<u32, Arc<Limits>> {
        self.namespaces.settings()
    }

    fn tick_ns(&mut self) -> Option<u64> {
        tick_ns()
    }

    fn details(&mut self, netns: u32) -> Option<HashMap<u64, SocketDetail>> {
        let namespace = self.namespaces.namespace(netns)?;
        match self.details.get_or_insert_with(DetailSource::new).read(namespace) {
            Ok(details) => Some(details),
            Err(why) => {
                log::debug!("no details of the sockets of namespace {netns}: {why}");
                None
            }
        }
    }

    fn routes(&mut self, netns: u32, peers: &[IpAddr]) -> Vec<Option<u16>> {
        self.namespaces.namespace(netns).map(|namespace| routes(namespace, peers)).unwrap_or_default()
    }

    fn spaces(&mut self) -> Vec<Space> {
        let of = |namespace: &Namespace| {
            let (sockstat, settings) = namespace.enter(|| (Sockstat::read(), Settings::read())).ok()?;
            Some(Space::new(namespace, sockstat.ok()?, settings))
        };
        self.namespaces.found.iter().filter_map(of).collect()
    }

    fn counters(&mut self) -> HashMap<u32, Pair> {
        self.namespaces.counters()
    }

    fn whole(&mut self) -> (Sockstat, Settings) {
        machine()
    }
}

/// Whether the namespace has a route to each: the errno if not. connect() of a UDP socket looks for one and sends nothing.
fn routes(namespace: &Namespace, peers: &[IpAddr]) -> Vec<Option<u16>> {
    let ask = |peer: &IpAddr| {
        let any: IpAddr =
            if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let error = UdpSocket::bind((any, 0)).ok()?.connect((*peer, DISCARD)).err()?;
        let errno = error.raw_os_error().filter(|errno| NO_ROUTE.contains(errno))?;
        u16::try_from(errno).ok()
    };
    namespace.enter(|| peers.iter().map(ask).collect()).unwrap_or_default()
}

/// Any port will do: nothing is sent.
const DISCARD: u16 = 9;
/// How connect() says that there is no route; EINVAL: a route of type blackhole, EACCES: prohibit.
const NO_ROUTE: [i32; 4] = [libc::EHOSTUNREACH, libc::ENETUNREACH, libc::EINVAL, libc::EACCES];

/// Reads them again and again. Holds no namespace in between.
struct Namespaces {
    /// Empty: every namespace.
    wanted: BTreeSet<u32>,
    found: Vec<Namespace>,
    before: HashMap<u32, (Counters, u64)>,
}

/// The counters of one namespace, and what they were at the look before with its age in nanoseconds.
pub type Pair = (Counters, Option<(Counters, u64)>);

impl Namespaces {
    /// Of these namespaces, or (if there are none) of all.
    pub fn new(wanted: &BTreeSet<u32>) -> Self {
        Self { wanted: wanted.clone(), found: Vec::new(), before: HashMap::new() }
    }

    /// Finds the namespaces, and reads their settings. One that may not be entered has none.
    pub fn settings(&mut self) -> HashMap<u32, Arc<Limits>> {
        let found = Namespace::all().map(|all| all.found).unwrap_or_default();
        self.found = found
            .into_iter()
            .filter(|namespace| self.wanted.is_empty() || self.wanted.contains(&namespace.inode()))
            .collect();
        let of = |namespace: &Namespace| Some((namespace.inode(), Arc::new(limits(namespace).ok()?)));
        self.found.iter().filter_map(of).collect()
    }

    /// One of the namespaces that were found.
    pub fn namespace(&self, netns: u32) -> Option<&Namespace> {
        self.found.iter().find(|namespace| namespace.inode() == netns)
    }

    /// Reads the counters, and lets go of the namespaces.
    pub fn counters(&mut self) -> HashMap<u32, Pair> {
        let mut counted = HashMap::new();
        for namespace in std::mem::take(&mut self.found) {
            let Ok(Ok(now)) = namespace.enter(Counters::read) else { continue };
            let now_ns = boot_time_ns();
            let before = self.before.insert(namespace.inode(), (now.clone(), now_ns));
            let before = before.map(|(counters, at_ns)| (counters, now_ns.saturating_sub(at_ns)));
            counted.insert(namespace.inode(), (now, before));
        }
        self.before.retain(|netns, _| counted.contains_key(netns));
        counted
    }
}

/// Orphans and memory of the whole machine, and their limits.
pub fn machine() -> (Sockstat, Settings) {
    (Sockstat::read().unwrap_or_default(), machine_settings())
}

/// The limits of the whole machine, as far as this process may read them: only the first namespace shows them.
pub fn machine_settings() -> Settings {
    let own = Settings::read();
    if own.max_orphans.is_some() {
        return own;
    }
    Namespace::open("1").and_then(|first| first.enter(Settings::read)).unwrap_or(own)
}
