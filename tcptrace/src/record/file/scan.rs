//! From the bytes of one file to its blocks. What is damaged is skipped, up to the next mark.

use super::{
    block::{End, unpack},
    layout::{BLOCK_HEADER, BLOCK_MARK, BlockHeader, BlockKind, FILE_HEADER, FILE_MARK, Header, NoHeader},
    window::Window,
};
use std::io::{self, Read};

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// The header of a file: of this one, or of another that was appended.
    Header(Header),
    /// Frames; [`Scan::block`] has them.
    Frames(BlockHeader),
    /// Why it ends here; more may follow.
    End(End, BlockHeader),
    /// Bytes that are no block, or not as they were written.
    Damaged {
        /// Where they begin.
        from: u64,
        /// How many.
        bytes: u64,
    },
    /// The last block is not complete.
    Cut {
        /// Where it begins.
        at: u64,
    },
    /// A block of another format or with other records.
    Other(BlockHeader),
    /// No byte is left.
    Over,
}

/// Finds the blocks of a file.
pub struct Scan<R> {
    window: Window<R>,
    /// The frames of the last block.
    block: Vec<u8>,
    damaged_from: Option<u64>,
}

impl<R: Read> Scan<R> {
    /// At the beginning of `input`.
    pub fn new(input: R) -> Self {
        Self { window: Window::new(input), block: Vec::new(), damaged_from: None }
    }

    /// The frames of the last block.
    pub fn block(&self) -> &[u8] {
        &self.block
    }

    /// The next byte that is looked at.
    pub fn offset(&self) -> u64 {
        self.window.offset()
    }

    /// What is at the beginning, without going on.
    ///
    /// # Errors
    /// The input's.
    pub fn peek_header(&mut self) -> io::Result<(Result<Header, NoHeader>, usize)> {
        let bytes = self.window.look(FILE_HEADER)?;
        Ok((Header::read(bytes), bytes.len()))
    }

    /// The block that stands where it must if the header of the file is damaged and nothing else is.
    ///
    /// # Errors
    /// The input's.
    pub fn peek_block(&mut self) -> io::Result<Option<BlockHeader>> {
        let bytes = self.window.look(FILE_HEADER + BLOCK_HEADER)?;
        Ok(bytes.get(FILE_HEADER..).and_then(BlockHeader::read))
    }

    /// What comes next.
    ///
    /// # Errors
    /// The input's.
    pub fn step(&mut self) -> io::Result<Step> {
        loop {
            let at = self.window.offset();
            // Not more than a block needs that is there: the rest of a pipe may take its time.
            let marked = self.window.look(FILE_MARK.len())?.starts_with(&FILE_MARK);
            let bytes = self.window.look(if marked { FILE_HEADER } else { BLOCK_HEADER })?;
            if bytes.is_empty() {
                return Ok(self.damage_until(at).unwrap_or(Step::Over));
            }
            if bytes.len() >= BLOCK_HEADER
                && let Some(header) = BlockHeader::read(bytes)
            {
                if let Some(damage) = self.damage_until(at) {
                    return Ok(damage);
                }
                if !header.is_readable() {
                    return Ok(Step::Other(header));
                }
                if let Some(step) = self.take(at, header)? {
                    return Ok(step);
                }
                continue;
            }
            match Header::read(bytes) {
                Ok(header) => {
                    if let Some(damage) = self.damage_until(at) {
                        return Ok(damage);
                    }
                    self.window.skip(FILE_HEADER);
                    return Ok(Step::Header(header));
                }
                // A mark, and then the end: of a block whose rest was not written any more.
                Err(_) if self.damaged_from.is_none() && is_cut(bytes) => {
                    self.window.skip(FILE_HEADER);
                    return Ok(Step::Cut { at });
                }
                Err(_) => {
                    self.damaged_from.get_or_insert(at);
                    self.skip_to_mark();
                }
            }
        }
    }

    /// The bytes up to here that were damaged.
    fn damage_until(&mut self, at: u64) -> Option<Step> {
        self.damaged_from.take().map(|from| Step::Damaged { from, bytes: at - from })
    }

    /// Takes the block that begins here. Its header can be trusted, so one whose payload cannot is skipped as a whole:
    /// whatever is in a file, each of its bytes is looked at a few times and not more.
    fn take(&mut self, at: u64, header: BlockHeader) -> io::Result<Option<Step>> {
        let length = BLOCK_HEADER + header.stored as usize;
        let bytes = self.window.look(length)?;
        let Some(payload) = bytes.get(BLOCK_HEADER..length) else {
            self.window.skip(length);
            return Ok(Some(Step::Cut { at }));
        };
        let unpacked = unpack(&header, payload, &mut self.block);
        self.window.skip(length);
        let step = unpacked.and_then(|()| match header.kind? {
            BlockKind::End => End::read(&self.block).map(|end| Step::End(end, header)),
            BlockKind::Frames | BlockKind::Preamble => Some(Step::Frames(header)),
        });
        if step.is_none() {
            self.block.clear();
            self.damaged_from = Some(at);
        }
        Ok(step)
    }

    fn skip_to_mark(&mut self) {
        let seen = self.window.seen();
        let next = seen.iter().skip(1).position(|byte| *byte == FILE_MARK[0]);
        self.window.skip(next.map_or(seen.len(), |before| before + 1));
    }
}

/// Whether a header begins here and the input ends before it does.
fn is_cut(bytes: &[u8]) -> bool {
    let begins = |mark: &[u8]| {
        let known = bytes.len().min(mark.len());
        bytes[..known] == mark[..known]
    };
    bytes.len() < BLOCK_HEADER && begins(&BLOCK_MARK) || bytes.len() < FILE_HEADER && begins(&FILE_MARK)
}
