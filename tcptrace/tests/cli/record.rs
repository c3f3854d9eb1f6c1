//! `tcptrace record`, and `--from` and `--record` of the others: what is refused. What they show is in tests/replay.

use crate::refused::assert_refused;
use crate::run::*;
use std::fs;
use tcptrace::record::file::{Options, Writer};

/// As [`crate::refused::REFUSED`].
pub const REFUSED: &[(&[&str], &[&str])] = &[
    (&["record"], &["<FILE>", "--help"]),
    (&["record", "--nonsense"], &["'--nonsense'", "--help"]),
    (&["record", "one", "two"], &["'two'", "--help"]),
    (&["record", "/no/such/folder/a.tct"], &["/no/such/folder/a.tct", "is its folder there?"]),
    (&["record", "/"], &["/ is a folder", "the name of a file"]),
    (&["record", "a.tct", "--duration", "soon"], &["--duration", "\"soon\"", "valid are 10s"]),
    (&["record", "a.tct", "--max-size", "big"], &["--max-size", "\"big\"", "1GiB"]),
    (&["record", "/tmp/a.tct", "--max-size", "1"], &["1 bytes", "at least"]),
    (&["record", "a.tct", "--rotate", "0"], &["--rotate", "\"0\"", "valid are 10s"]),
    (&["record", "a.tct", "--keep", "0"], &["--keep", "\"0\"", "valid are 1 and more"]),
    (&["record", "/tmp/a.tct", "--state", "listen"], &["every state", "--state"]),
    (&["record", "a.tct", "--netns", "no-such"], &["--netns", "\"no-such\"", "`ip netns`"]),
    (
        &["lab", "refused", "--record", "/no/such/folder/a.tct"],
        &["/no/such/folder/a.tct", "is its folder there?"],
    ),
    (&["watch", "--record", "/no/such/folder/a.tct"], &["/no/such/folder/a.tct", "is its folder there?"]),
    (&["watch", "--from", "/no/such.tct"], &["/no/such.tct", "No such file"]),
    (&["watch", "--from", "/etc/passwd"], &["/etc/passwd", "not a tcptrace recording"]),
    (&["watch", "--from", "/"], &["/ is a folder"]),
    (&["watch", "--from", "a.tct", "--record", "b.tct"], &["--from", "--record"]),
    (&["watch", "--from", "a.tct", "--uid", "0"], &["--uid", "tcptrace record"]),
    (&["watch", "--from", "a.tct", "--netns", "eth0"], &["--netns", "\"eth0\"", "by number"]),
    (&["hist", "--from", "/no/such.tct"], &["/no/such.tct", "No such file"]),
    (&["stat", "--from", "/etc/passwd"], &["/etc/passwd", "not a tcptrace recording"]),
    (&["stuck", "--from", "/etc/passwd"], &["/etc/passwd", "not a tcptrace recording"]),
    (&["stuck", "--from", "a.tct", "--no-trace"], &["--from", "--no-trace"]),
    (&["explain", "80", "--from", "/etc/passwd"], &["/etc/passwd", "not a tcptrace recording"]),
    (&["explain", "80", "--from", "a.tct", "--no-trace"], &["--from", "--no-trace"]),
];

#[test]
fn bad_recordings_and_places_for_them_are_refused() {
    REFUSED.iter().for_each(|(args, said)| assert_refused(args, said));
}

/// Each way in which a file can be none of ours.
#[test]
fn what_is_no_recording_is_said_in_one_line() {
    let folder = Folder::new();
    let path = folder.0.join("fine.tct");
    let writer = Writer::create(&path, Options::default()).expect("a recording");
    writer.finish("it was a test", std::time::Duration::from_secs(60)).expect("it is small");
    let fine = fs::read(&path).expect("it is there");
    let newer = {
        let mut bytes = fine.clone();
        // Version of the format, and the checksum (docs/recording.md).
        bytes[8] = bytes[8].wrapping_add(1);
        let sum = crc32fast::hash(&bytes[..76]).to_le_bytes();
        bytes[76..80].copy_from_slice(&sum);
        bytes
    };
    let cases: [(&str, &[u8], &str); 5] = [
        ("empty", b"", "is empty"),
        ("short", &fine[..5], "cut off at byte 5"),
        (
            "foreign",
            b"# a text of somebody else, long enough for a header and more\n",
            "not a tcptrace recording",
        ),
        ("newer", &newer, "format 2"),
        ("nothing", &fine, "how it began"),
    ];
    for (name, bytes, said) in cases {
        let path = folder.file(name, bytes);
        for view in [&["watch"] as &[_], &["stuck"], &["stat"], &["hist"], &["explain", "80"]] {
            let ran = run(&[view, &["--from", &path]].concat()).expect(2);
            assert!(ran.out.is_empty() && ran.err.len() == 1, "{name}: {ran:#?}");
            assert!(ran.stderr().contains(said) && ran.stderr().contains(name), "{name}: {ran:#?}");
        }
    }
    // A recording is never replaced unless somebody says so.
    let ran = run(&["record", path.to_str().expect("plain")]).expect(2);
    assert!(ran.stderr().contains("exists already") && ran.stderr().contains("--force"), "{ran:#?}");
    assert_eq!(fs::read(&path).expect("it is there"), fine);
}

/// Whoever may not trace leaves nothing behind.
#[test]
fn without_privileges_there_is_no_empty_file() {
    let unprivileged = Unprivileged::new();
    let folder = Folder::new();
    std::os::unix::fs::chown(&folder.0, Some(65534), Some(65534)).ok();
    let path = folder.0.join("a.tct");
    let ran = unprivileged.run(&["record", path.to_str().expect("plain")]).expect(2);
    assert!(ran.stderr().contains("CAP_BPF"), "{ran:#?}");
    assert!(!path.exists(), "{ran:#?}");
}
