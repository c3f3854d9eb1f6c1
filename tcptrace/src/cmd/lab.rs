//! lab
/// Arguments of `lab`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {}

/// Runs.
///
/// # Errors
/// -
pub fn run(_args: Args) -> anyhow::Result<()> {
    Ok(())
}
