//! Frames in a block: one after the other, `kind u8, length varint, payload`. And the frames and payloads that are the file's own.

use super::{BLOCK, FIRST_RESERVED_KIND, MAX_FRAME, MAX_PREAMBLE, error::Refused};

/// The kind of a frame that says how many were dropped here.
pub const GAP: u8 = u8::MAX;
/// The most that kind and length take, in bytes.
pub const FRAME_OVERHEAD: usize = 1 + 5;

/// Frames that were dropped, because the disk was too slow for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    /// How many.
    pub frames: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// The earliest time of them, 0 if none had one.
    pub first_ns: u64,
    /// The latest.
    pub last_ns: u64,
}

impl Gap {
    /// Counts another frame.
    pub fn add(&mut self, time_ns: u64, bytes: usize) {
        self.frames += 1;
        self.bytes += bytes as u64;
        widen(&mut self.first_ns, &mut self.last_ns, time_ns);
    }

    fn bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let numbers = [self.frames, self.bytes, self.first_ns, self.last_ns];
        for (to, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            to.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// From the payload of its frame.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut numbers = bytes.chunks_exact(8).map(|chunk| chunk.try_into().map(u64::from_le_bytes));
        let mut number = || numbers.next()?.ok();
        Some(Self { frames: number()?, bytes: number()?, first_ns: number()?, last_ns: number()? })
    }
}

/// Widens a span of time by a moment; 0 is no moment.
fn widen(first_ns: &mut u64, last_ns: &mut u64, time_ns: u64) {
    if time_ns != 0 {
        *first_ns = if *first_ns == 0 { time_ns } else { time_ns.min(*first_ns) };
        *last_ns = time_ns.max(*last_ns);
    }
}

/// Frames on their way into a block.
#[derive(Debug, Default)]
pub struct Run {
    /// As they are written.
    pub bytes: Vec<u8>,
    /// How many.
    pub frames: u32,
    /// How many of them are the file's own.
    pub own: u32,
    /// The earliest time of them, 0 if none has one.
    pub first_ns: u64,
    /// The latest.
    pub last_ns: u64,
}

impl Run {
    /// With room for a block.
    pub fn new() -> Self {
        Self { bytes: Vec::with_capacity(BLOCK + 4096), ..Self::default() }
    }

    /// Appends a frame.
    pub fn push(&mut self, kind: u8, time_ns: u64, payload: &[u8]) {
        self.bytes.push(kind);
        put_length(&mut self.bytes, payload.len());
        self.bytes.extend_from_slice(payload);
        self.frames += 1;
        widen(&mut self.first_ns, &mut self.last_ns, time_ns);
    }

    /// Appends what is known of those that were dropped.
    pub fn push_gap(&mut self, gap: &Gap) {
        self.push(GAP, gap.first_ns, &gap.bytes());
        widen(&mut self.first_ns, &mut self.last_ns, gap.last_ns);
        self.own += 1;
    }

    /// Whether it is as long as a block shall be.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= BLOCK
    }
}

/// Frames that open every file of a recording, so that each can be read alone.
#[derive(Clone, Debug, Default)]
pub struct Preamble {
    frames: Vec<(u8, Vec<u8>)>,
    bytes: usize,
}

impl Preamble {
    /// Appends a frame.
    ///
    /// # Errors
    /// It is too long, or its kind is the file's own.
    pub fn push(&mut self, kind: u8, payload: &[u8]) -> Result<(), Refused> {
        check(kind, payload)?;
        let bytes = self.bytes + payload.len() + FRAME_OVERHEAD;
        if bytes > MAX_PREAMBLE {
            return Err(Refused::Preamble(bytes));
        }
        self.bytes = bytes;
        self.frames.push((kind, payload.to_vec()));
        Ok(())
    }

    /// The same in blocks.
    pub fn runs(&self, time_ns: u64) -> Vec<Run> {
        let mut runs = Vec::new();
        let mut run = Run::default();
        for (kind, payload) in &self.frames {
            run.push(*kind, time_ns, payload);
            if run.is_full() {
                runs.push(std::mem::take(&mut run));
            }
        }
        if run.frames > 0 {
            runs.push(run);
        }
        runs
    }
}

/// Whether a frame can be written.
pub fn check(kind: u8, payload: &[u8]) -> Result<(), Refused> {
    match kind {
        FIRST_RESERVED_KIND.. => Err(Refused::Kind(kind)),
        _ if payload.len() > MAX_FRAME => Err(Refused::Length(payload.len())),
        _ => Ok(()),
    }
}

/// Where a frame is in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its kind.
    pub kind: u8,
    /// Where its payload begins.
    pub from: usize,
    /// Where the next frame begins.
    pub to: usize,
}

/// The frame that begins at `at`; `None`: none does.
pub fn frame_at(bytes: &[u8], at: usize) -> Option<Place> {
    let kind = *bytes.get(at)?;
    let (length, from) = get_length(bytes, at + 1)?;
    let to = from.checked_add(length).filter(|to| *to <= bytes.len())?;
    Some(Place { kind, from, to })
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn put_length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

/// A length, and where it ends.
fn get_length(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    // Of most frames.
    if let Some([byte @ ..0x80, ..]) = bytes.get(at..) {
        return Some((usize::from(*byte), at + 1));
    }
    let mut length = 0;
    for (index, byte) in bytes.get(at..)?.iter().take(FRAME_OVERHEAD - 1).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((length, at + index + 1));
        }
    }
    None
}
