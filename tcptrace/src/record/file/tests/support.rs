use crate::record::file::{Ending, Fault, Gap, Item, Options, ReadError, Reader, Writer};
use std::{
    fs,
    io::{Cursor, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// Long enough for any machine; nothing waits for so long unless it fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A folder that goes away with the test.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tcptrace-record-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Names and sizes of what is in it.
    pub fn list(&self) -> Vec<(String, u64)> {
        let entries = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap());
        // One may go while it is looked at: the writer has a thread of its own.
        let mut list: Vec<_> = entries
            .filter_map(|entry| {
                Some((entry.file_name().into_string().unwrap(), entry.metadata().ok()?.len()))
            })
            .collect();
        list.sort();
        list
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// All that a recording tells.
#[derive(Debug, Default, PartialEq)]
pub struct Told {
    pub frames: Vec<(u8, Vec<u8>)>,
    pub opening: usize,
    pub gaps: Vec<Gap>,
    pub faults: Vec<Fault>,
    pub ending: Option<Ending>,
}

pub fn read(mut reader: Reader) -> Result<Told, ReadError> {
    let mut told = Told::default();
    while let Some(item) = reader.next()? {
        match item {
            Item::Frame(frame) => {
                told.opening += usize::from(frame.opening);
                told.frames.push((frame.kind, frame.payload.to_vec()));
            }
            Item::Gap(gap) => told.gaps.push(gap),
            Item::Fault(fault) => told.faults.push(fault),
        }
    }
    assert_eq!(reader.progress().frames, told.frames.len() as u64);
    told.ending = reader.ending().cloned();
    assert!(told.ending.is_some());
    assert!(reader.next()?.is_none());
    Ok(told)
}

pub fn read_file(path: &Path) -> Told {
    read(Reader::open(path).unwrap()).unwrap()
}

pub fn read_bytes(bytes: &[u8]) -> Result<Told, ReadError> {
    read(Reader::from_read(Path::new("bytes"), Cursor::new(bytes.to_vec()))?)
}

/// Keeps what is written into it.
#[derive(Clone, Default)]
pub struct Memory(pub Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Bytes that LZ4 makes smaller, but not by much.
pub fn payload(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8 & 0x1f
    };
    (0..length).map(|_| next()).collect()
}

/// The bytes of a recording with so many blocks of `frames` frames each.
pub fn recording(blocks: u64, frames: u64, length: usize) -> (Vec<u8>, Vec<(u8, Vec<u8>)>) {
    let memory = Memory::default();
    let mut preamble = crate::record::file::Preamble::default();
    preamble.push(1, b"start").unwrap();
    let mut writer = Writer::stream(Path::new("memory"), Box::new(memory.clone()), preamble).unwrap();
    let mut written = vec![(1, b"start".to_vec())];
    for block in 0..blocks {
        for frame in 0..frames {
            let number = block * frames + frame;
            let bytes = payload(number, length);
            writer.write(2, 1_000_000_000 + number, &bytes).unwrap();
            written.push((2, bytes));
        }
        writer.flush();
    }
    let summary = writer.finish("enough", PATIENCE).unwrap();
    assert_eq!((summary.dropped, summary.written.frames), (0, blocks * frames));
    let bytes = memory.0.lock().unwrap().clone();
    (bytes, written)
}

pub fn create(path: &Path, options: Options) -> Writer {
    Writer::create(path, options).unwrap()
}

/// Where each block begins, the end included.
pub fn blocks(bytes: &[u8]) -> Vec<usize> {
    let starts =
        bytes.windows(8).enumerate().filter(|(_, mark)| mark == b"\x89tcpb\r\n\x1a").map(|(at, _)| at);
    starts.chain([bytes.len()]).collect()
}
