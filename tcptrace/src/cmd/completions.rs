//! `tcptrace completions`: what a shell needs to complete commands and flags.

use crate::cli;
use clap::ValueEnum;
use clap_complete::{Shell, generate};
use std::io::{self, ErrorKind, Write};

/// A shell that can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum For {
    /// bash, with the package bash-completion
    Bash,
    /// Z shell
    Zsh,
    /// fish
    Fish,
}

/// Arguments of `completions`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "The packages bring them. Otherwise:\n  \
    tcptrace completions bash > ~/.local/share/bash-completion/completions/tcptrace\n  \
    tcptrace completions zsh > ~/.zfunc/_tcptrace        with ~/.zfunc in fpath before compinit\n  \
    tcptrace completions fish > ~/.config/fish/completions/tcptrace.fish")]
pub struct Args {
    /// For which shell
    #[arg(value_enum)]
    shell: For,
}

/// Prints them.
///
/// # Errors
/// Output that cannot be written.
pub fn run(args: Args) -> anyhow::Result<()> {
    let shell = match args.shell {
        For::Bash => Shell::Bash,
        For::Zsh => Shell::Zsh,
        For::Fish => Shell::Fish,
    };
    // At once: whoever generates takes a failed write for a bug.
    let mut script = Vec::new();
    generate(shell, &mut cli::shown(), "tcptrace", &mut script);
    match io::stdout().lock().write_all(&script) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
