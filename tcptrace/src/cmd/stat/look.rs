//! One look: every socket of the namespaces, their counters, their limits.

use super::owners::Finder;
use crate::{
    event::TcpState,
    sandbox::{Sandbox, Thread},
    sight::Sight,
    source::{
        counters::{Counters, Settings, Sockstat},
        filter::FilterSpec,
        holders::{HolderSource, Way},
        live::boot_time_ns,
        netns::Namespace,
        sockdiag::{Detail, Query, SockDiag, States},
        surroundings::{Space, machine_settings},
    },
    stat::{
        by::{By, Listeners},
        limits::Limits,
        picture::{Count, Picture},
        rates::{Reading, Values},
        report::Report,
    },
};
use anyhow::Context;

/// Which namespaces are looked at.
pub enum Which {
    /// These.
    These(Vec<Namespace>),
    /// Those that there are at each look.
    All,
}

/// Looks again and again.
pub struct Looker {
    which: Which,
    filter: FilterSpec,
    by: Option<By>,
    top: usize,
    owners: Finder,
    /// What the last look read, and when: for the rates of the next one.
    reading: Reading,
    read_ns: u64,
}

/// What there is to look at.
struct Found {
    namespaces: Vec<Namespace>,
    /// None is missing.
    all: bool,
    notes: Vec<String>,
}

/// What one namespace's files say.
struct Files {
    space: Space,
    values: Values,
}

impl Looker {
    /// Nothing looked at yet.
    pub fn new(which: Which, filter: FilterSpec, by: Option<By>, top: usize) -> Self {
        Self { which, filter, by, top, owners: Finder::default(), reading: Reading::default(), read_ns: 0 }
    }

    /// What of it the kernel programs can decide: the filter, and the namespaces where they stay the same.
    pub fn traced(&self) -> FilterSpec {
        let netns = match &self.which {
            Which::These(spaces) => spaces.iter().map(Namespace::inode).collect(),
            Which::All => Default::default(),
        };
        FilterSpec { netns, ..self.filter.clone() }
    }

    /// Whether owners are shown.
    pub fn asks_for_holders(&self) -> bool {
        Finder::asks(self.by)
    }

    /// Gives up what is needed no more to look again.
    pub fn confine(&mut self, holders: Option<HolderSource>, sandbox: Sandbox) {
        let descriptors = holders.as_ref().is_some_and(|source| source.way() == Way::Proc);
        self.owners = Finder::with(holders);
        sandbox.enter(&Thread::tracer(&self.traced().netns, descriptors));
    }

    /// The counters that the last look read, and when, on the boot-time clock.
    pub fn reading(&self) -> (u64, &Reading) {
        (self.read_ns, &self.reading)
    }

    /// Looks at everything.
    ///
    /// # Errors
    /// A namespace that was asked for cannot be entered, or its sockets not be listed.
    pub fn look(&mut self) -> anyhow::Result<Report> {
        let mut found = self.find()?;
        self.read_ns = boot_time_ns();
        let files = self.files(&mut found)?;
        let known = self.owners.look(self.by);
        let picture = {
            let listeners = self.listeners(&found.namespaces)?;
            let by = self.by.map(|by| (by, &listeners, &known as _));
            let mut count = Count::new(&self.filter, by);
            for namespace in &found.namespaces {
                each(namespace, self.states(), |sights, taken| {
                    count.took(taken);
                    sights.iter().for_each(|sight| count.add(sight));
                })?;
            }
            count.finish(self.top)
        };
        let mut notes = found.notes;
        notes.extend(known.notes);
        self.note_filter(&picture, &mut notes);
        let spaces: Vec<_> = files.iter().map(|files| files.space.clone()).collect();
        let first = first_settings(&spaces);
        if first.max_orphans.is_none() {
            notes.push(
                "tcp_max_orphans and tcp_mem are unknown: only the first network namespace shows them, and to enter it \
                 needs root (CAP_SYS_ADMIN)"
                    .to_owned(),
            );
        }
        self.reading = Reading(files.into_iter().map(|files| (files.space.netns, files.values)).collect());
        Ok(Report {
            spaces: found.namespaces.iter().map(|space| (space.inode(), space.label())).collect(),
            picture,
            limits: Limits::new(&spaces, first, found.all),
            filtered: self.filter != FilterSpec::default(),
            counters: self.reading.sum(),
            interval: None,
            notes,
        })
    }

