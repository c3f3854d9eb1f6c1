//! From the recorder to the file.

use super::{
    file::{CreateError, FinishError, Options, Preamble, Stopped, Why, Writer},
    frame::FRAME,
    recorder::Tape,
};
use crate::{tell, view::Bytes};
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// How long the disk may take at the end.
const AT_THE_END: Duration = Duration::from_secs(10);

/// A recording that is being made.
pub struct FileTape {
    path: PathBuf,
    writer: Writer,
    stopped: Option<Stopped>,
}

impl FileTape {
    /// Creates the file; `-` is standard output.
    ///
    /// # Errors
    /// It cannot be.
    pub fn create(path: &Path, options: Options) -> Result<Self, CreateError> {
        let writer = if path == Path::new("-") {
            Writer::stream(path, Box::new(io::stdout()), options)?
        } else {
            Writer::create(path, options)?
        };
        Ok(Self { path: path.to_owned(), writer, stopped: None })
    }

    /// Nothing will be recorded: the file goes.
    pub fn discard(self) {
        drop(self.writer);
        if self.path == Path::new("-") {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            log::debug!("{}: {error}", self.path.display());
        }
    }

    /// Ends the recording and says on standard error what it has come to.
    ///
    /// # Errors
    /// It did not get to the disk.
    pub fn finish(self, why: &str) -> Result<(), FinishError> {
        let told = |stopped: Stopped| match stopped.why {
            // As it was wanted.
            Why::Full { .. } => Ok(()),
            Why::Io(_) => Err(FinishError::Stopped(stopped)),
        };
        let summary = match self.writer.finish(why, AT_THE_END) {
            Err(FinishError::Told) => {
                let full = |stopped: &Stopped| matches!(stopped.why, Why::Full { .. });
                return if self.stopped.as_ref().is_none_or(full) { Ok(()) } else { Err(FinishError::Told) };
            }
            Err(FinishError::Stopped(stopped)) => return told(stopped),
            other => other?,
        };
        let written = summary.written;
        let files = if written.files == 1 { "file" } else { "files" };
        tell!(
            "recorded {} frames, {} in {} {files}",
            written.kept_frames,
            Bytes(written.bytes),
            written.files
        );
        if written.kept_frames < written.frames {
            tell!(
                "{} older frames are gone: --max-size and --keep allow no more",
                written.frames - written.kept_frames
            );
        }
        if summary.dropped > 0 {
            tell!("{} frames are missing: the disk was too slow for them", summary.dropped);
        }
        Ok(())
    }
}

impl Tape for FileTape {
    fn put(&mut self, kind: u8, time_ns: u64, payload: &[u8]) {
        if let Err(error) = self.writer.write(kind, time_ns, payload) {
            log::warn!("something is not recorded: {error}");
        }
    }

    fn opening(&mut self, frames: &[&[u8]]) {
        let mut preamble = Preamble::default();
        // What does not fit is asked for again by the first list of sockets.
        for frame in frames {
            if preamble.push(FRAME, frame).is_err() {
                break;
            }
        }
        self.writer.set_preamble(preamble);
    }

    fn tick(&mut self, now_ns: u64) -> bool {
        self.writer.flush_if_due(now_ns);
        if let Some(stopped) = self.writer.take_stopped() {
            tell!("{stopped}");
            self.stopped = Some(stopped);
        }
        self.stopped.is_none()
    }
}
