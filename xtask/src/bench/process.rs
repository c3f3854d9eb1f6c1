//! What the kernel knows of another process: the CPU time it took, the memory it holds.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use nix::{
    time::{clock_getcpuclockid, clock_gettime},
    unistd::{Pid, SysconfVar, sysconf},
};

/// CPU time of a process since it began. The kernel knows the sum to the nanosecond, but only samples, at every tick,
/// whether it is the program's own or the kernel's on its behalf: one run says little about that, many do.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuTime {
    /// Both together.
    pub total: Duration,
    /// Ticks in its own code.
    pub user_ticks: u64,
    /// Ticks in the kernel.
    pub system_ticks: u64,
}

impl CpuTime {
    /// Of a running process.
    pub fn of(pid: Pid) -> Result<Self> {
        let file = format!("/proc/{pid}/stat");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
        // The command's name stands in parentheses and may hold spaces and parentheses of its own.
        let (_, rest) = text.rsplit_once(')').unwrap_or_default();
        let ticks = |index| rest.split_whitespace().nth(index).and_then(|text| text.parse().ok());
        let (Some(user_ticks), Some(system_ticks)) = (ticks(11), ticks(12)) else {
            anyhow::bail!("{file} does not have the CPU time where every kernel has it")
        };
        Ok(Self { total: cpu_clock(pid)?, user_ticks, system_ticks })
    }

    /// What it took from `earlier` on.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            total: self.total.saturating_sub(earlier.total),
            user_ticks: self.user_ticks.saturating_sub(earlier.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(earlier.system_ticks),
        }
    }
}

/// The CPU time of all threads of a process, to the nanosecond.
pub fn cpu_clock(pid: Pid) -> Result<Duration> {
    let clock = clock_getcpuclockid(pid).with_context(|| format!("process {pid} has no CPU clock"))?;
    Ok(clock_gettime(clock)
        .with_context(|| format!("the CPU clock of process {pid} does not answer"))?
        .into())
}

/// Memory of a process.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Resident now.
    pub now: u64,
    /// Resident at its peak.
    pub peak: u64,
}

impl Memory {
    /// Of a running process, in bytes.
    pub fn of(pid: Pid) -> Result<Self> {
        let file = format!("/proc/{pid}/status");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
        let bytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            kib.map(|kib| kib << 10).with_context(|| format!("{file} has no {name}"))
        };
        Ok(Self { now: bytes("VmRSS:")?, peak: bytes("VmHWM:")? })
    }
}

/// The length of a clock tick, in which `/proc` counts.
pub fn tick_ns() -> f64 {
    // 100 a second on every architecture; asked all the same.
    1e9 / sysconf(SysconfVar::CLK_TCK).ok().flatten().map_or(100.0, |rate| rate as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_time_and_memory_are_found() {
        let pid = nix::unistd::getpid();
        let before = CpuTime::of(pid).unwrap();
        let spent = CpuTime::of(pid).unwrap().since(before);
        assert!(spent.total < Duration::from_secs(1));
        let memory = Memory::of(pid).unwrap();
        assert!(memory.now > 0 && memory.now <= memory.peak);
    }
}
