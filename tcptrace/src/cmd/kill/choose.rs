//! Which sockets are wanted: every one of the namespaces is looked at, once.

use crate::{
    event::TcpState,
    kill::{Held, LeftOut, Target},
    sight::{Kind, Sight},
    source::{
        filter::FilterSpec,
        holders::HolderSource,
        netns::Namespace,
        sockdiag::{Detail, Query, SockDiag, States},
    },
};
use hashbrown::{HashMap, HashSet};
use std::{collections::BTreeSet, sync::Arc};

/// What is asked for.
pub struct Wanted {
    /// The conditions; its namespaces are not used.
    pub filter: FilterSpec,
    /// Of these cookies only; empty: of any.
    pub flows: BTreeSet<u64>,
    /// Proved to be in their state for so long.
    pub older_than_ns: Option<u64>,
}

/// Where to look.
pub struct Where {
    /// These namespaces.
    pub namespaces: Vec<Namespace>,
    /// One that may not be entered is left out, and told.
    pub leave_out: bool,
    /// Why there may be more.
    pub notes: Vec<String>,
}

/// The sockets.
pub struct Choice {
    /// The oldest, oldest first; not more than asked for.
    pub targets: Vec<Target>,
    /// How many there are in all.
    pub matched: u64,
    /// Those that are not touched.
    pub left_out: LeftOut,
    /// Whom to ask about them, by namespace: they have seen which interfaces sockets are bound to.
    pub diags: HashMap<u32, SockDiag>,
    /// What could not be seen.
    pub notes: Vec<String>,
}

impl Wanted {
    /// Whether it wants any socket in particular.
    pub fn is_selection(&self) -> bool {
        let FilterSpec { port, lport, rport, addresses, cgroups, uids, states, .. } = &self.filter;
        !(port.is_empty() && lport.is_empty() && rport.is_empty() && addresses.is_empty())
            || !(cgroups.is_empty() && uids.is_empty() && states.is_empty() && self.flows.is_empty())
    }

    /// Looks everywhere.
    ///
    /// # Errors
    /// A namespace that was asked for cannot be entered, or its sockets not be listed.
    pub fn choose(&self, places: Where, limit: usize) -> anyhow::Result<Choice> {
        let mut choice = Choice {
            targets: Vec::new(),
            matched: 0,
            left_out: LeftOut::default(),
            diags: HashMap::new(),
            notes: places.notes,
        };
        for namespace in places.namespaces {
            match self.look(&namespace, limit, &mut choice) {
                Ok(None) => {}
                Ok(Some(diag)) => drop(choice.diags.insert(namespace.inode(), diag)),
                Err(error) if places.leave_out => {
                    choice.notes.push(format!("not looked at: {}: {error:#}", namespace.label()));
                }
                Err(error) => return Err(error),
            }
        }
        oldest(&mut choice.targets, limit);
        find_owners(&mut choice);
        Ok(choice)
    }

    /// The sockets of one namespace; whom to ask about them, if there are any.
    fn look(
        &self,
        namespace: &Namespace,
        limit: usize,
        choice: &mut Choice,
    ) -> anyhow::Result<Option<SockDiag>> {
        let before = choice.matched;
        let mut diag = SockDiag::open(namespace)?;
        let mut dump = diag.dump(Query::of(self.states(), Detail::Full))?;
        let mut sights = Vec::new();
        // A list that the kernel broke off begins again, and a socket that changes its kind is in it twice.
        let mut known = HashSet::new();
        while let Some(taken) = dump.next_batch(&mut sights)? {
            for sight in sights.drain(..).filter(|sight| self.concerns(sight)) {
                if !known.insert((sight.cookie, sight.ends)) {
                    continue;
                }
                let target = Target::new(sight, taken);
                if let Some(count) = self.objection(&target, &mut choice.left_out) {
                    *count += 1;
                    continue;
                }
                choice.matched += 1;
                choice.targets.push(target);
            }
            if choice.targets.len() >= limit.saturating_mul(2).max(4096) {
                oldest(&mut choice.targets, limit);
            }
        }
        Ok((choice.matched > before).then_some(diag))
    }

    fn concerns(&self, sight: &Sight) -> bool {
        (self.flows.is_empty() || self.flows.contains(&sight.cookie)) && self.filter.matches(sight)
    }

    /// Why a socket that matches is not touched.
    fn objection<'a>(&self, target: &Target, left_out: &'a mut LeftOut) -> Option<&'a mut u64> {
        let sight = &target.seen.sight;
        let named = self.filter.states.contains(&TcpState::Listen);
        if sight.state == TcpState::Listen && !named {
            return Some(&mut left_out.listeners);
        }
        // Of requests and minisockets the filter does not ask for a user and a cgroup, which they have not. And without a
        // file older kernels show the user 0, whoever had it.
        let small = sight.kind != Kind::Full;
        let unproved = small || sight.inode == 0 && sight.uid == 0;
        if small && !self.filter.cgroups.is_empty() || unproved && !self.filter.uids.is_empty() {
            return Some(&mut left_out.nobodys);
        }
        match (self.older_than_ns, target.seen.age) {
            (Some(_), None) => Some(&mut left_out.no_age),
            (Some(least), Some(age)) if age.ns < least => Some(&mut left_out.younger),
            _ => None,
        }
    }

    /// What to ask the kernel for.
    fn states(&self) -> States {
        let wanted = &self.filter.states;
        if wanted.is_empty() {
            return States::ALL;
        }
        // Half-open requests are SYN_RECV to people.
        let requests = wanted.contains(&TcpState::SynRecv).then_some(TcpState::NewSynRecv);
        States::of(wanted.iter().copied().chain(requests))
    }
}

/// Oldest first, those whose age nothing tells last; no more than `limit`.
fn oldest(targets: &mut Vec<Target>, limit: usize) {
    let age = |target: &Target| target.seen.age.map(|span| span.ns);
    targets.sort_by_key(|target| (std::cmp::Reverse(age(target)), target.seen.sight.cookie));
    targets.truncate(limit);
}

fn find_owners(choice: &mut Choice) {
    let inodes: HashSet<u32> =
        choice.targets.iter().map(|target| target.seen.sight.inode).filter(|inode| *inode != 0).collect();
    if inodes.is_empty() {
        return;
    }
    let holders = HolderSource::new().read(Some(&inodes));
    for target in &mut choice.targets {
        target.held = holders.get(target.seen.sight.inode).map(|holder| Held {
            process: Arc::clone(&holder.process),
            fd: holder.fd,
            processes: holder.processes,
        });
    }
    if holders.unread > 0 && choice.targets.iter().any(|it| it.held.is_none() && it.nobody().is_none()) {
        choice.notes.push(format!(
            "needs root: whose the sockets of {} processes are; they are shown as unknown",
            holders.unread
        ));
    }
}
