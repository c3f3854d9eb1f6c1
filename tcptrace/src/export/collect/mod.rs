//! A [`Sink`] that counts, and publishes a [`Snapshot`] about once a second: whoever serves or pushes the numbers reads the
//! last one, and nothing that a reader does can hold up the trace.

mod groups;
mod kernel;
mod label;
mod own;
mod tally;
#[cfg(test)]
mod tests;

pub use groups::IDLE_NS as GIVE_UP_NS;
pub use kernel::{KernelCollector, Sums};
pub use label::{Label, OTHER};
pub use own::Own;

use super::model::*;
use crate::{
    diagnose::{Diagnosis, Found, RULES},
    flow::{Entry, What, totals::Matrix},
    hist::Spells,
    run::{
        Looked, Next, Reading, Sink,
        report::{Resync, Why},
    },
    source::{live::wall_offset_ns, privileges::kernel_version, surroundings::Surroundings},
    summary::LostCounts,
};
use groups::Groups;
use own::Paced;
use std::{
    borrow::Cow,
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tcptrace_common::state::TcpState;
use tokio::sync::watch;

/// Of a processor, counting all sockets may take one part in this many, and so may building a snapshot.
const SHARE: u64 = 100;

/// How to count.
#[derive(Clone, Debug)]
pub struct Counting {
    /// What to group by.
    pub labels: Vec<Label>,
    /// Groups kept apart.
    pub most_groups: usize,
    /// Snapshots that a pusher dropped; `None`: nobody pushes.
    pub dropped: Option<Arc<AtomicU64>>,
}

/// Counts everything that is exported.
pub struct Collector {
    groups: Groups,
    spells: Spells,
    stuck: Option<Stuck>,
    looks: Looks,
    own: Own,
    dropped: Option<Arc<AtomicU64>>,
    began_ns: u64,
    /// From boot time to the time of day when it began: when something began does not change when the clock is set.
    began_offset_ns: i64,
    census: Paced,
    building: Paced,
    out: watch::Sender<Arc<Snapshot>>,
}

/// What the last look came to.
struct Stuck {
    /// Of every rule, those that found nothing included.
    findings: BTreeMap<&'static str, Found>,
    unexplained: u64,
}

impl Collector {
    /// Counts from `began_ns` on, on the boot-time clock. The receiver has an empty snapshot (`at_unix_ns` 0) at first.
    pub fn new(counting: Counting, own: Own, began_ns: u64) -> (Self, watch::Receiver<Arc<Snapshot>>) {
        let (out, snapshots) = watch::channel(Arc::default());
        let this = Self {
            groups: Groups::new(&counting.labels, counting.most_groups),
            spells: Spells::default(),
            stuck: None,
            looks: Looks::default(),
            own,
            dropped: counting.dropped,
            began_ns,
            began_offset_ns: wall_offset_ns(),
            census: Paced::one_in(SHARE),
            building: Paced::one_in(SHARE),
            out,
        };
        (this, snapshots)
    }

    /// What a look at all sockets came to.
    pub fn diagnosed(&mut self, diagnosis: &Diagnosis) {
        let mut findings: BTreeMap<_, _> = RULES.iter().map(|rule| (rule.name, Found::default())).collect();
        findings.extend(diagnosis.by_name());
        self.stuck = Some(Stuck { findings, unexplained: diagnosis.unexplained });
    }

    fn snapshot(&self, reading: &Reading<'_>) -> Snapshot {
        snapshot(self.began_ns, self.began_offset_ns, reading.now_ns, |shown| self.show_all(reading, shown))
    }

    fn show_all(&self, reading: &Reading<'_>, shown: &mut Shown<'_>) {
        let totals = reading.ledger.totals();
        let kernel = kernel_version().0;
        shown.add(&BUILD, [env!("CARGO_PKG_VERSION").into(), kernel.into()], Value::Info);
        shown.matrix(&TRANSITIONS, &reading.matrix(), false);
        shown.matrix(&INFERRED, &totals.inferred, false);
        self.groups.show(self.began_ns, shown);
        shown.group(Vec::new(), None);
        if let Some(stuck) = &self.stuck {
            for (name, Found { count, oldest_ns }) in &stuck.findings {
                shown.add(&STUCK, [(*name).into()], Value::Number(*count as f64));
                if let Some(ns) = oldest_ns {
                    shown.add(&STUCK_AGE, [(*name).into()], Value::Number(seconds(*ns)));
                }
            }
            shown.add(&UNEXPLAINED, [], Value::Number(stuck.unexplained as f64));
        }
        self.looks.show(shown);
        for (kind, count) in reading.lost.each() {
            shown.add(&LOST, [kind.into()], Value::Count(count));
        }
        shown.add(&EVICTED, [], Value::Count(totals.evicted));
        shown.add(&FLOWS, [], Value::Number(reading.ledger.len() as f64));
        if !self.groups.is_one() {
            shown.add(&GROUPS_OTHER, [], Value::Count(self.groups.overflow));
        }
        if let Some(dropped) = &self.dropped {
            shown.add(&PUSHES_DROPPED, [], Value::Count(dropped.load(Ordering::Relaxed)));
        }
        self.own.show(shown);
    }
}

/// All that `show` adds, at this moment.
fn snapshot(began_ns: u64, began_offset_ns: i64, now_ns: u64, show: impl FnOnce(&mut Shown<'_>)) -> Snapshot {
    let wall_offset_ns = wall_offset_ns();
    let mut families = vec![Vec::new(); FAMILIES.len()];
    let (group, began_unix_ns) = (Vec::new(), None);
    let shown = Shown { families: &mut families, group, began_unix_ns, began_offset_ns, wall_offset_ns };
    show(&mut { shown });
    let families = FAMILIES.iter().copied().zip(families).filter(|(_, samples)| !samples.is_empty());
    Snapshot {
        began_unix_ns: began_ns.saturating_add_signed(began_offset_ns),
        at_unix_ns: now_ns.saturating_add_signed(wall_offset_ns),
        made: Some(std::time::Instant::now()),
        families: families.collect(),
    }
}

/// How often the kernel was asked for all its sockets, and when last.
#[derive(Debug, Default)]
struct Looks {
    counts: [u64; Why::ALL.len()],
    last: Option<(u64, u64)>,
}

impl Looks {
    fn looked(&mut self, now_ns: u64, resync: &Resync) {
        if let Some(index) = Why::ALL.iter().position(|why| *why == resync.why) {
            self.counts[index] += 1;
        }
        self.last = Some((now_ns, resync.unread));
    }

    fn show(&self, shown: &mut Shown<'_>) {
        for (why, count) in Why::ALL.iter().zip(self.counts) {
            shown.add(&RESYNCS, [why.name().into()], Value::Count(count));
        }
        if let Some((time_ns, unread)) = self.last {
            let unix_ns = time_ns.saturating_add_signed(shown.wall_offset_ns);
            shown.add(&LAST_RESYNC, [], Value::Number(seconds(unix_ns)));
            shown.add(&UNREAD, [], Value::Number(unread as f64));
        }
    }
}

impl Sink for Collector {
    fn entry(&mut self, entry: &Entry) -> io::Result<Next> {
        self.groups.told(entry);
        let now_ns = entry.time_ns;
        let (groups, spells) = (&mut self.groups, &mut self.spells);
        spells.entry(entry, &mut |who, spell| groups.left(who, &spell, now_ns));
        match &entry.what {
            What::Retransmit(event) => groups.of(&entry.who, now_ns).retransmit(event),
            What::Reset(event) => groups.of(&entry.who, now_ns).reset(event),
            What::Close(closed) => groups.of(&entry.who, now_ns).close(closed.verdict.cause),
            What::Transition { .. } | What::Sight(_) | What::State { .. } => {}
        }
        Ok(Next::Continue)
    }

    fn lost(&mut self, _now_ns: u64, _lost: &LostCounts) -> io::Result<()> {
        Ok(()) // every reading says it
    }

    fn counted(&mut self, reading: &Reading<'_>) -> io::Result<()> {
        let (mut census, mut building) = (self.census, self.building);
        if reading.last {
            let groups = &mut self.groups;
            self.spells.finish(&mut |who, spell| groups.left(who, &spell, reading.now_ns));
            (census, building) = (Paced::one_in(SHARE), Paced::one_in(SHARE));
        }
        census.run(reading.now_ns, || self.groups.census(reading.ledger, reading.now_ns));
        building.run(reading.now_ns, || {
            let snapshot = Arc::new(self.snapshot(reading));
            self.out.send_replace(snapshot);
        });
        (self.census, self.building) = (census, building);
        Ok(())
    }

    fn looked_at(&mut self, look: &Looked<'_>) {
        self.groups.seen(look.sight);
    }

    fn resynced(
        &mut self,
        now_ns: u64,
        resync: &Resync,
        _surroundings: &mut dyn Surroundings,
    ) -> io::Result<Next> {
        self.looks.looked(now_ns, resync);
        Ok(Next::Continue)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Collects samples by family.
pub struct Shown<'a> {
    /// In the order of [`FAMILIES`].
    families: &'a mut [Vec<Sample>],
    group: Vec<(&'static str, Cow<'static, str>)>,
    began_unix_ns: Option<u64>,
    began_offset_ns: i64,
    wall_offset_ns: i64,
}

impl Shown<'_> {
    /// What is added next is of this group, which began then on the boot-time clock; `None`: with everything.
    fn group(&mut self, labels: Vec<(&'static str, Cow<'static, str>)>, began_ns: Option<u64>) {
        self.group = labels;
        self.began_unix_ns = began_ns.map(|ns| ns.saturating_add_signed(self.began_offset_ns));
    }

    fn add<const N: usize>(&mut self, family: &'static Family, labels: [Cow<'static, str>; N], value: Value) {
        self.add_of(family, labels, value, family.grouped);
    }

    /// `grouped`: with the labels of the group.
    fn add_of<const N: usize>(
        &mut self,
        family: &'static Family,
        labels: [Cow<'static, str>; N],
        value: Value,
        grouped: bool,
    ) {
        let index = FAMILIES.iter().position(|of| std::ptr::eq(*of, family));
        let Some(samples) = index.and_then(|index| self.families.get_mut(index)) else { return };
        let named = family.labels.iter().map(|(name, _)| *name).zip(labels);
        let group = self.group.iter().filter(|_| grouped).cloned();
        let began_unix_ns = self.began_unix_ns.filter(|_| grouped);
        samples.push(Sample { labels: named.chain(group).collect(), value, began_unix_ns });
    }

    /// Transitions by pair of states; to people both kinds of SYN_RECV are one.
    fn matrix(&mut self, family: &'static Family, matrix: &Matrix, grouped: bool) {
        let mut pairs: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for old in TcpState::ALL {
            for new in TcpState::ALL.into_iter().filter(|new| new.name() != old.name()) {
                let count = matrix[usize::from(old.number())][usize::from(new.number())];
                *pairs.entry((old.name(), new.name())).or_default() += count;
            }
        }
        for ((old, new), count) in pairs.into_iter().filter(|(_, count)| *count > 0) {
            self.add_of(family, [old.into(), new.into()], Value::Count(count), grouped);
        }
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
