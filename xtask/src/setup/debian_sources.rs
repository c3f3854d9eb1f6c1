//! rust-src from Debian's archive, for a toolchain that Debian did not install: the mirrors this machine
//! uses often carry the release in another suite. The system's apt is only read: lists, cache and
//! state are our own and are thrown away.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio, id},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::tools::{Tools, must, output_of};

/// Asked after the suites this machine uses: new Rust releases arrive here first.
const LATER_SUITES: [&str; 4] = ["stable-backports", "trixie-backports", "testing", "unstable"];
/// The archive's keys; apt refuses unsigned lists, and so do we.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/// Unpacks `library/` of exactly this release into the folder, whole or not at all.
pub fn unpack(tools: &Tools, release: &str, folder: &Path) -> Result<()> {
    for program in ["apt-get", "apt-cache", "dpkg-deb", "tar"] {
        ensure!(tools.find(program).is_some(), "{program} is missing: this is no Debian");
    }
    ensure!(!release.contains('-'), "Debian has only releases, not {release}");
    let mirrors = configured(tools, "$(REPO_URI)")?;
    ensure!(!mirrors.is_empty(), "apt has no package source configured");
    let mut suites = configured(tools, "$(RELEASE)")?;
    suites.extend(LATER_SUITES.map(str::to_owned));
    let apt = PrivateApt::new(tools)?;
    let mut complaint = String::new();
    for suite in &suites {
        // A mirror without the suite is normal: another one may have it.
        if let Err(error) = apt.read_lists(suite, &mirrors) {
            complaint = format!("{error:#}");
        }
        if let Some(version) = apt.version_of(release)? {
            eprintln!("rust-src {version} is in suite {suite}");
            let package = apt.download(&version)?;
            return extract(tools, &package, folder);
        }
    }
    bail!("none of the suites {} has it; the last complaint was: {complaint}", suites.join(", "))
}

/// What apt is configured with: one field of each package list, without repeats.
fn configured(tools: &Tools, field: &str) -> Result<Vec<String>> {
    let words = ["indextargets", "--format", field, "Created-By: Packages"];
    let mut values: Vec<_> =
        output_of(tools.command("apt-get").args(words))?.lines().map(str::to_owned).collect();
    values.sort();
    values.dedup();
    Ok(values)
}

/// An apt with everything of its own in one temporary folder.
struct PrivateApt<'a> {
    tools: &'a Tools,
    dir: PathBuf,
}

impl<'a> PrivateApt<'a> {
    fn new(tools: &'a Tools) -> Result<Self> {
        let dir = env::temp_dir().join(format!("tcptrace-xtask-apt-{}", id()));
        for part in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(part)).context("cannot make apt's folders")?;
        }
        fs::write(dir.join("status"), "")?;
        Ok(Self { tools, dir })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.tools.command(program);
        let own = |option: &str, part: &str| format!("{option}={}", self.dir.join(part).display());
        let own = [
            own("Dir::Etc::sourcelist", "sources.list"),
            own("Dir::State", "state"),
            own("Dir::State::status", "status"),
            own("Dir::Cache", "cache"),
        ];
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
        let user = user.map_or_else(|| "root".to_owned(), |user| user.name);
        let fixed = ["Dir::Etc::sourceparts=-", "Acquire::Languages=none", "Acquire::Retries=2"];
        let patience = ["Acquire::http::Timeout=60", "Acquire::https::Timeout=60"];
        for option in own.iter().map(String::as_str).chain(fixed).chain(patience) {
            command.args(["-o", option]);
        }
        // Without its sandbox user, who could not read a folder of ours.
        command.arg("-o").arg(format!("APT::Sandbox::User={user}"));
        command.current_dir(&self.dir).env("LC_ALL", "C");
        command
    }

    fn read_lists(&self, suite: &str, mirrors: &[String]) -> Result<()> {
        let keyring = KEYRINGS.iter().find(|file| Path::new(file).is_file());
        let options = keyring.map(|file| format!("[signed-by={file}] ")).unwrap_or_default();
        let lines: String =
            mirrors.iter().map(|mirror| format!("deb {options}{mirror} {suite} main\n")).collect();
        fs::write(self.dir.join("sources.list"), lines)?;
        output_of(self.command("apt-get").args(["-q", "update"])).map(drop)
    }

    fn version_of(&self, release: &str) -> Result<Option<String>> {
        let table = output_of(self.command("apt-cache").args(["madison", "rust-src"]))?;
        Ok(find_version(&table, release))
    }

    fn download(&self, version: &str) -> Result<PathBuf> {
        output_of(self.command("apt-get").args(["-q", "download", &format!("rust-src={version}")]))?;
        let files = fs::read_dir(&self.dir)?.flatten().map(|entry| entry.path());
        let package = files.into_iter().find(|file| file.extension().is_some_and(|end| end == "deb"));
        package.context("apt-get download left no package")
    }
}

impl Drop for PrivateApt<'_> {
    fn drop(&mut self) {
        // Left-overs in the temporary folder harm nobody, and there is nobody to tell.
        let _ = fs::remove_dir_all(&self.dir);
    }
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

/// Only `library/` is needed: a quarter of the package.
fn extract(tools: &Tools, package: &Path, folder: &Path) -> Result<()> {
    let new = folder.with_extension("new");
    let _ = fs::remove_dir_all(&new);
    fs::create_dir_all(&new).with_context(|| {
        format!("cannot write to {}: run this as the owner of the toolchain", new.display())
    })?;
    let mut unpacking =
        tools.command("dpkg-deb").arg("--fsys-tarfile").arg(package).stdout(Stdio::piped()).spawn()?;
    let archive = unpacking.stdout.take().context("dpkg-deb gives no output")?;
    let mut tar = tools.command("tar");
    tar.arg("-xC").arg(&new).args(["--strip-components=4", "--wildcards", "./usr/src/rustc-*/library"]);
    let extracted = must(tar.stdin(archive));
    unpacking.wait()?;
    extracted?;
    fs::rename(&new, folder).with_context(|| format!("cannot make {}", folder.display()))
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
