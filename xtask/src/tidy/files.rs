//! The files that tidy looks at.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Never ours: what tools keep in the tree.
const SKIPPED_FOLDERS: [&str; 3] = [".git", "target", "node_modules"];
const KINDS: [&str; 3] = ["rs", "md", "toml"];

/// A file of the workspace.
pub struct File {
    /// Relative to the workspace.
    pub path: PathBuf,
    /// The workspace.
    pub root: PathBuf,
    /// What is in it.
    pub text: String,
}

impl File {
    /// Whether it is of this kind.
    pub fn is(&self, extension: &str) -> bool {
        self.path.extension() == Some(OsStr::new(extension))
    }

    /// Its lines, numbered as people do.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// Every file that a rule may be about, in the order of its path.
pub fn all(root: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    collect(root, root, &mut files)?;
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<File>) -> Result<()> {
    let read = |path: &Path| format!("cannot read {}", path.display());
    for entry in fs::read_dir(folder).with_context(|| read(folder))? {
        let entry = entry?;
        let path = entry.path();
        let kind = entry.file_type()?;
        if kind.is_dir() && !SKIPPED_FOLDERS.iter().any(|name| entry.file_name() == OsStr::new(name)) {
            collect(root, &path, files)?;
        } else if kind.is_file() && KINDS.iter().any(|kind| path.extension() == Some(OsStr::new(kind))) {
            let text = fs::read(&path).with_context(|| read(&path))?;
            let text = String::from_utf8_lossy(&text).into_owned();
            let path = path.strip_prefix(root).unwrap_or(&path).to_path_buf();
            files.push(File { path, root: root.to_path_buf(), text });
        }
    }
    Ok(())
}
