//! Other processes: how ours begin and end, and what the kernel knows of one, the CPU time it took, the memory it holds.

use std::{
    fs::{self, File},
    os::{
        fd::{AsFd as _, FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, setns},
    sys::{prctl, signal::Signal},
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

/// Whatever ends us sends the command this signal, so that nothing outlives who started it.
pub fn end_with_us(command: &mut Command, signal: Signal) {
    // SAFETY: one system call, which is allowed between fork and exec.
    unsafe {
        command.pre_exec(move || prctl::set_pdeathsig(signal).map_err(Into::into));
    }
}

/// The command will run inside this network namespace.
pub fn start_inside(command: &mut Command, netns: &File) -> Result<()> {
    let netns = netns.try_clone().context("the namespace cannot be shared")?;
    // SAFETY: one system call, which is allowed between fork and exec.
    unsafe {
        command.pre_exec(move || setns(netns.as_fd(), CloneFlags::CLONE_NEWNET).map_err(Into::into));
    }
    Ok(())
}

/// Whether a child that was not waited for yet ends within that time; returns as soon as that is known.
pub fn ends_within(child: &Child, most: Duration) -> Result<bool> {
    // SAFETY: the call takes two numbers, and the child is not waited for yet, so its number is nobody else's.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) };
    let fd = Errno::result(fd).context("a process cannot be watched (pidfd_open)")?;
    // SAFETY: the kernel has just opened it for us.
    let fd = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) };
    let timeout = PollTimeout::try_from(most.as_millis()).unwrap_or(PollTimeout::MAX);
    let mut watched = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut watched, timeout).context("a process cannot be watched (poll)")? > 0)
}

/// It rests when it took less than `IDLE_CPU` of a core in `QUIET`: several periods of most timers.
const QUIET: Duration = Duration::from_millis(100);
const IDLE_CPU: Duration = Duration::from_millis(2);

/// Waits until a process rests, or for `most`, where others keep it busy.
pub fn wait_for_rest(pid: Pid, most: Duration) -> Result<()> {
    let start = Instant::now();
    let mut before = cpu_clock(pid)?;
    while start.elapsed() < most {
        thread::sleep(QUIET);
        let now = cpu_clock(pid)?;
        if now.saturating_sub(before) < IDLE_CPU {
            break;
        }
        before = now;
    }
    Ok(())
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
