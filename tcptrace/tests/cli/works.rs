//! What works: on a lab host.

use crate::run::*;
use crate::support::netns;
use serde_json::Value;
use std::{
    ffi::OsStr,
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::id,
};
use tcptrace_common::state::TcpState;
use tcptrace_lab::{Family, Lab, Side, find};

/// One connection on the loopback of the client host, from the listener's start to its end.
pub fn traffic(lab: &Lab) {
    let connect_and_close = || {
        let listener = TcpListener::bind(SERVICE).expect("a free port");
        let client = TcpStream::connect(SERVICE).expect("connected");
        let (server, _) = listener.accept().expect("accepted");
        drop(client);
        drop(server);
    };
    lab.run_in(Side::Client, connect_and_close).expect("runs");
}

/// What [`traffic`] makes: two for the listener, five for each end.
pub const TRANSITIONS: usize = 12;

/// A line without its colours.
pub fn plain(line: &str) -> String {
    let mut pieces = line.split('\x1b');
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| text + piece.split_once('m').map_or("", |(_, rest)| rest))
}

/// The transitions shown, in either format.
pub fn transitions(ran: &Ran) -> usize {
    let shown = |line: &&String| match plain(line) {
        line if line.starts_with('{') => {
            let line = json(&line);
            line["type"] == "transition" && line["inferred"] == false
        }
        // An entry starts with its time; the summary's table does not.
        line => {
            line.starts_with(|c: char| c.is_ascii_digit())
                && !told_without_an_event(&line)
                && TcpState::ALL.iter().any(|state| line.contains(&format!(" -> {}", state.name())))
        }
    };
    ran.out.iter().filter(shown).count()
}

/// An inferred change, or one that a dump or a function probe showed.
fn told_without_an_event(line: &str) -> bool {
    ["(inferred", "(seen", "(probe"].iter().any(|word| line.contains(word))
}

/// The entries shown for people: all that starts with a time and was told by an event.
pub fn entries(ran: &Ran) -> Vec<&String> {
    let is_entry = |line: &&String| {
        line.as_bytes().get(2) == Some(&b':') && line.as_bytes()[0] < b'3' && !told_without_an_event(line)
    };
    ran.out.iter().filter(is_entry).collect()
}

/// Whether there is a summary for people.
pub fn has_summary(ran: &Ran) -> bool {
    ran.out.iter().any(|line| line.contains(" transitions in ") && line.ends_with("still open"))
}

pub fn here(lab: &Lab) -> String {
    netns(lab.netns(Side::Client))
}

/// How much of the traffic a flag lets through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shows {
    All,
    Some,
    Nothing,
}
use Shows::{All, Nothing, Some as Part};

/// Where the traffic is, in the many ways to say it.
pub struct Place {
    pub netns: u32,
    pub thread: i32,
    /// A name as `ip netns` gives it.
    pub name: String,
    /// Folders of this process and of nobody.
    pub cgroups: Option<(String, String)>,
    pub btf: String,
    /// A file to record to.
    pub record: String,
}

impl Place {
    pub fn nowhere() -> Self {
        let cgroups = Some(Default::default());
        let [name, btf, record] = ["", "", ""].map(str::to_owned);
        Self { netns: 0, thread: 0, name, cgroups, btf, record }
    }
}

/// A flag, a value, and what is shown with it.
pub struct Good {
    pub flag: &'static str,
    pub value: String,
    pub shows: Shows,
}

