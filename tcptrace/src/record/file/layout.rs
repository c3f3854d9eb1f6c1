//! The bytes of headers: of a file, and of a block. Every number is little-endian.

use super::{BLOCK, MAX_FRAME, frames::FRAME_OVERHEAD};
use tcptrace_common::ABI_VERSION;
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U16, U32, U64},
};

/// The version of the format that is written, and the newest that is read.
pub const FORMAT: u16 = 1;
/// A file begins with it. As in PNG: no text, and a transfer that changes line ends is noticed.
pub const FILE_MARK: [u8; 8] = *b"\x89tcpt\r\n\x1a";
/// A block begins with it.
pub const BLOCK_MARK: [u8; 8] = *b"\x89tcpb\r\n\x1a";
/// Bytes of a file's header.
pub const FILE_HEADER: usize = size_of::<RawHeader>();
/// Bytes of a block's header.
pub const BLOCK_HEADER: usize = size_of::<RawBlock>();
/// The most that a block unpacks to, and the most that it takes on disk: what does not get smaller is stored as it is.
pub const MAX_UNPACKED: usize = BLOCK + MAX_FRAME + 4 * FRAME_OVERHEAD;

/// Bytes before the checksum of a file's header.
const FILE_SUMMED: usize = FILE_HEADER - 4;
/// Bytes before the checksum of a block's header.
const BLOCK_SUMMED: usize = BLOCK_HEADER - 4;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    mark: [u8; 8],
    format: U16,
    spare: U16,
    abi: U32,
    set: [u8; 16],
    number: U32,
    first_block: U64,
    program: [u8; 32],
    sum: U32,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawBlock {
    mark: [u8; 8],
    format: U16,
    kind: u8,
    packing: u8,
    abi: U32,
    set: U32,
    frames: U32,
    number: U64,
    first_ns: U64,
    last_ns: U64,
    unpacked: U32,
    stored: U32,
    payload_sum: U32,
    sum: U32,
}

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version of the format.
    pub format: u16,
    /// Version of the ring's records: `tcptrace_common::ABI_VERSION` of who wrote it.
    pub abi: u32,
    /// The same in every file of a recording, and in no other.
    pub set: [u8; 16],
    /// Of the file within the recording, from 0.
    pub number: u32,
    /// The number of the first block in it.
    pub first_block: u64,
    /// Version of the tcptrace that wrote it.
    pub program: String,
}

/// Why the bytes at the beginning of a file are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHeader {
    /// It is something else.
    Foreign,
    /// It ends before the header does.
    Short,
    /// It was one.
    Damaged,
}

impl Header {
    /// Stands for the recording in each of its blocks.
    pub fn tag(&self) -> u32 {
        tag(self.set)
    }

    /// As it is written.
    pub fn bytes(&self) -> [u8; FILE_HEADER] {
        let mut program = [0; 32];
        for (to, from) in program.iter_mut().zip(self.program.bytes()) {
            *to = from;
        }
        let mut raw = RawHeader {
            mark: FILE_MARK,
            format: self.format.into(),
            spare: 0.into(),
            abi: self.abi.into(),
            set: self.set,
            number: self.number.into(),
            first_block: self.first_block.into(),
            program,
            sum: 0.into(),
        };
        raw.sum = crc32fast::hash(&raw.as_bytes()[..FILE_SUMMED]).into();
        let mut bytes = [0; FILE_HEADER];
        bytes.copy_from_slice(raw.as_bytes());
        bytes
    }

    /// Reads it from the beginning of `bytes`.
    pub fn read(bytes: &[u8]) -> Result<Self, NoHeader> {
        let known = bytes.len().min(FILE_MARK.len());
        if known == 0 || bytes[..known] != FILE_MARK[..known] {
            return Err(NoHeader::Foreign);
        }
        let (raw, _) = RawHeader::ref_from_prefix(bytes).map_err(|_| NoHeader::Short)?;
        if crc32fast::hash(&bytes[..FILE_SUMMED]) != raw.sum.get() {
            return Err(NoHeader::Damaged);
        }
        let program = raw.program.split(|byte| *byte == 0).next().unwrap_or_default();
        // It is shown on terminals: nothing but printable characters.
        let printable = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        Ok(Self {
            format: raw.format.get(),
            abi: raw.abi.get(),
            set: raw.set,
            number: raw.number.get(),
            first_block: raw.first_block.get(),
            program: String::from_utf8_lossy(program).chars().map(printable).collect(),
        })
    }
}

