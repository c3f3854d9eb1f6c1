//! The file: when it is written, when not, and what is said.

use crate::{Folder, assert_refused, convert, convert_to, recordings, text};
use std::{
    fs::{self, File},
    io::pipe,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
};

/// Parquet begins and ends so.
const MAGIC: &[u8] = b"PAR1";

#[track_caller]
fn assert_parquet(bytes: &[u8]) {
    assert!(bytes.len() > 100 && bytes.starts_with(MAGIC) && bytes.ends_with(MAGIC), "{} bytes", bytes.len());
}

/// The footer has its keys and values as they are.
fn has(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window == word.as_bytes())
}

#[test]
fn a_file_and_a_pipe_get_the_same() {
    let folder = Folder::new("same");
    let recording = folder.path("incident.tct");
    fs::copy(&recordings()[0], &recording).unwrap();

    let made = convert(&recording, &["--to", "parquet"]);
    assert!(made.status.success() && made.stdout.is_empty(), "{}", text(&made.stderr));
    let path = folder.path("incident.parquet");
    let said = text(&made.stderr);
    assert!(said.contains(" rows, ") && said.contains(path.to_str().unwrap()), "{said}");
    let file = fs::read(&path).unwrap();
    assert_parquet(&file);
    // It tells as much as the recording, which is for its owner alone.
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let piped = convert(&recording, &["-o", "-"]);
    assert!(piped.status.success(), "{}", text(&piped.stderr));
    assert!(piped.stdout == file, "the pipe got {} bytes, the file {}", piped.stdout.len(), file.len());
    let piped = convert(Path::new("-"), &[]);
    assert!(piped.status.success() && piped.stdout == file, "{}", text(&piped.stderr));
    let names = fs::read_dir(&folder.0).unwrap().count();
    assert_eq!(names, 2, "nothing else is left");
}

#[test]
fn nothing_is_replaced_unasked() {
    let folder = Folder::new("unasked");
    let path = folder.path("out.parquet");
    let out = path.to_str().unwrap();
    fs::write(&path, "mine").unwrap();
    let recording = &recordings()[0];
    assert_refused(&convert(recording, &["-o", out]), &[out, "exists", "--force"]);
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    assert!(convert(recording, &["-o", out, "--force"]).status.success());
    assert_parquet(&fs::read(&path).unwrap());

    let copy = folder.path("incident.tct");
    fs::copy(recording, &copy).unwrap();
    let name = copy.to_str().unwrap();
    assert_refused(&convert(&copy, &["-o", name, "--force"]), &[name, "the recording itself"]);
    assert_eq!(fs::read(&copy).unwrap(), fs::read(recording).unwrap());
}

#[test]
fn what_cannot_be_read_or_written_is_told_in_a_line() {
    let folder = Folder::new("refused");
    let path = folder.path("out.parquet");
    let out = path.to_str().unwrap();
    let foreign = folder.path("foreign");
    fs::write(&foreign, "a letter to a friend, long enough to be a header of something at least").unwrap();
    assert_refused(&convert(&foreign, &["-o", out]), &["foreign", "not a tcptrace recording"]);
    assert_refused(&convert(&folder.path("none"), &["-o", out]), &["none", "No such file"]);
    assert!(!path.exists());

    let recording = &recordings()[0];
    let lost = folder.path("no/such/folder.parquet");
    let lost = lost.to_str().unwrap();
    assert_refused(&convert(recording, &["-o", lost]), &["cannot write", lost, "No such file"]);
    let there = folder.0.to_str().unwrap();
    assert_refused(&convert(recording, &["-o", there, "--force"]), &[there, "a folder"]);
    assert_refused(
        &convert(recording, &["-o", "/dev/null", "--force"]),
        &["/dev/null", "no regular file", "- for a pipe"],
    );

    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = convert_to(recording, &["-o", "-"], full.into());
    assert_refused(&output, &["cannot write standard output", "No space left"]);
}

/// Nobody reads: that is an end, not an error.
#[test]
fn a_closed_pipe_is_an_end() {
    let (_, closed) = pipe().unwrap();
    let output = convert_to(&recordings()[0], &["-o", "-"], Stdio::from(closed));
    assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
}

#[test]
fn of_a_cut_recording_what_is_there_is_written() {
    let folder = Folder::new("cut");
    let whole = fs::read(&recordings()[0]).unwrap();
    let cut = folder.path("cut.tct");
    fs::write(&cut, &whole[..whole.len() - 20]).unwrap();
    let output = convert(&cut, &[]);
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("cut.tct: ") && said.contains("all that could be read"), "{said}");
    let file = fs::read(folder.path("cut.parquet")).unwrap();
    assert_parquet(&file);
    assert!(has(&file, "tcptrace.cut_off"));

    let complete = convert(&recordings()[0], &["-o", "-"]);
    assert!(has(&complete.stdout, "tcptrace.complete") && !has(&complete.stdout, "tcptrace.cut_off"));
}
