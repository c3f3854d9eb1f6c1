//! What is packed, made and gathered in one place: beside the program, where the packagers look.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{
    VERSION,
    packages::{REVISION, maintainer},
};
use crate::{
    tools::{Tools, must, output_of},
    workspace,
};

/// The folder beside the program, as the package's metadata in tcptrace/Cargo.toml has it.
const FOLDER: &str = "packaging";
/// Each shell's script, under the name by which it looks for it.
const COMPLETIONS: [(&str, &str); 3] =
    [("bash", "tcptrace"), ("zsh", "_tcptrace"), ("fish", "tcptrace.fish")];
/// What the archive has of the sources.
const OF_THE_SOURCES: [&str; 6] =
    ["CHANGELOG.md", "LICENSE-APACHE", "LICENSE-GPL-2.0", "LICENSE-MIT", "docs", "packaging"];

/// Where it is.
pub struct Stage {
    /// All of it.
    pub folder: PathBuf,
    /// In it: what the archive has, and the scripts of all packages.
    pub tree: PathBuf,
    /// In it: the manual pages, compressed.
    pub pages: Vec<PathBuf>,
}

impl Stage {
    /// Has the program write what is made of its command line, and gathers the rest.
    pub fn fill(tools: &Tools, program: &Path, time: &str) -> Result<Self> {
        let folder = program.with_file_name(FOLDER);
        let _ = fs::remove_dir_all(&folder);
        let tree = folder.join("tcptrace");
        let [pages, scripts] = ["man/man1", "completions"].map(|part| tree.join(part));
        for part in [&pages, &scripts] {
            fs::create_dir_all(part).with_context(|| format!("cannot make {}", part.display()))?;
        }
        output_of(tools.command(program).arg("manual").arg(&pages))?;
        for (shell, name) in COMPLETIONS {
            fs::write(scripts.join(name), output_of(tools.command(program).args(["completions", shell]))?)?;
        }
        fs::copy(program, tree.join("tcptrace"))?;
        for part in OF_THE_SOURCES {
            must(tools.command("cp").arg("-R").arg(workspace::root().join(part)).arg(&tree))?;
        }
        fs::write(folder.join("changelog.Debian"), debian_changelog(tools, time)?)?;
        fs::copy(workspace::root().join("CHANGELOG.md"), folder.join("changelog"))?;
        let compressed = folder.join("man");
        must(tools.command("cp").arg("-R").arg(&pages).arg(&compressed))?;
        let mut gzip = tools.command("gzip");
        gzip.args(["--best", "--no-name", "--recursive"]).arg(&compressed);
        must(gzip.args([folder.join("changelog.Debian"), folder.join("changelog")]))?;
        // Whatever the umask of who builds: readable for all.
        set_modes(&folder)?;
        let pages = fs::read_dir(&compressed)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        Ok(Self { folder, tree, pages })
    }
}

/// Debian wants to know of each version of the package; what is new for users is in the other changelog.
fn debian_changelog(tools: &Tools, time: &str) -> Result<String> {
    let date =
        output_of(tools.command("date").args(["--utc", "--rfc-email", "--date"]).arg(format!("@{time}")))?;
    let who = maintainer();
    Ok(format!(
        "tcptrace ({VERSION}-{REVISION}) unstable; urgency=medium\n\n  * Release {VERSION}.\n\n -- {who}  {}\n",
        date.trim()
    ))
}

/// For everybody to read, and to run what can be run.
pub fn set_modes(path: &Path) -> Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let runs = metadata.is_dir() || metadata.permissions().mode() & 0o100 != 0;
    fs::set_permissions(path, fs::Permissions::from_mode(if runs { 0o755 } else { 0o644 }))?;
    if metadata.is_dir() {
        fs::read_dir(path)?.try_for_each(|entry| set_modes(&entry?.path()))?;
    }
    Ok(())
}