/// Stands for a recording in its blocks.
pub fn tag(set: [u8; 16]) -> u32 {
    let [a, b, c, d, ..] = set;
    u32::from_le_bytes([a, b, c, d])
}

/// What a block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// Frames.
    Frames,
    /// Frames that open every file.
    Preamble,
    /// The file ends here, and why.
    End,
}

/// The header of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// Version of the format.
    pub format: u16,
    /// Version of the ring's records.
    pub abi: u32,
    /// `None`: a kind that this version does not know.
    pub kind: Option<BlockKind>,
    /// LZ4; else stored as it is.
    pub packed: bool,
    /// Of the recording: [`Header::tag`].
    pub set: u32,
    /// Counted through all files of a recording, from 0.
    pub number: u64,
    /// The earliest time of a frame in it, 0 if none has one.
    pub first_ns: u64,
    /// The latest.
    pub last_ns: u64,
    /// How many frames it has.
    pub frames: u32,
    /// Bytes of its frames.
    pub unpacked: u32,
    /// Bytes of it that follow the header.
    pub stored: u32,
    /// CRC-32 of these.
    pub payload_sum: u32,
}

impl BlockHeader {
    /// Bytes of the block on disk.
    pub fn length(&self) -> u64 {
        (BLOCK_HEADER as u64).saturating_add(u64::from(self.stored))
    }

    /// Whether this version can read what follows.
    pub fn is_readable(&self) -> bool {
        self.format == FORMAT && self.abi == ABI_VERSION
    }

    /// As it is written.
    pub fn bytes(&self) -> [u8; BLOCK_HEADER] {
        let mut raw = RawBlock {
            mark: BLOCK_MARK,
            format: self.format.into(),
            kind: match self.kind {
                Some(BlockKind::Frames) => 0,
                Some(BlockKind::Preamble) => 1,
                Some(BlockKind::End) => 2,
                None => u8::MAX,
            },
            packing: u8::from(self.packed),
            abi: self.abi.into(),
            set: self.set.into(),
            frames: self.frames.into(),
            number: self.number.into(),
            first_ns: self.first_ns.into(),
            last_ns: self.last_ns.into(),
            unpacked: self.unpacked.into(),
            stored: self.stored.into(),
            payload_sum: self.payload_sum.into(),
            sum: 0.into(),
        };
        raw.sum = crc32fast::hash(&raw.as_bytes()[..BLOCK_SUMMED]).into();
        let mut bytes = [0; BLOCK_HEADER];
        bytes.copy_from_slice(raw.as_bytes());
        bytes
    }

    /// Reads it from the beginning of `bytes`; `None`: there is none, or not as it was written. Lengths are within the
    /// limits then.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (raw, _) = RawBlock::ref_from_prefix(bytes).ok()?;
        if raw.mark != BLOCK_MARK || crc32fast::hash(&bytes[..BLOCK_SUMMED]) != raw.sum.get() {
            return None;
        }
        let (unpacked, stored) = (raw.unpacked.get(), raw.stored.get());
        let sound = raw.format.get() != FORMAT
            || raw.packing <= 1
                && unpacked as usize <= MAX_UNPACKED
                && stored as usize <= MAX_UNPACKED
                && (raw.packing == 1 || unpacked == stored);
        sound.then_some(Self {
            format: raw.format.get(),
            abi: raw.abi.get(),
            kind: match raw.kind {
                0 => Some(BlockKind::Frames),
                1 => Some(BlockKind::Preamble),
                2 => Some(BlockKind::End),
                _ => None,
            },
            packed: raw.packing == 1,
            set: raw.set.get(),
            number: raw.number.get(),
            first_ns: raw.first_ns.get(),
            last_ns: raw.last_ns.get(),
            frames: raw.frames.get(),
            unpacked,
            stored,
            payload_sum: raw.payload_sum.get(),
        })
    }
}

const _: () = assert!(FILE_HEADER == 80 && BLOCK_HEADER == 64);
