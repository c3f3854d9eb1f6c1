//! One look at all sockets without a trace: for whoever may not trace, or need not.

use super::{
    Next, Sink, Started,
    ask::concerns,
    core::{Core, Input},
    report::{Broken, Resync, Why},
};
use crate::{
    flow::{DEFAULT_MAX_FLOWS, Reconciled},
    sight::{Sight, Taken},
    source::{
        filter::FilterSpec,
        live::boot_time_ns,
        sockdiag::{Ahead, Detail, Query, SockDiag, States},
        sockets::Sockets,
        surroundings::LiveSurroundings,
    },
};
use std::io;

/// Looks again and again, and remembers what it saw.
pub struct Looks {
    sockets: Sockets,
    core: Core,
    surroundings: LiveSurroundings,
    started: Started,
    filter: FilterSpec,
}

impl Looks {
    /// Nothing looked at yet.
    pub fn new(filter: FilterSpec) -> Self {
        let started = Started::without_trace(boot_time_ns(), DEFAULT_MAX_FLOWS);
        Self {
            sockets: Sockets::new(&filter.netns, true),
            core: Core::new(&started),
            surroundings: LiveSurroundings::new(&filter.netns),
            started,
            filter,
        }
    }

    /// When it began.
    pub fn started(&self) -> &Started {
        &self.started
    }

    /// Looks at every socket that the filter lets through. The sink gets no entries: nothing is known to have happened.
    ///
    /// # Errors
    /// The sink's.
    pub fn look(&mut self, sink: &mut impl Sink) -> io::Result<Next> {
        let began_ns = boot_time_ns();
        self.sockets.refresh();
        let holders = self.sockets.holders();
        let (core, around) = (&mut self.core, &mut self.surroundings);
        core.take(&Input::Looking, around, sink)?;
        let mut broken = Broken::default();
        let (mut read, mut unread) = (0, self.sockets.unreachable());
        for (netns, _) in self.sockets.namespaces().into_iter().filter(|(_, in_use)| *in_use) {
            let Some(diag) = self.sockets.take(netns) else {
                unread += 1;
                continue;
            };
            let listed = list(diag, &mut broken, |sights, taken| {
                sights.retain(|sight| concerns(&self.filter, sight));
                core.take(&Input::Sights { taken, sights, holders: &holders }, around, sink)?;
                core.hand_over(sink)
            });
            listed.diag.into_iter().for_each(|diag| self.sockets.put_back(diag));
            match listed.next? {
                Some(_) => read += 1,
                None => unread += 1,
            }
        }
        let now_ns = boot_time_ns();
        let round = Resync {
            why: Why::Asked,
            duration_ns: now_ns.saturating_sub(began_ns),
            namespaces: read,
            unread,
            broken,
            reconciled: Reconciled::default(),
        };
        core.take(&Input::Looked { now_ns, round }, around, sink)
    }
}

/// What came of listing one namespace.
pub(super) struct Listed {
    /// The connection, to be used again.
    pub diag: Option<SockDiag>,
    /// `None`: it could not be read.
    pub next: io::Result<Option<Next>>,
}

/// Lists the sockets of one namespace, a batch at a time, with all detail.
pub(super) fn list(
    diag: SockDiag,
    broken: &mut Broken,
    mut take: impl FnMut(&mut Vec<Sight>, Taken) -> io::Result<Next>,
) -> Listed {
    let netns = diag.netns();
    // Read on another thread: what is to be done with each socket takes half as long as to list it.
    let mut dump = match Ahead::begin(diag, Query::of(States::ALL, Detail::Full)) {
        Ok(dump) => dump,
        Err(error) => {
            log::warn!("the sockets of namespace {netns} cannot be listed: {error}");
            return Listed { diag: None, next: Ok(None) };
        }
    };
    let mut batch = Vec::new();
    let mut next = Ok(Next::Continue);
    while let Ok(Next::Continue) = next
        && let Some(taken) = dump.next_batch(&mut batch)
    {
        next = take(&mut batch, taken);
    }
    let (diag, result) = dump.end();
    match &result {
        Ok(counts) => {
            broken.restarts += u64::from(counts.restarts);
            broken.unreadable += counts.unreadable;
        }
        Err(error) => log::warn!("the sockets of namespace {netns} cannot be listed: {error}"),
    }
    let next = next.map(|next| (result.is_ok() || next == Next::Enough).then_some(next));
    Listed { diag: Some(diag), next }
}
