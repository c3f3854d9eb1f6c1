//! Every socket once, for whoever only counts them: no ledger, no owners, nothing kept.

use super::{
    ask::concerns,
    report::{Broken, Resync, Why},
};
use crate::{
    flow::Reconciled,
    sight::Sight,
    source::{
        filter::FilterSpec,
        live::{boot_time_ns, cpu_time_ns},
        sockdiag::{Detail, DiagError, DumpCounts, Query, SockDiag, States},
        sockets::Sockets,
    },
};
use hashbrown::HashSet;
use std::time::Duration;

/// Of a processor, a census may take one part in this many, however often it is asked for.
const SHARE: u64 = 20;

/// Asks for all sockets, now and then.
pub struct Census {
    sockets: Sockets,
    filter: FilterSpec,
    every_ns: Option<u64>,
    due_ns: u64,
    why: Why,
}

impl Census {
    /// At once, then every so often. `None`: never.
    pub fn new(filter: FilterSpec, every: Option<Duration>) -> Self {
        let every_ns = every.map(|every| u64::try_from(every.as_nanos()).unwrap_or(u64::MAX));
        let due_ns = if every_ns.is_some() { 0 } else { u64::MAX };
        Self {
            sockets: Sockets::new(&filter.netns, every_ns.is_some()),
            filter,
            every_ns,
            due_ns,
            why: Why::Start,
        }
    }

    /// When the next one is due, on the boot-time clock; `u64::MAX`: never.
    pub fn due_ns(&self) -> u64 {
        self.due_ns
    }

    /// Somebody wants one now.
    pub fn ask(&mut self) {
        if self.every_ns.is_some() {
            (self.due_ns, self.why) = (0, Why::Asked);
        }
    }

    /// Hands over every socket that the filter lets through.
    pub fn take(&mut self, mut each: impl FnMut(&Sight)) -> Resync {
        let (began_ns, began_cpu_ns) = (boot_time_ns(), cpu_time_ns());
        self.sockets.refresh();
        let (mut namespaces, mut unread) = (0, self.sockets.unreachable());
        let mut broken = Broken::default();
        for (netns, in_use) in self.sockets.namespaces() {
            let listed = match self.sockets.take(netns).filter(|_| in_use) {
                None if in_use => None,
                None => Some(DumpCounts::default()),
                Some(mut diag) => {
                    let listed = list(&mut diag, |sight| {
                        if concerns(&self.filter, sight) {
                            each(sight);
                        }
                    });
                    self.sockets.put_back(diag);
                    let failed =
                        |error| log::warn!("the sockets of namespace {netns} cannot be listed: {error}");
                    listed.map_err(failed).ok()
                }
            };
            match listed {
                Some(counts) => {
                    namespaces += 1;
                    broken.restarts += u64::from(counts.restarts);
                    broken.unreadable += counts.unreadable;
                }
                None => unread += 1,
            }
        }
        self.sockets.release();
        let now_ns = boot_time_ns();
        let pause_ns = cpu_time_ns().saturating_sub(began_cpu_ns).saturating_mul(SHARE);
        self.due_ns = self.every_ns.map_or(u64::MAX, |every| now_ns.saturating_add(every.max(pause_ns)));
        let why = std::mem::replace(&mut self.why, Why::Timer);
        let duration_ns = now_ns.saturating_sub(began_ns);
        Resync { why, duration_ns, namespaces, unread, broken, reconciled: Reconciled::default() }
    }
}

/// Each socket of a namespace once, also where the kernel has to begin its list again.
fn list(diag: &mut SockDiag, mut each: impl FnMut(&Sight)) -> Result<DumpCounts, DiagError> {
    let mut dump = diag.dump(Query::of(States::ALL, Detail::Plain))?;
    let (mut seen, mut batch) = (HashSet::new(), Vec::new());
    while dump.next_batch(&mut batch)?.is_some() {
        batch.drain(..).filter(|sight: &Sight| seen.insert(sight.cookie)).for_each(|sight| each(&sight));
    }
    Ok(dump.counts())
}
