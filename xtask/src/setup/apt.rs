//! The system's own apt, used only where we are root already: setup never asks for a password.

use anyhow::{Result, ensure};

use crate::{
    root,
    tools::{Tools, output_of},
};

/// Installs one package of the distribution.
pub fn install(tools: &Tools, package: &str) -> Result<()> {
    ensure!(
        tools.find("apt-get").is_some(),
        "there is no apt-get: install {package} with your package manager"
    );
    ensure!(root::is_root(), "as root, type: apt-get install {package}");
    let apt = |words: &[&str]| {
        output_of(tools.command("apt-get").args(words).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    let words = ["install", "-y", "--no-install-recommends", package];
    // A new machine has no package lists yet; one with them needs no update.
    apt(&words).or_else(|_| apt(&["update"]).and_then(|_| apt(&words))).map(drop)
}
