//! systemd-analyze: that of this machine. Its own version is the one whose opinion counts.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::link;
use crate::tools::{Tools, output_of};

/// The first that judges a unit which is not installed.
const OLDEST: u32 = 250;

/// Makes `bin/systemd-analyze`.
pub fn install(tools: &Tools, folder: &Path) -> Result<()> {
    let program = tools.find("systemd-analyze").context("there is none on PATH")?;
    let said = output_of(tools.command(&program).arg("--version"))?;
    let version = version(&said).with_context(|| format!("{} names no version", program.display()))?;
    ensure!(version >= OLDEST, "{} is {version}, and {OLDEST} is needed", program.display());
    link(&program, folder, "systemd-analyze")
}

/// `systemd 252 (252.38-1~deb12u1)`
fn version(said: &str) -> Option<u32> {
    said.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read() {
        assert_eq!(version("systemd 252 (252.38-1~deb12u1)\n+PAM +AUDIT\n"), Some(252));
        assert_eq!(version("something else"), None);
    }
}
