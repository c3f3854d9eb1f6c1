//! `tcptrace manual`: the manual pages, one for each command, made of the definition of the command line. For packages.

use crate::cli;
use anyhow::Context as _;
use clap::Command;
use clap_mangen::Man;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Arguments of `manual`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where to: a folder that exists
    folder: PathBuf,
}

/// Writes them.
///
/// # Errors
/// A folder that cannot be written to.
pub fn run(args: Args) -> anyhow::Result<()> {
    // What `help` has to say is what the other pages say.
    let mut whole = cli::shown().disable_help_subcommand(true);
    // Flags that commands have of the program, and their full names.
    whole.build();
    write(whole, &args.folder).with_context(|| format!("cannot write to {}", args.folder.display()))
}

fn write(command: Command, folder: &Path) -> io::Result<()> {
    for below in command.get_subcommands() {
        write(below.clone(), folder)?;
    }
    let page = Man::new(command).source(concat!("tcptrace ", env!("CARGO_PKG_VERSION"))).manual("tcptrace");
    let mut text = Vec::new();
    page.render(&mut text)?;
    fs::write(folder.join(page.get_filename()), text)
}
