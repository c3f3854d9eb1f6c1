//! A report at each tick, with what happened since the tick before.

use super::{Output, look::Looker, tracing::Tracing};
use crate::{
    cmd::trace::quietly,
    run::Signals,
    sandbox::Sandbox,
    stat::{
        rates::{Reading, Traced},
        report::{Interval, Report},
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
    sandbox: Sandbox,
) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let interval = interval.min(LONGEST);
    let mut tracing =
        Tracing::start(looker.traced(), looker.asks_for_holders(), sandbox).map(|(tracing, holders)| {
            looker.confine(holders, sandbox);
            tracing
        });
    // Where the rates begin.
    let (_, mut before) = look(&mut looker, &mut tracing)?;
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
        let (mut report, now) = look(&mut looker, &mut tracing)?;
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

/// Counters are read before sockets, which may be many: what is compared is of one moment.
fn look(looker: &mut Looker, tracing: &mut Result<Tracing, String>) -> anyhow::Result<(Report, Before)> {
    let traced = tracing.as_mut().map(Tracing::read).unwrap_or_default();
    let report = looker.look()?;
    let (time_ns, reading) = looker.reading();
    Ok((report, Before { time_ns, reading: reading.clone(), traced }))
}

async fn filling_up(tracing: &mut Result<Tracing, String>) -> std::io::Result<()> {
    match tracing {
        Ok(tracing) => tracing.filling_up().await,
        Err(_) => future::pending().await,
    }
}
