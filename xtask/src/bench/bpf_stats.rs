//! The kernel's own measurement of BPF programs: switched on while somebody looks, read from a process's descriptors.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::{FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use nix::{errno::Errno, unistd::Pid};

use crate::advice::advice;

const SYSCTL: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Measures every run of every program as long as it exists, and costs each a few dozen nanoseconds. The kernel does
/// this for as long as a descriptor is open, so it ends with this process however that ends; the sysctl would stay.
pub struct Measuring(#[allow(dead_code, reason = "open is all it has to be")] OwnedFd);

impl Measuring {
    /// Begins.
    pub fn begin() -> Result<Self> {
        const BPF_ENABLE_STATS: libc::c_long = 32;
        // `enable_stats.type` of `union bpf_attr`: BPF_STATS_RUN_TIME.
        let attributes = [0_u32; 1];
        // SAFETY: the attributes outlive the call, and their size is told.
        let fd = unsafe {
            libc::syscall(libc::SYS_bpf, BPF_ENABLE_STATS, attributes.as_ptr(), size_of_val(&attributes))
        };
        let fd =
            Errno::result(fd).context("the kernel does not measure its BPF programs (BPF_ENABLE_STATS)")?;
        // SAFETY: the kernel has just opened it for us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) }))
    }
}

/// Nobody else may be measuring: then there would be no untraced round without that cost.
pub fn must_be_off() -> Result<()> {
    let value = fs::read_to_string(SYSCTL).unwrap_or_default();
    if value.trim().is_empty() || value.trim() == "0" {
        return Ok(());
    }
    let what = format!("kernel.bpf_stats_enabled is {}", value.trim());
    let why =
        "the kernel then measures each run of each BPF program, which makes all of them dearer than they are";
    Err(advice(what, why, &["sysctl kernel.bpf_stats_enabled=0"]))
}

/// How often a program ran, and how long it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// Runs.
    pub count: u64,
    /// Nanoseconds in all of them.
    pub ns: u64,
}

/// The programs that a process holds, by their id.
pub type Programs = BTreeMap<u64, Runs>;

/// Reads them.
pub fn programs(pid: Pid) -> Result<Programs> {
    let folder = format!("/proc/{pid}/fdinfo");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?;
    // A descriptor that is closed meanwhile was no program's: those stay open as long as they are attached.
    let texts = entries.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok());
    Ok(texts.filter_map(|text| program(&text)).collect())
}

/// Whether the kernel still has the program of this id.
pub fn exists(id: u64) -> bool {
    const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
    // `prog_id`, `next_id`, `open_flags` of `union bpf_attr`.
    let attributes = [u32::try_from(id).unwrap_or(u32::MAX), 0, 0];
    // SAFETY: the attributes outlive the call, and their size is told.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_GET_FD_BY_ID, attributes.as_ptr(), size_of_val(&attributes))
    };
    // SAFETY: the kernel has just opened it for us.
    let opened =
        Errno::result(fd).map(|fd| i32::try_from(fd).map(|fd| drop(unsafe { OwnedFd::from_raw_fd(fd) })));
    opened != Err(Errno::ENOENT)
}

/// What was added from `before` to `after`, program by program.
pub fn between(before: &Programs, after: &Programs) -> Vec<Runs> {
    let since = |(id, now): (&u64, &Runs)| {
        let then = before.get(id).copied().unwrap_or_default();
        Runs { count: now.count.saturating_sub(then.count), ns: now.ns.saturating_sub(then.ns) }
    };
    after.iter().map(since).collect()
}

/// A link names its program, too, but does not say how often it ran.
fn program(fdinfo: &str) -> Option<(u64, Runs)> {
    let value = |name: &str| {
        fdinfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
    };
    Some((value("prog_id")?, Runs { count: value("run_cnt")?, ns: value("run_time_ns")? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: &str = "pos:\t0\nprog_type:\t26\nprog_jited:\t1\nprog_id:\t41\nrun_time_ns:\t9000\nrun_cnt:\t30\nrecursion_misses:\t0\n";
    const LINK: &str =
        "pos:\t0\nlink_type:\ttracing\nlink_id:\t7\nprog_tag:\t0123456789abcdef\nprog_id:\t41\n";

    #[test]
    fn programs_are_told_from_links() {
        assert_eq!(program(PROGRAM), Some((41, Runs { count: 30, ns: 9000 })));
        assert_eq!(program(LINK), None);
        assert_eq!(program("pos:\t0\nflags:\t02\n"), None);
    }

    #[test]
    fn what_ran_before_does_not_count() {
        let before = Programs::from([(41, Runs { count: 10, ns: 1000 })]);
        let after = Programs::from([(41, Runs { count: 30, ns: 9000 }), (42, Runs { count: 1, ns: 5 })]);
        assert_eq!(between(&before, &after), [Runs { count: 20, ns: 8000 }, Runs { count: 1, ns: 5 }]);
    }
}
