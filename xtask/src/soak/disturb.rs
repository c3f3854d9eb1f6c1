//! Other tracers, with a ring that is far too small, whose readers go away, hang or are killed; and what each must leave behind.

use std::{
    io::{BufRead as _, BufReader, Lines},
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use fastrand::Rng;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::bench::{
    bpf_stats,
    process::{end_with_us, ends_within},
};

/// The smallest ring that tcptrace makes: a page.
const RING: &str = "4096";
/// How long one may take to attach, to end, and to be gone from the kernel.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);

/// What has happened to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fates {
    /// Nobody read them any more.
    pub unread: u64,
    /// Killed; nothing of them was left in the kernel.
    pub killed: u64,
    /// Stopped for a while, then ended in order: what they wrote and what they lost was what the kernel counted.
    pub hung: u64,
    /// Events that the last ones lost, and said so.
    pub lost: u64,
    /// Events that they wrote.
    pub written: u64,
}

/// Disturbs until it is told to stop.
pub struct Disturber {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Fates>>,
}

impl Disturber {
    /// Begins.
    pub fn start(program: &Path, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (asked, program) = (Arc::clone(&stop), program.to_owned());
        Self { stop, thread: thread::spawn(move || disturb(&program, seed, &asked)) }
    }

    /// Whether something went wrong already.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends it; an error says what was left behind, or miscounted.
    pub fn stop(self) -> Result<Fates> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the disturber panicked"))?
    }
}

fn disturb(program: &Path, seed: u64, stop: &AtomicBool) -> Result<Fates> {
    let mut random = Rng::with_seed(seed);
    let mut fates = Fates::default();
    while !stop.load(Ordering::Relaxed) {
        let tracer = Tracer::start(program)?;
        let life = Duration::from_millis(random.u64(100..3_000));
        match random.u8(..3) {
            0 => {
                tracer.unread(life).context("whose reader went away")?;
                fates.unread += 1;
            }
            1 => {
                tracer.killed(life).context("that was killed")?;
                fates.killed += 1;
            }
            _ => {
                let (written, lost) = tracer.hung(life).context("that hung for a while")?;
                fates.hung += 1;
                fates.written += written;
                fates.lost += lost;
            }
        }
    }
    Ok(fates)
}

/// A `watch` whose lines we read.
struct Tracer {
    child: Child,
    /// `None`: nobody reads.
    lines: Option<Lines<BufReader<ChildStdout>>>,
}

impl Tracer {
    fn start(program: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(["watch", "--format", "json", "--ring-size", RING]);
        end_with_us(&mut command, Signal::SIGKILL);
        // That it loses events is what it is for: it need not say so every second.
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.with_context(|| format!("cannot start {}", program.display()))?;
        let out = child.stdout.take().context("it has no output")?;
        let mut tracer = Self { child, lines: Some(BufReader::new(out).lines()) };
        let first = tracer.next()?;
        ensure!(first.contains(r#""type":"start""#), "its first line is {first}");
        Ok(tracer)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    fn next(&mut self) -> Result<String> {
        let line = self.lines.as_mut().and_then(Iterator::next);
        Ok(line.context("tcptrace ended by itself")??)
    }

    /// Reads on for so long, or until it ends.
    fn read(&mut self, time: Duration) -> Result<Vec<String>> {
        let start = Instant::now();
        let mut lines = Vec::new();
        while start.elapsed() < time {
            lines.push(self.next()?);
        }
        Ok(lines)
    }

    fn unread(mut self, time: Duration) -> Result<()> {
        self.read(time)?;
        self.lines = None;
        let status = wait(&mut self.child)?;
        ensure!(status.success(), "tcptrace ended with {status}");
        Ok(())
    }

    fn killed(mut self, time: Duration) -> Result<()> {
        self.read(time)?;
        let programs: Vec<_> = bpf_stats::programs(self.pid())?.into_keys().collect();
        ensure!(!programs.is_empty(), "it had no programs");
        self.child.kill()?;
        self.child.wait()?;
        let start = Instant::now();
        // The kernel takes them down after a grace period.
        while let Some(left) = programs.iter().find(|id| bpf_stats::exists(**id)) {
            ensure!(start.elapsed() < PATIENCE, "its program {left} is still in the kernel");
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// What it wrote and what it lost.
    fn hung(mut self, time: Duration) -> Result<(u64, u64)> {
        let mut lines = self.read(time / 2)?;
        kill(self.pid(), Signal::SIGSTOP)?;
        thread::sleep(time / 2);
        kill(self.pid(), Signal::SIGCONT)?;
        kill(self.pid(), Signal::SIGINT)?;
        for line in self.lines.iter_mut().flatten() {
            lines.push(line?);
        }
        let status = wait(&mut self.child)?;
        ensure!(status.success(), "tcptrace ended with {status}");
        let summary: Value = serde_json::from_str(lines.last().context("no line")?).context("no summary")?;
        ensure!(summary["type"] == "summary", "its last line is {summary}");
        let written = lines.iter().filter(|line| is_event(line)).count() as u64;
        let lost = summary["lost_by_kind"]["transition"].as_u64().unwrap_or(0);
        let counted = summary["transitions"].as_u64().context("no count")?;
        if written + lost != counted {
            bail!(
                "the kernel counted {counted} transitions, {written} were written and {lost} lost: {summary}"
            );
        }
        Ok((written, lost))
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A transition that the kernel told of.
fn is_event(line: &str) -> bool {
    line.contains(r#""type":"transition""#) && line.contains(r#""known":"event""#)
}

fn wait(child: &mut Child) -> Result<ExitStatus> {
    ensure!(ends_within(child, PATIENCE)?, "tcptrace does not end");
    Ok(child.wait()?)
}
