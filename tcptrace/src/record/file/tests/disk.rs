use super::support::*;
use crate::record::file::*;
use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

const FRAME_BYTES: usize = 4096;

fn preamble(text: &str) -> Preamble {
    let mut preamble = Preamble::default();
    preamble.push(9, text.as_bytes()).unwrap();
    preamble
}

/// A frame that tells which one it is.
fn numbered(number: u64) -> Vec<u8> {
    let mut bytes = payload(number, FRAME_BYTES);
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn numbers(told: &Told) -> Vec<u64> {
    let frames = told.frames.iter().filter(|(kind, _)| *kind == 1);
    frames.map(|(_, bytes)| u64::from_le_bytes(bytes[..8].try_into().unwrap())).collect()
}

/// Writes so many frames, a millisecond apart, and never more than the queue takes.
fn write_all(writer: &mut Writer, numbers: std::ops::Range<u64>) {
    for number in numbers {
        writer.write(1, (number + 1) * 1_000_000, &numbered(number)).unwrap();
        while writer.state().waiting > MAX_QUEUED / 2 && !writer.state().stopped {
            std::thread::yield_now();
        }
    }
}

/// A recording in several files: four mebibytes each.
fn rotated(folder: &Folder, keep: u32, frames: u64) -> PathBuf {
    let path = folder.file("rec");
    let limits = Limits { max_bytes: Some(LEAST_FILE * u64::from(keep)), keep, ..Limits::default() };
    let mut writer = create(&path, Options { limits, preamble: preamble("start"), ..Options::default() });
    write_all(&mut writer, 0..frames);
    let summary = writer.finish("enough", PATIENCE).unwrap();
    assert_eq!((summary.written.frames, summary.dropped), (frames, 0));
    path
}

fn range(from: u64, to: u64) -> Vec<u64> {
    (from..to).collect()
}

#[test]
fn files_rotate_and_stay_within_their_limit() {
    let folder = Folder::new();
    let path = folder.file("rec");
    let limits = Limits { max_bytes: Some(3 * LEAST_FILE), keep: 3, ..Limits::default() };
    let mut writer = create(&path, Options { limits, preamble: preamble("start"), ..Options::default() });
    let mut most = 0;
    for round in 0..40 {
        write_all(&mut writer, round * 200..(round + 1) * 200);
        most = most.max(folder.list().iter().map(|(_, bytes)| bytes).sum());
    }
    let summary = writer.finish("enough", PATIENCE).unwrap();
    assert!(most <= 3 * LEAST_FILE, "{most}");
    // 32 MiB that cannot be packed, in files of 4: the first five are gone by now.
    let files = folder.list();
    let on_disk: u64 = files.iter().map(|(_, bytes)| bytes).sum();
    let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
    let last = summary.written.rotations;
    assert!(last >= 7, "{last}");
    assert_eq!(names, [last - 2, last - 1, last].map(|number| format!("rec.{number}")));
    assert_eq!((summary.written.bytes, summary.written.files), (on_disk, 3));
    assert!(on_disk <= 3 * LEAST_FILE && on_disk > 2 * LEAST_FILE);

    // All that is left, as one; by the name it was given.
    let all = read_file(&path);
    let kept = numbers(&all);
    assert_eq!(kept, range(8000 - kept.len() as u64, 8000));
    assert_eq!(summary.written.kept_frames, kept.len() as u64);
    assert_eq!((all.opening, &all.faults[..]), (1, &[][..]));
    assert_eq!(all.ending, Some(Ending::Finished { why: "enough".into() }));
    // And each alone.
    let mut alone = Vec::new();
    for (name, _) in &files {
        let told = read_file(&folder.file(name));
        assert_eq!((told.frames[0].clone(), told.opening), ((9, b"start".to_vec()), 1));
        assert!(told.faults.is_empty());
        assert_eq!(told.ending.as_ref().unwrap().is_complete(), *name == names[2]);
        alone.extend(numbers(&told));
    }
    assert_eq!(alone, kept);
    // One that goes on in a file that is not there.
    let told = read_file(&folder.file(names[0]));
    let said = told.ending.unwrap().to_string();
    assert!(said.contains(&format!("goes on in {}, which", folder.file(names[1]).display())), "{said}");
}

#[test]
fn a_new_file_begins_when_it_is_time() {
    let folder = Folder::new();
    let path = folder.file("rec");
    let every = Some(Duration::from_secs(10));
    let limits = Limits { rotate_every: every, keep: 3, ..Limits::default() };
    let mut writer = create(&path, Options { limits, preamble: preamble("first"), ..Options::default() });
    for second in 0..45 {
        if second == 15 {
            writer.set_preamble(preamble("second"));
        }
        writer.write(1, (100 + second) * 1_000_000_000, &numbered(second)).unwrap();
        writer.flush();
    }
    writer.finish("", PATIENCE).unwrap();
    let names: Vec<_> = folder.list().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["rec.2", "rec.3", "rec.4"]);
    let told = read_file(&folder.file("rec.3"));
    assert_eq!(numbers(&told), range(30, 40));
    assert_eq!(told.frames[0].1, b"second");
}

