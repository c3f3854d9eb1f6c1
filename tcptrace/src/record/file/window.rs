//! A stretch of a file in memory: as much as was asked for, however long the file is, and no seeking.

use std::io::{self, Read};

/// Bytes read at once.
const CHUNK: usize = 64 << 10;

/// Reads ahead as far as somebody looks.
pub struct Window<R> {
    input: R,
    bytes: Vec<u8>,
    start: usize,
    offset: u64,
    ended: bool,
}

impl<R: Read> Window<R> {
    /// At the beginning of `input`.
    pub fn new(input: R) -> Self {
        Self { input, bytes: Vec::new(), start: 0, offset: 0, ended: false }
    }

    /// How many bytes lie before what is seen.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What was read and not skipped yet.
    pub fn seen(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// At least `want` bytes, unless the input ends before.
    ///
    /// # Errors
    /// The input's.
    pub fn look(&mut self, want: usize) -> io::Result<&[u8]> {
        while self.seen().len() < want && !self.ended {
            if self.start > 0 {
                self.bytes.drain(..self.start);
                self.start = 0;
            }
            let known = self.bytes.len();
            self.bytes.resize(known + CHUNK, 0);
            let got = loop {
                match self.input.read(&mut self.bytes[known..]) {
                    Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
            self.bytes.truncate(known + got.as_ref().map_or(0, |got| *got));
            self.ended = got? == 0;
        }
        Ok(self.seen())
    }

    /// Goes on by so many of the bytes that are seen.
    pub fn skip(&mut self, bytes: usize) {
        let bytes = bytes.min(self.seen().len());
        self.start += bytes;
        self.offset += bytes as u64;
    }
}
