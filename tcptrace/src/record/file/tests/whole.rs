use super::support::*;
use crate::record::file::*;
use std::{fs, io::Read, os::unix::fs::PermissionsExt, path::Path};

#[test]
fn what_is_written_is_read() {
    let (bytes, written) = recording(3, 100, 500);
    let told = read_bytes(&bytes).unwrap();
    assert_eq!(told.frames, written);
    assert_eq!((told.opening, told.gaps.len(), told.faults.len()), (1, 0, 0));
    assert_eq!(told.ending, Some(Ending::Finished { why: "enough".into() }));
}

#[test]
fn a_file_is_for_its_owner_alone_and_tells_who_wrote_it() {
    let folder = Folder::new();
    let path = folder.file("a");
    let mut writer = create(&path, Options::default());
    writer.write(7, 5, b"x").unwrap();
    writer.finish("", PATIENCE).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let reader = Reader::open(&path).unwrap();
    let header = reader.header().unwrap();
    assert_eq!((header.format, header.number, header.first_block), (FORMAT, 0, 0));
    assert_eq!(
        (header.abi, header.program.as_str()),
        (tcptrace_common::ABI_VERSION, env!("CARGO_PKG_VERSION"))
    );
    let told = read(reader).unwrap();
    assert_eq!(told.frames, [(7, b"x".to_vec())]);
}

#[test]
fn frames_of_every_length_up_to_the_longest() {
    let folder = Folder::new();
    let path = folder.file("a");
    let mut writer = create(&path, Options::default());
    let lengths = [0, 1, 127, 128, 16_383, 16_384, BLOCK, MAX_FRAME];
    for (kind, length) in lengths.iter().enumerate() {
        writer.write(kind as u8, 1, &payload(1, *length)).unwrap();
    }
    assert_eq!(writer.write(0, 1, &vec![0; MAX_FRAME + 1]), Err(Refused::Length(MAX_FRAME + 1)));
    assert_eq!(writer.write(FIRST_RESERVED_KIND, 1, b""), Err(Refused::Kind(FIRST_RESERVED_KIND)));
    writer.finish("", PATIENCE).unwrap();
    let told = read_file(&path);
    let read: Vec<_> = told.frames.iter().map(|(_, bytes)| bytes.len()).collect();
    assert_eq!(read, lengths);
}

#[test]
fn a_recording_without_frames_is_one() {
    let (bytes, _) = recording(0, 0, 0);
    let told = read_bytes(&bytes).unwrap();
    assert_eq!(told.frames, [(1, b"start".to_vec())]);
    assert!(told.ending.unwrap().is_complete());
}

#[test]
fn what_waits_for_a_second_is_written() {
    let folder = Folder::new();
    let path = folder.file("a");
    let mut writer = create(&path, Options::default());
    writer.flush_if_due(10 * FLUSH_EVERY_NS);
    for second in 11..14 {
        writer.write(1, 0, b"x").unwrap();
        writer.flush_if_due(second * FLUSH_EVERY_NS - 1);
        writer.flush_if_due(second * FLUSH_EVERY_NS);
    }
    writer.write(1, 0, b"y").unwrap();
    writer.finish("", PATIENCE).unwrap();
    let mut reader = Reader::open(&path).unwrap();
    while reader.next().unwrap().is_some() {}
    // The first at once, as nothing was written before; then one every second; and the rest.
    assert_eq!((reader.progress().blocks, reader.progress().frames), (4, 4));
}

#[test]
fn nobodys_file_is_overwritten() {
    let folder = Folder::new();
    let path = folder.file("a");
    fs::write(&path, "mine").unwrap();
    let said = |options| Writer::create(&path, options).map(|_| ()).unwrap_err().to_string();
    assert!(said(Options::default()).contains("exists already"), "{}", said(Options::default()));
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    let force = || Options { force: true, ..Options::default() };
    create(&path, force()).finish("", PATIENCE).unwrap();
    assert!(read_file(&path).ending.unwrap().is_complete());

    // A name that a rotated recording would need.
    let later = folder.file("a.2");
    fs::write(&later, "mine").unwrap();
    fs::remove_file(&path).unwrap();
    assert!(said(Options::default()).contains("a.2 exists already"));
    assert!(said(force()).contains("is no recording"));
    assert_eq!(fs::read(&later).unwrap(), b"mine");
    assert!(!path.exists());
    // Others are nobody's business.
    fs::remove_file(&later).unwrap();
    for name in ["a.02", "a.0", "a.x", "a.", "b.1", "a.1.gz", "a.4294967296"] {
        fs::write(folder.file(name), "mine").unwrap();
    }
    create(&path, Options::default()).finish("", PATIENCE).unwrap();
}

