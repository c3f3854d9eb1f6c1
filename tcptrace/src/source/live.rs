//! The live source: drains the ring buffer, and knows what did not fit into it.

use super::{
    attach::take_map,
    load::{LoadOptions, Loaded, load},
    ring::Ring,
    timens,
};
use crate::{decode::Decoder, error::StartError, event::Event};
use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray},
};
use nix::time::{ClockId, clock_gettime};
use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};
use tcptrace_common::counters::Counters;

/// A running trace. Dropping it detaches everything.
pub struct Live {
    loaded: Option<Loaded>,
    ring: Ring,
    counters: PerCpuArray<MapData, Counters>,
    decoder: Decoder,
    undecodable: u64,
    missed_before_detach: u64,
    /// Since when everything is attached.
    complete_ns: u64,
}

impl Live {
    /// Loads, attaches, and is ready to be drained. Needs a tokio runtime.
    ///
    /// # Errors
    /// As [`load`].
    pub fn start(options: &LoadOptions) -> Result<Self, StartError> {
        let mut loaded = load(options)?;
        Ok(Self {
            decoder: Decoder::new(&loaded.reset_reasons),
            ring: Ring::new(&mut loaded.ebpf, loaded.own_ring)?,
            counters: take_map(&mut loaded.ebpf, "COUNTERS")?,
            undecodable: 0,
            missed_before_detach: 0,
            complete_ns: boot_time_ns(),
            loaded: Some(loaded),
        })
    }

    /// What is attached; `None` after [`Live::detach`].
    pub fn loaded(&self) -> Option<&Loaded> {
        self.loaded.as_ref()
    }

    /// Waits until the kernel says that the ring fills up. In between nothing wakes us: drain on a timer too.
    ///
    /// # Errors
    /// The reactor is gone.
    pub async fn filling_up(&mut self) -> io::Result<()> {
        self.ring.filling_up().await
    }

    /// Asks the kernel to wake us at the next record, as if the ring filled up. Drain once more after this: a record may
    /// have come just before.
    pub fn wake_at_next(&mut self) {
        self.ring.wake_at_next();
    }

    /// Hands up to `most` events over, in the kernel's order, each with its record and with what lies between the record's
    /// clock and boot time, in nanoseconds. Returns how many records there were; fewer than `most`
    /// means that the ring is empty.
    pub fn drain(&mut self, most: usize, mut take: impl FnMut(&Event, &[u8], u64)) -> usize {
        // Read for each drain, so that a suspend in between counts. (An event stamped right before it, and drained after
        // it, is told as if it came after.)
        let slept_ns = slept_ns();
        let mut count = 0;
        let mut one = |record: &[u8]| match self.decoder.decode(record, slept_ns) {
            // Hooks are attached one by one, the one for state changes after those that explain them. What they tell
            // before that is of sockets whose end may fall into the gap.
            Ok(event)
                if event.head().time_ns < self.complete_ns && !matches!(event, Event::Transition(_)) => {}
            Ok(event) => take(&event, record, slept_ns),
            Err(error) => {
                log::debug!("a record cannot be decoded: {error}");
                self.undecodable += 1;
            }
        };
        while count < most && self.ring.next(&mut one) {
            count += 1;
        }
        self.ring.release();
        count
    }

    /// The kernel's counters, all CPUs added up.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::ZERO;
        match self.counters.get(&0, 0) {
            Ok(each) => each.iter().for_each(|cpu| sum.add(cpu)),
            Err(error) => log::warn!("the kernel's counters cannot be read: {error}"),
        }
        sum
    }

    /// Records that could not be decoded. Always 0, unless programs and decoder disagree.
    pub fn undecodable(&self) -> u64 {
        self.undecodable
    }

    /// Times that the kernel skipped a program because it was already running on that CPU. Such events are in no
    /// counter of ours. Shown by the kernel from 5.12 on.
    pub fn missed(&self) -> u64 {
        self.loaded.as_ref().map_or(self.missed_before_detach, |loaded| missed(&loaded.ebpf))
    }

    /// Detaches every program. What is in the ring can still be drained, the counters can still be read.
    pub fn detach(&mut self) {
        self.missed_before_detach = self.missed();
        self.loaded = None;
    }
}

/// As [`Live::missed`], of these programs.
pub(super) fn missed(ebpf: &Ebpf) -> u64 {
    let misses = |fd: i32| {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
        let misses = info.lines().find_map(|line| line.strip_prefix("recursion_misses:"));
        misses.and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    let fds = ebpf.programs().filter_map(|(_, program)| program.fd().ok());
    fds.map(|fd| misses(fd.as_fd().as_raw_fd())).sum()
}

/// Now, on the clock of all events (CLOCK_BOOTTIME, which also counts while the machine sleeps; as the kernel has it, without
/// what a time namespace adds), in nanoseconds.
pub fn boot_time_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_BOOTTIME)
}

/// What to add to CLOCK_MONOTONIC to get boot time: how long the machine has slept so far, in nanoseconds.
pub fn slept_ns() -> u64 {
    boot_time_ns().saturating_sub(nanoseconds(ClockId::CLOCK_MONOTONIC))
}

/// What to add to boot time to get the time of day, in nanoseconds since 1970. Changes when somebody sets the clock, and not by
/// adjusting its rate, which is that of both.
pub fn wall_offset_ns() -> i64 {
    /// Between two readings one may lose the processor: of so many the quickest counts.
    const TRIES: u32 = 5;
    /// Quick enough at once, in nanoseconds.
    const QUICK_NS: u64 = 10_000;
    let mut best = (u64::MAX, 0);
    for _ in 0..TRIES {
        let before_ns = boot_time_ns();
        let wall_ns = nanoseconds(ClockId::CLOCK_REALTIME);
        let took_ns = boot_time_ns().saturating_sub(before_ns);
        if took_ns < best.0 {
            best = (took_ns, wall_ns.cast_signed() - (before_ns + took_ns / 2).cast_signed());
        }
        if took_ns <= QUICK_NS {
            break;
        }
    }
    best.1
}

/// Processor time that this process has used so far, in nanoseconds.
pub fn cpu_time_ns() -> u64 {
    nanoseconds(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let added_ns = match clock {
        ClockId::CLOCK_BOOTTIME => timens::offsets().boot_ns,
        ClockId::CLOCK_MONOTONIC => timens::offsets().monotonic_ns,
        _ => 0,
    };
    match clock_gettime(clock) {
        Ok(time) => {
            let ns =
                (time.tv_sec() as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec() as u64);
            ns.saturating_add_signed(added_ns.saturating_neg())
        }
        Err(_) => 0, // all of them exist on every kernel that has ring buffers
    }
}
