//! Writes a recording. Never waits for the disk: what does not fit into the queue is dropped, counted, and said in the file.

use super::{
    CreateError, FLUSH_EVERY_NS, FinishError, Gap, Limits, MAX_QUEUED, Preamble, Refused, Stopped,
    disk::{Disk, Written},
    frames::{Run, check},
    queue::{Job, Shared},
    thread::{self, Begin},
};
use crate::sandbox::Sandbox;
use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel, sync_channel},
    },
    time::Duration,
};

/// How a recording is to be made.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What it may take.
    pub limits: Limits,
    /// Replace what has its name.
    pub force: bool,
    /// User and group that the files shall belong to, e.g. who typed `sudo`; `None`: who this process is.
    pub owner: Option<(u32, u32)>,
    /// What opens every file.
    pub preamble: Preamble,
    /// Whether the thread that writes gives up what it does not need for that.
    pub sandbox: Sandbox,
}

impl From<Preamble> for Options {
    fn from(preamble: Preamble) -> Self {
        Self { preamble, ..Self::default() }
    }
}

/// How a recording is getting on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// What is on disk.
    pub written: Written,
    /// Frames that were dropped because the disk was too slow.
    pub dropped: u64,
    /// Frames that came after the recording had stopped.
    pub unrecorded: u64,
    /// Bytes that wait, before compression.
    pub waiting: usize,
    /// Nothing more is written: [`Writer::take_stopped`] tells why.
    pub stopped: bool,
}

/// What a recording has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// What is on disk.
    pub written: Written,
    /// Frames that were dropped because the disk was too slow.
    pub dropped: u64,
}

/// A recording that is being made. Without [`Writer::finish`] it is one that was cut off.
pub struct Writer {
    path: PathBuf,
    run: Run,
    gap: Option<Gap>,
    flushed_ns: u64,
    unrecorded: u64,
    jobs: Sender<Job>,
    shared: Arc<Shared>,
    ended: Receiver<()>,
}

impl Writer {
    /// Begins a recording at `path`: a new file; or a FIFO or a device that is there, which gets everything in one go.
    ///
    /// The writing is done by a thread with the rights that this one has now; it creates further files later.
    ///
    /// # Errors
    /// Nothing is recorded.
    pub fn create(path: &Path, options: Options) -> Result<Self, CreateError> {
        let Options { limits, force, owner, preamble, sandbox } = options;
        limits.check()?;
        let file = path.to_owned();
        let begin: Begin =
            Box::new(move |shared| Disk::create(&file, limits, force, owner, &shared.preamble()));
        let (writer, begun) = Self::start(path, begin, preamble, sandbox)?;
        // The thread says something in any case, unless it panicked.
        begun.recv().unwrap_or_else(|_| Err(CreateError::Thread(std::io::ErrorKind::BrokenPipe.into())))?;
        Ok(writer)
    }

    /// Begins a recording that goes to `into`, e.g. standard output, as one file. `name` is for messages. What goes wrong
    /// is told by [`Writer::take_stopped`]. Of the options only the preamble and the sandbox matter.
    ///
    /// # Errors
    /// Nothing is recorded.
    pub fn stream(
        name: &Path,
        into: Box<dyn Write + Send>,
        options: impl Into<Options>,
    ) -> Result<Self, CreateError> {
        let Options { preamble, sandbox, .. } = options.into();
        let path = name.to_owned();
        let begin: Begin = Box::new(move |_| Ok(Disk::stream(&path, into)));
        // Not waited for: a pipe may take its time.
        Ok(Self::start(name, begin, preamble, sandbox)?.0)
    }

    fn start(
        path: &Path,
        begin: Begin,
        preamble: Preamble,
        sandbox: Sandbox,
    ) -> Result<(Self, Receiver<Result<(), CreateError>>), CreateError> {
        let shared = Arc::new(Shared::new(preamble));
        let (jobs, to_do) = channel();
        let (begun, has_begun) = sync_channel(1);
        let (end, ended) = sync_channel(1);
        thread::start(begin, to_do, shared.clone(), sandbox, begun, end).map_err(CreateError::Thread)?;
        let writer = Self {
            path: path.to_owned(),
            run: Run::new(),
            gap: None,
            flushed_ns: 0,
            unrecorded: 0,
            jobs,
            shared,
            ended,
        };
        Ok((writer, has_begun))
    }

