//! A recording from its file to a sink.

use super::{
    file::{Item, ReadError, Reader},
    frame::{FRAME, Frame},
    player::Player,
};
use crate::{
    run::{Next, Origin, Sink, Started},
    source::filter::FilterSpec,
    summary::Summary,
};
use std::{io, path::Path, time::Duration};
use thiserror::Error;

/// Why a recording cannot be played.
#[derive(Debug, Error)]
pub enum PlayError {
    /// The file.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It does not begin as one of ours does.
    #[error("{0}: it does not say how it began; was it made by tcptrace record?")]
    NoBeginning(String),
    /// What a recording does not tell of an event.
    #[error("{0} cannot be chosen from a recording: give it to `tcptrace record` instead")]
    Filter(&'static str),
}

/// A recording that is about to be played.
pub struct Playback {
    reader: Reader,
    player: Player,
}

/// What came of it.
pub struct Played {
    /// The end.
    pub summary: Summary,
    /// What is wrong with the recording, for people.
    pub flaws: Vec<String>,
}

impl Playback {
    /// Opens the recording. `filter`: only what it wants is taken in.
    ///
    /// # Errors
    /// It cannot be read, is none, or is one of a newer version.
    pub fn open(path: &Path, filter: FilterSpec) -> Result<Self, PlayError> {
        if !filter.uids.is_empty() {
            return Err(PlayError::Filter("--uid"));
        }
        if !filter.cgroups.is_empty() {
            return Err(PlayError::Filter("--cgroup"));
        }
        let mut reader = Reader::open(path)?;
        while let Some(item) = reader.next()? {
            let Item::Frame(frame) = item else { continue };
            if frame.kind == FRAME
                && let Ok(Frame::Started(started)) = Frame::decode(frame.payload)
            {
                return Ok(Self { player: Player::new(*started, filter), reader });
            }
            break;
        }
        Err(PlayError::NoBeginning(path.display().to_string()))
    }

    /// How the trace began.
    pub fn started(&self) -> &Started {
        self.player.started()
    }

    /// Where and when it took place.
    pub fn origin(&self) -> &Origin {
        self.player.origin()
    }

    /// Plays it to its end, to the end of `duration`, or until the sink has enough.
    ///
    /// # Errors
    /// The sink's, other than a broken pipe.
    pub fn play(mut self, duration: Option<Duration>, sink: &mut impl Sink) -> io::Result<Played> {
        let whole = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let until_ns = duration.map(|time| self.started().began_ns.saturating_add(whole(time)));
        let mut flaws = Flaws::default();
        let mut unread = false;
        let mut open = true;
        while open && until_ns.is_none_or(|until_ns| self.player.now_ns() <= until_ns) {
            let taken = match self.reader.next() {
                Ok(None) => break,
                Ok(Some(Item::Frame(frame))) => self.player.take(frame.kind, frame.payload, sink),
                Ok(Some(Item::Gap(gap))) => {
                    flaws.push(format!(
                        "{} frames are missing: the disk was too slow for them when this was recorded",
                        gap.frames
                    ));
                    self.player.gap();
                    Ok(Next::Continue)
                }
                Ok(Some(Item::Fault(fault))) => {
                    flaws.push(fault.to_string());
                    self.player.gap();
                    Ok(Next::Continue)
                }
                Err(error) => {
                    flaws.push(error.to_string());
                    unread = true;
                    break;
                }
            };
            match taken {
                Ok(next) => open = next == Next::Continue,
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => open = false,
                Err(error) => return Err(error),
            }
        }
        if let Some(ending) = self.reader.ending().filter(|ending| !unread && !ending.is_complete()) {
            flaws.push(ending.to_string());
        }
        if self.player.unreadable() > 0 {
            flaws.push(format!("{} frames make no sense and were passed over", self.player.unreadable()));
        }
        let summary = self.player.finish(open, sink)?;
        Ok(Played { summary, flaws: flaws.told() })
    }
}

/// A file can be damaged in as many places as it has bytes.
const MOST_FLAWS: usize = 20;

/// What is wrong with a recording, as far as somebody reads it.
#[derive(Default)]
struct Flaws {
    first: Vec<String>,
    more: u64,
}

impl Flaws {
    fn push(&mut self, flaw: String) {
        if self.first.len() < MOST_FLAWS {
            self.first.push(flaw);
        } else {
            self.more += 1;
        }
    }

    fn told(mut self) -> Vec<String> {
        if self.more > 0 {
            self.first.push(format!("and {} more such places", self.more));
        }
        self.first
    }
}
