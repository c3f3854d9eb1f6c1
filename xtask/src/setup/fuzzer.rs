//! cargo-fuzz: builds the fuzz targets with the flags they need. Kept beside what it builds, in the target folder: nobody
//! but `cargo xtask fuzz` needs it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::{
    advice::advice,
    tools::{Tools, must, output_of},
};

const VERSION: &str = "0.13.2";

/// Installs it unless it is there; where it is.
pub fn ensure(tools: &Tools, target: &Path) -> Result<PathBuf> {
    let root = target.join("tools");
    let program = root.join("bin/cargo-fuzz");
    if is_right(tools, &program) {
        return Ok(program);
    }
    if tools.find("c++").is_none() {
        let ways = ["apt-get install g++, or clang; with another package manager, its C++ compiler"];
        return Err(advice("there is no C++ compiler (c++)", "the fuzzer itself, libFuzzer, is C++", &ways));
    }
    eprintln!("building cargo-fuzz {VERSION} (a minute or two)");
    let mut cargo = tools.cargo();
    // The user's own flags and targets are for their programs, not for this tool.
    for key in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR"] {
        cargo.env_remove(key);
    }
    cargo.args(["install", "cargo-fuzz", "--version", VERSION, "--locked", "--force", "--root"]).arg(&root);
    must(&mut cargo).context("without it nothing is fuzzed")?;
    ensure!(
        is_right(tools, &program),
        "cargo-fuzz was installed, and still {} does not start",
        program.display()
    );
    Ok(program)
}

fn is_right(tools: &Tools, program: &Path) -> bool {
    let said = program.is_file().then(|| output_of(tools.command(program).arg("--version")));
    said.is_some_and(|said| said.is_ok_and(|said| said.split_whitespace().last() == Some(VERSION)))
}