    /// Records a frame. `time_ns`: when, on one clock for all frames; 0: at no particular time. Never waits.
    ///
    /// # Errors
    /// It can never be recorded: too long, or a kind that is the file's own.
    pub fn write(&mut self, kind: u8, time_ns: u64, payload: &[u8]) -> Result<(), Refused> {
        check(kind, payload)?;
        if self.shared.has_stopped() {
            self.unrecorded += 1;
            return Ok(());
        }
        if (self.run.is_full() || self.gap.is_some()) && !self.hand_over() {
            self.gap.get_or_insert_default().add(time_ns, payload.len());
            self.shared.drop_one();
            return Ok(());
        }
        self.run.push(kind, time_ns, payload);
        if self.run.is_full() {
            self.hand_over();
        }
        Ok(())
    }

    /// To be called at least every second: hands over what has waited for so long. `now_ns`: on a clock that only grows.
    pub fn flush_if_due(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.flushed_ns) >= FLUSH_EVERY_NS && self.hand_over() {
            self.flushed_ns = now_ns;
        }
    }

    /// Hands over what there is, unless too much waits already.
    pub fn flush(&mut self) {
        self.hand_over();
    }

    /// What opens the files that are yet to come.
    pub fn set_preamble(&mut self, preamble: Preamble) {
        self.shared.set_preamble(preamble);
    }

    /// How the recording is getting on. When [`Written::rotations`] has grown, another file has begun: what a reader of
    /// that file alone should know, and the preamble does not tell, can be recorded again now.
    pub fn state(&self) -> State {
        State {
            written: self.shared.written(),
            dropped: self.shared.dropped(),
            unrecorded: self.unrecorded,
            waiting: self.shared.waiting(),
            stopped: self.shared.has_stopped(),
        }
    }

    /// Why nothing more is written; told once.
    pub fn take_stopped(&mut self) -> Option<Stopped> {
        self.shared.take_stopped()
    }

    /// Writes the rest and that the recording is complete, with the reason, and waits for that; `wait` at most.
    ///
    /// # Errors
    /// It is not complete. What was written is readable.
    pub fn finish(mut self, reason: &str, wait: Duration) -> Result<Summary, FinishError> {
        self.hand_over_all();
        // If the thread has ended, it was stopped.
        let _ = self.jobs.send(Job::Finish(reason.to_owned()));
        if self.ended.recv_timeout(wait).is_err() && !self.shared.has_stopped() {
            return Err(FinishError::Slow { path: self.path.clone(), waited: wait });
        }
        match self.shared.take_stopped() {
            Some(stopped) => Err(FinishError::Stopped(stopped)),
            None if self.shared.has_stopped() => Err(FinishError::Told),
            None => Ok(Summary { written: self.shared.written(), dropped: self.shared.dropped() }),
        }
    }

    /// Hands over what there is if there is room for it.
    fn hand_over(&mut self) -> bool {
        if self.run.frames == 0 {
            return true;
        }
        let bytes = self.run.bytes.len();
        if self.shared.waiting() + bytes > MAX_QUEUED {
            return false;
        }
        self.send(Run::new());
        if let Some(gap) = self.gap.take() {
            self.run.push_gap(&gap);
        }
        true
    }

    /// Hands over what there is, room or not: it is the last.
    fn hand_over_all(&mut self) {
        if let Some(gap) = self.gap.take() {
            self.send(Run::default());
            self.run.push_gap(&gap);
        }
        if self.run.frames > 0 {
            self.send(Run::default());
        }
    }

    fn send(&mut self, next: Run) {
        let run = std::mem::replace(&mut self.run, next);
        self.shared.put(run.bytes.len());
        // Nobody is there any more only after it was said that nothing more is written.
        let _ = self.jobs.send(Job::Block(run));
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.hand_over_all();
    }
}
