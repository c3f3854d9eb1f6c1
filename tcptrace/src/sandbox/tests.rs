//! What threads can and cannot do any more. Each is tried on a thread of its own, which ends with it.

use super::*;
use std::{
    fs,
    io::{self, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    process::Command,
    thread,
};

/// Runs it on a thread that has entered the sandbox.
fn inside<T: Send>(as_a: Thread, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let confined = || {
            Sandbox::On.enter(&as_a);
            work()
        };
        scope.spawn(confined).join().unwrap()
    })
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

const TRACER: Thread = Thread::Tracer { others: true, descriptors: true };

#[test]
fn nobody_starts_programs() {
    for thread in [TRACER, Thread::Recorder(None), Thread::Server, Thread::Pusher(4317)] {
        let named = thread.name();
        let started = inside(thread, || Command::new("/bin/true").status());
        assert_eq!(errno(started), Some(libc::EPERM), "{named}");
    }
}

#[test]
fn everybody_may_start_threads() {
    for as_a in [TRACER, Thread::Recorder(None), Thread::Server, Thread::Pusher(4317)] {
        assert_eq!(inside(as_a, || thread::scope(|scope| scope.spawn(|| 7).join().unwrap())), 7);
    }
}

#[test]
fn a_tracer_reads_and_does_not_write() {
    let path = std::env::temp_dir().join(format!("tcptrace-sandbox-{}", std::process::id()));
    fs::write(&path, "there").unwrap();
    let (read, written, appended, removed, renamed) = inside(TRACER, || {
        let read = fs::read_to_string(&path);
        let appended = fs::OpenOptions::new().append(true).open(&path);
        let new = path.with_extension("new");
        (read, fs::write(&new, "x"), appended, fs::remove_file(&path), fs::rename(&path, &new))
    });
    assert_eq!(read.unwrap(), "there");
    for result in [errno(written), errno(appended), errno(removed), errno(renamed)] {
        assert_eq!(result, Some(libc::EPERM));
    }
    fs::remove_file(&path).unwrap();
}

/// Landlock's part: with it only what a tracer of one namespace needs can be read.
#[test]
fn a_tracer_of_its_own_namespace_reads_only_what_it_needs() {
    let tracer = Thread::Tracer { others: false, descriptors: false };
    let (status, settings, own, passwd) = inside(tracer, || {
        let own = Namespace::own().map(|own| own.inode());
        (
            fs::read("/proc/self/status"),
            fs::read("/proc/sys/net/core/somaxconn"),
            own,
            fs::read("/etc/passwd"),
        )
    });
    status.unwrap();
    settings.unwrap();
    own.unwrap();
    if files::available().is_ok() {
        assert_eq!(errno(passwd), Some(libc::EACCES));
    }
}

#[test]
fn a_tracer_asks_for_routes_and_reaches_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = listener.local_addr().unwrap();
    let (route, connected, listening) = inside(TRACER, || {
        let route = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.connect("127.0.0.1:9"));
        (route, TcpStream::connect(there), TcpListener::bind("127.0.0.1:0"))
    });
    route.unwrap();
    assert_eq!(errno(connected), Some(libc::EPERM));
    assert_eq!(errno(listening), Some(libc::EPERM));
}

#[test]
fn a_server_opens_nothing_and_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let there = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(there).unwrap();
    client.write_all(b"?").unwrap();
    let (read, sent, connected, answered) = inside(Thread::Server, || {
        let answered = listener.accept().and_then(|(mut stream, _)| stream.write_all(b"!"));
        (fs::read("/proc/self/status"), UdpSocket::bind("127.0.0.1:0"), TcpStream::connect(there), answered)
    });
    answered.unwrap();
    assert_eq!(errno(read), Some(libc::EPERM));
    assert_eq!(errno(sent), Some(libc::EPERM));
    assert_eq!(errno(connected), Some(libc::EPERM));
}

#[test]
fn a_pusher_connects_to_its_port_alone() {
    let (one, other) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (port, there) = (one.local_addr().unwrap(), other.local_addr().unwrap());
    let (wanted, foreign, named, read) = inside(Thread::Pusher(port.port()), || {
        let by_name = TcpStream::connect(("localhost", port.port()));
        (TcpStream::connect(port), TcpStream::connect(there), by_name, fs::read("/proc/self/status"))
    });
    wanted.unwrap();
    named.unwrap();
    // By port since Landlock's fourth version (6.7).
    let version = files::available().ok().and_then(|text| text.split([' ', ')']).nth(2)?.parse::<u32>().ok());
    if version.is_some_and(|version| version >= 4) {
        assert_eq!(errno(foreign), Some(libc::EACCES));
    }
    if version.is_some() {
        assert_eq!(errno(read), Some(libc::EACCES));
    }
}

#[test]
fn a_recorder_writes_into_its_folder_alone() {
    let folder = std::env::temp_dir().join(format!("tcptrace-recorder-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let inside_it = folder.join("next");
    let outside = folder.with_extension("beside");
    let (wrote, beside, removed, connected) = inside(Thread::Recorder(Some(folder.clone())), || {
        let wrote = fs::write(&inside_it, "frames");
        (wrote, fs::write(&outside, "x"), fs::remove_file(&inside_it), TcpStream::connect("127.0.0.1:9"))
    });
    wrote.unwrap();
    removed.unwrap();
    assert_eq!(errno(connected), Some(libc::EPERM));
    if files::available().is_ok() {
        assert_eq!(errno(beside), Some(libc::EACCES));
    }
    let _ = fs::remove_file(&outside);
    fs::remove_dir(&folder).unwrap();
}

#[test]
fn capabilities_are_given_up() {
    let of_thread = || fs::read_to_string("/proc/thread-self/status").unwrap();
    let value = |status: &str, key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
    };
    let before = value(&of_thread(), "CapEff");
    for (as_a, kept) in [
        (TRACER, vec![Capability::SysAdmin, Capability::SysPtrace, Capability::DacReadSearch]),
        (Thread::Tracer { others: false, descriptors: false }, vec![]),
    ] {
        let status = inside(as_a, of_thread);
        let maps = if needs_bpf_for_maps() { Capability::Bpf.caps().bitmask() } else { 0 };
        let kept = kept.iter().fold(maps, |sum, capability| sum | capability.caps().bitmask());
        for set in ["CapEff", "CapPrm"] {
            assert_eq!(value(&status, set), kept & before, "{set}");
        }
        assert_eq!(value(&status, "CapInh"), 0);
        assert_eq!(value(&status, "CapAmb"), 0);
        let no_new = status.lines().find(|line| line.starts_with("NoNewPrivs:")).unwrap();
        assert!(no_new.ends_with('1'), "{no_new}");
    }
}

#[test]
fn off_means_that_nothing_is_given_up() {
    let started = thread::spawn(|| {
        Sandbox::Off.enter(&Thread::Server);
        Command::new("/bin/true").status()
    });
    assert!(started.join().unwrap().unwrap().success());
}
