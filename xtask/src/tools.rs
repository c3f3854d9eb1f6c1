//! The programs xtask starts: the cargo that started it, in a clean environment, with the right PATH.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::workspace;

/// Characters of a command in an error.
const SHOWN: usize = 120;

/// Starts programs. Holds the PATH they get, which `setup` may extend.
pub struct Tools {
    path: OsString,
    /// Variables they get besides.
    variables: Vec<(&'static str, OsString)>,
}

impl Tools {
    /// With the PATH of xtask itself.
    pub fn new() -> Self {
        Self { path: env::var_os("PATH").unwrap_or_default(), variables: Vec::new() }
    }

    /// The PATH that started programs get.
    pub fn path(&self) -> &OsStr {
        &self.path
    }

    /// A variable that started programs get from now on.
    pub fn set(&mut self, key: &'static str, value: impl Into<OsString>) {
        self.variables.push((key, value.into()));
    }

    /// What started programs get besides their PATH.
    pub fn variables(&self) -> &[(&'static str, OsString)] {
        &self.variables
    }

    /// The cargo that started xtask, in the workspace. Rustup picks the same toolchain again, because
    /// it set RUSTUP_TOOLCHAIN for us.
    pub fn cargo(&self) -> Command {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = self.command(cargo);
        command.current_dir(workspace::root());
        command
    }

    /// Any program, without what `cargo run` told xtask about xtask's own package.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        for (key, _) in env::vars_os() {
            if is_about_xtask(&key) {
                command.env_remove(key);
            }
        }
        command.env("PATH", &self.path);
        command.envs(self.variables.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Where a program is on PATH.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        env::split_paths(&self.path).map(|dir| dir.join(name)).find(|file| file.is_file())
    }

    /// Puts a folder first on the PATH of what is started from now on.
    pub fn prefer(&mut self, dir: &Path) -> Result<()> {
        let dirs = std::iter::once(dir.to_path_buf()).chain(env::split_paths(&self.path));
        self.path = env::join_paths(dirs).with_context(|| format!("{} on PATH", dir.display()))?;
        Ok(())
    }
}

fn is_about_xtask(key: &OsStr) -> bool {
    let key = key.to_string_lossy();
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|prefix| key.starts_with(prefix))
}

/// Runs a command to its end; its failure is an error that names it.
pub fn must(command: &mut Command) -> Result<()> {
    let name = shown(command);
    let status = command.status().with_context(|| format!("cannot start `{name}`"))?;
    ensure!(status.success(), "`{name}` failed ({status})");
    Ok(())
}

/// What a command prints, or an error with the last line it complained with.
pub fn output_of(command: &mut Command) -> Result<String> {
    let name = shown(command);
    let out = command.output().with_context(|| format!("cannot start `{name}`"))?;
    let complaint = String::from_utf8_lossy(&out.stderr);
    let last = complaint.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
    ensure!(out.status.success(), "`{name}` failed ({}): {last}", out.status);
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// The command as someone would type it, without the folder of its program; a long one only begins.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let words = std::iter::once(program.file_name().unwrap_or(program.as_os_str())).chain(command.get_args());
    let line = words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preferred_folder_comes_first() {
        let mut tools = Tools { path: "/usr/bin:/bin".into(), variables: Vec::new() };
        tools.prefer(Path::new("/opt/bin")).unwrap();
        assert_eq!(tools.path(), "/opt/bin:/usr/bin:/bin");
    }

    #[test]
    fn only_the_package_variables_are_dropped() {
        assert!(is_about_xtask(OsStr::new("CARGO_PKG_NAME")));
        assert!(is_about_xtask(OsStr::new("CARGO_MANIFEST_DIR")));
        assert!(!is_about_xtask(OsStr::new("CARGO_HOME")));
        assert!(!is_about_xtask(OsStr::new("CARGO_TARGET_DIR")));
    }

    #[test]
    fn a_failure_names_the_command_and_its_complaint() {
        let error = output_of(Command::new("sh").args(["-c", "echo first >&2; echo last >&2; exit 3"]));
        let text = error.unwrap_err().to_string();
        assert!(text.starts_with("`sh -c") && text.ends_with(": last"), "{text}");
    }
}
