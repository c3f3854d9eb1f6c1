//! Packages of Debian's archive, downloaded and never installed: the system's apt is only read. Lists, cache and state are our
//! own and are thrown away.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio, id},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, ensure};

use crate::tools::{Tools, must, output_of};

/// The archive's keys; apt refuses unsigned lists, and so do we.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/// Whether what is needed of Debian is here.
pub fn demand(tools: &Tools) -> Result<()> {
    for program in ["apt-get", "apt-cache", "dpkg-deb", "tar"] {
        ensure!(tools.find(program).is_some(), "{program} is missing: this is no Debian");
    }
    Ok(())
}

/// What apt is configured with: one field of each package list, without repeats.
pub fn configured(tools: &Tools, field: &str) -> Result<Vec<String>> {
    // Without lists, as on a new machine, apt names no source unless told so.
    let words = ["indextargets", "--no-release-info", "--format", field, "Created-By: Packages"];
    let mut values: Vec<_> =
        output_of(tools.command("apt-get").args(words))?.lines().map(str::to_owned).collect();
    values.sort();
    values.dedup();
    Ok(values)
}

/// The mirrors this machine uses; an error if it uses none.
pub fn mirrors(tools: &Tools) -> Result<Vec<String>> {
    let mirrors = configured(tools, "$(REPO_URI)")?;
    ensure!(!mirrors.is_empty(), "apt has no package source configured");
    Ok(mirrors)
}

/// An apt with everything of its own in one temporary folder.
pub struct PrivateApt<'a> {
    tools: &'a Tools,
    dir: PathBuf,
    downloads: AtomicU32,
}

impl<'a> PrivateApt<'a> {
    /// Makes its folders; dropping it removes them.
    pub fn new(tools: &'a Tools) -> Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let dir = env::temp_dir().join(format!("tcptrace-xtask-apt-{}-{number}", id()));
        for part in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(dir.join(part)).context("cannot make apt's folders")?;
        }
        fs::write(dir.join("status"), "")?;
        Ok(Self { tools, dir, downloads: AtomicU32::new(0) })
    }

    /// Reads the lists of one suite from all mirrors. A mirror without the suite is an error, and still those of the
    /// others were read.
    pub fn read_lists(&self, suite: &str, mirrors: &[String]) -> Result<()> {
        let keyring = KEYRINGS.iter().find(|file| Path::new(file).is_file());
        let options = keyring.map(|file| format!("[signed-by={file}] ")).unwrap_or_default();
        let lines: String =
            mirrors.iter().map(|mirror| format!("deb {options}{mirror} {suite} main\n")).collect();
        fs::write(self.dir.join("sources.list"), lines)?;
        output_of(self.own("apt-get").args(["-q", "update"])).map(drop)
    }

    /// The table of a package's versions in the lists that were read: `name | version | source`.
    pub fn versions(&self, package: &str) -> Result<String> {
        output_of(self.own("apt-cache").args(["madison", package]))
    }

    /// The names of packages that begin so, one a line, in the lists that were read.
    pub fn names(&self, prefix: &str) -> Result<String> {
        output_of(self.own("apt-cache").args(["pkgnames", prefix]))
    }

    /// Downloads a package, `name` or `name=version`, found in the lists that were read.
    pub fn download(&self, package: &str) -> Result<PathBuf> {
        self.downloaded(self.own("apt-get"), package)
    }

    /// Likewise, found in the lists the system has.
    pub fn download_by_system(&self, package: &str) -> Result<PathBuf> {
        self.downloaded(self.patient("apt-get"), package)
    }

    /// Downloads packages and all that they need, as for a machine that has none; found in the lists that were read. `names` may
    /// be patterns of apt: `?essential`.
    pub fn download_with_dependencies(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let words = ["-q", "install", "--download-only", "--assume-yes", "--no-install-recommends"];
        output_of(self.own("apt-get").args(words).args(names))?;
        let files = fs::read_dir(self.dir.join("cache/archives"))?.flatten().map(|entry| entry.path());
        Ok(files.filter(|file| file.extension().is_some_and(|end| end == "deb")).collect())
    }

    /// Each into a folder of its own: apt chooses the file's name.
    fn downloaded(&self, mut apt: Command, package: &str) -> Result<PathBuf> {
        let number = self.downloads.fetch_add(1, Ordering::Relaxed);
        let folder = self.dir.join(format!("download-{number}"));
        fs::create_dir(&folder)?;
        output_of(apt.args(["-q", "download", package]).current_dir(&folder))?;
        let files = fs::read_dir(&folder)?.flatten().map(|entry| entry.path());
        let package = files.into_iter().find(|file| file.extension().is_some_and(|end| end == "deb"));
        package.context("apt-get download left no package")
    }

    /// One that knows nothing of the system's lists, cache and state.
    fn own(&self, program: &str) -> Command {
        let mut command = self.patient(program);
        let own = |option: &str, part: &str| format!("{option}={}", self.dir.join(part).display());
        let own = [
            own("Dir::Etc::sourcelist", "sources.list"),
            own("Dir::State", "state"),
            own("Dir::State::status", "status"),
            own("Dir::Cache", "cache"),
        ];
        let fixed = ["Dir::Etc::sourceparts=-", "Acquire::Languages=none"];
        for option in own.iter().map(String::as_str).chain(fixed) {
            command.args(["-o", option]);
        }
        command
    }

    fn patient(&self, program: &str) -> Command {
        let mut command = self.tools.command(program);
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
        let user = user.map_or_else(|| "root".to_owned(), |user| user.name);
        for option in ["Acquire::Retries=2", "Acquire::http::Timeout=60", "Acquire::https::Timeout=60"] {
            command.args(["-o", option]);
        }
        // Without its sandbox user, who could not read a folder of ours.
        command.arg("-o").arg(format!("APT::Sandbox::User={user}"));
        command.current_dir(&self.dir).env("LC_ALL", "C");
        command
    }
}

impl Drop for PrivateApt<'_> {
    fn drop(&mut self) {
        // Left-overs in the temporary folder harm nobody, and there is nobody to tell.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Unpacks what matches the patterns, each of which must match something, into the folder, without the leading parts of its
/// path; whole or not at all.
pub fn extract(tools: &Tools, package: &Path, folder: &Path, strip: u32, patterns: &[&str]) -> Result<()> {
    let new = folder.with_extension("new");
    let _ = fs::remove_dir_all(&new);
    fs::create_dir_all(&new)
        .with_context(|| format!("cannot write to {}: run this as its owner", new.display()))?;
    let mut unpacking =
        tools.command("dpkg-deb").arg("--fsys-tarfile").arg(package).stdout(Stdio::piped()).spawn()?;
    let archive = unpacking.stdout.take().context("dpkg-deb gives no output")?;
    let mut tar = tools.command("tar");
    tar.arg("-xC").arg(&new).arg(format!("--strip-components={strip}")).arg("--wildcards").args(patterns);
    let extracted = must(tar.stdin(archive));
    unpacking.wait()?;
    extracted?;
    fs::rename(&new, folder).with_context(|| format!("cannot make {}", folder.display()))
}
