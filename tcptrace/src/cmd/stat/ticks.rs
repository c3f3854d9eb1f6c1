//! A report at each tick, with what happened since the tick before.

use super::{Output, look::Looker, tracing::Tracing};
use crate::{
    cmd::trace::quietly,
    run::Signals,
    source::live::boot_time_ns,
    stat::{
        rates::{Reading, Traced},
        report::Interval,
    },
};
use std::{future, time::Duration};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// The longest time that a timer can be set to; longer intervals never end.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Reports until `count` of them are written, until a signal, or until nobody reads.
pub(super) async fn run(
    mut looker: Looker,
    interval: Duration,
    count: Option<u64>,
    mut output: Output,
) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let interval = interval.min(LONGEST);
    // The first look says early what cannot be looked at, and is where the rates begin.
    looker.look()?;
    let mut tracing = Tracing::start(looker.traced());
    let mut before = Before {
        time_ns: boot_time_ns(),
        reading: looker.reading().clone(),
        traced: tracing.as_mut().map(Tracing::read).unwrap_or_default(),
    };
    let mut timer = interval_at(Instant::now() + interval, interval);
    timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut written = 0;
    while count.is_none_or(|count| written < count) {
        tokio::select! {
            biased;
            () = signals.any() => return Ok(()),
            _ = timer.tick() => {}
            full = filling_up(&mut tracing) => {
                full?;
                if let Ok(tracing) = &mut tracing {
                    tracing.drain();
                }
                continue;
            }
        }
        let mut report = looker.look()?;
        let now = Before {
            time_ns: boot_time_ns(),
            reading: looker.reading().clone(),
            traced: tracing.as_mut().map(Tracing::read).unwrap_or_default(),
        };
        report.interval = Some(Interval {
            ns: now.time_ns.saturating_sub(before.time_ns),
            added: now.reading.since(&before.reading),
            traced: tracing.as_ref().map(|_| now.traced.since(&before.traced)).map_err(String::clone),
        });
        before = now;
        if !quietly(output.tick(&report))? {
            return Ok(());
        }
        written += 1;
    }
    Ok(())
}

/// What the rates begin from.
struct Before {
    time_ns: u64,
    reading: Reading,
    traced: Traced,
}

async fn filling_up(tracing: &mut Result<Tracing, String>) -> std::io::Result<()> {
    match tracing {
        Ok(tracing) => tracing.filling_up().await,
        Err(_) => future::pending().await,
    }
}
