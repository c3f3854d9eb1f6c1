//! bpf-linker: links the kernel programs. 0.10.4 is the last release that borrows the LLVM inside
//! rustc; later ones need an LLVM of their own, so the newest is not what a new machine wants.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::rustc::Rustc;
use crate::{
    advice::advice,
    tools::{Tools, must, output_of},
};

const VERSION: &str = "0.10.4";
/// The series that borrows rustc's LLVM; a later one was installed by someone who has its LLVM.
const SERIES: (u32, u32) = (0, 10);
/// The LLVM versions that this series knows.
const LLVM: std::ops::RangeInclusive<u32> = 20..=22;
const WHY: &str = "it links the kernel programs";

/// What is on this machine.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Good(String),
    Missing,
    /// With the reason.
    Unfit(String),
}

/// Names the linker if it is there and fits, and says how to get it if not.
pub fn check(tools: &mut Tools, rustc: &Rustc) -> Result<String> {
    match look(tools, rustc)? {
        Found::Good(version) => Ok(format!("bpf-linker {version}")),
        Found::Missing => Err(advice("bpf-linker is missing", WHY, &["cargo xtask setup"])),
        Found::Unfit(why) => Err(advice("this bpf-linker does not fit", why, &["cargo xtask setup"])),
    }
}

/// Installs it unless one that fits is there, and makes sure that started programs find it.
pub fn ensure(tools: &mut Tools, rustc: &Rustc) -> Result<String> {
    let replace = match look(tools, rustc)? {
        Found::Good(version) => return Ok(format!("bpf-linker {version}")),
        Found::Missing => false,
        Found::Unfit(why) => {
            eprintln!("replacing bpf-linker: {why}");
            true
        }
    };
    demand(tools, rustc)?;
    eprintln!("building bpf-linker {VERSION} for LLVM {} (a minute or two)", rustc.llvm);
    let feature = format!("rust-llvm-{}", rustc.llvm);
    let mut cargo = tools.cargo();
    // The user's own flags and targets are for their programs, not for this tool.
    for key in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR"] {
        cargo.env_remove(key);
    }
    cargo.args(["install", "bpf-linker", "--version", VERSION, "--locked"]);
    cargo.args(["--no-default-features", "--features", &feature]);
    if replace {
        cargo.arg("--force");
    }
    must(&mut cargo)?;
    if let Some(dir) = cargo_bin_dirs().into_iter().find(|dir| dir.join("bpf-linker").is_file())
        && tools.find("bpf-linker") != Some(dir.join("bpf-linker"))
    {
        tools.prefer(&dir)?;
    }
    check(tools, rustc).context("bpf-linker was installed, and still")
}

/// What can be known before a minute of building.
fn demand(tools: &Tools, rustc: &Rustc) -> Result<()> {
    if !LLVM.contains(&rustc.llvm) {
        return Err(unknown_llvm(rustc));
    }
    if tools.find("cc").is_none() {
        let ways = ["apt-get install gcc libc6-dev, or clang; with another package manager, its C compiler"];
        return Err(advice("there is no C compiler (cc)", "bpf-linker needs one to be built", &ways));
    }
    Ok(())
}

fn unknown_llvm(rustc: &Rustc) -> anyhow::Error {
    let (first, last) = LLVM.into_inner();
    let what = format!("bpf-linker {VERSION} cannot work with rustc {}", rustc.release);
    let why = format!("this rustc has LLVM {}, and it knows LLVM {first} to {last}", rustc.llvm);
    let own = format!("put a newer bpf-linker, built with LLVM {}, on PATH", rustc.llvm);
    advice(what, why, &["rustup toolchain install 1.95 && cargo +1.95 xtask setup", &own])
}

