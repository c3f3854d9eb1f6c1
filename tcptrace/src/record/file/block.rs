//! Frames to a block and back; and what the last block of a file says.

use super::{
    frames::Run,
    layout::{BLOCK_HEADER, BlockHeader, BlockKind, FORMAT},
};
use tcptrace_common::ABI_VERSION;

/// Why a file ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndKind {
    /// The recording is complete.
    Finished,
    /// It goes on in the next file.
    Continued,
    /// No more could be written.
    Failed,
    /// It has the size that it may have.
    Full,
}

/// What the last block says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Why it ended.
    pub kind: EndKind,
    /// Frames written since the recording began, in all its files.
    pub frames: u64,
    /// Frames dropped since then.
    pub dropped: u64,
    /// The same in words.
    pub why: String,
}

/// The longest reason that is written, in bytes.
const MAX_WHY: usize = 400;

impl End {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![match self.kind {
            EndKind::Finished => 0,
            EndKind::Continued => 1,
            EndKind::Failed => 2,
            EndKind::Full => 3,
        }];
        bytes.extend(self.frames.to_le_bytes());
        bytes.extend(self.dropped.to_le_bytes());
        bytes.extend_from_slice(&self.why.as_bytes()[..self.why.floor_char_boundary(MAX_WHY)]);
        bytes
    }

    /// From the payload of the last block.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let kind = match bytes.first()? {
            0 => EndKind::Finished,
            1 => EndKind::Continued,
            2 => EndKind::Failed,
            3 => EndKind::Full,
            _ => return None,
        };
        let number = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        let printable = |c: char| if c.is_control() { ' ' } else { c };
        let why = String::from_utf8_lossy(bytes.get(17..)?).chars().take(MAX_WHY).map(printable).collect();
        Some(Self { kind, frames: number(1)?, dropped: number(9)?, why })
    }
}

/// The most that the last block of a file takes, in bytes.
pub const MAX_END: u64 = (BLOCK_HEADER + 17 + MAX_WHY) as u64;

/// Makes blocks in a buffer of its own.
#[derive(Debug)]
pub struct Sealer {
    set: u32,
    sealed: Vec<u8>,
}

impl Sealer {
    /// For the recording with this tag.
    pub fn new(set: u32) -> Self {
        Self { set, sealed: Vec::new() }
    }

    /// A block of frames.
    pub fn frames(&mut self, kind: BlockKind, number: u64, run: &Run) -> &[u8] {
        self.seal(kind, number, run.frames, (run.first_ns, run.last_ns), &run.bytes)
    }

    /// The last block of a file.
    pub fn end(&mut self, number: u64, time_ns: u64, end: &End) -> &[u8] {
        self.seal(BlockKind::End, number, 0, (time_ns, time_ns), &end.bytes())
    }

    fn seal(&mut self, kind: BlockKind, number: u64, frames: u32, ns: (u64, u64), bytes: &[u8]) -> &[u8] {
        self.sealed.clear();
        self.sealed.resize(BLOCK_HEADER + lz4_flex::block::get_maximum_output_size(bytes.len()), 0);
        let packed = lz4_flex::block::compress_into(bytes, &mut self.sealed[BLOCK_HEADER..]);
        let packed = packed.ok().filter(|length| *length < bytes.len());
        let stored = packed.unwrap_or(bytes.len());
        self.sealed.truncate(BLOCK_HEADER + stored);
        if packed.is_none() {
            self.sealed[BLOCK_HEADER..].copy_from_slice(bytes);
        }
        let header = BlockHeader {
            format: FORMAT,
            abi: ABI_VERSION,
            kind: Some(kind),
            packed: packed.is_some(),
            set: self.set,
            number,
            first_ns: ns.0,
            last_ns: ns.1,
            frames,
            unpacked: bytes.len() as u32,
            stored: stored as u32,
            payload_sum: crc32fast::hash(&self.sealed[BLOCK_HEADER..]),
        };
        self.sealed[..BLOCK_HEADER].copy_from_slice(&header.bytes());
        &self.sealed
    }
}

/// Unpacks what follows a header into `out`; `None`: it is not what was written.
pub fn unpack(header: &BlockHeader, payload: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if crc32fast::hash(payload) != header.payload_sum {
        out.clear();
        return None;
    }
    if !header.packed {
        out.clear();
        out.extend_from_slice(payload);
        return Some(());
    }
    // Within MAX_UNPACKED: the header was checked. What is in there is written over.
    out.resize(header.unpacked as usize, 0);
    let length = lz4_flex::block::decompress_into(payload, out).ok()?;
    (length == out.len()).then_some(())
}
