//! Reads a recording: frames, and what is wrong with it where it is wrong. Memory is bounded by a block, whatever is in the file.

use super::{
    FIRST_RESERVED_KIND, Gap, Header, ReadError,
    block::{End, EndKind},
    frames::{GAP, Place, frame_at},
    layout::{BlockHeader, BlockKind, FORMAT, NoHeader},
    names::{base_of, later_files, numbered},
    scan::{Scan, Step},
};
use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};
use tcptrace_common::ABI_VERSION;

mod told;

pub use told::{Ending, Fault, Frame, Item, Progress};

type Input = Scan<Box<dyn Read + Send>>;

/// A recording that is being read.
pub struct Reader {
    path: PathBuf,
    later: VecDeque<PathBuf>,
    scan: Input,
    header: Option<Header>,
    tag: Option<u32>,
    /// The number that the next block must have.
    next_block: Option<u64>,
    /// Where the block begins whose frames are being told.
    block_at: u64,
    /// The next frame in it.
    at: usize,
    /// It opens the file.
    opening: bool,
    /// What opens the recording was told; what opens its further files is the same.
    opened: bool,
    /// Where bytes were skipped, and how many, since the last block.
    hole: Option<(u64, u64)>,
    file_end: Option<End>,
    cut_at: Option<u64>,
    /// What is to be told before anything else.
    fault: Option<Fault>,
    ending: Option<Ending>,
    progress: Progress,
}

/// What was found; where it is, if it is in the block.
enum Found {
    Frame(Place),
    Gap(Gap),
    Fault(Fault),
}

