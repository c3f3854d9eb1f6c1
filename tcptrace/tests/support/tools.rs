//! Where the tools are that tests start: see "Build and test" in CONTRIBUTING.md.

use std::{env, path::PathBuf};

/// A tool by its name: `prometheus`, `promtool`, `duckdb-python`, `nft`.
///
/// # Panics
///
/// If it is not there: only a test that says `needs prometheus`, `needs duckdb` or `needs nft` asks.
pub fn tool(name: &str) -> PathBuf {
    // Of the target directory, cargo tells tests only what is beside the tools.
    let beside = || PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools");
    let folder =
        env::var_os("TCPTRACE_TOOLS").filter(|value| !value.is_empty()).map_or_else(beside, PathBuf::from);
    let program = folder.join("bin").join(name);
    assert!(program.is_file(), "there is no {}: type `cargo xtask setup --tests`", program.display());
    program
}
