//! Where the iterator cannot be had.

use crate::alone;
use std::{process::Command, thread};
use tcptrace::source::{details::DetailSource, netns::Namespace};

#[test]
#[ignore = "needs root: gives its privileges up in one thread"]
fn without_privileges_the_reason_is_told() {
    let _alone = alone();
    let unprivileged = thread::spawn(|| {
        const NOBODY: libc::uid_t = 65534;
        // SAFETY: plain numbers. Not through the C library, which would change all threads of the process.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) };
        assert_eq!(changed, 0, "{}", std::io::Error::last_os_error());
        let mut source = DetailSource::new();
        let refused = source.refused().map(str::to_owned);
        (refused, source.read(&Namespace::own().expect("it may be seen")).map(|details| details.len()))
    });
    let (refused, read) = unprivileged.join().expect("it runs");
    let refused = refused.expect("a reason");
    assert!(!refused.is_empty() && !refused.contains('\n'), "{refused:?}");
    assert_eq!(read, Err(refused));
}

#[test]
#[ignore = "needs root: loads BPF programs"]
fn doctor_says_whether_there_are_details() {
    let _alone = alone();
    let doctor = Command::new(env!("CARGO_BIN_EXE_tcptrace"))
        .args(["doctor", "--format", "json"])
        .output()
        .expect("runs");
    let value: serde_json::Value = serde_json::from_slice(&doctor.stdout).expect("JSON");
    let checks = value["checks"].as_array().expect("checks");
    let check = checks.iter().find(|check| check["name"] == "socket details").expect("the line");
    assert_eq!(check["status"], "ok", "{check}");
    assert!(check["value"].as_str().is_some_and(|value| value.contains("iterator")), "{check}");
}
