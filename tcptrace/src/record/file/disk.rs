//! Where blocks go: the files of a recording, within their limits; or something that is no file and takes bytes as they come.

use super::{
    CreateError, LEAST_FILE, Preamble, Why,
    block::{End, EndKind, MAX_END, Sealer},
    frames::Run,
    layout::{BlockKind, FORMAT, Header, tag},
    names::numbered,
    place::{self, Identity},
};
use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};
use tcptrace_common::ABI_VERSION;

/// How many files are kept unless something else is wanted.
pub const KEEP: u32 = 8;

/// What a recording may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// All its files together, in bytes; each may have its share. `None`: as much as there is.
    pub max_bytes: Option<u64>,
    /// A new file begins after so much time, on the clock of the frames.
    pub rotate_every: Option<Duration>,
    /// So many files; before another begins the oldest is deleted. With one the recording ends when that is full.
    pub keep: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: None, rotate_every: None, keep: KEEP }
    }
}

impl Limits {
    /// Whether they can be kept.
    ///
    /// # Errors
    /// They cannot.
    pub fn check(&self) -> Result<(), CreateError> {
        if self.keep == 0 {
            return Err(CreateError::Limits("a recording needs at least one file to keep"));
        }
        if self.keep == 1 && self.rotate_every.is_some() {
            return Err(CreateError::Limits("a new file now and then needs at least two files to keep"));
        }
        if self.rotate_every.is_some_and(|every| every < Duration::from_secs(1)) {
            return Err(CreateError::Limits("a new file can begin every second, not more often"));
        }
        match self.max_bytes {
            Some(bytes) if self.share().is_none_or(|share| share < LEAST_FILE) => {
                Err(CreateError::Small { bytes, keep: self.keep })
            }
            _ => Ok(()),
        }
    }

    /// What one file may have, in bytes.
    fn share(&self) -> Option<u64> {
        self.max_bytes.map(|bytes| bytes / u64::from(self.keep.max(1)))
    }
}

/// What was written so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Frames, also in files that were deleted.
    pub frames: u64,
    /// Frames in the files that are there.
    pub kept_frames: u64,
    /// Size of the files that are there, in bytes.
    pub bytes: u64,
    /// How many they are.
    pub files: u32,
    /// How often another file began.
    pub rotations: u32,
    /// The latest time of a frame, 0 if none had one.
    pub last_ns: u64,
}

/// A file that is complete.
#[derive(Debug)]
struct Done {
    path: PathBuf,
    identity: Identity,
    bytes: u64,
    frames: u64,
}

/// Who gets the bytes.
enum Target {
    File { file: File, identity: Identity },
    Stream(Box<dyn Write + Send>),
}

/// The recording on disk.
pub struct Disk {
    base: PathBuf,
    limits: Limits,
    owner: Option<(u32, u32)>,
    set: [u8; 16],
    target: Target,
    number: u32,
    /// Bytes that are sound.
    good: u64,
    /// Blocks of frames in this file, those of the preamble aside.
    blocks: u64,
    /// Frames in them.
    frames: u64,
    /// The time of the first of them, 0: none yet.
    first_ns: u64,
    block: u64,
    done: VecDeque<Done>,
    sealer: Sealer,
    written: Written,
}

impl Disk {
    /// Begins a recording at `path`, with its first file.
    ///
    /// # Errors
    /// It cannot; nothing was changed then, or nothing but what `force` allows.
    pub fn create(
        path: &Path,
        limits: Limits,
        force: bool,
        owner: Option<(u32, u32)>,
        preamble: &Preamble,
    ) -> Result<Self, CreateError> {
        let io = |why| CreateError::Io { path: path.to_owned(), why };
        // The working directory may change.
        let base = std::path::absolute(path).map_err(io)?;
        let target = if place::is_stream(path)? {
            Target::Stream(Box::new(OpenOptions::new().write(true).open(&base).map_err(io)?))
        } else {
            place::make_room(path, force)?;
            Target::created(place::create(&base, owner).map_err(io)?)
        };
        let mut disk = Self::over(target, base, limits, owner);
        disk.begin(preamble, 0).map_err(|why| {
            disk.good = 0; // half a preamble is no beginning either
            disk.give_up();
            io(why)
        })?;
        Ok(disk)
    }

    /// A recording into something that takes bytes and keeps none; nothing is written yet.
    pub fn stream(name: &Path, into: Box<dyn Write + Send>) -> Self {
        Self::over(Target::Stream(into), name.to_owned(), Limits { keep: 1, ..Limits::default() }, None)
    }

    fn over(target: Target, base: PathBuf, limits: Limits, owner: Option<(u32, u32)>) -> Self {
        let mut set = [0; 16];
        for half in set.chunks_exact_mut(8) {
            // Keyed by the system's randomness.
            let mut hasher = RandomState::new().build_hasher();
            hasher.write_u32(std::process::id());
            half.copy_from_slice(&hasher.finish().to_le_bytes());
        }
        Self {
            base,
            limits,
            owner,
            set,
            target,
            number: 0,
            good: 0,
            blocks: 0,
            frames: 0,
            first_ns: 0,
            block: 0,
            done: VecDeque::new(),
            sealer: Sealer::new(tag(set)),
            written: Written { files: 1, ..Written::default() },
        }
    }

    /// The file that is being written.
    pub fn path(&self) -> PathBuf {
        match self.target {
            Target::File { .. } => numbered(&self.base, self.number),
            Target::Stream(_) => self.base.clone(),
        }
    }

