//! What a run does with what it takes in, whether that comes from the kernel or from a recording: the same inputs give the
//! same calls of the sink. Whatever is not a function of the inputs (clocks, the kernel's answers) stays outside.

use super::{Looked, Next, Reading, Sink, Started, report::Resync};
use crate::{
    event::Event,
    flow::{
        Entry, Ledger, Limits, Question,
        totals::{Matrix, combine},
    },
    sight::{Sight, Taken},
    source::{holders::Holders, surroundings::Surroundings},
    summary::{LostCounts, Summary},
};
use hashbrown::HashSet;
use std::io;
use tcptrace_common::counters::Counters;

/// What a run takes in, one after another. Records of the ring come beside ([`Core::event`]).
pub enum Input<'a> {
    /// Every event before this time has been taken: closes may be judged.
    Tick {
        /// On the boot-time clock.
        now_ns: u64,
    },
    /// The ledger is asked for its questions.
    Ask {
        /// On the boot-time clock.
        now_ns: u64,
        /// At most so many.
        most: usize,
    },
    /// The kernel's answers to the oldest questions, each with the cookie asked for. `None`: nobody could be asked.
    Answers {
        /// When the last of them came.
        now_ns: u64,
        /// In the order of the questions.
        answers: &'a [(u64, Option<Answer>)],
    },
    /// What was asked and not answered in time is believed by rule.
    Overdue {
        /// On the boot-time clock.
        now_ns: u64,
    },
    /// What the settings of new namespaces say.
    Settings(&'a [(u32, Limits)]),
    /// A list of all sockets begins.
    Looking,
    /// Sockets out of that list.
    Sights {
        /// When.
        taken: Taken,
        /// The sockets.
        sights: &'a [Sight],
        /// Who holds them.
        holders: &'a Holders,
    },
    /// The lists of these namespaces are complete: which sockets were not in them?
    Unseen {
        /// Inode numbers.
        covered: &'a [u32],
        /// When the first list began.
        began_ns: u64,
    },
    /// The list of all sockets has ended.
    Looked {
        /// When.
        now_ns: u64,
        /// What it was for, and how it went; what it came to is not known yet.
        round: Resync,
    },
    /// Somebody wants to know every flow.
    States {
        /// When.
        now_ns: u64,
    },
    /// The counters were read.
    Counted {
        /// When.
        now_ns: u64,
        /// The kernel's.
        counters: &'a Counters,
        /// What was lost since the beginning.
        lost: LostCounts,
        /// For the last time.
        last: bool,
    },
    /// There are no more events.
    End {
        /// When tracing ended.
        now_ns: u64,
    },
}

/// What the kernel said of one socket, and when; `None`: it has no such socket.
pub type Answer = (Option<Sight>, Taken);

/// The pure part of a run.
pub struct Core {
    ledger: Ledger,
    entries: Vec<Entry>,
    /// Asked, and not answered yet.
    questions: Vec<Question>,
    lost: LostCounts,
    counters: Counters,
    /// Otherwise nothing is known to have happened, and there are no entries.
    traced: bool,
}

impl Core {
    /// Nothing taken in yet.
    pub fn new(started: &Started) -> Self {
        Self {
            ledger: Ledger::new(started.capabilities, started.max_flows, started.began_ns),
            traced: started.is_traced(),
            entries: Vec::new(),
            questions: Vec::new(),
            lost: LostCounts::default(),
            counters: Counters::ZERO,
        }
    }

    /// Every flow.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What waits for an answer, oldest first.
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// Takes an event; its entries are handed over later.
    pub fn event(&mut self, event: &Event) {
        self.ledger.fold(event, &mut self.entries);
    }

    /// Hands everything over that has come of what was taken in. Not done by itself: a recording holds names between what
    /// was taken in and what came of it.
    ///
    /// # Errors
    /// The sink's.
    pub fn hand_over(&mut self, sink: &mut impl Sink) -> io::Result<Next> {
        if !self.traced {
            self.entries.clear();
        }
        if self.entries.is_empty() {
            return Ok(Next::Continue);
        }
        let mut next = Ok(Next::Continue);
        for entry in &self.entries {
            next = sink.entry(entry);
            if !matches!(next, Ok(Next::Continue)) {
                break;
            }
        }
        self.ledger.take_back(&mut self.entries);
        if next? == Next::Enough {
            return Ok(Next::Enough);
        }
        sink.handed_over().map(|()| Next::Continue)
    }

