//! The active compiler: its release, its LLVM, where it lives and whether rustup keeps it.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{
    advice::advice,
    tools::{Tools, output_of},
};

/// What setup must know of the active rustc.
pub struct Rustc {
    /// As rustc says it: `1.95.0`, `1.97.0-nightly`.
    pub release: String,
    /// bpf-linker borrows rustc's LLVM, so it must be built for the same major version.
    pub llvm: u32,
    /// What it builds for unless told otherwise.
    pub host: String,
    /// The folder of the toolchain.
    pub sysroot: PathBuf,
}

impl Rustc {
    /// The compiler cargo would use here.
    pub fn active(tools: &Tools) -> Result<Self> {
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let version = output_of(tools.command(&rustc).arg("-vV")).map_err(|error| {
            let ways = ["install Rust 1.95 or later from https://rustup.rs and run this again"];
            advice("rustc does not run", error.to_string(), &ways)
        })?;
        let sysroot = output_of(tools.command(&rustc).args(["--print", "sysroot"]))?;
        Self::parse(&version, sysroot.trim()).with_context(|| format!("rustc -vV said: {version}"))
    }

    fn parse(version: &str, sysroot: &str) -> Option<Self> {
        let field = |name: &str| version.lines().find_map(|line| line.strip_prefix(name));
        let llvm = field("LLVM version: ")?;
        Some(Self {
            release: field("release: ")?.trim().to_owned(),
            llvm: llvm.split('.').next()?.trim().parse().ok()?,
            host: field("host: ")?.trim().to_owned(),
            sysroot: PathBuf::from(sysroot),
        })
    }

    /// Rustup's name of this toolchain, when rustup keeps it.
    pub fn rustup_toolchain(&self, tools: &Tools) -> Option<String> {
        let kept = self.sysroot.parent()?.file_name()? == "toolchains";
        let name = self.sysroot.file_name()?.to_str()?.to_owned();
        (kept && tools.find("rustup").is_some()).then_some(name)
    }

    /// Whether the distribution's package manager owns it.
    pub fn is_the_systems(&self) -> bool {
        self.sysroot == Path::new("/usr")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STABLE: &str = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\n\
                          release: 1.95.0\nLLVM version: 22.1.2\n";

    #[test]
    fn reads_release_and_llvm() {
        let rustc = Rustc::parse(STABLE, "/usr").unwrap();
        assert_eq!((rustc.release.as_str(), rustc.llvm), ("1.95.0", 22));
        assert_eq!(rustc.host, "x86_64-unknown-linux-gnu");
        assert!(rustc.is_the_systems());
    }

    #[test]
    fn reads_a_nightly_and_a_short_llvm_version() {
        let rustc = Rustc::parse("release: 1.97.0-nightly\nhost: x\nLLVM version: 23\n", "/x").unwrap();
        assert_eq!((rustc.release.as_str(), rustc.llvm), ("1.97.0-nightly", 23));
        assert!(!rustc.is_the_systems());
    }

    #[test]
    fn a_compiler_without_llvm_is_refused() {
        assert!(Rustc::parse("host: x\nrelease: 1.95.0\n", "/usr").is_none());
        assert!(Rustc::parse("host: x\nrelease: 1.95.0\nLLVM version: unknown\n", "/usr").is_none());
    }
}
