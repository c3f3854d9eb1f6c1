//! Programs of crates.io that some tasks start. Kept in the target folder, beside what they work on: nobody but those tasks
//! needs them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::{
    advice::advice,
    tools::{Tools, must, output_of},
};

/// One of them: always this version.
struct CargoTool {
    name: &'static str,
    version: &'static str,
    /// What is not done without it.
    without: &'static str,
    /// Ours to wait for: built soon, not to be fast.
    quickly: bool,
}

const FUZZER: CargoTool =
    CargoTool { name: "cargo-fuzz", version: "0.13.2", without: "nothing is fuzzed", quickly: false };
const RPM_PACKER: CargoTool =
    CargoTool { name: "cargo-generate-rpm", version: "0.21.1", without: "there is no .rpm", quickly: true };

/// cargo-fuzz: builds the fuzz targets with the flags they need. Where it is.
pub fn ensure_fuzzer(tools: &Tools, target: &Path) -> Result<PathBuf> {
    FUZZER.ensure(tools, target, || {
        if tools.find("c++").is_none() {
            let ways = ["apt-get install g++, or clang; with another package manager, its C++ compiler"];
            return Err(advice(
                "there is no C++ compiler (c++)",
                "the fuzzer itself, libFuzzer, is C++",
                &ways,
            ));
        }
        Ok(())
    })
}

/// cargo-generate-rpm: packs an .rpm without rpmbuild. Where it is.
pub fn ensure_rpm_packer(tools: &Tools, target: &Path) -> Result<PathBuf> {
    RPM_PACKER.ensure(tools, target, || Ok(()))
}

impl CargoTool {
    /// Installs it unless it is there; where it is.
    fn ensure(&self, tools: &Tools, target: &Path, demand: impl FnOnce() -> Result<()>) -> Result<PathBuf> {
        let Self { name, version, .. } = self;
        let root = target.join("tools");
        let program = root.join("bin").join(name);
        if self.is_right(tools, &program) {
            return Ok(program);
        }
        demand()?;
        eprintln!("building {name} {version} (a minute or two)");
        let mut cargo = tools.cargo();
        // The user's own flags and targets are for their programs, not for this tool.
        for key in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR"] {
            cargo.env_remove(key);
        }
        if self.quickly {
            cargo.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0").env("CARGO_PROFILE_RELEASE_LTO", "off");
        }
        cargo.arg("install");
        cargo.args([name, "--version", version, "--locked", "--force", "--root"]).arg(&root);
        must(&mut cargo).with_context(|| format!("without it {}", self.without))?;
        ensure!(
            self.is_right(tools, &program),
            "{name} was installed, and still {} does not start",
            program.display()
        );
        Ok(program)
    }

    fn is_right(&self, tools: &Tools, program: &Path) -> bool {
        let said = program.is_file().then(|| output_of(tools.command(program).arg("--version")));
        said.is_some_and(|said| said.is_ok_and(|said| said.split_whitespace().last() == Some(self.version)))
    }
}