#[test]
fn one_file_that_is_full_is_the_end() {
    let folder = Folder::new();
    let path = folder.file("rec");
    let limits = Limits { max_bytes: Some(LEAST_FILE), keep: 1, ..Limits::default() };
    let mut writer = create(&path, Options { limits, ..Options::default() });
    write_all(&mut writer, 0..2000);
    while !writer.state().stopped {
        std::thread::yield_now();
    }
    let stopped = writer.take_stopped().unwrap();
    assert!(matches!(stopped.why, Why::Full { limit: LEAST_FILE }));
    assert!(writer.take_stopped().is_none());
    let before = writer.state().unrecorded;
    writer.write(1, 1, b"late").unwrap();
    assert_eq!(writer.state().unrecorded, before + 1);
    assert!(matches!(writer.finish("", PATIENCE), Err(FinishError::Told)));
    let told = read_file(&path);
    assert_eq!(numbers(&told), range(0, stopped.frames));
    assert_eq!((told.ending, told.faults.len()), (Some(Ending::Full), 0));
    assert!(fs::metadata(&path).unwrap().len() <= LEAST_FILE);
}

#[test]
fn only_what_we_wrote_is_deleted() {
    let folder = Folder::new();
    let path = folder.file("rec");
    let limits = Limits { max_bytes: Some(2 * LEAST_FILE), keep: 2, ..Limits::default() };
    let mut writer = create(&path, Options { limits, ..Options::default() });
    write_all(&mut writer, 0..100);
    // Somebody takes our first file away and puts another there, and one where a later file would be.
    fs::rename(&path, folder.file("taken")).unwrap();
    fs::write(&path, "mine").unwrap();
    fs::write(folder.file("rec.2"), "mine").unwrap();
    write_all(&mut writer, 100..4000);
    writer.finish("", PATIENCE).unwrap();
    for name in ["rec", "rec.2"] {
        assert_eq!(fs::read(folder.file(name)).unwrap(), b"mine", "{name}");
    }
    let names: Vec<_> = folder.list().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 5, "{names:?}");
}

#[test]
fn a_set_with_faults_tells_them_and_everything_else() {
    let folder = Folder::new();
    let path = rotated(&folder, 4, 3500);
    let whole = read_file(&path);
    assert_eq!((numbers(&whole), whole.faults.len()), (range(0, 3500), 0));
    let files: Vec<_> = ["rec", "rec.1", "rec.2", "rec.3"].map(|name| folder.file(name)).into();
    let parts: Vec<_> = files.iter().map(|file| numbers(&read_file_alone(file))).collect();
    let bytes: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();

    // A damaged header in the middle, and at the beginning.
    for file in [1, 0] {
        let mut broken = bytes[file].clone();
        broken[20] ^= 1;
        fs::write(&files[file], broken).unwrap();
        let told = read_file(&path);
        assert_eq!(numbers(&told), range(0, 3500));
        assert!(matches!(told.faults[..], [Fault::Damaged { from: 0, bytes: 80, blocks: Some(0), .. }]));
        fs::write(&files[file], &bytes[file]).unwrap();
    }
    // A file that is cut short.
    fs::write(&files[1], &bytes[1][..bytes[1].len() - 1000]).unwrap();
    let told = read_file(&path);
    let missing: Vec<_> = (0..3500).filter(|number| !numbers(&told).contains(number)).collect();
    assert!(!missing.is_empty() && missing.iter().all(|number| parts[1].contains(number)));
    match &told.faults[..] {
        [
            Fault::Unfinished { path, ending: Ending::Truncated { .. } },
            Fault::Damaged { bytes: 0, blocks, .. },
        ] => {
            assert_eq!((path, blocks), (&files[1], &Some(2))); // its last, and why it ended
        }
        other => panic!("{other:?}"),
    }
    // A file that is gone.
    fs::remove_file(&files[1]).unwrap();
    let told = read_file(&path);
    assert_eq!(numbers(&told), [&parts[0][..], &parts[2], &parts[3]].concat());
    assert!(matches!(told.faults[..], [Fault::Damaged { bytes: 0, blocks: Some(_), until_ns: Some(_), .. }]));
    assert!(told.ending.unwrap().is_complete());
    // All of it through one pipe.
    let told = read_bytes(&bytes.concat()).unwrap();
    assert_eq!((numbers(&told), told.opening, told.faults.len()), (range(0, 3500), 1, 0));
    // Files of another recording with its names.
    fs::write(&files[1], &bytes[1]).unwrap();
    let other = Folder::new();
    rotated(&other, 4, 3500);
    fs::copy(other.file("rec.2"), &files[2]).unwrap();
    let told = read_file(&path);
    assert_eq!(numbers(&told), [&parts[0][..], &parts[1], &parts[3]].concat());
}

