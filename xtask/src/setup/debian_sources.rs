//! rust-src from Debian's archive, for a toolchain that Debian did not install: the mirrors this machine
//! uses often carry the release in another suite.

use std::path::Path;

use anyhow::{Result, bail, ensure};

use super::private_apt::{self, PrivateApt, configured};
use crate::tools::Tools;

/// Asked after the suites this machine uses: new Rust releases arrive here first.
const LATER_SUITES: [&str; 4] = ["stable-backports", "trixie-backports", "testing", "unstable"];
/// Only `library/` is needed: a quarter of the package.
const LIBRARY: &str = "./usr/src/rustc-*/library";

/// Unpacks `library/` of exactly this release into the folder, whole or not at all.
pub fn unpack(tools: &Tools, release: &str, folder: &Path) -> Result<()> {
    private_apt::demand(tools)?;
    ensure!(!release.contains('-'), "Debian has only releases, not {release}");
    let mirrors = private_apt::mirrors(tools)?;
    let mut suites = configured(tools, "$(RELEASE)")?;
    suites.extend(LATER_SUITES.map(str::to_owned));
    let apt = PrivateApt::new(tools)?;
    let mut complaint = String::new();
    for suite in &suites {
        // A mirror without the suite is normal: another one may have it.
        if let Err(error) = apt.read_lists(suite, &mirrors) {
            complaint = format!("{error:#}");
        }
        if let Some(version) = find_version(&apt.versions("rust-src")?, release) {
            eprintln!("rust-src {version} is in suite {suite}");
            let package = apt.download(&format!("rust-src={version}"))?;
            return private_apt::extract(tools, &package, folder, 4, &[LIBRARY]);
        }
    }
    bail!("none of the suites {} has it; the last complaint was: {complaint}", suites.join(", "))
}

/// The package version of this upstream release, from `apt-cache madison`: `name | version | source`.
fn find_version(table: &str, release: &str) -> Option<String> {
    let versions = table.lines().filter_map(|line| line.split('|').nth(1)).map(str::trim);
    let of_release = |version: &&str| {
        // 1.95.0+dfsg1-1 and 1.95.0-1, but not 1.95.01 and not 1.95.0~beta.
        version.strip_prefix(release).is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', '-']))
    };
    versions.into_iter().find(of_release).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MADISON: &str = " rust-src | 1.95.0~beta.3-1 | http://x sid/main amd64 Packages\n \
                           rust-src | 1.95.0+dfsg1-1 | http://x testing/main amd64 Packages\n \
                           rust-src | 1.63.0+dfsg1-2 | http://x bookworm/main amd64 Packages\n";

    #[test]
    fn only_the_exact_release_will_do() {
        assert_eq!(find_version(MADISON, "1.95.0").as_deref(), Some("1.95.0+dfsg1-1"));
        assert_eq!(find_version(MADISON, "1.63.0").as_deref(), Some("1.63.0+dfsg1-2"));
        assert_eq!(find_version(MADISON, "1.9"), None);
        assert_eq!(find_version(MADISON, "1.94.0"), None);
        assert_eq!(find_version("", "1.95.0"), None);
    }
}