impl Good {
    pub fn all(place: &Place) -> Vec<Self> {
        let mut cases = Vec::new();
        let mut add = |flag, value: &str, shows| cases.push(Self { flag, value: value.to_owned(), shows });
        add("--port", "17777", All);
        add("--port", "17000-18000", All);
        add("--port", "1-65535", All);
        add("--port", "80, 17777", All);
        add("--port", "80,443", Nothing);
        add("--lport", "17777", Part);
        add("--rport", "17777", Part);
        add("--addr", "127.77.0.1", All);
        add("--addr", "127.0.0.0/8,10.0.0.0/8", All);
        add("--addr", "::ffff:127.77.0.0/112", All);
        add("--addr", "0.0.0.0/0", All);
        add("--addr", "fd00::/16", Nothing);
        add("--family", "4", All);
        add("--family", "6", Nothing);
        add("--netns", &netns(place.netns), All);
        add("--netns", &place.thread.to_string(), All);
        add("--netns", &format!("/proc/{}/ns/net", place.thread), All);
        add("--netns", &place.name, All);
        add("--netns", &id().to_string(), Nothing);
        if let Some((own, empty)) = &place.cgroups {
            add("--cgroup", own, All);
            add("--cgroup", empty, Nothing);
        }
        add("--uid", "0", All);
        add("--uid", "root", All);
        add("--uid", "65534", Nothing);
        add("--comm", "lab-client", All);
        add("--comm", "lab-server", Nothing);
        for state in TcpState::ALL.iter().filter(|state| **state != TcpState::NewSynRecv) {
            let silent = matches!(state, TcpState::TimeWait | TcpState::Closing);
            add("--state", state.name(), if silent { Nothing } else { Part });
        }
        add("--state", "fin-wait-1,Last-Ack", Part);
        add("--state", "FIN_WAIT_2", Part);
        add("--only", "transitions", All);
        add("--only", "retransmits", Nothing);
        add("--only", "resets", Nothing);
        add("--only", "closes", Nothing);
        add("--only", "sights", Nothing);
        add("--only", "closes,transitions", All);
        add("--duration", "1h 30m", All);
        add("--duration", "3600", All);
        add("--duration", "100h", All);
        add("--count", "1000000", All);
        add("--count", "18446744073709551615", All);
        add("--summary", "", Nothing);
        add("--format", "text", All);
        add("--format", "json", All);
        add("--color", "auto", All);
        add("--color", "always", All);
        add("--color", "never", All);
        add("--hooks", "auto", All);
        add("--hooks", "btf", All);
        add("--hooks", "raw", All);
        add("--hooks", "classic", All);
        add("--retransmit-hook", "auto", All);
        add("--retransmit-hook", "tracepoint", All);
        add("--retransmit-hook", "kprobe", All); // where there are kprobes; its own test has the rest
        add("--ring-size", "65536", All);
        add("--ring-size", "512KiB", All);
        add("--ring-size", "1m", All);
        add("--ring-size", "64MiB", All);
        add("--ring-size", "1", All);
        add("--resync", "off", All);
        add("--resync", "100ms", All);
        add("--resync", "1h", All);
        add("--max-flows", "1", All);
        add("--max-flows", "100000000", All);
        add("--btf", &place.btf, All);
        add("--btf", "none", All);
        add("--record", &place.record, All);
        add("--no-sandbox", "", All);
        cases
    }

    /// The arguments, with what makes the rest of the machine invisible.
    pub fn args(&self, place: &Place) -> Vec<String> {
        let mut args: Vec<String> = match (self.flag, self.value.as_str()) {
            ("--netns", _) => vec![],
            // Without type information the namespace is unknown.
            ("--btf", value) if value != place.btf => vec!["--addr".into(), "127.77.0.1".into()],
            _ => vec!["--netns".into(), netns(place.netns)],
        };
        if !["--format", "--color"].contains(&self.flag) {
            args.extend(["--format".into(), "json".into()]);
        }
        args.push(self.flag.into());
        if !self.value.is_empty() {
            args.push(self.value.clone());
        }
        args
    }
}

/// A name as `ip netns` gives it, gone afterwards. It is a link only: there is nothing to unmount.
pub struct Named {
    pub link: PathBuf,
    pub made_folder: bool,
}

