//! The one loop: wait, drain, ask, and give all of it to the [`core`], which hands the entries on. Everything that can wake
//! the program stands in `wake.rs`, everything that is asked of the kernel in `ask.rs`.

mod ask;
pub mod census;
pub mod core;
pub mod look;
mod origin;
mod ready;
pub mod report;
mod sink;
mod started;
mod wake;

pub use origin::Origin;
pub use ready::{Questions, Ready};
pub use sink::{Looked, Next, Reading, Sink};
pub use started::{Attached, Started, capabilities};
pub use wake::{Heard, Signals};

use self::core::{Core, Input};
use crate::{
    sandbox::{Sandbox, Thread},
    source::{
        filter::FilterSpec,
        live::{Live, boot_time_ns},
        sockets::Sockets,
        surroundings::LiveSurroundings,
    },
    summary::{LostCounts, Summary},
};
use ask::Schedule;
use report::Why;
use std::{io, time::Duration};
use tokio::time::Instant;
use wake::{Pace, Wake, Woken};

/// After so many empty looks in a row the timer stops, and the kernel wakes us at the next record.
const IDLE_AFTER: u32 = 50;
/// How often the kernel's loss counters are read; also the longest sleep.
const LOOK_FOR_LOSS_EVERY: Duration = Duration::from_secs(1);
/// Records folded before their entries are handed on.
const BATCH: usize = 4096;
/// Batches between two looks at signals: under full load the ring may never become empty.
const BATCHES: usize = 16;

/// A trace from a started source to a sink.
pub struct Run {
    signals: Signals,
    live: Live,
    core: Core,
    started: Started,
    filter: FilterSpec,
    sockets: Sockets,
    surroundings: LiveSurroundings,
    schedule: Schedule,
    look_at_end: bool,
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
    /// Once more at the end, which otherwise would be as far from the last time as its turn takes.
    pub look_at_end: bool,
}

impl Run {
    /// Joins a started source with an empty ledger.
    pub fn new(signals: Signals, ready: impl Into<Ready>, wanted: Wanted) -> Self {
        let Ready { live, holders, details } = ready.into();
        let Wanted { filter, max_flows, resync, eager, look_at_end } = wanted;
        let all_states = filter.states.is_empty();
        let mut started = Started::new(live.loaded(), all_states, boot_time_ns(), max_flows);
        if !filter.netns.is_empty() && !filter.netns.contains(&started.netns) {
            started.netns = 0;
        }
        started.filter = (filter != FilterSpec::default()).then(|| format!("{filter:?}"));
        Self {
            signals,
            core: Core::new(&started),
            live,
            started,
            sockets: Sockets::new(&filter.netns, resync.is_some()).with(holders),
            surroundings: LiveSurroundings::new(&filter.netns).with(details),
            filter,
            schedule: if all_states { Schedule::new(resync, eager) } else { Schedule::once(resync) },
            look_at_end: look_at_end && resync.is_some(),
        }
    }

    /// Gives up what it needs no more. Only for the calling thread, which is to be the one that runs, and those started later.
    pub fn confine(&self, sandbox: Sandbox) {
        sandbox.enter(&Thread::tracer(&self.filter.netns, self.sockets.reads_descriptors()));
    }

    /// How it began.
    pub fn started(&self) -> &Started {
        &self.started
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
                Woken::Stop => break,
                Woken::Ask => {
                    open = self.show_all(sink).map(|next| next == Next::Continue).or_else(broken_pipe)?
                }
                Woken::Drain => match self.drain(sink) {
                    Ok(Drained { records, full, next }) => {
                        open = next == Next::Continue;
                        empty_looks = if records > 0 { 0 } else { empty_looks + 1 };
                        wake.pace = if full { Pace::Now } else { self.pace(empty_looks) };
                        wake.due_ns = self.core.ledger().next_due_ns();
                    }
                    Err(error) => open = broken_pipe(error)?,
                },
            }
            if Instant::now() >= look_for_loss {
                look_for_loss = Instant::now() + LOOK_FOR_LOSS_EVERY;
                // The next question may be a minute away, and a namespace must not wait for it to end.
                self.sockets.release();
                open &= self.count(false, sink).map(|()| true).or_else(broken_pipe)?;
            }
            if open {
                open = self.resync_if_due(sink).map(|next| next == Next::Continue).or_else(broken_pipe)?;
            }
        }
        if open && self.look_at_end {
            open = self.resync(Why::End, sink).map(|_| true).or_else(broken_pipe)?;
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

    fn take(&mut self, input: &Input<'_>, sink: &mut impl Sink) -> io::Result<Next> {
        self.core.take(input, &mut self.surroundings, sink)
    }

    /// The same, and what came of it is handed over.
    fn take_through(&mut self, input: &Input<'_>, sink: &mut impl Sink) -> io::Result<Next> {
        self.take(input, sink)?;
        self.core.hand_over(sink)
    }

    /// Takes what is in the ring, a batch at most. Returns how many records there were, and the time of the last.
    fn records(&mut self, sink: &mut impl Sink) -> (usize, u64) {
        let (core, mut last_ns) = (&mut self.core, 0);
        let count = self.live.drain(BATCH, |event, bytes, slept_ns| {
            sink.record(bytes, slept_ns);
            last_ns = event.head().time_ns;
            core.event(event);
        });
        (count, last_ns)
    }

    /// Empties the ring, or a good part of it.
    fn drain(&mut self, sink: &mut impl Sink) -> io::Result<Drained> {
        // Everything before this moment is in the ring, so closes may be judged up to here.
        let now_ns = boot_time_ns();
        let mut drained = Drained { records: 0, full: true, next: Next::Continue };
        for _ in 0..BATCHES {
            let (count, _) = self.records(sink);
            drained.records += count;
            drained.full = count == BATCH;
            if !drained.full {
                self.take(&Input::Tick { now_ns }, sink)?;
            }
            drained.next = self.core.hand_over(sink)?;
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

    /// Reads the counters.
    fn count(&mut self, last: bool, sink: &mut impl Sink) -> io::Result<()> {
        let counters = self.live.counters();
        let lost = LostCounts::new(&counters, self.live.missed(), self.live.undecodable());
        let now_ns = boot_time_ns();
        if self.core.loses(&lost) {
            self.schedule.lost(now_ns);
        }
        self.take(&Input::Counted { now_ns, counters: &counters, lost, last }, sink).map(drop)
    }

    fn finish(mut self, open: bool, sink: &mut impl Sink) -> io::Result<Summary> {
        let ended_ns = boot_time_ns();
        self.live.detach();
        while self.records(sink).0 == BATCH {}
        if open {
            let rest = self.take_through(&Input::End { now_ns: ended_ns }, sink);
            let rest = rest.and_then(|_| self.count(true, sink)).and_then(|()| sink.flush());
            rest.map(|()| true).or_else(broken_pipe)?;
        } else {
            // Nobody wants to know any more, but the summary counts all.
            self.core.finish();
            let counters = self.live.counters();
            let lost = LostCounts::new(&counters, self.live.missed(), self.live.undecodable());
            self.core.last_counted(&counters, lost);
        }
        Ok(self.core.summary(self.started.began_ns, ended_ns, self.started.calls))
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
