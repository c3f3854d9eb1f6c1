//! Asking the kernel: one socket at a time where the ledger has a question, all of them at the start, after a loss, and
//! every so often. An answer is folded only when every event before it has been.

use super::{
    BATCH, Next, Run, Sink,
    core::Input,
    look::list,
    report::{Broken, Resync, Why},
};
use crate::{
    flow::{Limits, Question, Reconciled, minisocket::FIN_TIMEOUT_NS},
    sight::{Kind, Sight},
    source::{
        filter::FilterSpec,
        holders::Holders,
        live::{boot_time_ns, cpu_time_ns},
        netns,
    },
};
use std::{io, thread, time::Duration};

/// Questions asked between two looks at the ring, of some 3 us each: what is beyond is inferred.
const QUESTIONS: usize = 64;
/// Of a processor, dumps may take one part in this many, however often it is asked for.
const RESYNC_SHARE: u64 = 20;
/// At least this long from a loss to the dump that mends it: losses come in bursts.
const AFTER_LOSS: Duration = Duration::from_millis(500);
/// Between two looks at the ring while something else is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Vanished flows asked for between two looks at the ring.
const VANISHED: usize = 512;

/// Settings of new namespaces, and who holds which socket.
type Survey = (Vec<(u32, netns::Limits)>, Holders);

/// When to ask for all sockets.
#[derive(Debug)]
pub(super) struct Schedule {
    every_ns: Option<u64>,
    due_ns: u64,
    why: Why,
    not_before_ns: u64,
    eager: bool,
}

impl Schedule {
    /// At once, then every so often. `None`: never. `eager`: however long it takes.
    pub fn new(every: Option<Duration>, eager: bool) -> Self {
        let every_ns = every.map(|every| u64::try_from(every.as_nanos()).unwrap_or(u64::MAX));
        let due_ns = if every_ns.is_some() { 0 } else { u64::MAX };
        Self { every_ns, due_ns, why: Why::Start, not_before_ns: 0, eager }
    }

    /// At once, and never again: with a state filter most of a flow's events never come, so what a dump shows cannot be
    /// joined with them. `None`: not even that.
    pub fn once(every: Option<Duration>) -> Self {
        Self { every_ns: None, ..Self::new(every, false) }
    }

    /// Events were lost.
    pub fn lost(&mut self, now_ns: u64) {
        if self.every_ns.is_some() {
            let soon_ns = now_ns.saturating_add(AFTER_LOSS.as_nanos() as u64);
            if soon_ns < self.due_ns {
                (self.due_ns, self.why) = (soon_ns, Why::Lost);
            }
        }
    }

    fn due(&self, now_ns: u64) -> Option<Why> {
        (now_ns >= self.due_ns.max(self.not_before_ns)).then_some(self.why)
    }

    /// `cost_ns`: what it took of a processor. On a busy machine a dump lasts longer, but costs no more.
    fn done(&mut self, ended_ns: u64, cost_ns: u64) {
        self.due_ns = self.every_ns.map_or(u64::MAX, |every| ended_ns.saturating_add(every));
        self.why = Why::Timer;
        let pause_ns = if self.eager { 0 } else { cost_ns.saturating_mul(RESYNC_SHARE) };
        self.not_before_ns = ended_ns.saturating_add(pause_ns);
    }
}

impl Run {
    /// Asks what the ledger wants to know, as far as there is time for it.
    pub(super) fn ask(&mut self, now_ns: u64, sink: &mut impl Sink) -> io::Result<Next> {
        if self.core.ledger().next_due_ns().is_none_or(|due_ns| due_ns > now_ns) {
            return Ok(Next::Continue);
        }
        self.take(&Input::Ask { now_ns, most: QUESTIONS }, sink)?;
        self.put(QUESTIONS, sink)?;
        let next = self.take_through(&Input::Overdue { now_ns }, sink);
        self.sockets.release();
        next
    }

    /// Puts at most so many of the ledger's questions to the kernel.
    fn put(&mut self, most: usize, sink: &mut impl Sink) -> io::Result<Next> {
        let sockets = &mut self.sockets;
        let look = |question: &Question| {
            (question.cookie, sockets.look(question.netns, &question.ends, question.cookie))
        };
        let answers: Vec<_> = self.core.questions().iter().take(most).map(look).collect();
        if answers.is_empty() {
            return Ok(Next::Continue);
        }
        self.drain_before(boot_time_ns(), sink)?;
        self.take_through(&Input::Answers { now_ns: boot_time_ns(), answers: &answers }, sink)
    }

    /// Folds every event that happened before this time.
    fn drain_before(&mut self, time_ns: u64, sink: &mut impl Sink) -> io::Result<Next> {
        loop {
            let (count, last_ns) = self.records(sink);
            let next = self.core.hand_over(sink)?;
            if count < BATCH || last_ns >= time_ns || next == Next::Enough {
                return Ok(next);
            }
        }
    }

