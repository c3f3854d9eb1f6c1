//! The reader of recordings: whatever is in a file, it ends, takes a bounded amount of memory, and says what is wrong.
//! The first byte of an input says whether its checksums are made right before it is read.

use std::{
    io::{Cursor, Write},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tcptrace::record::file::{
    Ending, FIRST_RESERVED_KIND, Fault, Item, MAX_FRAME, Preamble, Reader, Writer, mend,
};

const NAME: &str = "input";

/// Reads it.
pub fn run(input: &[u8]) {
    let Some((mode, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if mode & 1 == 1 {
        mend::checksums(&mut bytes);
    }
    let length = bytes.len() as u64;
    let mut reader = match Reader::from_read(Path::new(NAME), Cursor::new(bytes)) {
        Ok(reader) => reader,
        Err(why) => return drop(why.to_string()),
    };
    let (mut frames, mut skipped) = (0, 0);
    loop {
        match reader.next() {
            Err(why) => return drop(why.to_string()),
            Ok(None) => break,
            Ok(Some(Item::Frame(frame))) => {
                assert!(frame.kind < FIRST_RESERVED_KIND && frame.payload.len() <= MAX_FRAME * 2);
                frames += 1;
            }
            Ok(Some(Item::Gap(_))) => {}
            Ok(Some(Item::Fault(fault))) => {
                assert!(fault.to_string().contains(NAME));
                if let Fault::Damaged { bytes, .. } = fault {
                    skipped += bytes;
                }
            }
        }
    }
    let ending = reader.ending().expect("it was read to its end");
    assert!(!ending.to_string().is_empty());
    let read = reader.progress();
    assert_eq!((read.frames, read.bytes), (frames, length));
    // A frame takes two bytes; nothing is told out of nothing (LZ4 packs 255 to 1).
    assert!(frames <= length * 255);
    if let Ending::CutOff { at, .. } | Ending::Truncated { at, .. } = ending {
        assert!(*at <= length);
    }
    // What is skipped inside of a block counts unpacked.
    assert!(skipped <= length * 256);
}

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panics with it").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A recording with so many blocks.
fn recording(blocks: u64, frames: u64, length: usize) -> Vec<u8> {
    let memory = Memory::default();
    let mut preamble = Preamble::default();
    preamble.push(2, b"start").expect("it is short");
    let into = Box::new(memory.clone());
    let mut writer = Writer::stream(Path::new(NAME), into, preamble).expect("a thread");
    for block in 0..blocks {
        for frame in 0..frames {
            let payload = vec![(block * 7 + frame) as u8; length];
            writer.write(1 + (frame & 1) as u8, 1_000 * block + frame, &payload).expect("it is short");
        }
        writer.flush();
    }
    writer.finish("done", Duration::from_secs(60)).expect("memory is fast");
    let bytes = memory.0.lock().expect("nobody panics with it").clone();
    bytes
}

/// Whole recordings, and some that are not.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut files = vec![recording(0, 0, 0), recording(1, 1, 1), recording(3, 5, 40), recording(2, 200, 100)];
    let whole = files[2].clone();
    files.push(whole[..whole.len() / 2].to_vec());
    files.push([&whole[..100], &whole[140..]].concat());
    files.push([whole.clone(), whole].concat());
    files.iter().flat_map(|file| [0, 1].map(|mode| [&[mode], &file[..]].concat())).collect()
}
