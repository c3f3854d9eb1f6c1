//! One run of tcptrace: started, ready, measured, stopped, and what it said in the end.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
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
    modes::{Filter, Mode},
    output::{Output, Summary},
    process::{Memory, cpu_clock, end_with_us, ends_within},
};

/// How long it may take to attach, and to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long it is given to empty its ring.
const MOST_CATCHING_UP: Duration = Duration::from_secs(5);
/// Between two looks at whether it is ready; start-up is known to that precision.
const LOOK: Duration = Duration::from_millis(1);
/// It has caught up when it took less than `IDLE_CPU` of a core in `QUIET`: several of its timer's periods.
const QUIET: Duration = Duration::from_millis(100);
const IDLE_CPU: Duration = Duration::from_millis(2);

/// A tcptrace that is attached. Dropping it stops it.
pub struct Tracer {
    mode: Mode,
    child: Child,
    out: Output,
    complaints: Output,
    /// From its start to its first words.
    pub start_up: Duration,
    /// CPU time when it was ready.
    ready: Duration,
}

/// What a run of it cost, and what it counted.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its own counts; gone with its output where that is thrown away.
    pub summary: Option<Summary>,
    /// What it said on standard error.
    pub complaints: String,
    /// Lines it wrote.
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
    pub fn start(program: &Path, mode: Mode, filter: Filter) -> Result<Self> {
        let (out, complaints) = (Output::new()?, Output::new()?);
        let mut command = Command::new(program);
        command.args(mode.arguments(filter)).stdin(Stdio::null());
        let stdout = if mode == Mode::Nowhere { Stdio::null() } else { out.for_child()?.into() };
        command.stdout(stdout).stderr(complaints.for_child()?);
        end_with_us(&mut command, Signal::SIGINT);
        let start = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let mut tracer =
            Self { mode, child, out, complaints, start_up: Duration::ZERO, ready: Duration::ZERO };
        while !tracer.is_ready()? {
            tracer.must_run()?;
            if start.elapsed() > PATIENCE {
                return Err(tracer.failure(&format!("does not trace after {PATIENCE:?}")));
            }
            thread::sleep(LOOK);
        }
        tracer.start_up = start.elapsed();
        if mode == Mode::Nowhere {
            tracer.catch_up()?;
        }
        tracer.ready = cpu_clock(tracer.pid())?;
        Ok(tracer)
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Waits until it has written all there was, stops it, and reads its summary.
    pub fn finish(mut self) -> Result<Outcome> {
        self.catch_up()?;
        let cpu = cpu_clock(self.pid())?.saturating_sub(self.ready);
        let memory = Memory::of(self.pid())?;
        self.stop()?;
        let summary = match self.mode {
            Mode::Nowhere => None,
            _ => Some(Summary::parse(&self.out.tail()?)?),
        };
        let complaints = self.complaints.tail()?;
        Ok(Outcome { summary, complaints, lines: self.out.lines()?, bytes: self.out.len()?, cpu, memory })
    }

    /// Waits until its ring is empty and nothing is left to be done; not for ever, where others keep it busy.
    pub fn catch_up(&mut self) -> Result<()> {
        let start = Instant::now();
        let mut before = cpu_clock(self.pid())?;
        while start.elapsed() < MOST_CATCHING_UP {
            thread::sleep(QUIET);
            self.must_run()?;
            let now = cpu_clock(self.pid())?;
            if now.saturating_sub(before) < IDLE_CPU {
                break;
            }
            before = now;
        }
        Ok(())
    }

    /// Stops it as Ctrl-C does.
    pub fn stop(&mut self) -> Result<()> {
        kill(self.pid(), Signal::SIGINT).context("tcptrace cannot be stopped")?;
        if !ends_within(&self.child, PATIENCE)? {
            return Err(self.failure("did not stop"));
        }
        match self.child.wait().context("tcptrace cannot be waited for")? {
            status if status.success() => Ok(()),
            status => Err(self.failure(&format!("failed ({status})"))),
        }
    }

    fn is_ready(&self) -> Result<bool> {
        match self.mode {
            Mode::Empty => Ok(self.complaints.tail()?.lines().any(|line| line.ends_with("attached"))),
            // It cannot tell. When it has its programs and has come to rest, it has attached them.
            Mode::Nowhere => Ok(!bpf_stats::programs(self.pid())?.is_empty()),
            _ => Ok(self.out.len()? > 0),
        }
    }

    fn must_run(&mut self) -> Result<()> {
        match self.child.try_wait().context("tcptrace cannot be waited for")? {
            Some(status) => Err(self.failure(&format!("ended early ({status})"))),
            None => Ok(()),
        }
    }

    fn failure(&self, what: &str) -> anyhow::Error {
        let said = self.complaints.tail().unwrap_or_default();
        let name = self.mode.arguments(Filter::Everything).join(" ");
        anyhow::anyhow!("tcptrace {name} {what}; it said:\n{}", said.trim())
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
