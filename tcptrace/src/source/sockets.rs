//! The kernel's own list of sockets, in every network namespace that concerns us: whom to ask, and where.

use super::{
    holders::{HolderSource, Holders, Way},
    live::boot_time_ns,
    netns::{Limits, Namespace, limits},
    sockdiag::SockDiag,
};
use crate::{
    event::Ends,
    sight::{Sight, Taken},
};
use hashbrown::HashMap;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// A connection to another namespace is given up after this, because it keeps the namespace alive: a container that
/// ends takes its devices with it, and must not wait for us.
const HOLD: Duration = Duration::from_secs(1);

/// A namespace that is not where it was, or that is new, is searched for, at most this often: to look at every process
/// takes milliseconds.
const SEARCH_AT_MOST_EVERY: Duration = Duration::from_secs(5);

/// Connections to the kernel's list, one a namespace, made when they are needed.
#[derive(Default)]
pub struct Sockets {
    /// Empty: every namespace.
    wanted: BTreeSet<u32>,
    enabled: bool,
    own: u32,
    /// Where each namespace was found.
    places: HashMap<u32, PathBuf>,
    open: HashMap<u32, (SockDiag, Instant)>,
    unreachable: u64,
    searched: Option<Instant>,
    /// What the settings of new namespaces say, until somebody takes it.
    settings: Vec<(u32, Limits)>,
    holders: Option<HolderSource>,
}

impl Sockets {
    /// For these namespaces, or (if there are none) for all. Nothing is looked for before [`Sockets::refresh`]; not
    /// `enabled`: nothing at all.
    pub fn new(wanted: &BTreeSet<u32>, enabled: bool) -> Self {
        Self {
            wanted: wanted.clone(),
            enabled,
            own: Namespace::own().map_or(0, |own| own.inode()),
            places: HashMap::new(),
            open: HashMap::new(),
            unreachable: 0,
            searched: None,
            settings: Vec::new(),
            holders: None,
        }
    }

    /// Finds holders with this, if there is one already.
    pub fn with(mut self, holders: Option<HolderSource>) -> Self {
        self.holders = holders;
        self
    }

    /// Whether holders are found through /proc.
    pub fn reads_descriptors(&self) -> bool {
        self.enabled && self.holders.as_ref().is_some_and(|source| source.way() == Way::Proc)
    }

    /// Finds namespaces that are new, and forgets those that are gone. Returns what the settings of the new ones say.
    pub fn refresh(&mut self) -> Vec<(u32, Limits)> {
        self.search();
        std::mem::take(&mut self.settings)
    }

    fn search(&mut self) {
        self.searched = Some(Instant::now());
        let Ok(namespaces) = Namespace::all() else { return };
        self.unreachable = namespaces.hidden;
        let before = std::mem::take(&mut self.places);
        for namespace in namespaces.found {
            let inode = namespace.inode();
            if !self.wanted.is_empty() && !self.wanted.contains(&inode) {
                continue;
            }
            if !before.contains_key(&inode)
                && let Ok(limits) = limits(&namespace)
            {
                self.settings.push((inode, limits));
            }
            self.places.insert(inode, namespace.path().to_owned());
        }
    }

    /// Processes and names whose namespace may not be seen.
    pub fn unreachable(&self) -> u64 {
        self.unreachable
    }

    /// Inode numbers of the namespaces that were found, each with whether there is any TCP socket in it.
    pub fn namespaces(&self) -> Vec<(u32, bool)> {
        self.places.iter().map(|(inode, path)| (*inode, *inode == self.own || in_use(path))).collect()
    }

    /// Lends the connection to one of them; to be put back.
    pub fn take(&mut self, netns: u32) -> Option<SockDiag> {
        self.connect(netns)?;
        self.open.remove(&netns).map(|(diag, _)| diag)
    }

    /// Takes it back.
    pub fn put_back(&mut self, diag: SockDiag) {
        self.open.insert(diag.netns(), (diag, Instant::now()));
    }

    /// Asks for one socket. `None`: nobody can be asked there. The answer `None`: there is no such socket.
    pub fn look(&mut self, netns: u32, ends: &Ends, cookie: u64) -> Option<(Option<Sight>, Taken)> {
        let diag = self.connect(netns)?;
        let from_ns = boot_time_ns();
        match diag.look(ends, cookie) {
            Ok(sight) => Some((sight, Taken { from_ns, to_ns: boot_time_ns() })),
            Err(error) => {
                log::debug!("a socket of namespace {netns} cannot be asked for: {error}");
                None
            }
        }
    }

    /// Lets go of namespaces that are not ours.
    pub fn release(&mut self) {
        let own = self.own;
        self.open.retain(|netns, (_, since)| *netns == own || since.elapsed() < HOLD);
    }

    /// Who holds which socket now.
    pub fn holders(&mut self) -> Holders {
        self.holders.get_or_insert_with(HolderSource::new).read(None)
    }

    fn connect(&mut self, netns: u32) -> Option<&mut SockDiag> {
        if !self.enabled {
            return None;
        }
        if !self.open.contains_key(&netns) {
            let namespace = self.namespace(netns)?;
            match SockDiag::open(&namespace) {
                Ok(diag) => drop(self.open.insert(netns, (diag, Instant::now()))),
                Err(error) => {
                    log::warn!("namespace {netns}: {error}");
                    self.places.remove(&netns);
                }
            }
        }
        self.open.get_mut(&netns).map(|(diag, _)| diag)
    }

    /// The namespace where it was last found; searched for again if it is not there any more, because the process is gone
    /// that it was found by.
    fn namespace(&mut self, netns: u32) -> Option<Namespace> {
        let at = |path: &PathBuf| Namespace::open(&path.to_string_lossy()).ok();
        let there = self.places.get(&netns).and_then(at).filter(|found| found.inode() == netns);
        if there.is_some() {
            return there;
        }
        self.places.remove(&netns);
        if self.searched.is_some_and(|searched| searched.elapsed() < SEARCH_AT_MOST_EVERY) {
            return None;
        }
        self.search();
        self.places.get(&netns).and_then(at)
    }
}

/// Whether the namespace of this path has TCP sockets, or minisockets; in doubt yes. All namespaces share one table: where
/// one has 200,000 sockets, to list the few of another takes 20 ms, and the none of 500 others 10 s.
fn in_use(path: &Path) -> bool {
    // Of a process, or of one of its threads: /proc/1/ns/net, /proc/1/task/2/ns/net.
    let Some(process) = path.parent().and_then(Path::parent).filter(|_| path.starts_with("/proc")) else {
        return true;
    };
    let used = |name: &str, key: &str| {
        let Ok(text) = fs::read_to_string(process.join("net").join(name)) else { return true };
        text.lines().filter(|line| line.starts_with(key)).any(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            words.windows(2).any(|pair| ["inuse", "tw"].contains(&pair[0]) && pair[1] != "0")
        })
    };
    used("sockstat", "TCP:") || used("sockstat6", "TCP6:")
}
