//! One run of a tracer: started, ready, measured, stopped, and what it said in the end.

use std::{
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    bpf_stats,
    modes::{Filter, Mode, Programs},
    output::{Output, Summary},
    process::{Memory, cpu_clock, end_with_us, ends_within, wait_for_rest},
    scraper::{self, Scraper},
};
use crate::soak::scrape::Metrics;

/// How long it may take to attach, and to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long it is given to empty its ring.
const MOST_CATCHING_UP: Duration = Duration::from_secs(5);
/// Between two looks at whether it is ready; start-up is known to that precision.
const LOOK: Duration = Duration::from_millis(1);

/// A tracer that is attached. Dropping it stops it.
pub struct Tracer {
    mode: Mode,
    child: Child,
    out: Output,
    complaints: Output,
    scraper: Option<Scraper>,
    /// From its start to its first words.
    pub start_up: Duration,
    /// CPU time when it was ready.
    ready: Duration,
}

/// What a run of it cost, and what it counted.
pub struct Outcome {
    /// Its own counts; gone with its output where that is thrown away. Others have none.
    pub summary: Option<Summary>,
    /// Its last metrics, where it serves them.
    pub metrics: Option<Metrics>,
    /// Events that another tool says it lost.
    pub said_lost: u64,
    /// What it wrote.
    pub out: Output,
    /// What it said on standard error.
    pub complaints: String,
    /// Lines it wrote; another tool, which sees the whole machine: those about the load.
    pub lines: u64,
    /// Bytes it wrote.
    pub bytes: u64,
    /// CPU time from when it was ready to when it had caught up.
    pub cpu: Duration,
    /// Memory when it had caught up.
    pub memory: Memory,
}

impl Tracer {
    /// Starts it and waits until it traces.
    pub fn start(programs: &Programs, mode: Mode, filter: Filter) -> Result<Self> {
        let (out, complaints) = (Output::new()?, Output::new()?);
        let mut command = programs.command(mode, filter)?;
        command.stdin(Stdio::null());
        let stdout = if mode == Mode::Nowhere { Stdio::null() } else { out.for_child()?.into() };
        command.stdout(stdout).stderr(complaints.for_child()?);
        end_with_us(&mut command, Signal::SIGINT);
        let start = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start {}", mode.name()))?;
        let (start_up, ready) = Default::default();
        let mut tracer = Self { mode, child, out, complaints, scraper: None, start_up, ready };
        while !tracer.is_ready()? {
            tracer.must_run()?;
            if start.elapsed() > PATIENCE {
                return Err(tracer.failure(&format!("does not trace after {PATIENCE:?}")));
            }
            thread::sleep(LOOK);
        }
        tracer.start_up = start.elapsed();
        match mode {
            Mode::Nowhere | Mode::Rival(_) => tracer.catch_up()?,
            _ if mode.is_export() => {
                let said = tracer.complaints.tail()?;
                tracer.scraper = Scraper::address(&said).map(Scraper::start);
            }
            _ => {}
        }
        tracer.ready = cpu_clock(tracer.pid())?;
        Ok(tracer)
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Waits until it has written all there was, stops it, and reads what it counted. `ports`: where the load listened.
    pub fn finish(mut self, ports: &[u64]) -> Result<Outcome> {
        self.catch_up()?;
        let cpu = cpu_clock(self.pid())?.saturating_sub(self.ready);
        let memory = Memory::of(self.pid())?;
        let metrics = self.scraper.take().map(Scraper::finish).transpose()?;
        self.stop()?;
        let summary = match self.mode {
            Mode::Nowhere | Mode::Rival(_) => None,
            mode if mode.is_export() => metrics.as_ref().map(scraper::summary),
            _ => Some(Summary::parse(&self.out.tail()?)?),
        };
        let (said_lost, lines) = match self.mode {
            Mode::Rival(_) => (self.complaints.lost()? + self.out.lost()?, self.out.lines_about(ports)?),
            _ => (0, self.out.lines()?),
        };
        let complaints = self.complaints.tail()?;
        let out = self.out.share()?;
        Ok(Outcome { summary, metrics, said_lost, bytes: out.len()?, out, complaints, lines, cpu, memory })
    }

    /// Waits until its ring is empty and nothing is left to be done; not for ever, where others keep it busy.
    pub fn catch_up(&mut self) -> Result<()> {
        wait_for_rest(self.pid(), MOST_CATCHING_UP)?;
        self.must_run()
    }

    /// Stops it as Ctrl-C does.
    pub fn stop(&mut self) -> Result<()> {
        kill(self.pid(), Signal::SIGINT)
            .with_context(|| format!("{} cannot be stopped", self.mode.name()))?;
        if !ends_within(&self.child, PATIENCE)? {
            return Err(self.failure("did not stop"));
        }
        match self.child.wait().context("a tracer cannot be waited for")? {
            status if status.success() => Ok(()),
            status => Err(self.failure(&format!("failed ({status})"))),
        }
    }

    fn is_ready(&self) -> Result<bool> {
        match self.mode {
            Mode::Empty => Ok(self.complaints.tail()?.lines().any(|line| line.ends_with("attached"))),
            // They cannot tell. When one has its programs and has come to rest, it has attached them.
            Mode::Nowhere | Mode::Rival(_) => Ok(!bpf_stats::programs(self.pid())?.is_empty()),
            mode if mode.is_export() => Ok(Scraper::address(&self.complaints.tail()?).is_some()),
            _ => Ok(self.out.len()? > 0),
        }
    }

    fn must_run(&mut self) -> Result<()> {
        match self.child.try_wait().context("a tracer cannot be waited for")? {
            Some(status) => Err(self.failure(&format!("ended early ({status})"))),
            None => Ok(()),
        }
    }

    fn failure(&self, what: &str) -> anyhow::Error {
        let said = self.complaints.tail().unwrap_or_default();
        anyhow::anyhow!("{} {what}; it said:\n{}", self.mode.name(), said.trim())
    }
}

impl Programs {
    /// Keeps the rivals that start here, by trying each.
    pub fn try_rivals(&mut self) {
        for rival in self.rivals.found().collect::<Vec<_>>() {
            let started = Tracer::start(self, Mode::Rival(rival), Filter::Everything);
            if let Err(error) = started.and_then(|mut tracer| tracer.stop()) {
                self.rivals.skip(rival, &error);
            }
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait()
            && self.stop().is_err()
        {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
