//! The .deb, by dpkg-deb out of packaging/debian, and the .rpm, by cargo-generate-rpm out of tcptrace/Cargo.toml. Who makes them.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{Profile, VERSION, binary::Target, stage::Stage};
use crate::{
    tools::{Tools, must, output_of},
    workspace,
};

/// Who that is unless somebody says it: nobody's address.
const MAINTAINER: &str = "The tcptrace authors <maintainers@tcptrace.invalid>";
/// What dpkg-deb and cargo-generate-rpm put behind our version: which package of it this is.
pub const REVISION: &str = "1";

/// What dpkg keeps beside the files, of packaging/debian.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];
/// The one file that an administrator changes.
const CONFIGURATION: &str = "etc/default/tcptrace";
/// From where in the stage's folder, to where.
const OF_THE_STAGE: [(&str, &str); 6] = [
    ("tcptrace/tcptrace", "usr/bin/tcptrace"),
    ("tcptrace/completions/tcptrace", "usr/share/bash-completion/completions/tcptrace"),
    ("tcptrace/completions/_tcptrace", "usr/share/zsh/vendor-completions/_tcptrace"),
    ("tcptrace/completions/tcptrace.fish", "usr/share/fish/vendor_completions.d/tcptrace.fish"),
    ("changelog.gz", "usr/share/doc/tcptrace/changelog.gz"),
    ("changelog.Debian.gz", "usr/share/doc/tcptrace/changelog.Debian.gz"),
];
/// From where in `packaging`, to where.
const OF_THE_SOURCES: [(&str, &str); 6] = [
    ("systemd/tcptrace-export.service", "usr/lib/systemd/system/tcptrace-export.service"),
    ("systemd/tcptrace.default", CONFIGURATION),
    ("debian/copyright", "usr/share/doc/tcptrace/copyright"),
    ("systemd/containers.conf", "usr/share/doc/tcptrace/examples/containers.conf"),
    ("prometheus/alerts.yml", "usr/share/doc/tcptrace/examples/alerts.yml"),
    ("grafana/tcptrace.json", "usr/share/doc/tcptrace/examples/tcptrace.json"),
];

/// Where the pages of `docs` go: the manual, the program and the unit name them.
const DOCUMENTS: &str = "usr/share/doc/tcptrace";

/// Who makes this package, by the variables that Debian's own tools take it from.
pub fn maintainer() -> String {
    let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let said = set("DEBFULLNAME").zip(set("DEBEMAIL"));
    said.map_or_else(|| MAINTAINER.to_owned(), |(name, address)| format!("{name} <{address}>"))
}

/// What both packagers are told.
pub struct Pack<'a> {
    /// How to start them.
    pub tools: &'a Tools,
    /// What was built for.
    pub target: &'a Target,
    /// And how.
    pub profile: Profile,
    /// Where to.
    pub folder: &'a Path,
    /// When, in seconds since 1970.
    pub time: &'a str,
}

impl Pack<'_> {
    /// Packs what is in the stage. Says so where there is no dpkg-deb.
    pub fn deb(&self, stage: &Stage) -> Result<()> {
        if self.tools.find("dpkg-deb").is_none() {
            eprintln!("warning: there is no dpkg-deb, so there is no .deb; to have it: install dpkg");
            return Ok(());
        }
        let tree = stage.folder.join("deb");
        let packaging = workspace::root().join("packaging");
        let pages = stage.pages.iter().map(|page| {
            let name = page.file_name().unwrap_or_default();
            (page.clone(), Path::new("usr/share/man/man1").join(name))
        });
        let documents = documents()?.into_iter().map(|page| {
            let name = page.file_name().unwrap_or_default();
            (page.clone(), Path::new(DOCUMENTS).join(name))
        });
        let staged = OF_THE_STAGE.map(|(from, to)| (stage.folder.join(from), PathBuf::from(to)));
        let sources = OF_THE_SOURCES.map(|(from, to)| (packaging.join(from), PathBuf::from(to)));
        let mut files: Vec<_> = pages.chain(documents).chain(staged).chain(sources).collect();
        files.sort_by(|one, other| one.1.cmp(&other.1));
        let mut size = 0;
        for (from, to) in &files {
            // dpkg counts in whole KiB.
            size += put(from, &tree.join(to), if to.starts_with("usr/bin") { 0o755 } else { 0o644 })?
                .div_ceil(1024);
        }
        let control = tree.join("DEBIAN");
        let debian = packaging.join("debian");
        for script in SCRIPTS {
            put(&debian.join(script), &control.join(script), 0o755)?;
        }
        let architecture = output_of(self.tools.command("dpkg").arg("--print-architecture"))?;
        let text = fs::read_to_string(debian.join("control"))?
            .replace("@VERSION@", &format!("{VERSION}-{REVISION}"))
            .replace("@ARCHITECTURE@", architecture.trim())
            .replace("@MAINTAINER@", &maintainer())
            .replace("@SIZE@", &size.to_string());
        fs::write(control.join("control"), text)?;
        fs::write(control.join("conffiles"), format!("/{CONFIGURATION}\n"))?;
        let mut sums = self.tools.command("md5sum");
        sums.current_dir(&tree)
            .args(files.iter().map(|(_, to)| to).filter(|to| *to != Path::new(CONFIGURATION)));
        fs::write(control.join("md5sums"), output_of(&mut sums)?)?;
        super::stage::set_modes(&tree)?;

        let mut command = self.tools.command("dpkg-deb");
        // Of the ways to compress, every Debian and Ubuntu knows xz.
        command.env("SOURCE_DATE_EPOCH", self.time).args(["--root-owner-group", "-Zxz", "--build"]);
        output_of(command.arg(&tree).arg(self.folder)).map(drop)
    }

    /// Packs with cargo-generate-rpm.
    pub fn rpm(&self, packager: &Path, target_dir: &Path) -> Result<()> {
        let mut command = self.tools.command(packager);
        command.current_dir(workspace::root()).args(["--package", "tcptrace", "--source-date", self.time]);
        command.args(["--profile", self.profile.name(), "--target", &self.target.triple, "--target-dir"]);
        must(command.arg(target_dir).arg("--output").arg(self.folder))
    }
}

/// The pages of `docs`.
fn documents() -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(workspace::root().join("docs"))?.collect::<Result<Vec<_>, _>>()?;
    let paths = entries.into_iter().map(|entry| entry.path());
    Ok(paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect())
}

/// Copies a file to a place whose folders are made; how long it is.
fn put(from: &Path, to: &Path, mode: u32) -> Result<u64> {
    let folder = to.parent().context("a file is in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let length = fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
    Ok(length)
}
