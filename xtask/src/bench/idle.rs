//! What a tracer takes that has nothing to do.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    modes::{Filter, Mode},
    process::cpu_clock,
    tracer::Tracer,
};

const TIME: Duration = Duration::from_secs(10);
/// Nobody uses it.
const QUIET_PORT: u64 = 1;

/// The share of a core that it takes.
pub fn measure(program: &Path) -> Result<f64> {
    let mut tracer = Tracer::start(program, Mode::Json, Filter::Port(QUIET_PORT))?;
    tracer.catch_up()?;
    let (start, before) = (Instant::now(), cpu_clock(tracer.pid())?);
    thread::sleep(TIME);
    let taken = cpu_clock(tracer.pid())?.saturating_sub(before);
    let share = taken.as_secs_f64() / start.elapsed().as_secs_f64();
    tracer.stop()?;
    Ok(share)
}