    /// Takes something in.
    ///
    /// # Errors
    /// The sink's.
    pub fn take(
        &mut self,
        input: &Input<'_>,
        around: &mut dyn Surroundings,
        sink: &mut impl Sink,
    ) -> io::Result<Next> {
        sink.input(input)?;
        let (ledger, entries) = (&mut self.ledger, &mut self.entries);
        match *input {
            Input::Tick { now_ns } => ledger.tick(now_ns, entries),
            Input::Ask { now_ns, most } => ledger.questions(now_ns, most, &mut self.questions),
            Input::Answers { now_ns, answers } => self.answers(now_ns, answers),
            Input::Overdue { now_ns } => ledger.overdue(now_ns, entries),
            Input::Settings(settings) => {
                settings.iter().for_each(|(netns, limits)| ledger.set_limits(*netns, *limits));
            }
            Input::Looking => {
                ledger.begin_round();
                sink.looking(around)?;
            }
            Input::Sights { taken, sights, holders } => {
                for sight in sights {
                    let holder = holders.get(sight.inode);
                    ledger.sight(sight, taken, holder.map(|holder| &*holder.process), entries);
                    sink.looked_at(&Looked { sight, taken, holder, ledger });
                }
            }
            Input::Unseen { covered, began_ns } => {
                // Asked for each flow; there may be hundreds of namespaces.
                let covered: HashSet<u32> = covered.iter().copied().collect();
                self.questions = ledger.unseen(|netns| covered.contains(&netns), began_ns);
            }
            Input::Looked { now_ns, round } => {
                // In a live run each has its answer. In a recording with a gap, the run knew of the end that we missed.
                let taken = Taken { from_ns: now_ns, to_ns: now_ns };
                for question in self.questions.drain(..) {
                    ledger.answer(&question, None, taken, entries);
                }
                ledger.end_round();
                let resync = Resync { reconciled: ledger.reconciled(), ..round };
                return sink.resynced(now_ns, &resync, around);
            }
            Input::States { now_ns } => {
                let mut written = Ok(Next::Continue);
                ledger.states(now_ns, |entry| {
                    if written.is_ok() {
                        written = sink.entry(&entry);
                    }
                });
                return written.and_then(|next| sink.handed_over().map(|()| next));
            }
            Input::Counted { now_ns, counters, lost, last } => {
                self.counters = *counters;
                let more = lost.since(&self.lost);
                self.lost = lost;
                if more.total() > 0 {
                    ledger.lost(now_ns);
                    sink.lost(now_ns, &more)?;
                }
                sink.counted(&Reading { now_ns, counters, lost, ledger, last })?;
            }
            Input::End { .. } => ledger.finish(entries),
        }
        Ok(Next::Continue)
    }

    /// An answer to what was not asked, as from a recording whose beginning is gone, is passed over.
    fn answers(&mut self, now_ns: u64, answers: &[(u64, Option<Answer>)]) {
        let mut asked = std::mem::take(&mut self.questions).into_iter();
        for (cookie, answer) in answers {
            let rest = asked.as_slice();
            let Some(skipped) = rest.iter().position(|question| question.cookie == *cookie) else { continue };
            let Some(question) = asked.nth(skipped) else { continue };
            match answer {
                Some((sight, taken)) => {
                    self.ledger.answer(&question, sight.as_ref(), *taken, &mut self.entries);
                }
                None => self.ledger.unanswered(&question, now_ns, &mut self.entries),
            }
        }
        self.questions = asked.collect();
    }

    /// Events are missing before this time, and nobody counted them.
    pub fn gap(&mut self, now_ns: u64) {
        self.ledger.lost(now_ns);
    }

    /// Transitions of the events that were folded, but for those that are counted here and not in the kernel.
    pub fn folded(&self) -> Matrix {
        let totals = self.ledger.totals();
        combine(&totals.matrix, &totals.decided_late, u64::saturating_sub)
    }

    /// The kernel's matrix where it was read before the last events: at least what was folded.
    pub fn at_least(&self, counters: &Counters) -> Matrix {
        combine(&counters.matrix, &self.folded(), u64::max)
    }

    /// There is more lost than was known.
    pub fn loses(&self, lost: &LostCounts) -> bool {
        lost.since(&self.lost).total() > 0
    }

    /// As [`Input::End`], where nobody wants the entries any more.
    pub fn finish(&mut self) {
        self.ledger.finish(&mut self.entries);
        self.entries.clear();
    }

    /// As [`Input::Counted`], likewise.
    pub fn last_counted(&mut self, counters: &Counters, lost: LostCounts) {
        (self.counters, self.lost) = (*counters, lost);
    }

    /// The end. `calls`: the function probe was attached.
    pub fn summary(&self, started_ns: u64, ended_ns: u64, calls: bool) -> Summary {
        let open = [self.ledger.open_flows(), self.ledger.minisockets()];
        let totals = self.ledger.totals().clone();
        Summary::new([started_ns, ended_ns], &self.counters, totals, self.lost, calls, open)
    }
}