impl Named {
    pub fn new(name: &str, thread: i32) -> Self {
        let folder = Path::new("/run/netns");
        let made_folder = !folder.exists();
        fs::create_dir_all(folder).expect("a folder");
        let link = folder.join(name);
        symlink(format!("/proc/{thread}/ns/net"), &link).expect("a link");
        Self { link, made_folder }
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.link);
        if self.made_folder {
            let _ = fs::remove_dir("/run/netns");
        }
    }
}

pub fn has_kprobes() -> bool {
    Path::new("/sys/bus/event_source/devices/kprobe").exists()
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn every_good_value_of_every_flag_works() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let thread = lab.thread_id(Side::Client);
    let name = format!("tcptrace-cli-{}", id());
    let _named = Named::new(&name, thread);
    let folder = Folder::new();
    let types = fs::read("/sys/kernel/btf/vmlinux").expect("type information");
    let cgroup = Cgroup::new();
    let place = Place {
        netns: lab.netns(Side::Client),
        thread,
        name,
        cgroups: cgroup.as_ref().map(|new| (text_of(&own_cgroup()), text_of(&new.folder))),
        btf: folder.file("types", &types),
        record: text_of(&folder.0.join("recorded.tct")),
    };
    let cases: Vec<_> =
        Good::all(&place).into_iter().filter(|case| case.value != "kprobe" || has_kprobes()).collect();
    // Several at once: each has its own programs, and the traffic is the same for all.
    for cases in cases.chunks(8) {
        let running: Vec<_> = cases.iter().map(|case| Running::watch(&case.args(&place))).collect();
        traffic(&lab);
        for (case, running) in cases.iter().zip(running) {
            let (flag, value) = (case.flag, &case.value);
            let ran = running.stop().expect(0);
            let shown = transitions(&ran);
            let right = match case.shows {
                All => shown == TRANSITIONS,
                Part => (1..TRANSITIONS).contains(&shown),
                Nothing => shown == 0,
            };
            assert!(right, "{flag} {value}: {shown} shown, not {:?}: {ran:#?}", case.shows);
            if ran.out[0].starts_with('{') {
                let lines = ran.json();
                assert_eq!(
                    (&lines[0]["type"], &lines.last().expect("one")["type"]),
                    (&"start".into(), &"summary".into())
                );
            } else {
                assert!(has_summary(&ran), "{flag} {value}: {ran:#?}");
            }
        }
    }
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn hooks_are_the_ones_asked_for() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let here = here(&lab);
    for (hooks, way) in [("btf", "tp_btf"), ("raw", "raw_tp"), ("classic", "classic")] {
        let json = Running::watch(&["--netns", &here, "--hooks", hooks, "--format", "json"]);
        let text = Running::watch(&["--netns", &here, "--hooks", hooks]);
        traffic(&lab);
        let ran = json.stop().expect(0);
        let start = ran.json().swap_remove(0);
        assert_eq!(start["hooks"]["inet_sock_set_state"], way, "{start}");
        let attached = start["hooks"].as_object().expect("hooks");
        let tracepoints = attached.iter().filter(|(name, way)| !name.ends_with("()") && !way.is_null());
        assert!(
            tracepoints.clone().count() >= 5 && tracepoints.clone().all(|(_, used)| used == way),
            "{start}"
        );
        assert_eq!(transitions(&ran), TRANSITIONS, "{hooks}: {ran:#?}");
        let ran = text.stop().expect(0);
        assert!(ran.stderr().contains(&format!("watching through {way};")), "{ran:#?}");
        assert_eq!(transitions(&ran), TRANSITIONS, "{hooks}: {ran:#?}");
    }
    let start = Running::watch(&["--netns", &here, "--hooks", "auto", "--format", "json"]).stop().json();
    let way = start[0]["hooks"]["inet_sock_set_state"].as_str().expect("attached");
    assert!(["tp_btf", "raw_tp", "classic"].contains(&way), "{start:?}");
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn retransmissions_from_where_they_were_asked_for() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let spaces = Side::ALL.map(|side| netns(lab.netns(side)));
    let base = ["--netns", &spaces[0], "--netns", &spaces[1], "--format", "json", "--retransmit-hook"];
    let with = |word| [&base[..], &[word]].concat();
    let tracepoint = Running::watch(&with("tracepoint"));
    let auto = Running::watch(&with("auto"));
    let kprobe = if has_kprobes() {
        Some(Running::watch(&with("kprobe")))
    } else {
        let ran = run(&["watch", "--retransmit-hook", "kprobe"]).expect(2);
        assert!(ran.out.is_empty(), "{ran:#?}");
        for word in ["--retransmit-hook kprobe", "no kprobes", "CONFIG_KPROBE_EVENTS", "tcptrace doctor"] {
            assert!(ran.stderr().contains(word), "{word}: {ran:#?}");
        }
        None
    };
    find("lossy").expect("listed").run(&lab, &mut |_| {}).expect("it plays");

    let seen = |running: Running| {
        let lines = running.stop().expect(0).json();
        let repeated = lines.iter().filter(|line| line["type"] == "retransmit").count();
        (lines[0]["hooks"].clone(), repeated)
    };
    let (hooks, repeated) = seen(tracepoint);
    assert!(hooks["tcp_retransmit_skb"].is_string(), "{hooks}");
    assert_eq!(hooks.get("tcp_retransmit_skb()"), None, "not even tried: {hooks}");
    assert!(repeated >= 3, "{repeated}");
    let (hooks, repeated) = seen(auto);
    assert!(
        hooks["tcp_retransmit_skb"].is_string() && hooks.get("tcp_retransmit_skb()").is_some(),
        "{hooks}"
    );
    assert!(repeated >= 3, "{repeated}");
    if let Some(kprobe) = kprobe {
        let (hooks, repeated) = seen(kprobe);
        assert_eq!(hooks["tcp_retransmit_skb"], Value::Null, "{hooks}");
        assert_eq!(hooks["tcp_retransmit_skb()"], "kprobe", "{hooks}");
        assert!(repeated > 0);
    }
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn without_type_information() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let here = here(&lab);
    let folder = Folder::new();
    let garbage = folder.file("garbage", b"nothing that a kernel would say about its types");
    let empty = folder.file("empty", b"");
    let gone = folder.0.join("gone").display().to_string();

    // A file that was asked for and cannot be used is no reason to go on with less.
    for file in [&garbage, &empty, &gone] {
        let ran = run(&["watch", "--btf", file]).expect(2);
        assert!(ran.out.is_empty() && ran.stderr().contains(file.as_str()), "{ran:#?}");
        assert!(ran.stderr().contains("type information of the running kernel"), "{ran:#?}");
    }
    {
        let file = "none";
        // What needs it is refused: it would match nothing.
        for (flag, value) in [("--netns", here.as_str()), ("--uid", "0")] {
            let ran = run(&["watch", "--btf", file, flag, value]).expect(2);
            assert!(ran.out.is_empty(), "{ran:#?}");
            let message = ran.stderr();
            assert!(message.contains(&format!("{flag} cannot be used here: ")), "{file}: {message}");
            assert!(message.contains("filter by --port or --addr instead"), "{file}: {message}");
            assert!(message.contains("--btf none"), "{message}");
        }
        for hooks in ["btf", "raw"] {
            let ran = run(&["watch", "--btf", file, "--hooks", hooks]).expect(2);
            assert!(ran.out.is_empty(), "{ran:#?}");
            assert!(ran.stderr().contains(&format!("--hooks {hooks} cannot be used here: ")), "{ran:#?}");
            assert!(ran.stderr().contains("--hooks auto"), "{ran:#?}");
        }
        // All else goes on with classic tracepoints.
        let json = Running::watch(&["--btf", file, "--port", "17777", "--format", "json"]);
        let text = Running::watch(&["--btf", file, "--addr", "127.77.0.1"]);
        traffic(&lab);
        let ran = json.stop().expect(0);
        let start = ran.json().swap_remove(0);
        assert_eq!(start["hooks"]["inet_sock_set_state"], "classic", "{file}: {start}");
        assert_eq!(start["identity"], "generation", "{file}: {start}");
        assert_eq!(transitions(&ran), TRANSITIONS, "{file}: {ran:#?}");
        let ran = text.stop().expect(0);
        assert!(ran.stderr().contains("watching through classic;"), "{file}: {ran:#?}");
        assert_eq!(transitions(&ran), TRANSITIONS, "{file}: {ran:#?}");
    }
}

