//! Everything that wakes the loop.

use super::LOOK_FOR_LOSS_EVERY;
use crate::source::live::{Live, boot_time_ns};
use std::{io, pin::Pin, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep, sleep_until},
};

/// How often the ring is emptied while there is something in it: with the time to print, well below 50 ms from event
/// to line.
const DRAIN_EVERY: Duration = Duration::from_millis(20);

/// Everything that wakes the loop.
pub(super) enum Woken {
    /// The timer, or a ring that fills up: drain.
    Drain,
    /// Somebody wants to see every connection.
    Ask,
    /// A signal, the end of `--duration`, or of what is traced.
    Stop,
}

/// SIGINT, SIGTERM, SIGHUP and SIGUSR1, heard from now on.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// The terminal is closed; `None`: it shall not matter (`nohup`).
    hangup: Option<Signal>,
    ask: Signal,
}

/// Whoever started us wants SIGHUP to be ignored.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (libc::SIGHUP - 1) & 1 == 1
}

async fn heard(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

impl Signals {
    /// To be called before anything is attached: from then on a signal ends the trace instead of the process.
    ///
    /// # Errors
    /// The reactor's.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: if ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) },
            ask: signal(SignalKind::user_defined1())?,
        })
    }

    /// Waits for SIGINT, SIGTERM or SIGHUP.
    pub async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = heard(&mut self.hangup) => {}
        }
    }

    /// Waits for any of them.
    pub async fn next(&mut self) -> Heard {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => Heard::Stop,
            _ = self.terminate.recv() => Heard::Stop,
            () = heard(&mut self.hangup) => Heard::Stop,
            _ = self.ask.recv() => Heard::Ask,
        }
    }
}

/// What a signal wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// SIGINT, SIGTERM or SIGHUP: the end.
    Stop,
    /// SIGUSR1: everything there is.
    Ask,
}

/// When to look into the ring again.
#[derive(Clone, Copy)]
pub(super) enum Pace {
    /// At once; only long enough to hear a signal.
    Now,
    /// On the timer.
    Soon,
    /// When the kernel wakes us.
    Idle,
}

pub(super) struct Wake {
    pub pace: Pace,
    pub deadline: Option<Instant>,
    /// When the ledger wants to be asked again, on the boot-time clock.
    pub due_ns: Option<u64>,
}

impl Wake {
    fn idle(&self) -> Duration {
        let due = self.due_ns.map(|due_ns| Duration::from_nanos(due_ns.saturating_sub(boot_time_ns())));
        due.map_or(LOOK_FOR_LOSS_EVERY, |due| due.clamp(DRAIN_EVERY, LOOK_FOR_LOSS_EVERY))
    }

    pub async fn next(
        &mut self,
        signals: &mut Signals,
        live: &mut Live,
        stop: Pin<&mut impl Future<Output = ()>>,
    ) -> io::Result<Woken> {
        let pause = match self.pace {
            Pace::Now => Duration::from_millis(1),
            Pace::Soon => DRAIN_EVERY,
            Pace::Idle => self.idle(),
        };
        let never = Instant::now() + Duration::from_secs(86_400);
        tokio::select! {
            biased;
            _ = signals.interrupt.recv() => Ok(Woken::Stop),
            _ = signals.terminate.recv() => Ok(Woken::Stop),
            () = heard(&mut signals.hangup) => Ok(Woken::Stop),
            () = stop => Ok(Woken::Stop),
            () = sleep_until(self.deadline.unwrap_or(never)), if self.deadline.is_some() => Ok(Woken::Stop),
            _ = signals.ask.recv() => Ok(Woken::Ask),
            full = live.filling_up() => full.map(|()| Woken::Drain),
            () = sleep(pause) => Ok(Woken::Drain),
        }
    }
}
