//! Asking the kernel: one socket at a time where the ledger has a question, all of them at the start, after a loss, and
//! every so often. An answer is folded only when every event before it has been.

use super::{
    BATCH, Looked, Next, Run, Sink,
    look::list,
    report::{Broken, Resync, Why},
};
use crate::{
    flow::{Limits, Question, minisocket::FIN_TIMEOUT_NS},
    sight::{Kind, Sight},
    source::{
        filter::FilterSpec,
        holders::Holders,
        live::{boot_time_ns, cpu_time_ns},
        netns,
    },
};
use hashbrown::HashSet;
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
        let mut questions = std::mem::take(&mut self.questions);
        self.ledger.questions(now_ns, QUESTIONS, &mut questions);
        self.put(&questions, sink)?;
        questions.clear();
        self.questions = questions;
        self.ledger.overdue(now_ns, &mut self.entries);
        self.sockets.release();
        self.hand_over(sink)
    }

    fn put(&mut self, questions: &[Question], sink: &mut impl Sink) -> io::Result<Next> {
        let sockets = &mut self.sockets;
        let look = |question: &Question| sockets.look(question.netns, &question.ends, question.cookie);
        let answers: Vec<_> = questions.iter().map(look).collect();
        if !questions.is_empty() {
            self.drain_before(boot_time_ns(), sink)?;
        }
        let now_ns = boot_time_ns();
        for (question, answer) in questions.iter().zip(answers) {
            match answer {
                Some((sight, taken)) => {
                    self.ledger.answer(question, sight.as_ref(), taken, &mut self.entries);
                }
                None => self.ledger.unanswered(question, now_ns, &mut self.entries),
            }
        }
        self.hand_over(sink)
    }

    /// Folds every event that happened before this time.
    fn drain_before(&mut self, time_ns: u64, sink: &mut impl Sink) -> io::Result<Next> {
        loop {
            let (ledger, entries) = (&mut self.ledger, &mut self.entries);
            let mut last_ns = 0;
            let count = self.live.drain(BATCH, |event| {
                last_ns = event.head().time_ns;
                ledger.fold(event, entries);
            });
            let next = self.hand_over(sink)?;
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
        if self.drain_before(now_ns, sink)? == Next::Enough {
            return Ok(Next::Enough);
        }
        let mut written = Ok(Next::Continue);
        self.ledger.states(now_ns, |entry| {
            if written.is_ok() {
                written = sink.entry(&entry);
            }
        });
        written?;
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
        let listed = list(diag, broken, |batch, taken| {
            let next = self.drain_before(taken.to_ns, sink)?;
            for sight in batch.iter().filter(|sight| concerns(&self.filter, sight)) {
                let holder = holders.get(sight.inode);
                self.ledger.sight(sight, taken, holder.map(|holder| &holder.process), &mut self.entries);
                sink.looked_at(&Looked { sight, taken, holder, ledger: &self.ledger });
            }
            if self.hand_over(sink)? == Next::Enough || next == Next::Enough {
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

    fn resync(&mut self, why: Why, sink: &mut impl Sink) -> io::Result<Next> {
        let (began_ns, began_cpu_ns) = (boot_time_ns(), cpu_time_ns());
        let (mut next, (settings, holders)) = self.survey(sink)?;
        if next == Next::Enough {
            return Ok(next);
        }
        for (netns, limits) in settings {
            let fin_timeout_ns = limits.fin_timeout_ns.unwrap_or(FIN_TIMEOUT_NS);
            self.ledger.set_limits(netns, Limits { fin_timeout_ns, max_minisockets: limits.max_tw_buckets });
        }
        self.ledger.begin_round();
        sink.looking();
        let mut covered = HashSet::new();
        let mut unread = self.sockets.unreachable();
        let mut broken = Broken::default();
        for (netns, in_use) in self.sockets.namespaces() {
            if !in_use {
                covered.insert(netns);
                continue;
            }
            match self.dump(netns, &holders, &mut broken, sink) {
                Ok(Some(after)) => {
                    next = after;
                    covered.insert(netns);
                }
                Ok(None) => unread += 1,
                Err(error) => return Err(error),
            }
            if next == Next::Enough {
                return Ok(next);
            }
        }
        let unseen = self.ledger.unseen(|netns| covered.contains(&netns), began_ns);
        for some in unseen.chunks(VANISHED) {
            next = self.put(some, sink)?;
        }
        self.ledger.end_round();
        let ended_ns = boot_time_ns();
        self.schedule.done(ended_ns, cpu_time_ns().saturating_sub(began_cpu_ns));
        let resync = Resync {
            why,
            duration_ns: ended_ns.saturating_sub(began_ns),
            namespaces: covered.len() as u64,
            unread,
            broken,
            reconciled: self.ledger.reconciled(),
        };
        let enough = sink.resynced(ended_ns, &resync)?;
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
