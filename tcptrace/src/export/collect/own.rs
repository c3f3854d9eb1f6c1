//! What tcptrace itself costs: its processor time and memory, and the runs of its kernel programs.

use super::{Shown, seconds};
use crate::{
    export::model::{CPU, HOOKS, MEMORY, PROGRAM_RUNS, PROGRAM_TIME, Value},
    source::{hooks::Outcome, live::cpu_time_ns},
};
use aya::Ebpf;
use nix::{
    time::{ClockId, clock_gettime},
    unistd::{SysconfVar, sysconf},
};
use std::{
    fs,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

/// While this is 1, the kernel measures every run of every program.
const MEASURING: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// How often a kernel program ran, and how long it took altogether.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runs {
    /// Its name.
    pub program: String,
    /// Runs.
    pub count: u64,
    /// Nanoseconds in all of them.
    pub ns: u64,
}

/// Looks at tcptrace itself.
#[derive(Default)]
pub struct Own {
    /// A descriptor of each program, because whoever traces closes its own when the trace ends.
    programs: Vec<(String, OwnedFd)>,
    /// Each hook, and whether it is attached.
    pub hooks: Vec<(&'static str, bool)>,
}

impl Own {
    /// With these programs, and what became of each hook.
    pub fn new(ebpf: &Ebpf, outcomes: &[Outcome]) -> Self {
        let fd = |program: &aya::programs::Program| program.fd().ok()?.as_fd().try_clone_to_owned().ok();
        let programs = ebpf.programs();
        let attached = |outcome: &Outcome| (outcome.hook.target, outcome.way.is_some());
        Self {
            programs: programs.filter_map(|(name, program)| Some((name.to_owned(), fd(program)?))).collect(),
            hooks: outcomes.iter().map(attached).collect(),
        }
    }

    /// Of each program, while the kernel measures them; else nothing.
    pub fn runs(&self) -> Vec<Runs> {
        if fs::read_to_string(MEASURING).map_or(true, |text| text.trim() != "1") {
            return Vec::new();
        }
        let text = |fd: &OwnedFd| fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok();
        self.programs.iter().filter_map(|(name, fd)| runs(name, &text(fd)?)).collect()
    }

    /// All of it.
    pub fn show(&self, shown: &mut Shown<'_>) {
        for (hook, attached) in &self.hooks {
            shown.add(&HOOKS, [(*hook).into()], Value::Number(if *attached { 1.0 } else { 0.0 }));
        }
        shown.add(&CPU, [], Value::Number(seconds(cpu_time_ns())));
        if let Some(bytes) = self.memory_bytes() {
            shown.add(&MEMORY, [], Value::Number(bytes as f64));
        }
        for runs in self.runs() {
            shown.add(&PROGRAM_RUNS, [runs.program.clone().into()], Value::Count(runs.count));
            shown.add(&PROGRAM_TIME, [runs.program.into()], Value::Number(seconds(runs.ns)));
        }
    }

    /// Memory that this process has resident, in bytes.
    pub fn memory_bytes(&self) -> Option<u64> {
        let pages: u64 = fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
        let page_size = sysconf(SysconfVar::PAGE_SIZE).ok()??;
        pages.checked_mul(u64::try_from(page_size).ok()?)
    }
}

fn runs(name: &str, fdinfo: &str) -> Option<Runs> {
    let value =
        |key| fdinfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')?.trim().parse().ok());
    Some(Runs { program: name.to_owned(), count: value("run_cnt")?, ns: value("run_time_ns")? })
}

/// Something that may take only one part in so many of a processor.
#[derive(Clone, Copy, Debug)]
pub struct Paced {
    parts: u64,
    not_before_ns: u64,
}

impl Paced {
    /// One part in `parts`.
    pub const fn one_in(parts: u64) -> Self {
        Self { parts, not_before_ns: 0 }
    }

    /// Does it if it is time.
    pub fn run(&mut self, now_ns: u64, work: impl FnOnce()) {
        if now_ns < self.not_before_ns {
            return;
        }
        let began_ns = thread_time_ns();
        work();
        let cost_ns = thread_time_ns().saturating_sub(began_ns);
        self.not_before_ns = now_ns.saturating_add(cost_ns.saturating_mul(self.parts));
    }
}

/// Processor time of this thread, in nanoseconds.
fn thread_time_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map_or(0, |time| (time.tv_sec() as u64) * 1_000_000_000 + time.tv_nsec() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_runs_are_read() {
        const PROGRAM: &str = "pos:\t0\nprog_id:\t41\nrun_time_ns:\t9000\nrun_cnt:\t30\n";
        let expected = Runs { program: "state_btf".into(), count: 30, ns: 9000 };
        assert_eq!(runs("state_btf", PROGRAM), Some(expected));
        assert_eq!(runs("link", "pos:\t0\nlink_id:\t7\n"), None);
    }

    #[test]
    fn what_takes_long_waits_longer() {
        let mut paced = Paced::one_in(100);
        let mut ran = 0;
        let spin = || {
            let began = thread_time_ns();
            while thread_time_ns() < began + 2_000_000 {}
        };
        paced.run(1, || ran += 1);
        paced.run(1_000_000_000, || {
            ran += 1;
            spin();
        });
        paced.run(1_100_000_000, || ran += 1);
        assert_eq!(ran, 2, "2 ms of work, one part in 100: not before 200 ms");
        paced.run(31_000_000_000, || ran += 1);
        assert_eq!(ran, 3);
    }

    #[test]
    fn this_process_has_memory() {
        assert!(Own::default().memory_bytes().unwrap() > 100_000);
    }
}
