//! What the kernel knows of another process: the CPU time it took, the memory it holds.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use nix::{
    time::{clock_getcpuclockid, clock_gettime},
    unistd::{Pid, SysconfVar, sysconf},
};

/// The CPU time of all threads of a process, to the nanosecond. Not what `/proc` calls user and system time: most
/// kernels only sample that at their ticks, and a program that works in bursts between two ticks escapes them.
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
        let before = cpu_clock(pid).unwrap();
        assert!(before > Duration::ZERO && cpu_clock(pid).unwrap() >= before);
        let memory = Memory::of(pid).unwrap();
        assert!(memory.now > 0 && memory.now <= memory.peak);
    }
}
