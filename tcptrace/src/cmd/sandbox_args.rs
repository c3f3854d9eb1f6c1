//! `--no-sandbox`, of every command that traces.

use crate::sandbox::Sandbox;
use clap::Args;

/// How little it may do once it is attached.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct SandboxArgs {
    /// Keep capabilities, files and system calls that are not needed any more once everything is attached (docs/privileges.md)
    #[arg(long, help_heading = "Tracing")]
    pub no_sandbox: bool,
}

impl From<SandboxArgs> for Sandbox {
    fn from(args: SandboxArgs) -> Self {
        if args.no_sandbox { Self::Off } else { Self::On }
    }
}