impl Reader {
    /// Opens the recording that begins with the file at `path`, with all further files of it that are there. Of a file
    /// that is not its first, only that file; `-` is standard input.
    ///
    /// # Errors
    /// It cannot be read, or it is none.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        if path == Path::new("-") {
            return Self::from_read(path, io::stdin());
        }
        let failed = |why| ReadError::Io { path: path.to_owned(), why };
        let file = match File::open(path) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Self::open_later(path, why),
            other => other.map_err(failed)?,
        };
        if file.metadata().map_err(failed)?.is_dir() {
            return Err(ReadError::Folder(path.to_owned()));
        }
        let mut reader = Self::from_read(path, file)?;
        if reader.header.as_ref().is_none_or(|header| header.number == 0)
            && let Some(tag) = reader.tag
        {
            let later = later_files(path).unwrap_or_default().into_iter();
            reader.later = later.filter(|found| found.tag == Some(tag)).map(|found| found.path).collect();
        }
        Ok(reader)
    }

    /// The first files were deleted to make room for later ones.
    fn open_later(base: &Path, why: io::Error) -> Result<Self, ReadError> {
        let mut later: VecDeque<_> = later_files(base).unwrap_or_default().into();
        let newest = later.iter().rev().find_map(|found| found.tag);
        later.retain(|found| newest.is_some() && found.tag == newest);
        let Some(first) = later.pop_front() else {
            return Err(ReadError::Io { path: base.to_owned(), why });
        };
        let failed = |why| ReadError::Io { path: first.path.clone(), why };
        let mut reader = Self::from_read(&first.path, File::open(&first.path).map_err(failed)?)?;
        reader.later = later.into_iter().map(|found| found.path).collect();
        Ok(reader)
    }

    /// Reads a recording from anything. `name` is for messages.
    ///
    /// # Errors
    /// It cannot be read, or it is none.
    pub fn from_read(name: &Path, input: impl Read + Send + 'static) -> Result<Self, ReadError> {
        let mut scan: Input = Scan::new(Box::new(input));
        let path = name.to_owned();
        let failed = |why| ReadError::Io { path: path.clone(), why };
        let (header, length) = scan.peek_header().map_err(failed)?;
        // Only where it is needed: the rest of a pipe may take its time.
        let block = if header.is_ok() { None } else { scan.peek_block().map_err(failed)? };
        let header = match (header, block) {
            (Ok(header), _) => Some(header),
            (Err(_), _) if length == 0 => return Err(ReadError::Empty(path)),
            (Err(NoHeader::Short), _) => return Err(ReadError::Short { path, at: length as u64 }),
            (Err(NoHeader::Foreign), None) => return Err(ReadError::Foreign(path)),
            (Err(_), _) => None,
        };
        let mut reader = Self {
            path,
            later: VecDeque::new(),
            scan,
            header: None,
            tag: block.map(|block| block.set),
            next_block: None,
            block_at: 0,
            at: 0,
            opening: false,
            opened: false,
            hole: None,
            file_end: None,
            cut_at: None,
            fault: None,
            ending: None,
            progress: Progress::default(),
        };
        match (header, block) {
            (Some(header), _) => {
                reader.next_block = Some(header.first_block);
                reader.take_header(header, 0)?;
            }
            (None, Some(block)) => {
                reader.next_block = Some(block.number); // nothing fits between
                reader.check_version(block.format, block.abi)?;
            }
            (None, None) => {}
        }
        Ok(reader)
    }

    /// What the file that is being read says of itself; `None`: that is damaged.
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// The file that is being read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How far it has been read.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// How the recording ends; `None`: it has not been read to its end.
    pub fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// The next thing it tells; `None`: that was all, and [`Reader::ending`] says how it ends.
    ///
    /// # Errors
    /// Nothing more can be read.
    #[expect(clippy::should_implement_trait, reason = "frames are lent")]
    pub fn next(&mut self) -> Result<Option<Item<'_>>, ReadError> {
        let found = match self.find()? {
            None => return Ok(None),
            Some(found) => found,
        };
        Ok(Some(match found {
            Found::Gap(gap) => Item::Gap(gap),
            Found::Fault(fault) => Item::Fault(fault),
            Found::Frame(place) => Item::Frame(Frame {
                kind: place.kind,
                payload: self.scan.block().get(place.from..place.to).unwrap_or_default(),
                opening: self.opening,
            }),
        }))
    }

    fn find(&mut self) -> Result<Option<Found>, ReadError> {
        while self.ending.is_none() {
            if let Some(fault) = self.fault.take() {
                return Ok(Some(Found::Fault(fault)));
            }
            if self.at < self.scan.block().len() {
                match self.next_in_block() {
                    Some(found) => return Ok(Some(found)),
                    None => continue,
                }
            }
            let step = self.scan.step();
            match step.map_err(|why| ReadError::Io { path: self.path.clone(), why })? {
                Step::Header(header) => {
                    let at = self.scan.offset();
                    self.take_header(header, at)?;
                }
                Step::Frames(header) => self.take_block(&header)?,
                Step::End(end, header) => {
                    self.at = self.scan.block().len();
                    if self.is_next(&header)? {
                        self.opened = true;
                        self.file_end = Some(end);
                    }
                }
                Step::Damaged { from, bytes } => self.skipped(from, bytes),
                Step::Cut { at } => self.cut_at = Some(at),
                Step::Other(header) => {
                    self.check_version(header.format, header.abi)?;
                }
                Step::Over => self.file_is_over()?,
            }
        }
        Ok(self.fault.take().map(Found::Fault))
    }

    /// The frame at the place that was reached; `None`: none that anybody wants.
    fn next_in_block(&mut self) -> Option<Found> {
        let block = self.scan.block();
        let Some(place) = frame_at(block, self.at) else {
            let bytes = (block.len() - self.at) as u64;
            self.at = block.len();
            return Some(Found::Fault(self.damage(self.block_at, bytes, None, None)));
        };
        self.at = place.to;
        match place.kind {
            GAP => {
                let gap = Gap::read(block.get(place.from..place.to)?)?;
                self.progress.dropped = self.progress.dropped.saturating_add(gap.frames);
                Some(Found::Gap(gap))
            }
            FIRST_RESERVED_KIND.. => None,
            _ => {
                self.progress.frames += 1;
                Some(Found::Frame(place))
            }
        }
    }

    fn take_header(&mut self, header: Header, at: u64) -> Result<(), ReadError> {
        if header.format != FORMAT || header.abi != ABI_VERSION {
            self.header = Some(header.clone());
            self.check_version(header.format, header.abi)?;
        }
        if self.tag.is_some_and(|tag| tag != header.tag()) {
            return Err(ReadError::Another { path: self.path.clone(), at });
        }
        self.tag = Some(header.tag());
        self.header = Some(header);
        self.file_end = None;
        Ok(())
    }

    fn check_version(&self, format: u16, abi: u32) -> Result<(), ReadError> {
        let path = self.path.clone();
        let program = self.header.as_ref().map(|header| header.program.clone());
        match () {
            () if format != FORMAT => Err(ReadError::Newer { path, program, format }),
            () if abi != ABI_VERSION => Err(ReadError::OtherAbi { path, program, abi }),
            () => Ok(()),
        }
    }

    fn take_block(&mut self, header: &BlockHeader) -> Result<(), ReadError> {
        self.at = self.scan.block().len(); // not told, unless it shall be
        if !self.is_next(header)? {
            return Ok(());
        }
        self.opening = header.kind == Some(BlockKind::Preamble);
        if self.opening && self.opened {
            return Ok(());
        }
        self.opened |= !self.opening;
        self.at = 0;
        self.block_at = self.scan.offset().saturating_sub(header.length());
        self.progress.blocks += 1;
        if !self.opening && header.last_ns != 0 {
            self.progress.last_ns = self.progress.last_ns.max(header.last_ns);
            if self.progress.first_ns == 0 {
                self.progress.first_ns = header.first_ns;
            }
        }
        Ok(())
    }

    /// Whether the block follows on the one before. If some are missing between them, that is told before it.
    fn is_next(&mut self, header: &BlockHeader) -> Result<bool, ReadError> {
        let end = self.scan.offset();
        let at = end.saturating_sub(header.length());
        if *self.tag.get_or_insert(header.set) != header.set {
            return Err(ReadError::Another { path: self.path.clone(), at });
        }
        let missing = match self.next_block {
            Some(next) if header.number < next => {
                self.skipped(at, header.length()); // what was told already
                return Ok(false);
            }
            Some(next) => Some(header.number - next),
            None => None,
        };
        self.next_block = Some(header.number.saturating_add(1));
        if self.hole.is_some() || missing.is_some_and(|blocks| blocks > 0) {
            let (from, bytes) = self.hole.take().unwrap_or((at, 0));
            self.fault = Some(self.damage(from, bytes, missing, Some(header.first_ns)));
        }
        Ok(true)
    }

    fn skipped(&mut self, from: u64, bytes: u64) {
        let (from, before) = self.hole.unwrap_or((from, 0));
        self.hole = Some((from, before + bytes));
    }

    fn damage(&self, from: u64, bytes: u64, blocks: Option<u64>, until_ns: Option<u64>) -> Fault {
        let until_ns = until_ns.filter(|ns| *ns != 0);
        Fault::Damaged {
            path: self.path.clone(),
            from,
            bytes,
            blocks,
            after_ns: self.progress.last_ns,
            until_ns,
        }
    }

    /// No byte is left in this file: goes on with the next, or knows how the recording ends.
    fn file_is_over(&mut self) -> Result<(), ReadError> {
        if let Some((from, bytes)) = self.hole.take() {
            // No block came after it that would tell how many it were.
            self.fault = Some(self.damage(from, bytes, None, None));
            return Ok(()); // and then here again
        }
        self.progress.bytes += self.scan.offset();
        let ending = self.file_ending();
        while let Some(path) = self.later.pop_front() {
            let file = match File::open(&path) {
                // Deleted meanwhile, for a recording that is still being made. The numbers of blocks will tell.
                Err(why) if why.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(|why| ReadError::Io { path: path.clone(), why })?,
            };
            let before = std::mem::replace(&mut self.path, path);
            self.scan = Scan::new(Box::new(file));
            self.at = 0;
            self.header = None;
            if !matches!(ending, Ending::Continued { .. }) {
                self.fault = Some(Fault::Unfinished { path: before, ending });
            }
            return Ok(());
        }
        self.ending = Some(ending);
        Ok(())
    }

    fn file_ending(&mut self) -> Ending {
        let (path, read) = (self.path.clone(), self.progress);
        match (self.cut_at.take(), self.file_end.take()) {
            (Some(at), _) => Ending::Truncated { path, at, read },
            (None, None) => Ending::CutOff { path, at: self.scan.offset(), read },
            (None, Some(end)) => match end.kind {
                EndKind::Finished => Ending::Finished { why: end.why },
                EndKind::Failed => Ending::Failed { why: end.why },
                EndKind::Full => Ending::Full,
                EndKind::Continued => {
                    let after = |number: u32| numbered(&base_of(&path, number), number.saturating_add(1));
                    let next = self.header.as_ref().map(|header| after(header.number));
                    Ending::Continued { path, next }
                }
            },
        }
    }
}
