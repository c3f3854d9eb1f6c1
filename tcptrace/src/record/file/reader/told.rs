//! What a reader tells: frames, faults, and how the recording ends.

use super::super::{Gap, names::shown};
use std::{fmt, path::PathBuf};

/// One thing that a recording tells.
#[derive(Debug)]
pub enum Item<'a> {
    /// What was recorded.
    Frame(Frame<'a>),
    /// Here frames are missing: the disk was too slow for them.
    Gap(Gap),
    /// Here something is wrong with the file.
    Fault(Fault),
}

/// What was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its kind.
    pub kind: u8,
    /// Its payload.
    pub payload: &'a [u8],
    /// It is of the preamble. What opens the further files of a recording is not told again.
    pub opening: bool,
}

/// How far a recording has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the files that were read to their end.
    pub bytes: u64,
    /// Blocks.
    pub blocks: u64,
    /// Frames.
    pub frames: u64,
    /// Frames that were dropped when it was made.
    pub dropped: u64,
    /// The earliest time of a frame in the first block, 0 if there is none.
    pub first_ns: u64,
    /// The latest time of a frame in the last block, 0 if there is none.
    pub last_ns: u64,
}

/// What is wrong with a file. What else is in it is told all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not as it was written, or not there.
    Damaged {
        /// The file.
        path: PathBuf,
        /// The first byte of it.
        from: u64,
        /// How many bytes were skipped. 0: blocks are missing.
        bytes: u64,
        /// How many blocks are lost; `None`: at least none, it cannot be known.
        blocks: Option<u64>,
        /// The frames that are lost are later than this, 0: than the beginning…
        after_ns: u64,
        /// …and about as early as this; `None`: up to the end of the file.
        until_ns: Option<u64>,
    },
    /// A file before the last was not ended as it should.
    Unfinished {
        /// The file.
        path: PathBuf,
        /// How it ends.
        ending: Ending,
    },
}

/// How a recording ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is complete.
    Finished {
        /// What it was ended for.
        why: String,
    },
    /// It had the size that it may have.
    Full,
    /// No more could be written.
    Failed {
        /// Why.
        why: String,
    },
    /// It goes on in a file that is not there.
    Continued {
        /// The last file that is there.
        path: PathBuf,
        /// The next, if that is known.
        next: Option<PathBuf>,
    },
    /// It was not ended, or it is still being made.
    CutOff {
        /// The file.
        path: PathBuf,
        /// Its length, in bytes.
        at: u64,
        /// What was read.
        read: Progress,
    },
    /// Its last block is not complete.
    Truncated {
        /// The file.
        path: PathBuf,
        /// Where that block begins.
        at: u64,
        /// What was read.
        read: Progress,
    },
}

impl Ending {
    /// Nothing is missing from the end.
    pub fn is_complete(&self) -> bool {
        matches!(self, Self::Finished { .. } | Self::Full)
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.last_ns.saturating_sub(self.first_ns) as f64 / 1e9;
        write!(f, "{} frames of {seconds:.3} s were read", self.frames)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blocks = |count: u64| format!("{count} block{}", if count == 1 { "" } else { "s" });
        match self {
            Self::Damaged { path, from, bytes: 0, blocks: lost, .. } => {
                let lost = lost.map_or_else(|| "blocks".to_owned(), blocks);
                write!(f, "{}: missing before byte {from}: {lost}", shown(path))
            }
            Self::Damaged { path, from, bytes, blocks: lost, .. } => {
                write!(f, "{}: damaged at byte {from}: {bytes} bytes were skipped", shown(path))?;
                match lost {
                    Some(0) => write!(f, ", no block is lost"),
                    Some(lost) => write!(f, ", {} lost", blocks(*lost)),
                    None => Ok(()),
                }
            }
            Self::Unfinished { ending, .. } => ending.fmt(f),
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished { why } if why.is_empty() => write!(f, "the recording is complete"),
            Self::Finished { why } => write!(f, "the recording is complete: {why}"),
            Self::Full => write!(f, "the recording ends where it reached its limit"),
            Self::Failed { why } => write!(f, "the recording ended early, it could not be written: {why}"),
            Self::Continued { path, next: Some(next) } => {
                write!(f, "{} goes on in {}, which was not read", shown(path), shown(next))
            }
            Self::Continued { path, next: None } => {
                write!(f, "{} goes on in a file that was not read", shown(path))
            }
            Self::CutOff { path, at, read } => write!(
                f,
                "{} was cut off at byte {at}: the recording was not ended, or is still being made; {read}",
                shown(path)
            ),
            Self::Truncated { path, at, read } => {
                write!(f, "{} ends in the middle of the block at byte {at}; {read}", shown(path))
            }
        }
    }
}
