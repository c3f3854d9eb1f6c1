//! What a tracer takes that has nothing to do.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    modes::{Filter, Mode, Programs},
    process::cpu_clock,
    tracer::Tracer,
};

const TIME: Duration = Duration::from_secs(10);

/// The share of a core that it takes, when it traces a namespace in which nothing happens. A port that nobody uses
/// would not do: at a connect() the local port is not known yet, so each of them on the machine reaches user space.
pub fn measure(programs: &Programs, quiet_netns: u64) -> Result<f64> {
    let mut tracer = Tracer::start(programs, Mode::Json, Filter::Netns(quiet_netns))?;
    tracer.catch_up()?;
    let (start, before) = (Instant::now(), cpu_clock(tracer.pid())?);
    thread::sleep(TIME);
    let taken = cpu_clock(tracer.pid())?.saturating_sub(before);
    let share = taken.as_secs_f64() / start.elapsed().as_secs_f64();
    tracer.stop()?;
    Ok(share)
}
