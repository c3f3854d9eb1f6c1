//! `tcptrace completions`: what a shell needs to complete commands and flags.

use crate::cli;
use clap::{Arg, Command, ValueEnum, ValueHint};
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
    let mut command = cli::shown().mut_subcommands(|command| command.mut_args(no_file_unless_said));
    generate(shell, &mut command, "tcptrace", &mut script);
    if shell == Shell::Fish {
        positionals(&command, &mut script)?;
    }
    match io::stdout().lock().write_all(&script) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// What is neither a path nor one of a few values is what only the user knows; shells would offer files.
fn no_file_unless_said(arg: Arg) -> Arg {
    let unknown = arg.get_action().takes_values() && arg.get_value_hint() == ValueHint::Unknown;
    if unknown { arg.value_hint(ValueHint::Other) } else { arg }
}

/// What clap_complete leaves out for fish: values of arguments that are no flags.
fn positionals(command: &Command, script: &mut Vec<u8>) -> io::Result<()> {
    for command in command.get_subcommands() {
        for arg in command.get_positionals() {
            let values = arg.get_possible_values();
            let names: Vec<_> =
                values.iter().filter(|value| !value.is_hide_set()).map(|value| value.get_name()).collect();
            let name = command.get_name();
            if !names.is_empty() {
                let names = names.join(" ");
                let seen = "__fish_tcptrace_using_subcommand";
                writeln!(script, "complete -c tcptrace -n \"{seen} {name}\" -f -a \"{names}\"")?;
            }
        }
    }
    Ok(())
}
