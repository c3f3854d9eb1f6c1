//! What the tracer believes, what `ss` shows, and what is different.

use crate::support::{Tracer, of_type, signal};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    process::Command,
    thread,
    time::Duration,
};
use tcptrace::{event::TcpState, source::netns::Namespace};

/// Between the two looks a timer may expire, or a segment arrive: so often it is tried again,
const ATTEMPTS: u32 = 8;
/// after this.
const PAUSE: Duration = Duration::from_millis(250);

/// State by cookie.
pub type Picture = BTreeMap<u64, &'static str>;

/// What `ss` shows of a namespace.
pub fn ss(namespace: &Namespace) -> Picture {
    let run = || Command::new("ss").arg("-taneHO").output();
    let output = namespace.enter(run).expect("entered").expect("`ss` runs (package iproute2)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let mut picture = Picture::new();
    text.lines().map(ss_line).for_each(|(cookie, state)| put(&mut picture, cookie, state));
    picture
}

/// A socket that connects again shares its cookie with the minisocket of its last connection: of both states the same
/// one is kept, in whatever order they come.
fn put(picture: &mut Picture, cookie: u64, state: &'static str) {
    picture.entry(cookie).and_modify(|other| *other = state.max(*other)).or_insert(state);
}

fn ss_line(line: &str) -> (u64, &'static str) {
    let state = line.split_whitespace().next().and_then(TcpState::parse).unwrap_or_else(|| panic!("{line}"));
    let cookie = line.split_whitespace().find_map(|field| field.strip_prefix("sk:")).expect("a cookie");
    (u64::from_str_radix(cookie, 16).expect("hexadecimal"), state.name())
}

/// What the tracer says when it is asked.
pub struct Told {
    /// By namespace.
    pub flows: BTreeMap<u32, Picture>,
    /// What the dump came to that followed.
    pub resync: Value,
}

/// Asks the tracer for everything it knows.
pub fn ask(tracer: &mut Tracer) -> Told {
    let from = tracer.lines.len();
    signal(tracer.pid(), nix::sys::signal::Signal::SIGUSR1);
    let mut at = from;
    let resync = tracer.wait_until("the answer to SIGUSR1", |lines| {
        let new = lines[at..].iter().find(|line| line["type"] == "resync" && line["why"] == "asked");
        at = lines.len();
        new.cloned()
    });
    let mut flows: BTreeMap<u32, Picture> = BTreeMap::new();
    let mut connections = BTreeSet::new();
    for line in of_type(&tracer.lines[from..], "flow") {
        let netns = line["netns"].as_u64().expect("a namespace") as u32;
        let state = line["state"].as_str().and_then(TcpState::parse).expect("a state").name();
        put(flows.entry(netns).or_default(), cookie(line), state);
        let connection = (cookie(line), line["local"].to_string(), line["remote"].to_string());
        assert!(connections.insert(connection), "twice: {}", history(tracer, cookie(line)));
    }
    Told { flows, resync }
}

/// The cookie of a line.
pub fn cookie(line: &Value) -> u64 {
    line["flow"].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no cookie: {line}"))
}

fn history(tracer: &Tracer, cookie: u64) -> String {
    of_flow(&tracer.lines, &cookie.to_string().into())
}

fn of_flow(lines: &[Value], flow: &Value) -> String {
    lines.iter().filter(|line| line["flow"] == *flow).map(|line| format!("    {line}\n")).collect()
}

/// Asks until the tracer and the kernel agree about these namespaces; that they do not for two seconds is a failure.
pub fn agree(tracer: &mut Tracer, namespaces: &[&Namespace]) -> Told {
    for attempt in 1.. {
        let told = ask(tracer);
        let mut text = String::new();
        for namespace in namespaces {
            let kernel = ss(namespace);
            let none = Picture::new();
            let believed = told.flows.get(&namespace.inode()).unwrap_or(&none);
            for cookie in different(&kernel, believed) {
                let [is, said] =
                    [&kernel, believed].map(|picture| picture.get(&cookie).copied().unwrap_or("-"));
                let _ = writeln!(text, "  {cookie} in {}: ss {is}, tcptrace {said}", namespace.inode());
                if attempt == ATTEMPTS {
                    text += &history(tracer, cookie);
                }
            }
        }
        if text.is_empty() {
            return told;
        }
        assert!(attempt < ATTEMPTS, "the tracer and the kernel do not agree:\n{text}{}", told.resync);
        if attempt > 2 {
            println!("attempt {attempt}: {}\n{text}", told.resync);
        }
        thread::sleep(PAUSE);
    }
    unreachable!("the last attempt returns or panics")
}

fn different(one: &Picture, other: &Picture) -> BTreeSet<u64> {
    let cookies = one.keys().chain(other.keys()).copied();
    cookies.filter(|cookie| one.get(cookie) != other.get(cookie)).collect()
}

/// No dump after the first finds anything that the events had not told, but for half-open requests, of which there are
/// no events: one thing at most for each event that the kernel says is lost. It keeps a program from running where the
/// same one was interrupted, which under load does happen; nothing else may be lost.
pub fn nothing_was_mended(lines: &[Value], summary: &Value) {
    let (mut mended, mut texts) = (0, String::new());
    for line in lines.iter().skip_while(|line| line["type"] != "resync").skip(1) {
        let count = |field: &str| line[field].as_u64().expect("a count");
        match line["type"].as_str() {
            Some("sight") if line["socket"] != "half-open" => {
                mended += 1;
                texts += &of_flow(lines, &line["flow"]);
            }
            // What minisockets do on their own, and half-open requests, is no correction.
            Some("transition")
                if line["known"] == "seen"
                    && !["TIME_WAIT", "FIN_WAIT2", "SYN_RECV"].iter().any(|old| line["old"] == *old) =>
            {
                texts += &of_flow(lines, &line["flow"]);
            }
            Some("resync") => mended += count("corrected") + count("vanished"),
            _ => {}
        }
    }
    let (lost, missed) = (&summary["lost"], &summary["lost_by_kind"]["missed"]);
    println!("{mended} things mended, {missed} events missed");
    assert_eq!(lost, missed, "{summary}");
    assert!(
        Some(mended) <= missed.as_u64(),
        "{mended} things mended, {missed} events missed, among:\n{texts}"
    );
}
