//! Creates and deletes the files of a recording: nobody else's is overwritten, and none is deleted that is not ours.

use super::{
    CreateError,
    names::{later_files, numbered},
};
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

/// Which file it is, whatever it is called by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
}

/// Whether there is something other than a file already that takes bytes.
///
/// # Errors
/// It is something that takes none.
pub fn is_stream(path: &Path) -> Result<bool, CreateError> {
    let no_file = |what| CreateError::NoFile { path: path.to_owned(), what };
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Err(no_file("a folder")),
        Ok(meta) if meta.file_type().is_block_device() => Err(no_file("a disk")),
        Ok(meta) if meta.file_type().is_socket() => Err(no_file("a socket")),
        Ok(meta) => Ok(!meta.is_file()),
        Err(_) => Ok(false), // creating it will say what is wrong
    }
}

/// Makes sure that nobody's file is overwritten: neither now nor when the recording goes on in further files.
///
/// # Errors
/// Something is in the way, and may not be replaced or cannot be.
pub fn make_room(path: &Path, force: bool) -> Result<(), CreateError> {
    let io = |why| CreateError::Io { path: path.to_owned(), why };
    let there = fs::symlink_metadata(path).is_ok();
    if there && !force {
        return Err(CreateError::Exists(path.to_owned()));
    }
    let later = later_files(path).map_err(io)?;
    if let Some(first) = later.first().filter(|_| !force) {
        return Err(CreateError::LaterExists(first.path.clone()));
    }
    if let Some(foreign) = later.iter().find(|found| !found.is_named_right()) {
        return Err(CreateError::LaterForeign(foreign.path.clone()));
    }
    let replaced = later.iter().map(|found| found.path.as_path()).chain(there.then_some(path));
    for path in replaced {
        fs::remove_file(path).map_err(|why| CreateError::Io { path: path.to_owned(), why })?;
    }
    Ok(())
}

/// A new file, for its owner alone: it shows addresses and processes.
///
/// # Errors
/// The system's; the file is there already.
pub fn create(path: &Path, owner: Option<(u32, u32)>) -> io::Result<(File, Identity)> {
    let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)?;
    if let Some((uid, gid)) = owner {
        std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
    }
    let meta = file.metadata()?;
    Ok((file, Identity { device: meta.dev(), inode: meta.ino() }))
}

/// The next file; numbers that somebody else has taken meanwhile are left out.
///
/// # Errors
/// The system's; too many of them are taken.
pub fn create_next(
    base: &Path,
    number: u32,
    owner: Option<(u32, u32)>,
) -> io::Result<((File, Identity), u32)> {
    const TRIES: u32 = 100;
    let mut taken = io::Error::from(io::ErrorKind::AlreadyExists);
    for number in (number.saturating_add(1)..=u32::MAX).take(TRIES as usize) {
        match create(&numbered(base, number), owner) {
            Ok(created) => return Ok((created, number)),
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => taken = why,
            Err(why) => return Err(why),
        }
    }
    Err(taken)
}

/// Deletes a file, unless something else has its name by now.
///
/// # Errors
/// The system's.
pub fn delete(path: &Path, identity: Identity) -> io::Result<()> {
    let there = match fs::symlink_metadata(path) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let named = Identity { device: there.dev(), inode: there.ino() };
    if named == identity { fs::remove_file(path) } else { Ok(()) }
}
