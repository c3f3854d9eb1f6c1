//! A kernel out of Debian's packages: its image and the few modules that the tests need, unpacked once and kept.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::kernels::{Wanted, is_of};
use crate::{
    setup::private_apt::{self, PrivateApt},
    tools::Tools,
};

/// Names of the modules, in the order in which they can be loaded.
pub const MODULES: [&str; 4] = ["tun", "inet_diag", "tcp_diag", "sch_netem"];
const PREFIX: &str = "linux-image-";
const ARCHITECTURE: &str = "-amd64";

/// A kernel that can be booted.
#[derive(Debug)]
pub struct Unpacked {
    /// As `uname -r` will say it.
    pub release: String,
    /// The kernel itself.
    pub image: PathBuf,
    /// Files of [`MODULES`], in their order; those that the kernel does not have are left out.
    pub modules: Vec<PathBuf>,
}

/// Finds it in the folder of an earlier time, or gets it from the mirrors.
pub fn obtain(tools: &Tools, wanted: &Wanted, kernels: &Path, renew: bool) -> Result<Unpacked> {
    if !renew && let Some(kept) = newest(&kept(kernels)?, &wanted.series) {
        return look(kernels, &kept);
    }
    private_apt::demand(tools)?;
    let mirrors = private_apt::mirrors(tools)?;
    let apt = PrivateApt::new(tools)?;
    let mut complaint = "no list names it".to_owned();
    let mut found: Vec<(&str, String)> = Vec::new();
    for suite in wanted.kernel.suites {
        // A mirror without the suite is normal: another one has it.
        if let Err(error) = apt.read_lists(suite, &mirrors) {
            complaint = format!("{error:#}");
        }
        found.extend(newest(&releases(&apt.names(PREFIX)?), &wanted.series).map(|release| (*suite, release)));
    }
    let best = found.iter().max_by_key(|(_, release)| numbers(release));
    let (suite, release) = best.with_context(|| {
        format!(
            "no mirror has a kernel {} in {}: {complaint}",
            wanted.series,
            wanted.kernel.suites.join(", ")
        )
    })?;
    // Complaints are of mirrors that lack the suite; what is missing shows below.
    let _ = apt.read_lists(suite, &mirrors);
    eprintln!("getting Linux {release} from {suite}");
    unpack(tools, &apt, release, &kernels.join(release))?;
    look(kernels, release)
}

/// From 7.3 on the image's package is empty, and others have what was in it, in other places.
fn unpack(tools: &Tools, apt: &PrivateApt<'_>, release: &str, folder: &Path) -> Result<()> {
    let new = folder.with_file_name(format!("{release}.part"));
    let _ = fs::remove_dir_all(&new);
    fs::create_dir_all(&new).with_context(|| format!("cannot write to {}", new.display()))?;
    let with = |part: &str| -> Result<String> {
        let own = format!("linux-{part}-{release}");
        let split = !apt.versions(&own)?.trim().is_empty();
        Ok(if split { own } else { format!("{PREFIX}{release}") })
    };
    let (image, modules) = (with("binary")?, with("modules")?);
    let package = apt.download(&image)?;
    private_apt::extract(tools, &package, &new.join("image"), 0, &["*/vmlinuz*"])?;
    let package = if modules == image { package } else { apt.download(&modules)? };
    let patterns: Vec<_> = MODULES.iter().map(|name| format!("*/kernel/*/{name}.ko*")).collect();
    let patterns: Vec<_> = patterns.iter().map(String::as_str).collect();
    private_apt::extract(tools, &package, &new.join("modules"), 0, &patterns)?;
    // Of an earlier time.
    let _ = fs::remove_dir_all(folder);
    fs::rename(&new, folder).with_context(|| format!("cannot make {}", folder.display()))
}

fn look(kernels: &Path, release: &str) -> Result<Unpacked> {
    let folder = kernels.join(release);
    let files = |part: &str| -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        walk(&folder.join(part), &mut files)?;
        Ok(files)
    };
    let begins = |file: &&PathBuf, start: &str| {
        file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start))
    };
    let image = files("image")?.iter().find(|file| begins(file, "vmlinuz")).cloned();
    let image = image
        .with_context(|| format!("{} has no kernel: remove it, and run this again", folder.display()))?;
    let modules = files("modules")?;
    let of = |name: &&str| modules.iter().find(|file| begins(file, &format!("{name}.ko"))).cloned();
    Ok(Unpacked { release: release.to_owned(), image, modules: MODULES.iter().filter_map(of).collect() })
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn kept(kernels: &Path) -> Result<Vec<String>> {
    let Ok(entries) = fs::read_dir(kernels) else { return Ok(Vec::new()) };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names: Result<Vec<String>> = names.collect();
    Ok(names?.into_iter().filter(|name| name.ends_with(ARCHITECTURE)).collect())
}

/// Releases out of names of packages: the ordinary kernels, signed as they are installed. Not cloud and real-time ones.
fn releases(names: &str) -> Vec<String> {
    let release = |name: &str| {
        let release = name.strip_prefix(PREFIX)?;
        let version = release.strip_suffix(ARCHITECTURE)?;
        let flavour = version.ends_with("-cloud") || version.ends_with("-rt");
        (!flavour && numbers(release).len() >= 2).then(|| release.to_owned())
    };
    names.lines().filter_map(|line| release(line.trim())).collect()
}

/// The highest version of a series.
fn newest(releases: &[String], series: &str) -> Option<String> {
    releases.iter().filter(|release| is_of(release, series)).max_by_key(|release| numbers(release)).cloned()
}

/// What a version is compared by: `6.12.90+deb13.1-amd64` comes after `6.12.90+deb13-amd64`. Empty for names without a version.
fn numbers(release: &str) -> Vec<u32> {
    if !release.starts_with(|first: char| first.is_ascii_digit()) {
        return Vec::new();
    }
    let version = release.strip_suffix(ARCHITECTURE).unwrap_or(release);
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &str = "linux-image-6.12.90+deb13-amd64\nlinux-image-6.12.90+deb13.1-amd64\n\
                         linux-image-6.12.118+deb13-amd64\nlinux-image-6.12.118+deb13-amd64-unsigned\n\
                         linux-image-6.12.119+deb13-cloud-amd64\nlinux-image-6.12.119+deb13-rt-amd64\n\
                         linux-image-6.1.0-56-amd64\nlinux-image-amd64\nlinux-image-rt-amd64\nlinux-image-6.12.120+deb13-arm64\n";

    #[test]
    fn the_newest_ordinary_kernel_is_taken() {
        let releases = releases(NAMES);
        assert_eq!(newest(&releases, "6.12").as_deref(), Some("6.12.118+deb13-amd64"));
        assert_eq!(newest(&releases, "6.1").as_deref(), Some("6.1.0-56-amd64"));
        assert_eq!(newest(&releases, "6.12.90").as_deref(), Some("6.12.90+deb13.1-amd64"));
        assert_eq!(newest(&releases, "7"), None);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(numbers("6.12.118+deb13-amd64") > numbers("6.12.95+deb13-amd64"));
        assert!(numbers("7.3-amd64") < numbers("7.3.4+deb13-amd64"));
        assert!(numbers("amd64").is_empty());
    }
}