/// Looks on PATH, then where cargo installs; what is found there only is put on our PATH.
fn look(tools: &mut Tools, rustc: &Rustc) -> Result<Found> {
    let linker = match tools.find("bpf-linker") {
        Some(file) => file,
        None => {
            let Some(dir) = cargo_bin_dirs().into_iter().find(|dir| dir.join("bpf-linker").is_file()) else {
                return Ok(Found::Missing);
            };
            tools.prefer(&dir)?;
            dir.join("bpf-linker")
        }
    };
    let said = output_of(tools.command(&linker).arg("--version"));
    let found = match said {
        Ok(said) => judge(&said, &features(&linker), rustc.llvm),
        Err(error) => Found::Unfit(format!("{error:#}")),
    };
    match found {
        Found::Good(version) if borrows_llvm(&version) && !LLVM.contains(&rustc.llvm) => {
            Err(unknown_llvm(rustc))
        }
        other => Ok(other),
    }
}

/// From what `--version` says and the features cargo built it with.
fn judge(said: &str, features: &[String], llvm: u32) -> Found {
    let Some(version) = said.split_whitespace().nth(1) else {
        return Found::Unfit(format!("it says `{}` instead of its version", said.trim()));
    };
    if series(version).is_none_or(|series| series < SERIES) {
        return Found::Unfit(format!("{version} is too old: {VERSION} is needed"));
    }
    let built_for: Vec<_> = features.iter().filter_map(|name| name.strip_prefix("rust-llvm-")).collect();
    let wanted = llvm.to_string();
    if borrows_llvm(version) && !built_for.is_empty() && !built_for.contains(&wanted.as_str()) {
        return Found::Unfit(format!("it was built for LLVM {}, rustc has {llvm}", built_for.join(", ")));
    }
    Found::Good(version.to_owned())
}

fn series(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn borrows_llvm(version: &str) -> bool {
    series(version) == Some(SERIES)
}

/// The features that cargo's record of installed programs has for this one; empty if it has none.
fn features(linker: &Path) -> Vec<String> {
    let record = linker.parent().and_then(Path::parent).map(|home| home.join(".crates2.json"));
    let text = record.and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let installs = json["installs"].as_object().into_iter().flatten();
    let ours = installs.filter(|(name, _)| name.starts_with("bpf-linker "));
    let listed = ours.filter_map(|(_, install)| install["features"].as_array()).flatten();
    listed.filter_map(|feature| feature.as_str().map(str::to_owned)).collect()
}

/// Where `cargo install` may put programs, in cargo's own order.
fn cargo_bin_dirs() -> Vec<PathBuf> {
    let set = |key| env::var_os(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = set("CARGO_HOME").or_else(|| Some(set("HOME")?.join(".cargo")));
    set("CARGO_INSTALL_ROOT").into_iter().chain(home).map(|root| root.join("bin")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(said: &str, features: &[&str]) -> Found {
        judge(said, &features.iter().map(|&name| name.to_owned()).collect::<Vec<_>>(), 22)
    }

    #[test]
    fn the_pinned_version_for_our_llvm_is_good() {
        assert_eq!(judged("bpf-linker 0.10.4\n", &["rust-llvm-22"]), Found::Good("0.10.4".into()));
        assert_eq!(judged("bpf-linker 0.10.4\n", &[]), Found::Good("0.10.4".into()));
    }

    #[test]
    fn one_built_for_another_llvm_is_replaced() {
        assert!(matches!(judged("bpf-linker 0.10.4\n", &["rust-llvm-21"]), Found::Unfit(_)));
    }

    #[test]
    fn a_newer_one_was_someones_choice() {
        assert_eq!(judged("bpf-linker 0.12.0\n", &["llvm-23"]), Found::Good("0.12.0".into()));
        assert!(matches!(judged("bpf-linker 0.9.15\n", &[]), Found::Unfit(_)));
        assert!(matches!(judged("bpf-linker\n", &[]), Found::Unfit(_)));
    }

    #[test]
    fn an_llvm_it_does_not_know_is_said_before_building() {
        let rustc =
            Rustc { release: "1.99.0".into(), llvm: 23, host: String::new(), sysroot: PathBuf::new() };
        let text = demand(&Tools::new(), &rustc).unwrap_err().to_string();
        assert!(text.contains("LLVM 23") && text.contains("rustup toolchain install"), "{text}");
    }
}
