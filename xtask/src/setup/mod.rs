//! `cargo xtask setup`: installs what the build needs and the toolchain does not bring.
//! The bpf target has no prebuilt `core`, so its sources must be there, and bpf-linker links the result.

mod apt;
mod cargo_tools;
mod components;
mod debian_sources;
mod linker;
pub mod private_apt;
mod rustc;
mod sources;
mod test_tools;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::Args;

use crate::tools::Tools;
use rustc::Rustc;
pub use test_tools::{FOLDER_VARIABLE, TestTools};

/// Options of `cargo xtask setup`.
#[derive(Args)]
pub struct Options {
    /// Only say what is missing; change nothing
    #[arg(long)]
    check: bool,
    /// What tests start, too: Prometheus and DuckDB, in the project's own folder
    #[arg(long)]
    tests: bool,
}

/// Prepares this machine, or says what is missing on it.
pub fn run(options: &Options) -> Result<ExitCode> {
    if options.check {
        return check(options);
    }
    let mut tools = Tools::new();
    let rustc = Rustc::active(&tools)?;
    sources::ensure(&tools, &rustc)?;
    eprintln!("rust-src for rustc {}: present", rustc.release);
    let linker = linker::ensure(&mut tools, &rustc)?;
    eprintln!("{linker}: present");
    if !options.tests {
        return Ok(ExitCode::SUCCESS);
    }
    // What could not be had has been said.
    let mut complete = true;
    for name in TestTools::ensure(&tools)?.answers() {
        match name {
            Ok(name) => eprintln!("{name}: present"),
            Err(_) => complete = false,
        }
    }
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What every building task calls first: silent when there is nothing to do.
pub fn ensure() -> Result<Tools> {
    let mut tools = Tools::new();
    let rustc = Rustc::active(&tools)?;
    sources::ensure(&tools, &rustc)?;
    linker::ensure(&mut tools, &rustc)?;
    Ok(tools)
}

/// What `lint` needs besides: rustup's minimal profile leaves it out.
pub fn ensure_lint_tools(tools: &Tools) -> Result<()> {
    components::ensure(tools, &Rustc::active(tools)?)
}

/// What `fuzz` needs besides; where it is.
pub fn ensure_fuzzer(tools: &Tools, target_dir: &Path) -> Result<PathBuf> {
    cargo_tools::ensure_fuzzer(tools, target_dir)
}

/// What `dist` needs besides for the .rpm; where it is.
pub fn ensure_rpm_packer(tools: &Tools, target_dir: &Path) -> Result<PathBuf> {
    cargo_tools::ensure_rpm_packer(tools, target_dir)
}

/// The active compiler's targets that have a standard library here, and its own.
pub fn targets(tools: &Tools) -> Result<Targets> {
    let rustc = Rustc::active(tools)?;
    let here = std::fs::read_dir(rustc.sysroot.join("lib/rustlib")).into_iter().flatten().flatten();
    let installed = here.filter(|entry| entry.path().join("lib").is_dir());
    let installed = installed.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    Ok(Targets { host: rustc.host, installed })
}

/// The active compiler's folder.
pub fn toolchain(tools: &Tools) -> Result<PathBuf> {
    Rustc::active(tools).map(|rustc| rustc.sysroot)
}

/// What can be built for.
pub struct Targets {
    /// What this machine is.
    pub host: String,
    /// With a standard library.
    pub installed: Vec<String>,
}

fn check(options: &Options) -> Result<ExitCode> {
    let mut tools = Tools::new();
    let rustc = Rustc::active(&tools)?;
    let mut answers = vec![sources::check(&rustc), linker::check(&mut tools, &rustc)];
    if options.tests {
        answers.extend(TestTools::look(&tools)?.answers().map(|name| name.map(str::to_owned)));
    }
    for answer in &answers {
        match answer {
            Ok(present) => eprintln!("{present}: present"),
            Err(error) => crate::advice::print(error),
        }
    }
    Ok(if answers.iter().all(Result::is_ok) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
