//! The commands, one a file: arguments, help, and what they do.

mod aggregate;
mod collector;
pub mod completions;
pub mod convert;
pub mod diff;
pub mod doctor;
pub mod explain;
pub mod export;
mod feed;
mod filter_args;
pub mod hist;
pub mod kill;
#[cfg(feature = "lab")]
pub mod lab;
pub mod manual;
mod observer;
mod push;
pub mod record;
mod sandbox_args;
pub mod snapshot;
pub mod stat;
pub mod stuck;
mod trace;
pub mod watch;

use crate::{cli::Command, error::EXIT_OK, tell};

/// Runs a command, and gives its exit code.
///
/// # Errors
/// What is wrong, why, and what to type.
pub fn run(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Stuck(args) => return stuck::run(*args),
        Command::Explain(args) => return explain::run(args),
        Command::Watch(args) => watch::run(*args),
        Command::Diff(args) => diff::run(args),
        Command::Record(args) => record::run(*args),
        Command::Convert(args) => convert::run(args),
        Command::Stat(args) => stat::run(*args),
        Command::Hist(args) => hist::run(*args),
        Command::Kill(args) => kill::run(*args),
        Command::Export(args) => export::run(*args),
        #[cfg(feature = "lab")]
        Command::Lab(args) => lab::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Manual(args) => manual::run(args),
        Command::AttachEmpty => attach_empty(),
        Command::Snapshot(args) => snapshot::run(args),
    }
    .map(|()| EXIT_OK)
}

/// Runs a future on this thread: one thread is enough, and capabilities are a thread's own.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?.block_on(work)
}

fn attach_empty() -> anyhow::Result<()> {
    block_on(async {
        let attached = crate::source::load::load_empty()?;
        tell!("attached");
        tokio::signal::ctrl_c().await?;
        drop(attached);
        Ok(())
    })
}
