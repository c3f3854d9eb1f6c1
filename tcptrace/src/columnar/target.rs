//! Where the file goes: it has its name only when it is complete, and replaces nothing unless it is told to.

use nix::{
    fcntl::{AT_FDCWD, AtFlags},
    unistd::linkat,
};
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, IsTerminal, Stdout, Write},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
};
use thiserror::Error;

/// Files are for their owner alone, as recordings are: they show addresses and processes.
const MODE: u32 = 0o600;

/// Why nothing is written.
#[derive(Debug, Error)]
pub enum TargetError {
    /// Something has that name.
    #[error("{} exists already; --force replaces it, -o names another", .0.display())]
    Exists(PathBuf),
    /// It cannot be replaced by a file.
    #[error("{} is {what}; valid are a new file, or - for a pipe", path.display())]
    NoFile {
        /// What was named.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// People do not read Parquet.
    #[error(
        "standard output is a terminal, and Parquet is not for people; type -o FILE, or | COMMAND behind it"
    )]
    Terminal,
    /// The system says no.
    #[error("cannot write {}: {error}", path.display())]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

/// A file that is being written, or a pipe.
pub struct Target(To);

enum To {
    Pipe(Stdout),
    File(Unfinished),
}

struct Unfinished {
    file: File,
    /// Its name until then; `None`: it has none, so that nothing is left whatever ends us.
    hidden: Option<PathBuf>,
    wanted: PathBuf,
    force: bool,
}

impl Target {
    /// Begins to write: into a hidden file in the folder of `path`, or for `-` to standard output.
    ///
    /// # Errors
    /// It cannot be, or something is there and must not be replaced (`force`).
    pub fn open(path: &Path, force: bool) -> Result<Self, TargetError> {
        if path.as_os_str() == "-" {
            let stdout = io::stdout();
            return if stdout.is_terminal() {
                Err(TargetError::Terminal)
            } else {
                Ok(Self(To::Pipe(stdout)))
            };
        }
        let no_file = |what| TargetError::NoFile { path: path.to_path_buf(), what };
        match fs::metadata(path) {
            Ok(is) if is.is_dir() => return Err(no_file("a folder")),
            Ok(is) if !is.is_file() => return Err(no_file("no regular file")),
            Ok(_) if !force => return Err(TargetError::Exists(path.to_path_buf())),
            // A link that leads nowhere is in the way all the same.
            Err(_) if !force && path.is_symlink() => return Err(TargetError::Exists(path.to_path_buf())),
            _ => {}
        }
        // What a link leads to is replaced, not the link.
        let wanted = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        if wanted.file_name().is_none() {
            return Err(no_file("no name of a file"));
        }
        match nameless(&wanted).or_else(|_| named(&wanted)) {
            Ok((file, hidden)) => Ok(Self(To::File(Unfinished { file, hidden, wanted, force }))),
            Err(error) => Err(TargetError::Write { path: wanted, error }),
        }
    }

    /// Gives it its name: everything has been written.
    ///
    /// # Errors
    /// The disk is full after all, or something has taken the name meanwhile.
    pub fn complete(self) -> Result<(), TargetError> {
        let To::File(mut unfinished) = self.0 else { return Ok(()) };
        unfinished.complete().map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => TargetError::Exists(unfinished.wanted.clone()),
            _ => TargetError::Write { path: unfinished.wanted.clone(), error },
        })
    }
}

impl Unfinished {
    fn complete(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        if self.hidden.is_none() {
            if !self.force {
                return link(&self.file, &self.wanted);
            }
            // A second name never replaces anything: there a hidden one is needed, too.
            let hidden = hidden(&self.wanted);
            link(&self.file, &hidden)?;
            self.hidden = Some(hidden);
        }
        let Some(hidden) = &self.hidden else { return Ok(()) };
        if self.force { fs::rename(hidden, &self.wanted) } else { rename(hidden, &self.wanted) }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(hidden) = &self.hidden {
            // It has its own name by now, or was renamed, or is of no use.
            let _ = fs::remove_file(hidden);
        }
    }
}

