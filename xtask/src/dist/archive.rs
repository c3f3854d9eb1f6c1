//! The archive for whoever wants no package, and checksums of everything.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::stage::Stage;
use crate::tools::{Tools, must, output_of};

/// Packs the stage's tree into a folder of the archive's name; the same files give the same bytes.
pub fn tar(tools: &Tools, stage: &Stage, file: &Path, time: &str) -> Result<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let inside = name.trim_end_matches(".tar.gz");
    let (above, tree) = (stage.tree.parent(), stage.tree.file_name());
    let (above, tree) = above.zip(tree).context("the stage is a folder in a folder")?;
    let mut tar = tools.command("tar");
    tar.args(["--create", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--format=gnu"]);
    tar.arg(format!("--mtime=@{time}")).arg(format!("--transform=s,^{},{inside},", tree.display()));
    tar.args(["--use-compress-program", "gzip --best --no-name", "--file"]).arg(file);
    must(tar.arg("--directory").arg(above).arg(tree))
}

/// Writes SHA256SUMS, as `sha256sum --check` reads it.
pub fn checksums(tools: &Tools, files: &[PathBuf], folder: &Path) -> Result<()> {
    let names = files.iter().filter_map(|file| file.file_name());
    let sums = output_of(tools.command("sha256sum").current_dir(folder).args(names))?;
    Ok(fs::write(folder.join("SHA256SUMS"), sums)?)
}
