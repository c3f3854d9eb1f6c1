//! Debian's packages of them, unpacked once with all that they need, down to the C library, and never installed: so the machine
//! may be older than they are, or no Debian of today.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::RIVALS;
use crate::{
    setup::private_apt::{self, PrivateApt},
    tools::{Tools, must, output_of},
    workspace,
};

/// Newest first.
const SUITES: [&str; 2] = ["trixie", "bookworm"];
/// Names and versions of the packages, one a line: written last.
const VERSIONS: &str = "versions";
/// Where programs are.
const PROGRAMS: [&str; 4] = ["usr/sbin", "usr/bin", "sbin", "bin"];

/// The folder with all that was unpacked.
pub struct Unpacked {
    folder: PathBuf,
    /// `libbpf-tools 0.31.0+ds-7`.
    pub versions: Vec<String>,
}

/// Finds it, or makes it.
pub fn obtain(tools: &Tools) -> Result<Unpacked> {
    // Root, who measures, may have no cargo to ask.
    let target = workspace::target_dir(tools).unwrap_or_else(|_| workspace::root().join("target"));
    let folder = target.join("rivals");
    if let Some(unpacked) = Unpacked::kept(&folder) {
        return Ok(unpacked);
    }
    private_apt::demand(tools)?;
    let part = target.join("rivals.part");
    let mut complaints = Vec::new();
    for suite in SUITES {
        match unpack(tools, suite, &part) {
            Ok(()) => {
                let _ = fs::remove_dir_all(&folder);
                fs::rename(&part, &folder).with_context(|| format!("cannot make {}", folder.display()))?;
                return Unpacked::kept(&folder).context("what was just unpacked is gone");
            }
            Err(error) => complaints.push(format!("{suite}: {error:#}")),
        }
    }
    bail!("they are not to be had: {}", complaints.join("; "))
}

fn unpack(tools: &Tools, suite: &str, folder: &Path) -> Result<()> {
    let apt = PrivateApt::new(tools)?;
    // Complaints are of mirrors that lack the suite; what is missing shows below.
    let _ = apt.read_lists(suite, &private_apt::mirrors(tools)?);
    let mut wanted = RIVALS.map(super::Rival::package).to_vec();
    wanted.dedup();
    let packages = apt.download_with_dependencies(&wanted)?;
    eprintln!("unpacking {} of {suite} and what they need, {} packages", wanted.join(", "), packages.len());
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).with_context(|| format!("cannot write to {}", folder.display()))?;
    let mut versions = String::new();
    for package in &packages {
        must(tools.command("dpkg-deb").arg("-x").arg(package).arg(folder))?;
        let mut about = tools.command("dpkg-deb");
        about.args(["-W", "--showformat=${Package} ${Version}\n"]).arg(package);
        let said = output_of(&mut about)?;
        if said.split(' ').next().is_some_and(|name| wanted.contains(&name)) {
            versions.push_str(&said);
        }
    }
    fs::write(folder.join(VERSIONS), versions).context("cannot write what was unpacked")
}

impl Unpacked {
    fn kept(folder: &Path) -> Option<Self> {
        let versions = fs::read_to_string(folder.join(VERSIONS)).ok()?;
        Some(Self { folder: folder.to_path_buf(), versions: versions.lines().map(str::to_owned).collect() })
    }

    /// The words that start the first of these programs that there is: the loader that belongs to its libraries, where they
    /// are, and the program.
    pub fn words(&self, names: &[&str]) -> Result<Vec<OsString>> {
        let mut places = PROGRAMS.iter().flat_map(|part| names.iter().map(move |name| (part, name)));
        let place = places.find_map(|(part, name)| {
            let file = self.folder.join(part).join(name);
            file.is_file().then_some(file)
        });
        let program = place.with_context(|| format!("its package has no {}", names.join(" and no ")))?;
        let (loader, mut libraries) = self.loader().context("no package has a loader")?;
        // Debian has moved everything to /usr, some packages later than others.
        for other in ["lib", "usr/lib"] {
            let other = self.folder.join(other).join(libraries[0].file_name().unwrap_or_default());
            if other.is_dir() && !libraries.contains(&other) {
                libraries.push(other);
            }
        }
        let libraries = std::env::join_paths(libraries).context("the folder's name has a colon")?;
        Ok(vec![loader.into(), "--library-path".into(), libraries, program.into()])
    }

    /// `usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2`, and its folder.
    fn loader(&self) -> Option<(PathBuf, Vec<PathBuf>)> {
        let folders = ["usr/lib", "lib"].map(|part| fs::read_dir(self.folder.join(part)));
        let folders = folders.into_iter().flatten().flatten().flatten().map(|entry| entry.path());
        folders.filter(|folder| folder.is_dir()).find_map(|folder| {
            let mut files = fs::read_dir(&folder).ok()?.flatten();
            let loader = files.find(|file| is_loader(&file.file_name().to_string_lossy()))?;
            Some((loader.path(), vec![folder]))
        })
    }
}

fn is_loader(name: &str) -> bool {
    name.starts_with("ld-linux") && name.contains(".so.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_started_by_the_loader_it_came_with() {
        let folder = std::env::temp_dir().join(format!("tcptrace-xtask-rivals-{}", std::process::id()));
        let libraries = folder.join("usr/lib/x86_64-linux-gnu");
        fs::create_dir_all(&libraries).unwrap();
        fs::create_dir_all(folder.join("usr/sbin")).unwrap();
        for file in ["usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "usr/sbin/tcpstates-libbpf"] {
            fs::write(folder.join(file), "").unwrap();
        }
        assert!(Unpacked::kept(&folder).is_none(), "versions are written last");
        fs::write(folder.join(VERSIONS), "libbpf-tools 0.31.0+ds-7\n").unwrap();
        let unpacked = Unpacked::kept(&folder).unwrap();
        assert_eq!(unpacked.versions, ["libbpf-tools 0.31.0+ds-7"]);
        let words = unpacked.words(&["tcpstates-libbpf", "tcpstates"]).unwrap();
        assert_eq!(words[0], libraries.join("ld-linux-x86-64.so.2"));
        assert_eq!(words[2], libraries);
        assert_eq!(words[3], folder.join("usr/sbin/tcpstates-libbpf"));
        let missing = unpacked.words(&["tcplife-libbpf", "tcplife"]).unwrap_err().to_string();
        assert_eq!(missing, "its package has no tcplife-libbpf and no tcplife");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn loaders_of_any_architecture_are_known() {
        assert!(is_loader("ld-linux-x86-64.so.2") && is_loader("ld-linux-aarch64.so.1"));
        assert!(!is_loader("libc.so.6") && !is_loader("ld-linux"));
    }
}
