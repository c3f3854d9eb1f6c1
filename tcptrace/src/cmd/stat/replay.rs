//! Reports of a recording: one for each list of all sockets in it.

use super::{Output, owners::Known};
use crate::{
    enrich::Places,
    event::TcpState,
    flow::Entry,
    run::{Looked, Next, Reading as Counted, Sink, report::Resync},
    sight::{Sight, Taken},
    source::{filter::FilterSpec, holders::Holder, surroundings::Surroundings},
    stat::{
        by::{By, Listeners},
        limits::Limits,
        picture::Count,
        rates::{Reading, Traced, Values},
        report::{Interval, Report},
    },
    summary::LostCounts,
};
use hashbrown::HashMap;
use std::{io, time::Duration};

/// What is to be shown.
pub(super) struct Wanted {
    /// Of the sockets, and of the namespaces.
    pub filter: FilterSpec,
    /// Groups.
    pub by: Option<By>,
    /// Groups shown.
    pub top: usize,
    /// Reports at least so far apart; `None`: only the last.
    pub interval: Option<Duration>,
    /// At most so many.
    pub count: Option<u64>,
}

/// Makes reports, and shows them.
pub(super) struct Reports {
    wanted: Wanted,
    places: Places,
    output: Output,
    traced: bool,
    sights: Vec<(Sight, Taken)>,
    holders: HashMap<u32, Holder>,
    now: Traced,
    before: Option<Before>,
    last: Option<Report>,
    written: u64,
}

struct Before {
    time_ns: u64,
    reading: Reading,
    traced: Traced,
}

impl Reports {
    /// `traced`: the recording has events.
    pub fn new(wanted: Wanted, places: Places, output: Output, traced: bool) -> Self {
        Self {
            wanted,
            places,
            output,
            traced,
            sights: Vec::new(),
            holders: HashMap::new(),
            now: Traced::default(),
            before: None,
            last: None,
            written: 0,
        }
    }

    /// Shows what is only known at the end. `false`: there is nothing to show.
    ///
    /// # Errors
    /// Standard output's.
    pub fn finish(mut self) -> io::Result<bool> {
        match self.last.take() {
            Some(report) if self.wanted.interval.is_none() => self.output.page(&report).map(|()| true),
            last => Ok(self.written > 0 || last.is_some()),
        }
    }

    fn of_netns(&self, netns: u32) -> bool {
        self.wanted.filter.netns.is_empty() || self.wanted.filter.netns.contains(&netns)
    }

    fn report(&mut self, surroundings: &mut dyn Surroundings) -> (Report, Reading) {
        let known = Known::recorded(std::mem::take(&mut self.holders), self.places.clone());
        let sights = std::mem::take(&mut self.sights);
        let listeners = sights.iter().filter(|(sight, _)| sight.state == TcpState::Listen);
        let listeners: Listeners = listeners.map(|(sight, _)| (sight.netns, sight.ends.lport)).collect();
        let mut count =
            Count::new(&self.wanted.filter, self.wanted.by.map(|by| (by, &listeners, &known as _)));
        for (sight, taken) in &sights {
            count.took(*taken);
            count.add(sight);
        }
        let picture = count.finish(self.wanted.top);
        let mut found = surroundings.spaces();
        found.retain(|space| self.of_netns(space.netns));
        found.sort_by_key(|space| space.netns);
        let mut counters: Vec<_> = surroundings
            .counters()
            .into_iter()
            .filter(|(netns, _)| self.of_netns(*netns))
            .map(|(netns, (now, _))| (netns, Values::new(&now)))
            .collect();
        counters.sort_by_key(|(netns, _)| *netns);
        let reading = Reading(counters);
        let limits = Limits::new(&found, surroundings.whole().1, self.wanted.filter.netns.is_empty());
        let report = Report {
            spaces: found.into_iter().map(|space| (space.netns, space.label)).collect(),
            picture,
            limits,
            filtered: FilterSpec { netns: Default::default(), ..self.wanted.filter.clone() }
                != FilterSpec::default(),
            counters: reading.sum(),
            interval: None,
            notes: Vec::new(),
        };
        (report, reading)
    }

    fn interval(&self, now_ns: u64, reading: &Reading) -> Option<Interval> {
        let before = self.before.as_ref()?;
        let untraced = || "the recording was made without tracing".to_owned();
        Some(Interval {
            ns: now_ns.saturating_sub(before.time_ns),
            added: reading.since(&before.reading),
            traced: if self.traced { Ok(self.now.since(&before.traced)) } else { Err(untraced()) },
        })
    }
}

impl Sink for Reports {
    fn entry(&mut self, _: &Entry) -> io::Result<Next> {
        Ok(Next::Continue)
    }

    fn lost(&mut self, _: u64, _: &LostCounts) -> io::Result<()> {
        Ok(())
    }

    fn counted(&mut self, counted: &Counted<'_>) -> io::Result<()> {
        self.now = Traced::new(counted.counters, counted.ledger.totals(), counted.lost.total());
        Ok(())
    }

    fn looking(&mut self, _: &mut dyn Surroundings) -> io::Result<()> {
        self.sights.clear();
        self.holders.clear();
        Ok(())
    }

    fn looked_at(&mut self, look: &Looked<'_>) {
        self.sights.push((*look.sight, look.taken));
        if let Some(holder) = look.holder {
            self.holders.insert(look.sight.inode, holder.clone());
        }
    }

    fn resynced(&mut self, now_ns: u64, _: &Resync, surroundings: &mut dyn Surroundings) -> io::Result<Next> {
        let (mut report, reading) = self.report(surroundings);
        let Some(interval) = self.wanted.interval else {
            self.last = Some(report);
            return Ok(Next::Continue);
        };
        let since_ns = self.before.as_ref().map(|before| now_ns.saturating_sub(before.time_ns));
        if since_ns.is_some_and(|ns| u128::from(ns) < interval.as_nanos()) {
            return Ok(Next::Continue);
        }
        report.interval = self.interval(now_ns, &reading);
        self.before = Some(Before { time_ns: now_ns, reading, traced: self.now.clone() });
        // The first is where the rates begin.
        if report.interval.is_some() {
            self.output.tick(&report)?;
            self.written += 1;
        }
        self.last = Some(report);
        let enough = self.wanted.count.is_some_and(|count| self.written >= count);
        Ok(if enough { Next::Enough } else { Next::Continue })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
