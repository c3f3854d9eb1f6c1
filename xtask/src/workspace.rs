//! Where things are: the workspace and its target directory.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::tools::Tools;

/// The workspace's root. Cargo says at run time where the package is; the path of the build is for
/// an xtask that is started by hand.
pub fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map(PathBuf::from)
        .filter(|dir| dir.join("src/tidy").is_dir())
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    package.parent().map_or_else(|| package.clone(), Path::to_path_buf)
}

/// Parts of tcptrace that are not built unless asked for, and checked all the same.
pub const OPTIONAL: [&str; 2] = ["--features", "tcptrace/parquet"];

/// Cargo's target directory; only cargo knows it, because configuration and environment move it.
pub fn target_dir(tools: &Tools) -> Result<PathBuf> {
    let asked = tools.cargo().args(["metadata", "--no-deps", "--format-version", "1"]).output();
    let answer = asked.context("cargo metadata did not start")?;
    let said = String::from_utf8_lossy(&answer.stderr);
    anyhow::ensure!(answer.status.success(), "cargo metadata failed: {}", said.trim());
    let metadata: serde_json::Value = serde_json::from_slice(&answer.stdout)?;
    let dir = metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    Ok(PathBuf::from(dir))
}
