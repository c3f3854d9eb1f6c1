//! clippy and rustfmt, for `lint`.

use anyhow::Result;

use super::rustc::Rustc;
use crate::{
    advice::advice,
    tools::{Tools, output_of},
};

/// The cargo subcommand, rustup's component, Debian's package.
const NEEDED: [(&str, &str, &str); 2] = [("clippy", "clippy", "rust-clippy"), ("fmt", "rustfmt", "rustfmt")];

/// Asks rustup for what is missing.
pub fn ensure(tools: &Tools, rustc: &Rustc) -> Result<()> {
    let works = |subcommand: &str| output_of(tools.cargo().args([subcommand, "--version"])).map(drop);
    for (subcommand, component, package) in NEEDED {
        if works(subcommand).is_ok() {
            continue;
        }
        if let Some(toolchain) = rustc.rustup_toolchain(tools) {
            eprintln!("installing {component}");
            let words = ["component", "add", component, "--toolchain", &toolchain];
            output_of(tools.command("rustup").args(words))?;
        }
        works(subcommand).map_err(|error| {
            let ways = [format!("rustup component add {component}"), format!("apt-get install {package}")];
            advice(format!("cargo {subcommand} does not run"), error.to_string(), &[&ways[0], &ways[1]])
        })?;
    }
    Ok(())
}
