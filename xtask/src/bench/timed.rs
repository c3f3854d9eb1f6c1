//! One program, run to its end: how long, how much of a processor, how much memory.

use std::{
    fs::File,
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{errno::Errno, sys::signal::Signal};

use super::process::{end_with_us, ends_within, start_inside};

/// What a run took.
#[derive(Clone, Copy, Debug)]
pub struct Took {
    /// From its start to its end.
    pub wall: Duration,
    /// Of all processors.
    pub cpu: Duration,
    /// Resident at its peak, in bytes.
    pub peak: u64,
    /// It was ended when its time was over, so it would have taken longer.
    pub cut_off: bool,
}

/// Runs it inside the namespace, or in ours, for `most` at most.
pub fn run(command: &mut Command, netns: Option<&File>, most: Duration) -> Result<Took> {
    end_with_us(command, Signal::SIGKILL);
    if let Some(netns) = netns {
        start_inside(command, netns)?;
    }
    let start = Instant::now();
    let mut child =
        command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let ended = ends_within(&child, most);
    let cut_off = !matches!(ended, Ok(true));
    if cut_off {
        let _ = child.kill();
    }
    let (status, usage) = reap(&child)?;
    let wall = start.elapsed();
    ended?;
    ensure!(cut_off || status.success(), "{} failed ({status})", command.get_program().display());
    // The kernel scales both parts to the exact sum, so the sum is exact where the parts are not.
    let cpu = [usage.ru_utime, usage.ru_stime].map(time).iter().sum();
    let peak = u64::try_from(usage.ru_maxrss)? << 10;
    Ok(Took { wall, cpu, peak, cut_off })
}

/// What `Child::wait` does, and what the child took.
fn reap(child: &Child) -> Result<(ExitStatus, libc::rusage)> {
    let mut status = 0;
    // SAFETY: a plain C structure, for which zeroes are a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let pid = child.id().cast_signed();
    // SAFETY: both places are ours and outlive the call.
    Errno::result(unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) })
        .context("a process cannot be waited for")?;
    Ok((ExitStatus::from_raw(status), usage))
}

fn time(time: libc::timeval) -> Duration {
    let part = |value| u64::try_from(value).unwrap_or(0);
    Duration::from_secs(part(time.tv_sec)) + Duration::from_micros(part(time.tv_usec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[ignore = "needs root: enters a network namespace"]
    fn a_run_is_timed_and_cut_off() {
        let netns = File::open("/proc/self/ns/net").unwrap();
        let sleep =
            |time: &str| run(Command::new("sleep").arg(time), Some(&netns), Duration::from_millis(200));
        let short = sleep("0.05").unwrap();
        assert!(!short.cut_off && short.wall >= Duration::from_millis(50) && short.peak > 0);
        let long = sleep("60").unwrap();
        assert!(long.cut_off && long.wall < Duration::from_secs(30));
        assert!(run(&mut Command::new("false"), None, Duration::from_secs(9)).is_err());
    }
}
