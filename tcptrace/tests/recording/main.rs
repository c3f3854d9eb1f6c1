//! What becomes of a recording when its process is killed, or its disk is full: a process of its own writes it.
#![allow(clippy::unwrap_used)] // a test that cannot go on says so

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tcptrace::record::file::{Ending, Item, Options, Reader, Writer};

/// Tells a test that it is the process that writes, and where.
const WRITE_TO: &str = "TCPTRACE_TEST_WRITE_TO";
/// Long enough for any machine; nothing waits for so long unless it fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of a frame: its number, and what LZ4 cannot pack.
const FRAME: usize = 1024;

/// A file name of this test, and nothing there.
fn fresh(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("tcptrace-{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

fn frame(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = number.to_le_bytes().to_vec();
    while bytes.len() < FRAME {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes
}

/// Writes so many frames, and never more than the queue takes.
fn write(writer: &mut Writer, numbers: std::ops::Range<u64>) {
    for number in numbers {
        writer.write(1, number + 1, &frame(number)).unwrap();
        while writer.state().waiting > 1 << 20 && !writer.state().stopped {
            std::thread::yield_now();
        }
    }
}

/// How many frames it has, counted from 0 without a gap; and how it ends.
fn read(path: &Path) -> (u64, Ending) {
    let mut reader = Reader::open(path).unwrap();
    let mut frames = 0;
    while let Some(item) = reader.next().unwrap() {
        match item {
            Item::Frame(read) => assert_eq!(read.payload, frame(frames), "frame {frames}"),
            other => panic!("{other:?}"),
        }
        frames += 1;
    }
    (frames, reader.ending().unwrap().clone())
}

/// The same test in a process of its own, which is told to write.
fn writing_process(test: &str, path: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", "--include-ignored", test]).env(WRITE_TO, path);
    command.stdout(Stdio::piped()).spawn().unwrap()
}

/// The next line of the process that says something to us.
fn line_with(output: &mut impl BufRead, word: &str) -> String {
    let mut lines = output.lines().map(|line| line.unwrap());
    lines.find(|line| line.contains(word)).unwrap_or_else(|| panic!("it never said {word}"))
}

/// What it prints. To be kept until it has ended: it may have more to say.
fn output_of(child: &mut Child) -> impl BufRead + use<> {
    BufReader::new(child.stdout.take().unwrap())
}

#[test]
fn what_a_killed_process_had_written_is_readable() {
    if let Some(path) = std::env::var_os(WRITE_TO) {
        let mut writer = Writer::create(Path::new(&path), Options::default()).unwrap();
        for round in 0.. {
            write(&mut writer, round * 1000..(round + 1) * 1000);
            let on_disk = writer.state().written.frames;
            if round == 5 {
                println!("\non disk: {on_disk}");
            }
        }
    }
    let path = fresh("killed");
    let mut child = writing_process("what_a_killed_process_had_written_is_readable", &path);
    let mut output = output_of(&mut child);
    let said = line_with(&mut output, "on disk:");
    child.kill().unwrap(); // in the middle of whatever it does
    child.wait().unwrap();
    let on_disk: u64 = said.rsplit(' ').next().unwrap().parse().unwrap();
    let (frames, ending) = read(&path);
    assert!(on_disk > 0 && frames >= on_disk, "{frames} of {on_disk}");
    assert!(matches!(ending, Ending::CutOff { .. } | Ending::Truncated { .. }), "{ending:?}");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_file_that_may_not_grow_is_an_error_and_not_the_end() {
    use nix::sys::resource::{Resource, setrlimit};
    if let Some(path) = std::env::var_os(WRITE_TO) {
        setrlimit(Resource::RLIMIT_FSIZE, 2 << 20, 2 << 20).unwrap();
        let mut writer = Writer::create(Path::new(&path), Options::default()).unwrap();
        write(&mut writer, 0..4000);
        println!("\nsaid: {}", writer.finish("", PATIENCE).unwrap_err());
        return;
    }
    let path = fresh("limited");
    let mut child = writing_process("a_file_that_may_not_grow_is_an_error_and_not_the_end", &path);
    let mut output = output_of(&mut child);
    let said = line_with(&mut output, "said:");
    assert!(child.wait().unwrap().success());
    let expected = format!("said: cannot write to {} any more: File too large", path.display());
    assert!(said.starts_with(&expected), "{said}");
    let (frames, ending) = read(&path);
    assert!(frames > 1000, "{frames}");
    match ending {
        Ending::Failed { why } => assert!(why.starts_with("File too large"), "{why}"),
        // No room was left even to say so.
        other => assert!(matches!(other, Ending::CutOff { .. }), "{other:?}"),
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
#[ignore = "needs root: mounts a small file system"]
fn what_a_full_disk_has_taken_is_readable() {
    use nix::{
        mount::{MsFlags, mount},
        sched::{CloneFlags, unshare},
    };
    // Mounts are this thread's own, and those of threads that it starts.
    std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let folder = std::env::temp_dir();
        let small = |flags| mount(Some("tmpfs"), &folder, Some("tmpfs"), flags, Some("size=2m")).unwrap();
        small(MsFlags::empty());
        let path = folder.join("rec");
        let mut writer = Writer::create(&path, Options::default()).unwrap();
        write(&mut writer, 0..1000);
        while writer.state().waiting > 0 {
            std::thread::yield_now();
        }
        assert!(!writer.state().stopped);
        write(&mut writer, 1000..4000);
        while !writer.state().stopped {
            std::thread::yield_now();
        }
        // Told once; whoever traces goes on.
        let stopped = writer.take_stopped().unwrap();
        let said = stopped.to_string();
        let expected = format!("cannot write to {} any more: No space left on device", path.display());
        assert!(said.starts_with(&expected), "{said}");
        writer.write(1, 5000, &frame(5000)).unwrap();
        assert!(writer.take_stopped().is_none() && writer.finish("", PATIENCE).is_err());
        let (frames, ending) = read(&path);
        assert!(frames >= 1000 && frames == stopped.frames, "{frames}, {stopped:?}");
        // The half of a block was taken away, so there was room to say why.
        assert!(matches!(&ending, Ending::Failed { why } if why.starts_with("No space left")), "{ending:?}");
        // And where nothing can be created at all.
        small(MsFlags::MS_RDONLY);
        let said = Writer::create(&path, Options::default()).map(|_| ()).unwrap_err().to_string();
        assert!(
            said.contains("Read-only file system") && said.contains("folder that you may write to"),
            "{said}"
        );
    })
    .join()
    .unwrap();
}