    /// Asks for all sockets, if it is time.
    pub(super) fn resync_if_due(&mut self, sink: &mut impl Sink) -> io::Result<Next> {
        match self.schedule.due(boot_time_ns()) {
            Some(why) => self.resync(why, sink),
            None => Ok(Next::Continue),
        }
    }

    /// Shows every connection as the ledger has it, then asks for all sockets.
    pub(super) fn show_all(&mut self, sink: &mut impl Sink) -> io::Result<Next> {
        let now_ns = boot_time_ns();
        if self.drain_before(now_ns, sink)? == Next::Enough
            || self.take(&Input::States { now_ns }, sink)? == Next::Enough
        {
            return Ok(Next::Enough);
        }
        self.resync(Why::Asked, sink)
    }

    /// One namespace, batch by batch, with a look at the ring between them. `None`: it could not be read.
    fn dump(
        &mut self,
        netns: u32,
        holders: &Holders,
        broken: &mut Broken,
        sink: &mut impl Sink,
    ) -> io::Result<Option<Next>> {
        let Some(diag) = self.sockets.take(netns) else { return Ok(None) };
        let listed = list(diag, broken, |sights, taken| {
            let next = self.drain_before(taken.to_ns, sink)?;
            sights.retain(|sight| concerns(&self.filter, sight));
            let after = self.take_through(&Input::Sights { taken, sights, holders }, sink)?;
            if after == Next::Enough || next == Next::Enough {
                return Ok(Next::Enough);
            }
            sink.flush().map(|()| Next::Continue)
        });
        if let Some(diag) = listed.diag {
            self.sockets.put_back(diag);
        }
        listed.next
    }

    /// Which namespaces there are, and who holds which socket: before the dump, because who gets a descriptor later does
    /// so under our eyes. It may take a good part of a second, in which the ring would fill: so on a thread of its own.
    fn survey(&mut self, sink: &mut impl Sink) -> io::Result<(Next, Survey)> {
        let mut sockets = std::mem::take(&mut self.sockets);
        let (result, next) = thread::scope(|scope| {
            let survey = scope.spawn(|| (sockets.refresh(), sockets.holders()));
            let mut next = Ok(Next::Continue);
            while !survey.is_finished() && matches!(next, Ok(Next::Continue)) {
                thread::sleep(LOOK_EVERY);
                next = self.drain_before(boot_time_ns(), sink).and_then(|next| sink.flush().map(|()| next));
            }
            (survey.join(), next)
        });
        self.sockets = sockets;
        let panicked = |_| io::Error::other("the survey of namespaces and descriptors panicked");
        let survey = result.map_err(panicked)?;
        Ok((next?, survey))
    }

    pub(super) fn resync(&mut self, why: Why, sink: &mut impl Sink) -> io::Result<Next> {
        let (began_ns, began_cpu_ns) = (boot_time_ns(), cpu_time_ns());
        let (mut next, (settings, holders)) = self.survey(sink)?;
        if next == Next::Enough {
            return Ok(next);
        }
        let limits = |(netns, limits): (u32, netns::Limits)| {
            let fin_timeout_ns = limits.fin_timeout_ns.unwrap_or(FIN_TIMEOUT_NS);
            (netns, Limits { fin_timeout_ns, max_minisockets: limits.max_tw_buckets })
        };
        let settings: Vec<_> = settings.into_iter().map(limits).collect();
        self.take(&Input::Settings(&settings), sink)?;
        self.take(&Input::Looking, sink)?;
        let mut covered = Vec::new();
        let mut unread = self.sockets.unreachable();
        let mut broken = Broken::default();
        for (netns, in_use) in self.sockets.namespaces() {
            if !in_use {
                covered.push(netns);
                continue;
            }
            match self.dump(netns, &holders, &mut broken, sink)? {
                Some(after) => {
                    next = after;
                    covered.push(netns);
                }
                None => unread += 1,
            }
            if next == Next::Enough {
                return Ok(next);
            }
        }
        self.take(&Input::Unseen { covered: &covered, began_ns }, sink)?;
        while !self.core.questions().is_empty() {
            next = self.put(VANISHED, sink)?;
        }
        // Rates between two lists are of the same time.
        self.count(false, sink)?;
        let now_ns = boot_time_ns();
        self.schedule.done(now_ns, cpu_time_ns().saturating_sub(began_cpu_ns));
        let round = Resync {
            why,
            duration_ns: now_ns.saturating_sub(began_ns),
            namespaces: covered.len() as u64,
            unread,
            broken,
            reconciled: Reconciled::default(),
        };
        let enough = self.take(&Input::Looked { now_ns, round }, sink)?;
        sink.flush()?;
        Ok(if enough == Next::Enough { enough } else { next })
    }
}

/// Whether what is traced includes this socket. Whose a request or a minisocket is, the kernel does not tell: the ones that
/// we know are asked for one by one.
pub(super) fn concerns(filter: &FilterSpec, sight: &Sight) -> bool {
    let of_nobody = sight.kind != Kind::Full && !(filter.uids.is_empty() && filter.cgroups.is_empty());
    filter.matches(sight) && !of_nobody
}