/// Where cgroups of version 2 are mounted.
pub fn cgroup_mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("readable");
    let is_v2 = |line: &&str| line.split(' ').nth(2) == Some("cgroup2");
    Some(mounts.lines().find(is_v2)?.split(' ').nth(1)?.into())
}

/// This process's cgroup below there: `/` or `/user.slice/…`.
pub fn own_cgroup_name() -> String {
    let own = fs::read_to_string("/proc/self/cgroup").expect("readable");
    own.lines().find_map(|line| line.strip_prefix("0::")).expect("a version 2 cgroup").to_owned()
}

pub fn own_cgroup() -> PathBuf {
    let mount = cgroup_mount().expect("mounted");
    mount.join(own_cgroup_name().trim_start_matches('/'))
}

pub fn text_of(path: &Path) -> String {
    path.to_str().expect("a plain name").to_owned()
}

/// A new cgroup with nobody in it. This process, if it moved there, comes back before it is removed.
pub struct Cgroup {
    pub folder: PathBuf,
    pub back: PathBuf,
}

impl Cgroup {
    /// `None`: there is no version 2, or it may not be changed here.
    pub fn new() -> Option<Self> {
        let folder = cgroup_mount()?.join(format!("tcptrace-cli-{}", id()));
        let made = fs::create_dir(&folder);
        made.is_ok().then(|| Self { folder, back: own_cgroup().join("cgroup.procs") })
    }

