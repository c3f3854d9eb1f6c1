//! A root file system in memory, as the kernel unpacks it: a `newc` archive.

use std::{
    collections::BTreeMap,
    fs,
    io::{Cursor, Write},
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use cpio::{newc, newc::ModeFileType};

enum Entry {
    Folder,
    Link(PathBuf),
    Bytes(Vec<u8>),
    File(PathBuf),
}

/// Files by where they are in the guest; folders come by themselves.
#[derive(Default)]
pub struct Archive {
    entries: BTreeMap<PathBuf, Entry>,
}

impl Archive {
    /// An empty folder.
    pub fn folder(&mut self, place: impl AsRef<Path>) {
        self.put(place.as_ref(), Entry::Folder);
    }

    /// A symbolic link.
    pub fn link(&mut self, place: impl AsRef<Path>, to: impl Into<PathBuf>) {
        self.put(place.as_ref(), Entry::Link(to.into()));
    }

    /// A file with these bytes.
    pub fn bytes(&mut self, place: impl AsRef<Path>, bytes: impl Into<Vec<u8>>) {
        self.put(place.as_ref(), Entry::Bytes(bytes.into()));
    }

    /// A copy of a file of this machine.
    pub fn file(&mut self, place: impl AsRef<Path>, source: impl Into<PathBuf>) {
        self.put(place.as_ref(), Entry::File(source.into()));
    }

    /// Whether something is there.
    pub fn has(&self, place: &Path) -> bool {
        self.entries.contains_key(&normal(place))
    }

    fn put(&mut self, place: &Path, entry: Entry) {
        let place = normal(place);
        for folder in place.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()) {
            self.entries.entry(folder.to_path_buf()).or_insert(Entry::Folder);
        }
        if !matches!(entry, Entry::Folder) || !self.entries.contains_key(&place) {
            self.entries.insert(place, entry);
        }
    }

    /// Writes it. A folder comes before what is in it: the order of paths sees to that.
    pub fn write(&self, mut out: impl Write) -> Result<()> {
        for (number, (place, entry)) in self.entries.iter().enumerate() {
            let (kind, mode, bytes) = match entry {
                Entry::Folder => (ModeFileType::Directory, 0o755, Vec::new()),
                Entry::Link(to) => (ModeFileType::Symlink, 0o777, to.as_os_str().as_encoded_bytes().to_vec()),
                Entry::Bytes(bytes) => (ModeFileType::Regular, 0o755, bytes.clone()),
                Entry::File(source) => {
                    let bytes =
                        fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
                    (ModeFileType::Regular, 0o755, bytes)
                }
            };
            let name = place.to_str().with_context(|| format!("{} is no text", place.display()))?;
            let number = u32::try_from(number + 1)?;
            let length = u32::try_from(bytes.len()).with_context(|| format!("{name} is too large"))?;
            // Files with the same inode number would be taken for one.
            let entry = newc::Builder::new(name).ino(number).nlink(1).mode(mode).set_mode_file_type(kind);
            let mut writer = entry.write(&mut out, length);
            std::io::copy(&mut Cursor::new(bytes), &mut writer)?;
            writer.finish()?;
        }
        newc::trailer(&mut out)?;
        Ok(())
    }

    /// Writes it into a file.
    pub fn save(&self, file: &Path) -> Result<()> {
        let open = fs::File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
        let mut out = std::io::BufWriter::new(open);
        self.write(&mut out)?;
        out.flush().with_context(|| format!("cannot write {}", file.display()))?;
        ensure!(file.metadata()?.len() % 4 == 0, "{} is cut short", file.display());
        Ok(())
    }
}

/// As the kernel names them: without `/` at the beginning, and without `.` and `..`.
fn normal(place: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in place.components() {
        match part {
            Component::Normal(name) => normal.push(name),
            Component::ParentDir => drop(normal.pop()),
            _ => {}
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, mode and bytes of every entry.
    fn read(bytes: Vec<u8>) -> Vec<(String, u32, Vec<u8>)> {
        let mut rest = Cursor::new(bytes);
        let mut entries = Vec::new();
        loop {
            let reader = newc::Reader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                return entries;
            }
            let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
            let mut bytes = Vec::new();
            rest = reader.to_writer(&mut bytes).unwrap();
            entries.push((name, mode, bytes));
        }
    }

    #[test]
    fn folders_come_before_what_is_in_them() {
        let mut archive = Archive::default();
        archive.bytes("/a/b/c", "text");
        archive.link("/a/d", "b/c");
        archive.folder("/a/b");
        archive.file("a/x/../y", "/proc/self/cmdline");
        assert!(
            archive.has(Path::new("/a/b"))
                && archive.has(Path::new("/a/./y"))
                && !archive.has(Path::new("/b"))
        );
        let mut bytes = Vec::new();
        archive.write(&mut bytes).unwrap();
        let entries = read(bytes);
        let names: Vec<_> = entries.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["a", "a/b", "a/b/c", "a/d", "a/y"]);
        assert_eq!(entries[1].1, 0o040_755);
        assert_eq!((entries[2].1, entries[2].2.as_slice()), (0o100_755, b"text".as_slice()));
        assert_eq!((entries[3].1, entries[3].2.as_slice()), (0o120_777, b"b/c".as_slice()));
        assert!(!entries[4].2.is_empty());
    }

    #[test]
    fn a_file_that_is_gone_is_an_error() {
        let mut archive = Archive::default();
        archive.file("/a", "/proc/nothing");
        assert!(archive.write(Vec::new()).unwrap_err().to_string().contains("/proc/nothing"));
    }
}
