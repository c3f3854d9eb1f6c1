//! Prometheus and its promtool: those on PATH, or out of Debian's package, which is only unpacked. Installed, it would start a
//! service.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::link;
use crate::{
    setup::private_apt::{self, PrivateApt, configured},
    tools::{Tools, output_of},
};

const PROGRAMS: [&str; 2] = ["prometheus", "promtool"];
/// The first with native histograms.
const OLDEST: (u32, u32) = (2, 40);

/// Makes `bin/prometheus` and `bin/promtool`.
pub fn install(tools: &Tools, folder: &Path) -> Result<()> {
    let on_path: Option<Vec<_>> = PROGRAMS.iter().map(|name| tools.find(name)).collect();
    if let Some(programs) = on_path
        && programs.iter().all(|program| demand(tools, program).is_ok())
    {
        return link_all(&programs, folder);
    }
    private_apt::demand(tools)?;
    let apt = PrivateApt::new(tools)?;
    // A new machine has no lists yet, and old lists name packages that are gone.
    let package = apt.download_by_system("prometheus").or_else(|_| from_own_lists(tools, &apt))?;
    let unpacked = folder.join("prometheus");
    // Of an earlier try, or too old.
    let _ = std::fs::remove_dir_all(&unpacked);
    private_apt::extract(tools, &package, &unpacked, 3, &["./usr/bin/prom*"])?;
    let programs: Vec<_> = PROGRAMS.iter().map(|name| unpacked.join(name)).collect();
    programs.iter().try_for_each(|program| demand(tools, program))?;
    link_all(&programs, folder)
}

fn from_own_lists(tools: &Tools, apt: &PrivateApt<'_>) -> Result<PathBuf> {
    let mirrors = private_apt::mirrors(tools)?;
    let mut complaint = "they do not have it".to_owned();
    for suite in configured(tools, "$(RELEASE)")? {
        if let Err(error) = apt.read_lists(&suite, &mirrors) {
            complaint = format!("{error:#}");
        }
        if let Ok(package) = apt.download("prometheus") {
            return Ok(package);
        }
    }
    bail!("the package is not to be had from {}: {complaint}", mirrors.join(", "))
}

fn link_all(programs: &[PathBuf], folder: &Path) -> Result<()> {
    PROGRAMS.iter().zip(programs).try_for_each(|(name, program)| link(program, folder, name))
}

/// Starts it: it must run here, and be new enough.
fn demand(tools: &Tools, program: &Path) -> Result<()> {
    let said = output_of(tools.command(program).arg("--version"))?;
    let version = version(&said).with_context(|| format!("{} names no version", program.display()))?;
    let (major, minor) = OLDEST;
    ensure!(
        version >= OLDEST,
        "{} is {}.{}, and {major}.{minor} is needed",
        program.display(),
        version.0,
        version.1
    );
    Ok(())
}

/// `promtool, version 2.42.0+ds (branch: …`
fn version(said: &str) -> Option<(u32, u32)> {
    let (_, rest) = said.split_once("version ")?;
    let mut parts = rest.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let said =
            "promtool, version 2.42.0+ds (branch: debian/sid, revision: 2.42.0+ds-5)\n  go version: go1.19\n";
        assert_eq!(version(said), Some((2, 42)));
        assert_eq!(version("prometheus, version 3.5.1 (branch: HEAD)"), Some((3, 5)));
        assert_eq!(version("something else"), None);
    }
}
