//! One look at all sockets without a trace: for whoever may not trace, or need not.

use super::{
    Looked, Next, Sink,
    ask::concerns,
    report::{Broken, Resync, Why},
};
use crate::{
    flow::{Capabilities, DEFAULT_MAX_FLOWS, Ledger},
    sight::{Sight, Taken},
    source::{
        filter::FilterSpec,
        live::boot_time_ns,
        sockdiag::{Ahead, Detail, Query, SockDiag, States},
        sockets::Sockets,
    },
};
use std::io;

/// Looks again and again, and remembers what it saw.
pub struct Looks {
    sockets: Sockets,
    ledger: Ledger,
    filter: FilterSpec,
}

impl Looks {
    /// Nothing looked at yet.
    pub fn new(filter: FilterSpec) -> Self {
        let capabilities = Capabilities { cookies: true, all_states: true, ..Capabilities::default() };
        let ledger = Ledger::new(capabilities, DEFAULT_MAX_FLOWS, boot_time_ns());
        Self { sockets: Sockets::new(&filter.netns, true), ledger, filter }
    }

    /// Looks at every socket that the filter lets through.
    ///
    /// # Errors
    /// The sink's.
    pub fn look(&mut self, sink: &mut impl Sink) -> io::Result<Next> {
        let began_ns = boot_time_ns();
        self.sockets.refresh();
        let holders = self.sockets.holders();
        self.ledger.begin_round();
        sink.looking();
        let (mut broken, mut entries) = (Broken::default(), Vec::new());
        let (mut read, mut unread) = (0, self.sockets.unreachable());
        for (netns, _) in self.sockets.namespaces().into_iter().filter(|(_, in_use)| *in_use) {
            let Some(diag) = self.sockets.take(netns) else {
                unread += 1;
                continue;
            };
            let listed = list(diag, &mut broken, |batch, taken| {
                for sight in batch.iter().filter(|sight| concerns(&self.filter, sight)) {
                    let holder = holders.get(sight.inode);
                    self.ledger.sight(sight, taken, holder.map(|holder| &holder.process), &mut entries);
                    sink.looked_at(&Looked { sight, taken, holder, ledger: &self.ledger });
                }
                entries.clear();
                Ok(Next::Continue)
            });
            listed.diag.into_iter().for_each(|diag| self.sockets.put_back(diag));
            match listed.next? {
                Some(_) => read += 1,
                None => unread += 1,
            }
        }
        self.ledger.end_round();
        let ended_ns = boot_time_ns();
        let resync = Resync {
            why: Why::Asked,
            duration_ns: ended_ns.saturating_sub(began_ns),
            namespaces: read,
            unread,
            broken,
            reconciled: self.ledger.reconciled(),
        };
        sink.resynced(ended_ns, &resync)
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
    mut take: impl FnMut(&[Sight], Taken) -> io::Result<Next>,
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
        next = take(&batch, taken);
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