    /// Where further files begin; `None`: there will be none.
    pub fn folder(&self) -> Option<PathBuf> {
        match self.target {
            Target::File { .. } => self.base.parent().map(Path::to_owned),
            Target::Stream(_) => None,
        }
    }

    /// What was written so far.
    pub fn written(&self) -> Written {
        self.written
    }

    /// Writes the header and what opens every file.
    ///
    /// # Errors
    /// It cannot; what is there may be half of it.
    pub fn begin(&mut self, preamble: &Preamble, time_ns: u64) -> io::Result<()> {
        let header = Header {
            format: FORMAT,
            abi: ABI_VERSION,
            set: self.set,
            number: self.number,
            first_block: self.block,
            program: env!("CARGO_PKG_VERSION").to_owned(),
        };
        append(&mut self.target, &mut self.good, &mut self.written, &header.bytes())?;
        for run in preamble.runs(time_ns) {
            self.put(BlockKind::Preamble, &run)?;
        }
        Ok(())
    }

    /// Writes a block of frames, in the next file if this one has had enough.
    ///
    /// # Errors
    /// It is not written, and nothing more will be.
    pub fn write(&mut self, run: &Run, preamble: &Preamble, dropped: u64) -> Result<(), Why> {
        let old = self.first_ns != 0
            && self.limits.rotate_every.is_some_and(|every| {
                u128::from(run.last_ns.saturating_sub(self.first_ns)) >= every.as_nanos()
            });
        // What it will take at most: it is packed only once.
        let room = run.bytes.len() as u64 + 2 * MAX_END;
        let full = self.limits.share().filter(|share| self.blocks > 0 && self.good + room > *share);
        if matches!(self.target, Target::File { .. }) && (old || full.is_some()) {
            if let (1, Some(limit)) = (self.limits.keep, full) {
                return Err(Why::Full { limit });
            }
            self.rotate(preamble, run.first_ns, dropped).map_err(Why::Io)?;
        }
        self.put(BlockKind::Frames, run).map_err(Why::Io)?;
        let frames = u64::from(run.frames - run.own);
        self.frames += frames;
        self.blocks += 1;
        self.written.frames += frames;
        self.written.kept_frames += frames;
        self.written.last_ns = self.written.last_ns.max(run.last_ns);
        if self.first_ns == 0 {
            self.first_ns = run.first_ns;
        }
        Ok(())
    }

    fn put(&mut self, kind: BlockKind, run: &Run) -> io::Result<()> {
        let block = self.sealer.frames(kind, self.block, run);
        append(&mut self.target, &mut self.good, &mut self.written, block)?;
        self.block += 1;
        Ok(())
    }

    /// Writes why this file ends here.
    ///
    /// # Errors
    /// It cannot.
    pub fn end(&mut self, kind: EndKind, why: &str, dropped: u64) -> io::Result<()> {
        let end = End { kind, frames: self.written.frames, dropped, why: why.to_owned() };
        let block = self.sealer.end(self.block, self.written.last_ns, &end);
        append(&mut self.target, &mut self.good, &mut self.written, block)?;
        self.block += 1;
        match &mut self.target {
            Target::File { file, .. } => file.sync_data(),
            Target::Stream(stream) => stream.flush(),
        }
    }

    /// Whether nothing was written yet, not even a header.
    pub fn is_blank(&self) -> bool {
        self.good == 0
    }

    fn rotate(&mut self, preamble: &Preamble, time_ns: u64, dropped: u64) -> io::Result<()> {
        // First of all: what says that it goes on must be true.
        let (next, number) = place::create_next(&self.base, self.number, self.owner)?;
        if let Err(why) = self.end(EndKind::Continued, "", dropped) {
            let _ = place::delete(&numbered(&self.base, number), next.1); // there is an error to tell already
            return Err(why);
        }
        let path = self.path();
        if let Target::File { identity, .. } = std::mem::replace(&mut self.target, Target::created(next)) {
            self.done.push_back(Done { path, identity, bytes: self.good, frames: self.frames });
        }
        self.number = number;
        self.written.files += 1;
        self.written.rotations += 1;
        (self.good, self.blocks, self.frames, self.first_ns) = (0, 0, 0, 0);
        while self.done.len() >= self.limits.keep as usize {
            let Some(oldest) = self.done.pop_front() else { break };
            place::delete(&oldest.path, oldest.identity)?;
            self.written.bytes -= oldest.bytes;
            self.written.kept_frames -= oldest.frames;
            self.written.files -= 1;
        }
        self.begin(preamble, time_ns).inspect_err(|_| self.give_up())
    }

    /// Removes a file that has no more than half a beginning.
    fn give_up(&mut self) {
        if let (true, Target::File { identity, .. }) = (self.is_blank(), &self.target) {
            let _ = place::delete(&self.path(), *identity); // there is an error to tell already
            self.written.files -= 1;
        }
    }
}

/// Appends all of it, or nothing that stays.
fn append(target: &mut Target, good: &mut u64, written: &mut Written, bytes: &[u8]) -> io::Result<()> {
    match target {
        Target::File { file, .. } => file.write_all(bytes).inspect_err(|_| {
            // If that fails too, readers skip the half.
            let _ = file.set_len(*good);
        }),
        Target::Stream(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
    }?;
    *good += bytes.len() as u64;
    written.bytes += bytes.len() as u64;
    Ok(())
}

impl Target {
    fn created((file, identity): (File, Identity)) -> Self {
        Self::File { file, identity }
    }
}
