//! How much of the load's throughput is left beside tcptrace, and what tcptrace takes on its own core meanwhile.
//! Each traced stretch stands between two untraced ones, and is compared with those alone: the machine drifts.

use std::time::Duration;

use anyhow::Result;

use super::{
    checks,
    load::{ENDS, EVENTS, TRANSITIONS},
    loader::{Loader, Request, Stretch, WARM_UP},
    modes::{Filter, Mode, Programs},
    process::Memory,
    tracer::{Outcome, Tracer},
};

/// What is compared with nothing beside the load that does almost nothing but open and close, in the order of the
/// tables; rivals follow.
pub const MODES: [Mode; 7] =
    [Mode::Empty, Mode::Json, Mode::Nowhere, Mode::Text, Mode::Summary, Mode::Export, Mode::Sums];

/// What is compared beside connections that carry more; `tcpstates` follows, if it is here.
pub const LARGER_MODES: [Mode; 2] = [Mode::Empty, Mode::Json];

/// One stretch of load beside a tracer.
pub struct Run {
    /// Which.
    pub mode: Mode,
    /// Connections a second of the time in which the load had its core.
    pub rate: f64,
    /// The same as a share of what they were just before and just after, without a tracer.
    pub kept: f64,
    /// This share by the clock on the wall.
    pub kept_by_the_clock: f64,
    /// By how much a transition became longer, in nanoseconds, seen by the load.
    pub added_ns: f64,
    /// From its start to its first words.
    pub start_up: Duration,
    /// What it took on its own core; the empty program takes nothing.
    pub taken: Option<Taken>,
}

/// What a tracer took for the events it handled.
pub struct Taken {
    /// Seconds of CPU time per million events.
    pub cpu: f64,
    /// Output per event.
    pub bytes: f64,
    /// At the end.
    pub memory: Memory,
    /// Seconds of CPU time per million connections.
    pub cpu_connections: f64,
    /// Missing events, as it says itself.
    pub lost: u64,
    /// The lines it printed, as a share of those that it owes; nothing where it owes none.
    pub printed: Option<f64>,
}

/// All rounds of one load.
pub struct Throughput {
    /// Bytes of the response of each connection.
    pub response: u64,
    /// What it is compared beside.
    modes: Vec<Mode>,
    /// Connections a second without any tracer, of the time in which the load had its core.
    pub untraced: Vec<f64>,
    /// The share of its time that the load did not get its core, in every stretch.
    pub waited: Vec<f64>,
    /// Connections, all of them.
    pub connections: u64,
    /// Every stretch beside a tracer.
    pub runs: Vec<Run>,
    /// Counts that do not add up.
    pub wrong: Vec<String>,
}

impl Throughput {
    /// Nothing measured yet.
    pub fn new(response: u64, modes: Vec<Mode>) -> Self {
        let (untraced, waited, runs, wrong) = Default::default();
        Self { response, modes, untraced, waited, connections: 0, runs, wrong }
    }

    /// One round: every mode once. The order moves on with the round's number, from 0, so that none always follows
    /// the same neighbour.
    pub fn round(
        &mut self,
        number: usize,
        programs: &Programs,
        loader: &mut Loader,
        timed: Duration,
    ) -> Result<()> {
        let request = Request { warm: WARM_UP, timed, response: self.response, pace: 0 };
        let mut before = self.untraced(loader, request)?;
        let order = (0..self.modes.len()).map(|index| self.modes[(index + number) % self.modes.len()]);
        for mode in order.collect::<Vec<_>>() {
            let filter = Filter::Netns(loader.netns);
            let mut tracer = Tracer::start(programs, mode, filter)?;
            let start_up = tracer.start_up;
            let stretch = loader.run(request)?;
            let taken = match mode {
                Mode::Empty => tracer.stop().map(|()| None)?,
                _ => {
                    let outcome = tracer.finish(&[loader.port])?;
                    if mode.is_ours() {
                        for what in checks::counts(mode, filter, stretch.connections, &outcome) {
                            self.wrong.push(format!("round {}: {what}", number + 1));
                        }
                    }
                    Some(taken(mode, &stretch, &outcome))
                }
            };
            let after = self.untraced(loader, request)?;
            let alone = f64::midpoint(before.rate, after.rate);
            let alone_by_the_clock = f64::midpoint(before.by_the_clock, after.by_the_clock);
            self.note(&stretch);
            let run = Run {
                mode,
                rate: stretch.rate,
                kept: stretch.rate / alone,
                kept_by_the_clock: stretch.by_the_clock / alone_by_the_clock,
                added_ns: (1.0 / stretch.rate - 1.0 / alone) * 1e9 / TRANSITIONS as f64,
                start_up,
                taken,
            };
            eprintln!("  {:<31} {:>5.1} % of {alone:.0} connections/s", mode.name(), run.kept * 100.0);
            self.runs.push(run);
            before = after;
        }
        Ok(())
    }

    /// What it is compared beside.
    pub fn modes(&self) -> &[Mode] {
        &self.modes
    }

    /// The rivals among them.
    pub fn rivals(&self) -> impl Iterator<Item = Mode> {
        self.modes.iter().copied().filter(|mode| matches!(mode, Mode::Rival(_)))
    }

    /// The runs of one mode.
    pub fn of(&self, mode: Mode) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |run| run.mode == mode)
    }

    /// What the runs of one mode took.
    pub fn taken(&self, mode: Mode) -> impl Iterator<Item = &Taken> {
        self.of(mode).filter_map(|run| run.taken.as_ref())
    }

    fn untraced(&mut self, loader: &mut Loader, request: Request) -> Result<Stretch> {
        let stretch = loader.run(request)?;
        self.untraced.push(stretch.rate);
        self.note(&stretch);
        Ok(stretch)
    }

    fn note(&mut self, stretch: &Stretch) {
        self.waited.push(stretch.waited);
        self.connections += stretch.connections;
    }
}

/// Lines that a mode owes for each connection.
fn owed(mode: Mode) -> Option<u64> {
    match mode {
        // With the end of each socket.
        Mode::Json | Mode::Text => Some(TRANSITIONS + ENDS),
        Mode::Rival(rival) => Some(rival.lines()),
        _ => None,
    }
}

fn taken(mode: Mode, stretch: &Stretch, outcome: &Outcome) -> Taken {
    let events = (stretch.connections * EVENTS) as f64;
    let owed = owed(mode).map(|lines| (stretch.connections * lines) as f64);
    Taken {
        cpu: outcome.cpu.as_secs_f64() * 1e6 / events,
        bytes: outcome.bytes as f64 / events,
        memory: outcome.memory,
        cpu_connections: outcome.cpu.as_secs_f64() * 1e6 / stretch.connections as f64,
        lost: outcome.summary.map_or(outcome.said_lost, |summary| summary.lost),
        // Ours has a few lines more: the first and the last, and the sockets it found at its beginning.
        printed: owed.map(|owed| (outcome.lines as f64 / owed).min(1.0)),
    }
}
