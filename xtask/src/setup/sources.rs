//! rust-src: the standard library's sources of exactly the active rustc, from whoever has them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};

use super::{apt, debian_sources, rustc::Rustc};
use crate::{
    advice::advice,
    tools::{Tools, output_of},
};

const WHY: &str = "there is no prebuilt `core` for bpf, so cargo compiles it from its sources";
/// Says which release the sources are that we unpacked; rustup and the system keep their own records.
const MARKER: &str = ".tcptrace-release";
/// Seconds rustup may take; without a network it would retry for many minutes.
const RUSTUP_PATIENCE: &str = "180";

/// Names the sources if they are there, and says how to get them if not.
pub fn check(rustc: &Rustc) -> Result<String> {
    ensure!(
        present(rustc),
        advice(format!("rust-src for rustc {} is missing", rustc.release), WHY, &["cargo xtask setup"])
    );
    Ok(format!("rust-src for rustc {}", rustc.release))
}

/// Installs the sources unless they are there.
pub fn ensure(tools: &Tools, rustc: &Rustc) -> Result<()> {
    if present(rustc) {
        return Ok(());
    }
    eprintln!("installing rust-src for rustc {}", rustc.release);
    let mut tried = Vec::new();
    for (name, install) in SOURCES {
        match install(tools, rustc) {
            Ok(()) if present(rustc) => return Ok(()),
            Ok(()) => tried.push(format!("{name}: it left {} incomplete", folder(rustc).display())),
            Err(error) => tried.push(format!("{name}: {error:#}")),
        }
    }
    let what = format!("no source has rust-src for rustc {}\n    {}", rustc.release, tried.join("\n    "));
    let by_hand = format!("unpack library/ of that Rust release into {}", folder(rustc).display());
    Err(advice(what, WHY, &["rustup component add rust-src, once its server is in reach", &by_hand]))
}

type Install = fn(&Tools, &Rustc) -> Result<()>;

/// In this order: whoever owns the toolchain first.
const SOURCES: [(&str, Install); 3] =
    [("rustup", from_rustup), ("system package", from_system), ("Debian's archive", from_debian)];

fn from_rustup(tools: &Tools, rustc: &Rustc) -> Result<()> {
    let Some(toolchain) = rustc.rustup_toolchain(tools) else {
        anyhow::bail!("the active rustc is not one of its toolchains");
    };
    drop_ours(rustc)?;
    let words = [RUSTUP_PATIENCE, "rustup", "component", "add", "rust-src", "--toolchain", &toolchain];
    output_of(tools.command("timeout").args(words)).map(drop)
}

fn from_system(tools: &Tools, rustc: &Rustc) -> Result<()> {
    ensure!(rustc.is_the_systems(), "the active rustc is not the distribution's");
    apt::install(tools, "rust-src")
}

fn from_debian(tools: &Tools, rustc: &Rustc) -> Result<()> {
    ensure!(!rustc.is_the_systems(), "the package manager owns this toolchain's folder");
    drop_ours(rustc)?;
    let folder = folder(rustc);
    ensure!(!folder.exists(), "{} is in the way: remove it and run this again", folder.display());
    debian_sources::unpack(tools, &rustc.release, &folder)?;
    fs::write(folder.join(MARKER), &rustc.release)?;
    Ok(())
}

/// Removes what we unpacked for an earlier release, which would be in the way of anyone.
fn drop_ours(rustc: &Rustc) -> Result<()> {
    let folder = folder(rustc);
    if folder.join(MARKER).is_file() {
        fs::remove_dir_all(&folder)?;
    }
    Ok(())
}

fn present(rustc: &Rustc) -> bool {
    let folder = folder(rustc);
    complete(&folder) && fs::read_to_string(folder.join(MARKER)).map_or(true, |of| of == rustc.release)
}

fn complete(folder: &Path) -> bool {
    // The lock file too: cargo resolves the standard library's own dependencies with it.
    ["library/core/Cargo.toml", "library/Cargo.lock"].iter().all(|file| folder.join(file).is_file())
}

fn folder(rustc: &Rustc) -> PathBuf {
    rustc.sysroot.join("lib/rustlib/src/rust")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_another_release_do_not_count() {
        let sysroot = std::env::temp_dir().join(format!("xtask-sources-{}", std::process::id()));
        let rustc =
            Rustc { release: "1.95.0".into(), llvm: 22, host: String::new(), sysroot: sysroot.clone() };
        let folder = folder(&rustc);
        assert!(!present(&rustc));
        fs::create_dir_all(folder.join("library/core")).unwrap();
        fs::write(folder.join("library/core/Cargo.toml"), "").unwrap();
        assert!(!present(&rustc), "without its lock file");
        fs::write(folder.join("library/Cargo.lock"), "").unwrap();
        assert!(present(&rustc), "whoever put it there");
        fs::write(folder.join(MARKER), "1.94.0").unwrap();
        assert!(!present(&rustc), "ours, of an earlier release");
        drop_ours(&rustc).unwrap();
        assert!(!folder.exists());
        fs::remove_dir_all(sysroot).unwrap();
    }
}
