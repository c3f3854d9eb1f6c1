//! An exporter that runs all the time: what it must count right, and what it may cost.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::scrape::Metrics;
use crate::bench::{
    figures::Spread,
    process::{Memory, cpu_clock, end_with_us, ends_within},
};

/// How long it may take to begin, and to end.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);
/// Resident memory may grow by this share from the second quarter of the time to the last, and by `SOME_BYTES`: an allocator
/// keeps pages as it pleases.
const GROWTH: f64 = 0.05;
const SOME_BYTES: f64 = (2 << 20) as f64;

/// `tcptrace export`.
pub struct Subject {
    child: Child,
    address: SocketAddr,
    /// The last answer.
    pub metrics: Metrics,
    /// Resident memory in bytes, each time it was asked.
    pub resident: Vec<f64>,
}

impl Subject {
    /// Starts it and waits until it answers.
    pub fn start(program: &Path, arguments: &[&str]) -> Result<Self> {
        // Free at this moment, and the kernel gives the next who asks another.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut command = Command::new(program);
        command.args(["export", "--listen", &address.to_string()]).args(arguments);
        end_with_us(&mut command, Signal::SIGKILL);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.with_context(|| format!("cannot start {}", program.display()))?;
        let mut subject = Self { child, address, metrics: Metrics::default(), resident: Vec::new() };
        let start = Instant::now();
        subject.metrics = loop {
            match Metrics::scrape(address) {
                Ok(metrics) => break metrics,
                Err(error) => ensure!(start.elapsed() < PATIENCE, "{error:#}"),
            }
            subject.must_run()?;
            thread::sleep(LOOK);
        };
        Ok(subject)
    }

    fn must_run(&mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "tcptrace export has ended: {ended:?}");
        Ok(())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Asks it again. Gives counters that have gone back.
    pub fn look(&mut self) -> Result<Vec<String>> {
        self.must_run()?;
        let metrics = Metrics::scrape(self.address)?;
        let gone_back = metrics.gone_back(&self.metrics);
        self.metrics = metrics;
        self.resident.push(Memory::of(self.pid())?.now as f64);
        Ok(gone_back)
    }

    /// CPU time so far.
    pub fn cpu(&self) -> Result<Duration> {
        cpu_clock(self.pid())
    }

    /// Ends it as systemd does.
    pub fn stop(&mut self) -> Result<()> {
        kill(self.pid(), Signal::SIGTERM)?;
        ensure!(ends_within(&self.child, PATIENCE)?, "tcptrace export does not end");
        let status = self.child.wait()?;
        ensure!(status.success(), "tcptrace export ended with {status}");
        Ok(())
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Median of the second quarter and of the last, and whether the last is no more than may be.
pub fn flat(resident: &[f64]) -> Option<(f64, f64, bool)> {
    let quarter = resident.len() / 4;
    let median = |from: usize| Some(Spread::of(resident[from..from + quarter].iter().copied()).ok()?.median);
    let (early, late) = (median(quarter)?, median(resident.len() - quarter)?);
    Some((early, late, late <= early * (1.0 + GROWTH) + SOME_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_seen_and_the_beginning_does_not_count() {
        let mebibytes = |values: &[u32]| values.iter().map(|mib| f64::from(mib << 20)).collect::<Vec<_>>();
        let settled = mebibytes(&[5, 30, 40, 40, 40, 41, 40, 40]);
        assert_eq!(flat(&settled).map(|(_, _, is_flat)| is_flat), Some(true));
        let leaking = mebibytes(&[40, 45, 50, 55, 60, 65, 70, 75]);
        assert_eq!(flat(&leaking).map(|(_, _, is_flat)| is_flat), Some(false));
        assert_eq!(flat(&[1.0; 3]), None);
    }
}
