//! `cargo xtask bench`: what tcptrace costs, as ratios to the same machine without it.

mod accuracy;
pub mod bpf_stats;
mod checks;
mod cores;
pub mod figures;
mod idle;
mod kernel;
mod latency;
mod load;
mod loader;
pub mod loopback;
mod loss;
pub mod machine;
pub mod markdown;
mod modes;
pub mod output;
mod overhead;
mod page;
pub mod process;
mod replay;
pub mod report;
mod rivals;
mod scraper;
mod snapshot;
mod targets;
mod throughput;
mod timed;
mod tracer;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Options of `cargo xtask bench`.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Run a connect/request/close load without and with tcptrace, and write docs/cost.md
    Overhead(overhead::Options),
    /// Find the rate of events up to which nothing is lost, and what is said of the lost; writes docs/loss.md
    Loss(loss::Options),
    /// Time how long an event takes to be a line that somebody reads, and write docs/latency.md
    Latency(latency::Options),
    /// Time how long every socket takes, ours beside ss, and write docs/snapshot.md
    Snapshot(snapshot::Options),
    /// Replay recordings of crowds: events a second, and memory as flows grow; writes docs/replay-cost.md
    Replay(replay::Options),
    /// The load itself: a process of its own that `overhead` starts
    #[command(hide = true)]
    Load(load::Options),
    /// Many open connections: processes of their own that `snapshot` starts
    #[command(hide = true)]
    Population(snapshot::population::Options),
}

/// Runs one benchmark.
pub fn run(options: &Options) -> Result<ExitCode> {
    match &options.what {
        What::Overhead(options) => overhead::run(options),
        What::Loss(options) => loss::run(options),
        What::Latency(options) => latency::run(options),
        What::Snapshot(options) => snapshot::run(options),
        What::Replay(options) => replay::run(options),
        What::Load(options) => load::run(options),
        What::Population(options) => snapshot::population::run(options),
    }
}
