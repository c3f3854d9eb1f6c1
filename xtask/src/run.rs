//! `cargo xtask run -- ARGS…`: builds tcptrace as the user, then becomes it, as root if it must be.

use std::{
    env,
    ffi::OsString,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{advice::advice, artifacts, root, setup, tools::Tools};

/// Options of `cargo xtask run`.
#[derive(Args)]
pub struct Options {
    /// What tcptrace gets
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Returns only if the program could not be started: otherwise xtask has become it, so that signals
/// and exit codes are its own.
pub fn run(options: &Options) -> Result<ExitCode> {
    let tools = setup::ensure()?;
    let program = build(&tools)?;
    let mut command = if root::needs_root(&options.arguments) && !root::is_root() {
        with_sudo(&tools, &program, &options.arguments)?
    } else {
        tools.command(&program)
    };
    let error = command.args(&options.arguments).exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}

/// Builds the program in release mode; where it is.
pub fn build(tools: &Tools) -> Result<PathBuf> {
    let mut cargo = tools.cargo();
    cargo.args(["build", "--release", "--package", "tcptrace", "--bin", "tcptrace"]);
    artifacts::build_one(&mut cargo, "tcptrace")
}

fn with_sudo(tools: &Tools, program: &Path, arguments: &[OsString]) -> Result<Command> {
    let Some(sudo) = tools.find("sudo") else {
        let words: Vec<_> = arguments.iter().map(|word| quoted(&word.to_string_lossy())).collect();
        let line = format!("as root, type: {} {}", program.display(), words.join(" "));
        let what = "this command needs root, and there is no sudo to get it with";
        return Err(advice(what, "loading kernel programs and making namespaces is root's", &[&line]));
    };
    let mut command = tools.command(sudo);
    let kept: Vec<_> = env::vars_os().map(|(key, _)| key).filter(|key| root::is_for_tcptrace(key)).collect();
    if !kept.is_empty() {
        let mut option = OsString::from("--preserve-env=");
        option.push(kept.join(&OsString::from(",")));
        command.arg(option);
    }
    command.arg("--").arg(program);
    Ok(command)
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(quoted("--port=443"), "--port=443");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
