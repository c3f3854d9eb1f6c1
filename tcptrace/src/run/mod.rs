//! The one loop: wait, drain, fold, ask, hand the entries on. Everything that can wake the program stands in `wake.rs`,
//! everything that is asked of the kernel in `ask.rs`.

mod ask;
pub mod look;
pub mod report;
mod wake;

pub use wake::Signals;

use crate::{
    flow::{Capabilities, Entry, Ledger, Question, totals::Matrix},
    sight::{Sight, Taken},
    source::{
        filter::FilterSpec,
        holders::Holder,
        hooks::Way,
        live::{Live, boot_time_ns},
        load::Loaded,
        sockets::Sockets,
    },
    summary::{LostCounts, Summary, exact_matrix},
};
use ask::Schedule;
use report::Resync;
use std::{io, time::Duration};
use tcptrace_common::counters::Counters;
use tokio::time::Instant;
use wake::{Input, Pace, Wake};

/// After so many empty looks in a row the timer stops, and the kernel wakes us at the next record.
const IDLE_AFTER: u32 = 50;
/// How often the kernel's loss counters are read; also the longest sleep.
const LOOK_FOR_LOSS_EVERY: Duration = Duration::from_secs(1);
/// Records folded before their entries are handed on.
const BATCH: usize = 4096;
/// Batches between two looks at signals: under full load the ring may never become empty.
const BATCHES: usize = 16;

/// What a sink wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// More.
    Continue,
    /// Enough, e.g. `--count` is reached.
    Enough,
}

/// Where entries go.
pub trait Sink {
    /// One entry. A broken pipe ends the run quietly.
    ///
    /// # Errors
    /// It cannot be written.
    fn entry(&mut self, entry: &Entry) -> io::Result<Next>;

    /// Events were lost since the last call.
    ///
    /// # Errors
    /// It cannot be written.
    fn lost(&mut self, now_ns: u64, lost: &LostCounts) -> io::Result<()>;

    /// The counters were read, as they are every second and once more at the end.
    ///
    /// # Errors
    /// It cannot be written.
    fn counted(&mut self, _reading: &Reading<'_>) -> io::Result<()> {
        Ok(())
    }

    /// The kernel is about to be asked for all its sockets.
    fn looking(&mut self) {}

    /// A socket that it shows, after the ledger has taken it in.
    fn looked_at(&mut self, _look: &Looked<'_>) {}

    /// The kernel was asked for all its sockets.
    ///
    /// # Errors
    /// It cannot be written.
    fn resynced(&mut self, now_ns: u64, resync: &Resync) -> io::Result<Next>;

    /// A batch is complete: show it.
    ///
    /// # Errors
    /// It cannot be written.
    fn flush(&mut self) -> io::Result<()>;
}

/// A socket in the kernel's list, and who knows more of it.
pub struct Looked<'a> {
    /// What the kernel shows.
    pub sight: &'a Sight,
    /// When.
    pub taken: Taken,
    /// Who has its descriptor.
    pub holder: Option<&'a Holder>,
    /// What events told: [`Ledger::told`].
    pub ledger: &'a Ledger,
}

/// What the kernel counted up to a moment, and what the ledger knows then.
pub struct Reading<'a> {
    /// When, on the boot-time clock, in nanoseconds.
    pub now_ns: u64,
    /// The kernel's counters; they only grow.
    pub counters: &'a Counters,
    /// What was lost since the beginning.
    pub lost: LostCounts,
    /// Every flow, as it is now.
    pub ledger: &'a Ledger,
    /// Nothing is traced any more: flows that are open now stay so.
    pub last: bool,
}

impl Reading<'_> {
    /// Transitions by pair of states, exact even when records were lost.
    pub fn matrix(&self) -> Matrix {
        exact_matrix(self.counters, self.ledger.totals())
    }
}

