//! tcptrace: what every TCP connection is doing, what it waits for, whose it is, and why it ended.
//!
//! Data goes one way, imports the other:
//! `source` (kernel hooks, ring buffer) → `decode` → `event` → `flow` (the ledger) → entries → `view` (people) or `wire`
//! (machines); what does not move goes from `flow` through `diagnose` to findings. `run` is the loop around it, `cmd` the commands on top.

pub mod cli;
mod cmd;
#[cfg(feature = "parquet")]
pub mod columnar;
pub mod decode;
pub mod diagnose;
pub mod diff;
pub mod enrich;
pub mod error;
pub mod event;
pub mod export;
pub mod flow;
pub mod hist;
pub mod kill;
pub mod process;
pub mod record;
pub mod run;
pub mod sandbox;
pub mod sight;
pub mod source;
pub mod stat;
mod static_names;
pub mod summary;
pub mod units;
pub mod view;
pub mod wall;
pub mod wire;

use std::process::ExitCode;

/// Parses the arguments, runs the command, says what went wrong.
pub fn main() -> ExitCode {
    use clap::Parser;
    let cli = cli::Cli::parse();
    env_logger::Builder::from_env(env_logger::Env::new().filter_or("TCPTRACE_LOG", "warn")).init();
    static_names::look_up_without_plugins();
    match cmd::run(cli.command) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            tell!("{failure:#}");
            ExitCode::from(error::EXIT_ERROR)
        }
    }
}
