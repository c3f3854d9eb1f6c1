//! What cargo built: the executables, read from its JSON messages, so that nobody guesses at paths.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// One executable that cargo built.
#[derive(Debug, PartialEq, Eq)]
pub struct Executable {
    /// Where it is.
    pub path: PathBuf,
    /// The folder of its package; cargo runs tests there.
    pub package_dir: PathBuf,
    /// The name of its target.
    pub target: String,
    /// Its main source file, relative to the package.
    pub source: PathBuf,
    /// Built with the test harness.
    pub is_test: bool,
}

impl Executable {
    /// How people are told about it: `tcptrace/tests/lab.rs`.
    pub fn label(&self) -> String {
        let package = self.package_dir.file_name().unwrap_or_default();
        Path::new(package).join(&self.source).display().to_string()
    }
}

/// Runs a building cargo command, and gives the executable of the target that has this name.
pub fn build_one(cargo: &mut Command, target: &str) -> Result<PathBuf> {
    let built = build(cargo)?.into_iter().find(|executable| executable.target == target);
    Ok(built.with_context(|| format!("cargo built nothing named {target}"))?.path)
}

/// Runs a building cargo command; its messages for people stream through.
pub fn build(cargo: &mut Command) -> Result<Vec<Executable>> {
    cargo.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    let out = cargo.output().context("cargo did not start")?;
    ensure!(out.status.success(), "the build failed: cargo said why above");
    parse(&String::from_utf8_lossy(&out.stdout))
}

fn parse(messages: &str) -> Result<Vec<Executable>> {
    let mut executables = Vec::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Value = serde_json::from_str(line).with_context(|| format!("cargo said: {line}"))?;
        executables.extend(executable(&message));
    }
    Ok(executables)
}

fn executable(message: &Value) -> Option<Executable> {
    if message["reason"] != "compiler-artifact" {
        return None;
    }
    let package_dir = Path::new(message["manifest_path"].as_str()?).parent()?.to_path_buf();
    let source = Path::new(message["target"]["src_path"].as_str()?);
    Some(Executable {
        path: PathBuf::from(message["executable"].as_str()?),
        source: source.strip_prefix(&package_dir).unwrap_or(source).to_path_buf(),
        target: message["target"]["name"].as_str()?.to_owned(),
        is_test: message["profile"]["test"].as_bool()?,
        package_dir,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIBRARY: &str = r#"{"reason":"compiler-artifact","manifest_path":"/w/lab/Cargo.toml","target":{"name":"lab","src_path":"/w/lab/src/lib.rs"},"profile":{"test":false},"executable":null}"#;
    const TEST: &str = r#"{"reason":"compiler-artifact","manifest_path":"/w/lab/Cargo.toml","target":{"name":"net","src_path":"/w/lab/tests/net.rs"},"profile":{"test":true},"executable":"/t/debug/deps/net-1"}"#;
    const DONE: &str = r#"{"reason":"build-finished","success":true}"#;

    #[test]
    fn only_executables_are_kept() {
        let found = parse(&[LIBRARY, "noise of a build script", TEST, DONE].join("\n")).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].label(), "lab/tests/net.rs");
        assert_eq!(found[0].package_dir, Path::new("/w/lab"));
        assert!(found[0].is_test);
    }

    #[test]
    fn broken_messages_are_an_error() {
        assert!(parse("{\"reason\":").is_err());
    }
}