fn read_file_alone(path: &Path) -> Told {
    let file = fs::File::open(path).unwrap();
    read(Reader::from_read(path, file).unwrap()).unwrap()
}

/// Takes bytes only while it is let.
struct Slow {
    /// One message for each write; when nobody can send any more, all go through.
    may: Receiver<()>,
    into: Memory,
}

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.may.recv();
        self.into.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_disk_that_takes_nothing_holds_nobody_up() {
    let (let_it, may) = channel();
    let into = Memory::default();
    let slow = Slow { may, into: into.clone() };
    let mut writer = Writer::stream(Path::new("slow"), Box::new(slow), preamble("start")).unwrap();
    let frames = 4 * (MAX_QUEUED / FRAME_BYTES) as u64;
    for number in 0..frames {
        writer.write(1, number + 1, &numbered(number)).unwrap();
        writer.flush_if_due(number * 1_000_000);
    }
    let state = writer.state();
    assert!(state.waiting <= MAX_QUEUED && state.dropped > frames / 2, "{state:?}");
    drop(let_it);
    while writer.state().waiting > 0 {
        std::thread::yield_now();
    }
    writer.write(1, frames + 1, &numbered(frames)).unwrap();
    let summary = writer.finish("", PATIENCE).unwrap();
    assert_eq!(summary.written.frames, frames + 1 - summary.dropped);
    let told = read_bytes(&into.0.lock().unwrap()).unwrap();
    let kept = frames - summary.dropped;
    assert_eq!(numbers(&told), [range(0, kept), vec![frames]].concat());
    let gap = Gap {
        frames: summary.dropped,
        bytes: summary.dropped * FRAME_BYTES as u64,
        first_ns: kept + 1,
        last_ns: frames,
    };
    assert_eq!(told.gaps, [gap]);
    assert!(told.faults.is_empty());
}

#[test]
fn nobody_waits_for_a_disk_for_ever() {
    let (let_it, may) = channel();
    let slow = Slow { may, into: Memory::default() };
    let mut writer = Writer::stream(Path::new("slow"), Box::new(slow), Preamble::default()).unwrap();
    writer.write(1, 1, b"x").unwrap();
    let said = writer.finish("", Duration::from_millis(1)).unwrap_err().to_string();
    assert!(said.starts_with("slow took nothing for"), "{said}");
    drop(let_it);
}

#[test]
fn what_cannot_be_written_is_told_once_and_the_rest_is_readable() {
    struct Short(Memory, usize);
    impl Write for Short {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = self.1.min(bytes.len());
            self.1 -= room;
            match room {
                0 => Err(io::ErrorKind::BrokenPipe.into()),
                _ => self.0.write(&bytes[..room]),
            }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let into = Memory::default();
    let short = Box::new(Short(into.clone(), 1 << 20));
    let mut writer = Writer::stream(Path::new("short"), short, preamble("start")).unwrap();
    write_all(&mut writer, 0..1000);
    let said = match writer.finish("", PATIENCE) {
        Err(FinishError::Stopped(stopped)) => stopped,
        other => panic!("{other:?}"),
    };
    assert!(said.to_string().starts_with("cannot write to short any more: broken pipe"), "{said}");
    let told = read_bytes(&into.0.lock().unwrap()).unwrap();
    assert_eq!(numbers(&told), range(0, said.frames));
    assert!(said.frames > 0 && matches!(told.ending, Some(Ending::Truncated { .. })));
}

#[test]
fn a_recording_nobody_ended_is_cut_off() {
    let folder = Folder::new();
    let path = folder.file("rec");
    let mut writer = create(&path, Options::default());
    write_all(&mut writer, 0..500);
    drop(writer);
    // The thread writes what it was given, in its own time.
    let told = loop {
        let told = read_file(&path);
        if told.frames.len() == 500 {
            break told;
        }
        std::thread::yield_now();
    };
    let said = told.ending.unwrap().to_string();
    assert!(said.contains("was cut off at byte") && said.contains("500 frames of 0.499 s"), "{said}");
}

#[test]
fn a_fifo_is_written_to_and_read() {
    let folder = Folder::new();
    let path = folder.file("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR).unwrap();
    let from = path.clone();
    let reading = std::thread::spawn(move || read_file(&from));
    let mut writer = create(&path, Options { preamble: preamble("start"), ..Options::default() });
    write_all(&mut writer, 0..500);
    writer.finish("", PATIENCE).unwrap();
    let told = reading.join().unwrap();
    assert_eq!((numbers(&told), told.opening), (range(0, 500), 1));
    assert!(told.ending.unwrap().is_complete());
}
