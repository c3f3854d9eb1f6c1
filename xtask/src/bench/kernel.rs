//! What the programs cost in the kernel, by the kernel's own measurement. In rounds of their own: to measure every
//! run of a program makes it dearer.

use std::time::Duration;

use anyhow::Result;

use super::{
    bpf_stats::{self, Measuring},
    checks,
    figures::number,
    load::{LEAST_RESPONSE, TRANSITIONS},
    loader::{Loader, Request, WARM_UP},
    modes::{Filter, Mode, Programs},
    rivals::Rival,
    tracer::Tracer,
};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A program that does nothing.
    Empty,
    /// All programs, no filter.
    Everything,
    /// With a filter by namespace.
    ByNetns,
    /// With a filter by port.
    ByPort,
    /// The programs that add up in the kernel and send nothing, no filter.
    Sums,
    /// Somebody else's programs, no filter.
    Rival(Rival),
}

/// In the order of the table; rivals follow.
pub const SUBJECTS: [Subject; 5] =
    [Subject::Empty, Subject::Everything, Subject::ByNetns, Subject::ByPort, Subject::Sums];

impl Subject {
    /// Whose programs a mode attaches, when there is no filter.
    pub fn of(mode: Mode) -> Self {
        match mode {
            Mode::Empty => Self::Empty,
            Mode::Sums => Self::Sums,
            Mode::Rival(rival) => Self::Rival(rival),
            _ => Self::Everything,
        }
    }

    /// How it is named in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "a program that does nothing",
            Self::Everything => "`watch`",
            Self::ByNetns => "`watch --netns …`",
            Self::ByPort => "`watch --port …`",
            Self::Sums => "`export --aggregate kernel`",
            Self::Rival(rival) => rival.name(),
        }
    }

    fn how(self, loader: &Loader) -> (Mode, Filter) {
        match self {
            Self::Empty => (Mode::Empty, Filter::Everything),
            Self::Everything => (Mode::Json, Filter::Everything),
            Self::ByNetns => (Mode::Json, Filter::Netns(loader.netns)),
            Self::ByPort => (Mode::Json, Filter::Port(loader.port)),
            Self::Sums => (Mode::Sums, Filter::Everything),
            Self::Rival(rival) => (Mode::Rival(rival), Filter::Everything),
        }
    }
}

/// What one stretch of load cost in the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Of what.
    pub subject: Subject,
    /// Nanoseconds of the state program a run.
    pub state_ns: f64,
    /// The same in runs of the empty program of the same round.
    pub times_empty: f64,
    /// Nanoseconds of all programs together, for each run of the state program.
    pub all_ns: f64,
}

/// All rounds.
#[derive(Default)]
pub struct Kernel {
    /// Every stretch.
    pub costs: Vec<Cost>,
    /// Counts that do not add up.
    pub wrong: Vec<String>,
}

impl Kernel {
    /// One round: every subject once, the empty program first.
    pub fn round(&mut self, programs: &Programs, loader: &mut Loader, timed: Duration) -> Result<()> {
        let request = Request { warm: WARM_UP, timed, response: LEAST_RESPONSE, pace: 0 };
        let _measuring = Measuring::begin()?;
        let mut empty_ns = f64::NAN;
        for subject in SUBJECTS.into_iter().chain(programs.rivals.found().map(Subject::Rival)) {
            let (mode, filter) = subject.how(loader);
            let mut tracer = Tracer::start(programs, mode, filter)?;
            let before = bpf_stats::programs(tracer.pid())?;
            let stretch = loader.run(request)?;
            let runs = bpf_stats::between(&before, &bpf_stats::programs(tracer.pid())?);
            match mode {
                Mode::Empty | Mode::Rival(_) => tracer.stop()?,
                _ => {
                    let outcome = tracer.finish(&[loader.port])?;
                    for what in checks::counts(mode, filter, stretch.connections, &outcome) {
                        self.wrong.push(format!("kernel, {}: {what}", subject.name()));
                    }
                }
            }
            let transitions = stretch.connections * TRANSITIONS;
            // Nothing happens to a connection as often as a change of state.
            let state = runs.iter().max_by_key(|runs| runs.count).copied().unwrap_or_default();
            if state.count < transitions {
                let [ran, should] = [state.count, transitions].map(|count| number(count as f64, 0));
                self.wrong.push(format!("kernel, {}: it ran {ran} times, not {should}", subject.name()));
            }
            let state_ns = state.ns as f64 / state.count as f64;
            if subject == Subject::Empty {
                empty_ns = state_ns;
            }
            let all_ns = runs.iter().map(|runs| runs.ns).sum::<u64>() as f64 / state.count as f64;
            eprintln!(
                "  {:<31} {state_ns:>5.0} ns a transition, {all_ns:.0} ns with all programs",
                subject.name()
            );
            self.costs.push(Cost { subject, state_ns, times_empty: state_ns / empty_ns, all_ns });
        }
        Ok(())
    }

    /// The stretches of one subject.
    pub fn of(&self, subject: Subject) -> impl Iterator<Item = &Cost> {
        self.costs.iter().filter(move |cost| cost.subject == subject)
    }
}