#[test]
fn what_cannot_be_a_file_is_said() {
    let folder = Folder::new();
    let said = |path: &Path| Writer::create(path, Options::default()).map(|_| ()).unwrap_err().to_string();
    assert!(said(Path::new("/")).contains("is a folder"));
    let nowhere = said(&folder.file("no/a"));
    assert!(nowhere.contains("cannot create") && nowhere.contains("is its folder there?"), "{nowhere}");
    // By a name of our own, so that no mistake can cost the machine its device.
    let device = folder.file("full");
    std::os::unix::fs::symlink("/dev/full", &device).unwrap();
    let full = said(&device);
    assert!(full.contains("No space left"), "{full}");
    fs::remove_file(&device).unwrap();
    let limits = |limits| {
        let options = Options { limits, ..Options::default() };
        Writer::create(&folder.file("a"), options).map(|_| ()).unwrap_err().to_string()
    };
    let default = Limits::default();
    assert!(limits(Limits { keep: 0, ..default }).contains("at least one file"));
    assert!(limits(Limits { max_bytes: Some(LEAST_FILE), keep: 2, ..default }).contains("too few"));
    let every = Some(std::time::Duration::from_secs(60));
    assert!(limits(Limits { rotate_every: every, keep: 1, ..default }).contains("at least two files"));
    assert!(folder.list().is_empty());
}

#[test]
fn what_cannot_be_read_is_said() {
    let folder = Folder::new();
    let said = |bytes: &[u8]| {
        let path = folder.file("a");
        fs::write(&path, bytes).unwrap();
        Reader::open(&path).map(|_| ()).unwrap_err().to_string()
    };
    let (good, _) = recording(1, 1, 10);
    assert!(said(b"").contains("is empty"));
    assert!(said(b"{}").contains("is not a tcptrace recording"));
    assert!(said(&[0; 4096]).contains("is not a tcptrace recording"));
    assert!(said(&good[..20]).contains("is cut off at byte 20"));
    let changed = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        mend::checksums(&mut bytes);
        said(&bytes)
    };
    let newer = changed(8, 2);
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        newer.contains(&format!("by tcptrace {version}, format 2; this tcptrace reads up to format 1")),
        "{newer}"
    );
    let other = changed(12, 99);
    assert!(other.contains("records of version 99"), "{other}");
    let gone = Reader::open(&folder.file("b")).map(|_| ()).unwrap_err().to_string();
    assert!(gone.contains("No such file") && gone.contains("nor") && gone.contains("b.1"), "{gone}");
    assert!(Reader::open(&folder.file("")).map(|_| ()).unwrap_err().to_string().contains("is a folder"));
}

#[test]
fn a_pipe_is_read_as_it_comes() {
    // More than what is wanted must not be waited for.
    struct Pipe(std::sync::mpsc::Receiver<Vec<u8>>);
    impl Read for Pipe {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let bytes = self.0.try_recv().expect("asked for more than was needed");
            into[..bytes.len()].copy_from_slice(&bytes);
            Ok(bytes.len())
        }
    }
    let (bytes, written) = recording(1, 10, 10);
    let (end, from) = std::sync::mpsc::channel();
    let at = blocks(&bytes)[2];
    end.send(bytes[..at].to_vec()).unwrap();
    let mut reader = Reader::from_read(Path::new("-"), Pipe(from)).unwrap();
    for expected in &written {
        match reader.next().unwrap() {
            Some(Item::Frame(frame)) => {
                assert_eq!((frame.kind, frame.payload), (expected.0, &expected.1[..]))
            }
            other => panic!("{other:?}"),
        }
    }
    end.send(bytes[at..].to_vec()).unwrap();
    end.send(Vec::new()).unwrap();
    assert!(reader.next().unwrap().is_none());
    assert!(reader.ending().unwrap().is_complete());
}