/// A trace from a started source to a sink.
pub struct Run {
    signals: Signals,
    live: Live,
    ledger: Ledger,
    entries: Vec<Entry>,
    started_ns: u64,
    lost: LostCounts,
    calls: bool,
    filter: FilterSpec,
    sockets: Sockets,
    schedule: Schedule,
    questions: Vec<Question>,
}

/// What a run needs to know beside its source.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What is traced; the same that the programs were given.
    pub filter: FilterSpec,
    /// Flows kept at once.
    pub max_flows: usize,
    /// How often the kernel is asked for all its sockets; `None`: never.
    pub resync: Option<Duration>,
    /// As often as that even if it takes a good part of the time.
    pub eager: bool,
}

impl Run {
    /// Joins a started source with an empty ledger.
    pub fn new(signals: Signals, live: Live, wanted: Wanted) -> Self {
        let Wanted { filter, max_flows, resync, eager } = wanted;
        let all_states = filter.states.is_empty();
        let attached = |stem| live.loaded().and_then(|loaded| loaded.way_of(stem));
        let capabilities = capabilities(live.loaded(), all_states);
        let started_ns = boot_time_ns();
        let calls = attached("retransmit_call") == Some(Way::Kprobe);
        Self {
            signals,
            ledger: Ledger::new(capabilities, max_flows, started_ns),
            live,
            entries: Vec::new(),
            started_ns,
            lost: LostCounts::default(),
            calls,
            sockets: Sockets::new(&filter.netns, resync.is_some()),
            filter,
            schedule: if all_states { Schedule::new(resync, eager) } else { Schedule::once(resync) },
            questions: Vec::new(),
        }
    }

    /// Runs until a signal, the end of `duration`, the end of `stop`, or a sink that has enough; then detaches, hands
    /// over what was still on its way, and gives the summary.
    ///
    /// # Errors
    /// The sink's, other than a broken pipe.
    pub async fn until_stopped(
        mut self,
        duration: Option<Duration>,
        stop: impl Future<Output = ()>,
        sink: &mut impl Sink,
    ) -> io::Result<Summary> {
        let mut wake = Wake {
            pace: Pace::Soon,
            deadline: duration.and_then(|duration| Instant::now().checked_add(duration)),
            due_ns: None,
        };
        let mut stop = std::pin::pin!(stop);
        let mut look_for_loss = Instant::now() + LOOK_FOR_LOSS_EVERY;
        let mut open = self.resync_if_due(sink).map(|next| next == Next::Continue).or_else(broken_pipe)?;
        let mut empty_looks = 0;
        while open {
            match wake.next(&mut self.signals, &mut self.live, stop.as_mut()).await? {
                Input::Stop => break,
                Input::Ask => {
                    open = self.show_all(sink).map(|next| next == Next::Continue).or_else(broken_pipe)?
                }
                Input::Drain => match self.drain(sink) {
                    Ok(Drained { records, full, next }) => {
                        open = next == Next::Continue;
                        empty_looks = if records > 0 { 0 } else { empty_looks + 1 };
                        wake.pace = if full { Pace::Now } else { self.pace(empty_looks) };
                        wake.due_ns = self.ledger.next_due_ns();
                    }
                    Err(error) => open = broken_pipe(error)?,
                },
            }
            if Instant::now() >= look_for_loss {
                look_for_loss = Instant::now() + LOOK_FOR_LOSS_EVERY;
                open &= self.count(false, sink).map(|()| true).or_else(broken_pipe)?;
            }
            if open {
                open = self.resync_if_due(sink).map(|next| next == Next::Continue).or_else(broken_pipe)?;
            }
        }
        self.finish(open, sink)
    }

    /// How long to sleep after so many looks into an empty ring.
    fn pace(&mut self, empty_looks: u32) -> Pace {
        match empty_looks {
            ..IDLE_AFTER => Pace::Soon,
            // A record may come before the kernel knows that we want to be woken: look once more.
            IDLE_AFTER => {
                self.live.wake_at_next();
                Pace::Now
            }
            _ => Pace::Idle,
        }
    }