    /// Moves this process in.
    pub fn enter(&self) {
        fs::write(self.folder.join("cgroup.procs"), "0").expect("moved");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::write(&self.back, "0");
        let _ = fs::remove_dir(&self.folder);
    }
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_cgroup_shows_the_sockets_made_in_it() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let here = here(&lab);
    let own = own_cgroup();
    let new = Cgroup::new();
    let watch = |cgroup: &str| {
        // Gone with the process: a tracer belongs to the cgroup that it is started in, which does not matter.
        Running::watch(&["--netns", &here, "--format", "json", "--cgroup", cgroup])
    };
    let shown = |running: Running| transitions(&running.stop().expect(0));

    let by_path = watch(&text_of(&own));
    let by_name = watch(&own_cgroup_name()); // as /proc/PID/cgroup and systemd write it
    let empty = new.as_ref().map(|new| watch(&text_of(&new.folder)));
    traffic(&lab);
    assert_eq!((shown(by_path), shown(by_name)), (TRANSITIONS, TRANSITIONS), "{}", own.display());
    let Some(new) = &new else {
        eprintln!("no cgroup can be made here: only our own was looked at");
        return;
    };
    let ran = empty.expect("started").stop().expect(0);
    assert_eq!(transitions(&ran), 0, "{ran:#?}");
    assert!(ran.stderr().contains("nothing matched the filter"), "{ran:#?}");

    let inside = watch(&text_of(&new.folder));
    let name = new.folder.file_name().and_then(OsStr::to_str).expect("a plain name");
    let by_name = watch(name);
    let both = Running::watch(&[
        "--netns",
        &here,
        "--format",
        "json",
        "--cgroup",
        &text_of(&own),
        "--cgroup",
        &text_of(&new.folder),
    ]);
    new.enter();
    traffic(&lab);
    assert_eq!((shown(inside), shown(by_name), shown(both)), (TRANSITIONS, TRANSITIONS, TRANSITIONS));
}
