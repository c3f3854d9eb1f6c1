//! Which core gets the load, which one the tracer; and how a process is kept on its own.

use std::fs;

use anyhow::{Context as _, Result};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// Who runs where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cores {
    /// Client, server, and the kernel's work for both.
    pub load: usize,
    /// tcptrace, and whoever measures it.
    pub tracer: usize,
    /// How far apart the two are.
    pub apart: Apart,
}

/// How far apart two logical processors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apart {
    /// Two cores.
    Cores,
    /// Two threads of one core: each slows the other down.
    Threads,
    /// One and the same: the tracer takes its time from the load.
    Same,
}

impl Cores {
    /// Out of those that this process may use. The load gets the last one: devices mostly interrupt the first.
    pub fn choose() -> Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0)).context("which cores may be used is not known")?;
        let is_allowed = |core: &usize| allowed.is_set(*core).unwrap_or(false);
        let cores: Vec<_> = (0..CpuSet::count()).filter(is_allowed).collect();
        let load = *cores.last().context("no core may be used")?;
        let list = format!("/sys/devices/system/cpu/cpu{load}/topology/thread_siblings_list");
        // Where the kernel does not say, every processor counts as a core.
        let siblings = siblings(&fs::read_to_string(list).unwrap_or_default());
        Ok(Self::apart(&cores, load, &siblings))
    }

    fn apart(cores: &[usize], load: usize, siblings: &[usize]) -> Self {
        let others = || cores.iter().copied().filter(|core| *core != load);
        if let Some(tracer) = others().find(|core| !siblings.contains(core)) {
            return Self { load, tracer, apart: Apart::Cores };
        }
        match others().next() {
            Some(tracer) => Self { load, tracer, apart: Apart::Threads },
            None => Self { load, tracer: load, apart: Apart::Same },
        }
    }
}

/// Keeps this thread, and every process it starts, on one core.
pub fn pin(core: usize) -> Result<()> {
    let pinned = || {
        let mut set = CpuSet::new();
        set.set(core)?;
        sched_setaffinity(Pid::from_raw(0), &set)
    };
    pinned().with_context(|| format!("cannot stay on core {core}"))
}

/// `0`, `0,4` or `0-1`, as sysfs lists processors.
fn siblings(list: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?)
    };
    list.trim().split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tracer_shares_as_little_as_possible() {
        let two_cores_of_two_threads = Cores::apart(&[0, 1, 2, 3], 3, &[1, 3]);
        assert_eq!(two_cores_of_two_threads, Cores { load: 3, tracer: 0, apart: Apart::Cores });
        assert_eq!(Cores::apart(&[0, 1], 1, &[0, 1]), Cores { load: 1, tracer: 0, apart: Apart::Threads });
        assert_eq!(Cores::apart(&[5], 5, &[5]), Cores { load: 5, tracer: 5, apart: Apart::Same });
    }

    #[test]
    fn lists_of_sysfs_are_read() {
        assert_eq!(siblings("0\n"), [0]);
        assert_eq!(siblings("0,4\n"), [0, 4]);
        assert_eq!(siblings("2-3,10\n"), [2, 3, 10]);
        assert!(siblings("").is_empty());
    }
}
