//! `tcptrace doctor`: what works here.
use clap::Args as ClapArgs;

/// Arguments of `doctor`.
#[derive(Clone, Debug, ClapArgs)]
pub struct Args {}

/// Prints the table.
///
/// # Errors
/// Standard output's.
pub fn run(_args: Args) -> anyhow::Result<()> {
    Ok(())
}
