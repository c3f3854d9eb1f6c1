//! The names of a recording's files: NAME, then NAME.1, NAME.2 and so on, never renamed; the oldest are deleted.

use super::layout::{BLOCK_HEADER, BlockHeader, FILE_HEADER, Header};
use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// The file with this number.
pub fn numbered(base: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return base.to_owned();
    }
    let mut name = base.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// The recording that the file with this path and number belongs to: the other way round.
pub fn base_of(path: &Path, number: u32) -> PathBuf {
    let name = path.to_string_lossy();
    match name.strip_suffix(&format!(".{number}")) {
        Some(base) if number > 0 => base.into(),
        _ => path.to_owned(),
    }
}

/// The path for a message.
pub fn shown(path: &Path) -> std::path::Display<'_> {
    if path == Path::new("-") { Path::new("standard input").display() } else { path.display() }
}

/// What stands at the beginning of a file.
#[derive(Debug)]
pub struct Found {
    /// Where.
    pub path: PathBuf,
    /// The number in its name.
    pub number: u32,
    /// `None`: no header, or a damaged one.
    pub header: Option<Header>,
    /// The tag of its recording: the header's, or the first block's; `None`: neither can be read.
    pub tag: Option<u32>,
}

impl Found {
    /// Whether the header says what the name says.
    pub fn is_named_right(&self) -> bool {
        self.header.as_ref().is_some_and(|header| header.number == self.number)
    }
}

/// All files that have a name as a later file of a recording has, in the order of their numbers.
///
/// # Errors
/// The folder cannot be read.
pub fn later_files(base: &Path) -> io::Result<Vec<Found>> {
    let folder = base.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(name) = base.file_name() else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if let Some(number) = number_in(&entry.file_name(), name) {
            let path = numbered(base, number);
            // A FIFO would make us wait.
            let bytes = if entry.file_type()?.is_file() { beginning_of(&path)? } else { Vec::new() };
            let header = Header::read(&bytes).ok();
            let block = || bytes.get(FILE_HEADER..).and_then(BlockHeader::read);
            let tag = header.as_ref().map(Header::tag).or_else(|| Some(block()?.set));
            found.push(Found { path, number, header, tag });
        }
    }
    found.sort_by_key(|found| found.number);
    Ok(found)
}

fn number_in(name: &OsStr, base: &OsStr) -> Option<u32> {
    let digits = name.as_bytes().strip_prefix(base.as_bytes())?.strip_prefix(b".")?;
    let text = std::str::from_utf8(digits).ok()?;
    let number: u32 = text.parse().ok()?;
    (number > 0 && number.to_string() == text).then_some(number)
}

/// The first bytes of a file; none if it is gone again.
fn beginning_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take((FILE_HEADER + BLOCK_HEADER) as u64).read_to_end(&mut bytes)?,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(bytes),
        Err(why) => return Err(why),
    };
    Ok(bytes)
}
