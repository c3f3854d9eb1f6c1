//! The static program: runs on any Linux of its architecture, whatever C library is there.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::{Profile, VERSION, elf, paths};
use crate::{
    advice::advice,
    artifacts,
    setup::Targets,
    tools::{Tools, output_of},
};

/// Everything that users may want: recordings as Parquet, too.
const FEATURES: &str = "parquet";

/// What to build for.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    /// As rustc calls it.
    pub triple: String,
}

impl Target {
    /// glibc where its static library is, else musl, whose allocator is the slower one.
    pub fn choose(targets: &Targets, asked: Option<&str>, tools: &Tools) -> Result<Self> {
        let triple = match asked {
            Some(asked) => asked.to_owned(),
            None if !targets.host.ends_with("-gnu") || has_static_glibc(tools) => targets.host.clone(),
            None => targets.host.replace("-gnu", "-musl"),
        };
        if targets.installed.contains(&triple) {
            return Ok(Self { triple });
        }
        let what = format!("there is no standard library for {triple}");
        let add = format!("rustup target add {triple}");
        let why = "a program that runs on every Linux brings its C library: musl's, or a static glibc";
        Err(advice(what, why, &[&add, "apt-get install libc6-dev; dnf install glibc-static"]))
    }

    /// `x86_64`
    pub fn architecture(&self) -> &str {
        self.triple.split('-').next().unwrap_or(&self.triple)
    }

    /// What the archive is called.
    pub fn archive(&self) -> String {
        format!("tcptrace-{VERSION}-{}-linux.tar.gz", self.architecture())
    }
}

/// The linker's driver knows where libraries are; of one that is not there it gives the bare name back.
fn has_static_glibc(tools: &Tools) -> bool {
    let said = output_of(tools.command("cc").arg("-print-file-name=libc.a"));
    said.is_ok_and(|said| Path::new(said.trim()).is_absolute())
}

/// Builds it; where it is.
pub fn build(tools: &Tools, target: &Target, profile: Profile, target_dir: &Path) -> Result<PathBuf> {
    let mut cargo = tools.cargo();
    cargo.args(["build", "--profile", profile.name(), "--target", &target.triple]);
    cargo.args(["--package", "tcptrace", "--bin", "tcptrace", "--features", FEATURES]);
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    flags.extend(paths::flags(tools, target_dir)?);
    // Only for the target, because that is named: build scripts and macros stay as they are. What is said about paths is passed on
    // to the kernel programs (tcptrace/build.rs).
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f")).env_remove("RUSTFLAGS");
    let program = artifacts::build_one(&mut cargo, "tcptrace")?;
    let interpreter = elf::interpreter(&std::fs::read(&program)?)
        .with_context(|| format!("{} is no program", program.display()))?;
    ensure!(interpreter.is_none(), "{} is not static: it wants {interpreter:?}", program.display());
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_must_be_there() {
        let targets = Targets {
            host: "x86_64-unknown-linux-musl".into(),
            installed: vec!["x86_64-unknown-linux-musl".into()],
        };
        let tools = Tools::new();
        let own = Target::choose(&targets, None, &tools).unwrap();
        assert_eq!((own.architecture(), own.triple.as_str()), ("x86_64", "x86_64-unknown-linux-musl"));
        let error = Target::choose(&targets, Some("riscv64gc-unknown-linux-gnu"), &tools).unwrap_err();
        assert!(error.to_string().contains("rustup target add riscv64gc-unknown-linux-gnu"), "{error}");
    }
}
