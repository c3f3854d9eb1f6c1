//! What can go wrong with a recording's file: what, why, what to type.

use super::{
    FIRST_RESERVED_KIND, FORMAT, LEAST_FILE, MAX_FRAME, MAX_PREAMBLE,
    names::{numbered, shown},
};
use std::{io, path::PathBuf, time::Duration};
use tcptrace_common::ABI_VERSION;
use thiserror::Error;

/// Why no recording begins.
#[derive(Debug, Error)]
pub enum CreateError {
    /// The file is there.
    #[error("{0} exists already; give another name, or --force to replace it")]
    Exists(PathBuf),
    /// The name that a later file of the recording would need.
    #[error(
        "{0} exists already, and a recording that is continued there would need its name; give another name, or --force to replace it"
    )]
    LaterExists(PathBuf),
    /// Not a recording, and it has the name that a later file of the recording would need.
    #[error(
        "{0} exists already, is no recording, and a recording that is continued there would need its name; give another name"
    )]
    LaterForeign(PathBuf),
    /// A folder, a disk.
    #[error("{path} is {what}; give the name of a file")]
    NoFile {
        /// What was given.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The limits contradict each other.
    #[error("{0}")]
    Limits(&'static str),
    /// Less than a file needs.
    #[error(
        "{bytes} bytes in {keep} files are too few: a file needs at least {LEAST_FILE}; allow more, or keep fewer files"
    )]
    Small {
        /// What was given.
        bytes: u64,
        /// Among so many files.
        keep: u32,
    },
    /// The system says no.
    #[error("cannot create {path}: {why}{}", advice(why))]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// No thread for the writing.
    #[error("cannot start the thread that writes the recording: {0}")]
    Thread(io::Error),
}

fn advice(why: &io::Error) -> &'static str {
    match why.kind() {
        io::ErrorKind::NotFound => "; is its folder there?",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; name a folder that you may write to"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room, or name a folder on another disk"
        }
        _ => "",
    }
}

/// Why a frame is not taken, whatever the disk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// Its kind is the file's own.
    #[error("frame kind {0} is reserved: use kinds below {FIRST_RESERVED_KIND}")]
    Kind(u8),
    /// Its payload is too long.
    #[error("a frame of {0} bytes is too long for a recording: at most {MAX_FRAME}")]
    Length(usize),
    /// The preamble is too long.
    #[error("{0} bytes are too many to open every file of a recording with: at most {MAX_PREAMBLE}")]
    Preamble(usize),
}

/// Why nothing more is written.
#[derive(Debug)]
pub enum Why {
    /// The system says no.
    Io(io::Error),
    /// The only file has the size that it may have.
    Full {
        /// That size, in bytes.
        limit: u64,
    },
}

/// The recording has ended early. What was written until then is readable.
#[derive(Debug)]
pub struct Stopped {
    /// The file that was being written.
    pub path: PathBuf,
    /// Why.
    pub why: Why,
    /// Frames that can be read, in the files that were kept.
    pub frames: u64,
    /// Size of these files, in bytes.
    pub bytes: u64,
    /// How many they are.
    pub files: u32,
    /// Up to when, on the clock of the frames, in nanoseconds; 0: nothing was written.
    pub last_ns: u64,
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = shown(&self.path);
        match &self.why {
            Why::Io(why) => write!(f, "cannot write to {path} any more: {why}{}", advice(why))?,
            Why::Full { limit } => {
                write!(
                    f,
                    "{path} has reached its limit of {limit} bytes; with more than one file to keep it goes on"
                )?;
            }
        }
        let files = if self.files == 1 { "" } else { "s" };
        write!(f, "\n  readable: {} frames, {} bytes in {} file{files}", self.frames, self.bytes, self.files)
    }
}

impl std::error::Error for Stopped {}

/// Why a recording was not ended as it should.
#[derive(Debug, Error)]
pub enum FinishError {
    /// It had stopped before, or it did now.
    #[error("{0}")]
    Stopped(Stopped),
    /// It had stopped before, which was told already.
    #[error("the recording had ended before")]
    Told,
    /// The disk takes too long.
    #[error("{path} took nothing for {waited:?}; what it has until now is readable")]
    Slow {
        /// The file.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
}

/// Why nothing, or nothing more, can be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The system says no.
    #[error("cannot read {}: {why}{}", shown(path), denied(path, why))]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        why: io::Error,
    },
    /// It is a folder.
    #[error("{0} is a folder; name the file of a recording")]
    Folder(PathBuf),
    /// There is nothing in it.
    #[error("{} is empty: nothing was recorded", shown(.0))]
    Empty(PathBuf),
    /// Something else.
    #[error("{} is not a tcptrace recording", shown(.0))]
    Foreign(PathBuf),
    /// It ends before anything is told.
    #[error("{} is cut off at byte {at}, before its first frame", shown(path))]
    Short {
        /// The file.
        path: PathBuf,
        /// Its length.
        at: u64,
    },
    /// Written by a later version.
    #[error(
        "{} was written by {}, format {format}; this tcptrace reads up to format {FORMAT}: upgrade it",
        shown(path), program.as_ref().map_or_else(|| "a newer tcptrace".to_owned(), |version| format!("tcptrace {version}"))
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Version of who wrote it, if that is readable.
        program: Option<String>,
        /// Version of the format.
        format: u16,
    },
    /// The records in it are not those of this version.
    #[error(
        "{} holds records of version {abi}, this tcptrace reads version {ABI_VERSION}: read it with {}",
        shown(path), program.as_ref().map_or_else(|| "the tcptrace that wrote it".to_owned(), |version| format!("tcptrace {version}"))
    )]
    OtherAbi {
        /// The file.
        path: PathBuf,
        /// Version of who wrote it, if that is readable.
        program: Option<String>,
        /// Version of the records.
        abi: u32,
    },
    /// Two recordings, one behind the other.
    #[error("another recording begins at byte {at} of {}: read each alone", shown(path))]
    Another {
        /// The file.
        path: PathBuf,
        /// Where.
        at: u64,
    },
}

fn denied(path: &std::path::Path, why: &io::Error) -> String {
    match why.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("; a recording belongs to who made it: sudo chown $USER {}", shown(path))
        }
        io::ErrorKind::NotFound => format!(", nor {}", shown(&numbered(path, 1))),
        _ => String::new(),
    }
}