    /// Empties the ring, or a good part of it.
    fn drain(&mut self, sink: &mut impl Sink) -> io::Result<Drained> {
        // Everything before this moment is in the ring, so closes may be judged up to here.
        let now_ns = boot_time_ns();
        let mut drained = Drained { records: 0, full: true, next: Next::Continue };
        for _ in 0..BATCHES {
            let ledger = &mut self.ledger;
            let entries = &mut self.entries;
            let count = self.live.drain(BATCH, |event| ledger.fold(event, entries));
            drained.records += count;
            drained.full = count == BATCH;
            if !drained.full {
                self.ledger.tick(now_ns, &mut self.entries);
            }
            drained.next = self.hand_over(sink)?;
            if !drained.full && drained.next == Next::Continue {
                drained.next = self.ask(now_ns, sink)?;
            }
            if !drained.full || drained.next == Next::Enough {
                break;
            }
        }
        sink.flush()?;
        Ok(drained)
    }

    fn hand_over(&mut self, sink: &mut impl Sink) -> io::Result<Next> {
        for entry in self.entries.drain(..) {
            if sink.entry(&entry)? == Next::Enough {
                return Ok(Next::Enough);
            }
        }
        Ok(Next::Continue)
    }

    fn count(&mut self, last: bool, sink: &mut impl Sink) -> io::Result<()> {
        let counters = self.live.counters();
        let lost = LostCounts::new(&counters, self.live.missed(), self.live.undecodable());
        let more = lost.since(&self.lost);
        self.lost = lost;
        let now_ns = boot_time_ns();
        if more.total() > 0 {
            self.ledger.lost(now_ns);
            self.schedule.lost(now_ns);
            sink.lost(now_ns, &more)?;
        }
        sink.counted(&Reading { now_ns, counters: &counters, lost, ledger: &self.ledger, last })
    }

    fn finish(mut self, open: bool, sink: &mut impl Sink) -> io::Result<Summary> {
        let ended_ns = boot_time_ns();
        self.live.detach();
        let ledger = &mut self.ledger;
        let entries = &mut self.entries;
        while self.live.drain(BATCH, |event| ledger.fold(event, entries)) == BATCH {}
        self.ledger.finish(&mut self.entries);
        let open_flows = [self.ledger.open_flows(), self.ledger.minisockets()];
        if open {
            let rest = self.hand_over(sink).and_then(|_| self.count(true, sink)).and_then(|()| sink.flush());
            rest.map(|()| true).or_else(broken_pipe)?;
        }
        let counters = self.live.counters();
        let lost = LostCounts::new(&counters, self.live.missed(), self.live.undecodable());
        let totals = self.ledger.totals().clone();
        Ok(Summary::new(
            ended_ns.saturating_sub(self.started_ns),
            &counters,
            totals,
            lost,
            self.calls,
            open_flows,
        ))
    }
}

/// What the attached hooks can tell. `all_states`: no `--state`.
pub fn capabilities(loaded: Option<&Loaded>, all_states: bool) -> Capabilities {
    let attached = |stem| loaded.is_some_and(|loaded| loaded.way_of(stem).is_some());
    Capabilities {
        cookies: loaded.is_some_and(|loaded| loaded.cookies),
        resets: attached("send_reset") && attached("receive_reset"),
        all_states,
        minisockets: attached("minisocket_timer") && attached("minisocket_end"),
        requests: attached("request_begin") && attached("request_end"),
    }
}

/// Nobody reads any more: that is an end, not an error.
fn broken_pipe(error: io::Error) -> io::Result<bool> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(false) } else { Err(error) }
}

/// What a look into the ring came to.
struct Drained {
    records: usize,
    /// There was more than a look takes.
    full: bool,
    next: Next,
}
