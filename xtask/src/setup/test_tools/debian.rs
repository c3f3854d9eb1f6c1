//! The packages that a Debian consists of at least, of the suite that this machine is: what a test makes a clean root of.
//! `bin/debian-packages` names them, one a line.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::{
    setup::private_apt::{self, PrivateApt},
    tools::Tools,
};

/// Those without which a system may not be, in apt's words; the rest depends on them.
const ESSENTIAL: &str = "?essential";

/// Downloads them, some 30 MB.
pub fn install(tools: &Tools, folder: &Path) -> Result<()> {
    private_apt::demand(tools)?;
    let suite = suite(&fs::read_to_string("/etc/os-release").unwrap_or_default())
        .context("/etc/os-release names no VERSION_CODENAME")?;
    let apt = PrivateApt::new(tools)?;
    // Some mirrors, like that of security updates, have the suite by another name only.
    let read = apt.read_lists(&suite, &private_apt::mirrors(tools)?);
    let packages = folder.join("debian");
    let _ = fs::remove_dir_all(&packages);
    let downloaded =
        apt.download_with_dependencies(&[ESSENTIAL]).map_err(|error| read.err().unwrap_or(error))?;
    fs::create_dir_all(&packages).with_context(|| format!("cannot make {}", packages.display()))?;
    let mut names = Vec::new();
    for package in downloaded {
        let kept = packages.join(package.file_name().context("a file has a name")?);
        fs::copy(&package, &kept)?;
        names.push(kept);
    }
    names.sort();
    let list: String = names.iter().map(|name| format!("{}\n", name.display())).collect();
    fs::write(folder.join("bin/debian-packages"), list).context("cannot write their list")
}

fn suite(os_release: &str) -> Option<String> {
    let name = os_release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(name.trim_matches('"').to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suite_is_read() {
        assert_eq!(suite("ID=debian\nVERSION_CODENAME=bookworm\n").as_deref(), Some("bookworm"));
        assert_eq!(suite("VERSION_CODENAME=\"noble\"\n").as_deref(), Some("noble"));
        assert_eq!(suite("ID=arch\n"), None);
    }
}