    fn find(&self) -> anyhow::Result<Found> {
        match &self.which {
            Which::These(spaces) => Ok(Found { namespaces: spaces.clone(), all: false, notes: Vec::new() }),
            Which::All => {
                let all = Namespace::all()?;
                let hidden = all.hidden;
                let notes = (hidden > 0).then(|| {
                    let needs = if nix::unistd::geteuid().is_root() {
                        ""
                    } else {
                        "needs root (CAP_SYS_PTRACE, CAP_SYS_ADMIN): "
                    };
                    format!(
                        "{needs}the namespaces of {hidden} processes could not be seen; there may be more"
                    )
                });
                Ok(Found { namespaces: all.found, all: hidden == 0, notes: notes.into_iter().collect() })
            }
        }
    }

    /// Reads each namespace's files. With `--all-netns` one that may not be entered is left out, and told.
    fn files(&self, found: &mut Found) -> anyhow::Result<Vec<Files>> {
        let mut files = Vec::new();
        let mut entered = Vec::new();
        for namespace in std::mem::take(&mut found.namespaces) {
            match read(&namespace) {
                Ok(read) => {
                    files.push(read);
                    entered.push(namespace);
                }
                Err(error) if matches!(self.which, Which::All) => {
                    found.all = false;
                    found.notes.push(format!("not looked at: {}: {error:#}", namespace.label()));
                }
                Err(error) => return Err(error),
            }
        }
        found.namespaces = entered;
        Ok(files)
    }

    /// Who listens where: to be known before the first socket is grouped by port.
    fn listeners(&self, namespaces: &[Namespace]) -> anyhow::Result<Listeners> {
        let mut listeners = Listeners::new();
        if self.by == Some(By::Port) {
            for namespace in namespaces {
                each(namespace, States::of([TcpState::Listen]), |sights, _| {
                    listeners.extend(sights.iter().map(|sight| (sight.netns, sight.ends.lport)));
                })?;
            }
        }
        Ok(listeners)
    }

    /// What to ask the kernel for: it need not list what the filter holds back.
    fn states(&self) -> States {
        let wanted = &self.filter.states;
        if wanted.is_empty() {
            return States::ALL;
        }
        // Half-open requests are SYN_RECV to people.
        let requests = wanted.contains(&TcpState::SynRecv).then_some(TcpState::NewSynRecv);
        States::of(wanted.iter().copied().chain(requests))
    }

    fn note_filter(&self, picture: &Picture, notes: &mut Vec<String>) {
        let small = picture.all.without_owner();
        if small > 0 && (!self.filter.uids.is_empty() || !self.filter.cgroups.is_empty()) {
            notes.push(format!(
                "{small} half-open requests and minisockets have neither user nor cgroup: they are counted whatever \
                 --uid and --cgroup say"
            ));
        }
        if self.filter != FilterSpec::default() {
            notes.push(
                "limits and the kernel's counters are about all sockets, whatever the filter says".to_owned(),
            );
        }
    }
}

fn read(namespace: &Namespace) -> anyhow::Result<Files> {
    let files = namespace.enter(|| (Counters::read(), Sockstat::read(), Settings::read()))?;
    let (counters, sockstat, settings) = files;
    let sockstat = sockstat.context("cannot read /proc/net/sockstat")?;
    let values = Values::new(&counters.context("cannot read /proc/net/snmp and /proc/net/netstat")?);
    Ok(Files { space: Space::new(namespace, sockstat, settings), values })
}

/// Hands out the sockets of a namespace, a batch at a time.
fn each(
    namespace: &Namespace,
    states: States,
    mut take: impl FnMut(&[Sight], crate::sight::Taken),
) -> anyhow::Result<()> {
    let mut diag = SockDiag::open(namespace)?;
    let mut dump = diag.dump(Query::of(states, Detail::Plain))?;
    let mut sights = Vec::new();
    while let Some(taken) = dump.next_batch(&mut sights)? {
        take(&sights, taken);
        sights.clear();
    }
    Ok(())
}

/// Settings of the first namespace: seen already, or as far as it may be entered.
fn first_settings(spaces: &[Space]) -> Settings {
    let seen = spaces.iter().map(|space| space.settings).find(|settings| settings.max_orphans.is_some());
    seen.unwrap_or_else(machine_settings)
}