fn hidden(wanted: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(wanted.file_name().unwrap_or_default());
    name.push(format!(".{}.part", std::process::id()));
    wanted.with_file_name(name)
}

fn named(wanted: &Path) -> io::Result<(File, Option<PathBuf>)> {
    let hidden = hidden(wanted);
    let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&hidden)?;
    Ok((file, Some(hidden)))
}

/// Since Linux 3.11, and not on every file system.
fn nameless(wanted: &Path) -> io::Result<(File, Option<PathBuf>)> {
    let folder = wanted.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).mode(MODE).open(folder)?;
    // Without /proc it would get no name either.
    fs::metadata(of_descriptor(&file))?;
    Ok((file, None))
}

fn of_descriptor(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// A name for a file without one; refused by the system itself where the name is taken.
fn link(file: &File, name: &Path) -> io::Result<()> {
    linkat(AT_FDCWD, of_descriptor(file).as_str(), AT_FDCWD, name, AtFlags::AT_SYMLINK_FOLLOW)
        .map_err(io::Error::from)
}

/// Renaming would replace what came there in the meantime; a second name is refused. Not every file system has those.
fn rename(hidden: &Path, wanted: &Path) -> io::Result<()> {
    match fs::hard_link(hidden, wanted) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            if wanted.is_symlink() || wanted.exists() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(hidden, wanted)
        }
        linked => linked,
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            To::Pipe(stdout) => stdout.write(bytes),
            To::File(unfinished) => unfinished.file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            To::Pipe(stdout) => stdout.flush(),
            To::File(unfinished) => unfinished.file.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("tcptrace-target-{}-{name}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    /// Where the file system has no files without a name.
    fn with_a_name(path: &Path, force: bool) -> Target {
        let wanted = path.to_path_buf();
        let (file, hidden) = named(&wanted).unwrap();
        Target(To::File(Unfinished { file, hidden, wanted, force }))
    }

    #[test]
    fn a_file_has_its_name_when_it_is_complete() {
        let folder = Folder::new("name");
        let path = folder.0.join("out");
        for (force, plain) in [(false, true), (true, true), (false, false), (true, false)] {
            let mut target =
                if plain { Target::open(&path, force).unwrap() } else { with_a_name(&path, force) };
            target.write_all(b"new").unwrap();
            assert!(!path.exists());
            target.complete().unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"new");
            assert_eq!(folder.names(), ["out"]);
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let folder = Folder::new("given-up");
        let path = folder.0.join("out");
        for plain in [true, false] {
            let mut target =
                if plain { Target::open(&path, true).unwrap() } else { with_a_name(&path, true) };
            target.write_all(b"new").unwrap();
            drop(target);
            assert!(folder.names().is_empty());
        }
    }

    #[test]
    fn nothing_is_replaced_unasked() {
        let folder = Folder::new("unasked");
        let path = folder.0.join("out");
        let early = [Target::open(&path, false).unwrap(), with_a_name(&path, false)];
        fs::write(&path, "old").unwrap();
        for early in early {
            assert!(matches!(early.complete(), Err(TargetError::Exists(_))), "it came in the meantime");
        }
        assert!(matches!(Target::open(&path, false), Err(TargetError::Exists(_))));
        assert_eq!(fs::read(&path).unwrap(), b"old");

        let link = folder.0.join("link");
        std::os::unix::fs::symlink("out", &link).unwrap();
        let mut target = Target::open(&link, true).unwrap();
        target.write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old", "until it is complete");
        target.complete().unwrap();
        assert_eq!((fs::read(&path).unwrap(), link.is_symlink()), (b"new".to_vec(), true));
        assert_eq!(folder.names(), ["link", "out"]);
    }

    #[test]
    fn only_files_are_replaced() {
        for force in [false, true] {
            for path in ["/dev/null", "/proc", "/", ".."] {
                let opened = Target::open(Path::new(path), force);
                assert!(matches!(opened, Err(TargetError::NoFile { .. })), "{path}");
            }
            let opened = Target::open(Path::new("/proc/no-such-folder/out"), force);
            assert!(matches!(opened, Err(TargetError::Write { .. })));
        }
    }
}
