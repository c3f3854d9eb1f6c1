//! On a healthy busy host nothing is found, look after look; and what is stuck there is.

use crate::{
    load::{Load, Way},
    looks::{Look, Looks},
    random::Random,
    space::Space,
    support::{command, netns},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    net::TcpStream,
    process::{Output, Stdio},
    time::{Duration, Instant},
};
use tcptrace_lab::{Direction, Endpoint, Family, Lab, PORT, Segment, Side};

/// How long, in seconds; 30 if it is not set.
const VARIABLE: &str = "TCPTRACE_HEALTHY_SECONDS";
/// Segments that the wires lose, of a thousand, each way.
const LOST: usize = 20;
/// tcp_max_tw_buckets of the hosts beside a wire.
const TIME_WAITS: &str = "65536";

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn a_healthy_busy_host_has_no_findings() {
    let seconds = std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or(30);
    let random = Random::new("healthy");
    let space = Space::new();
    let labs = Family::ALL.map(|family| Lab::new(family).expect("a lab"));
    for (lab, side) in labs.iter().flat_map(|lab| Side::ALL.map(|side| (lab, side))) {
        // A lab is made for a handful of connections: here TIME_WAIT needs room as on a whole machine.
        lab.set_sysctl(side, "net.ipv4.tcp_max_tw_buckets", TIME_WAITS).expect("set");
    }
    let mut ways = Way::loopback(&space.namespace);
    for (lab, name) in labs.iter().zip(["IPv4 over a wire", "IPv6 over a wire"]) {
        ways.push(Way::wire(name, lab, LOST, &random));
    }
    let hosts = labs.iter().flat_map(|lab| Side::ALL.map(|side| lab.netns(side)));
    let spaces: Vec<_> =
        hosts.chain([space.inode()]).flat_map(|it| ["--netns".to_owned(), netns(it)]).collect();
    let spaces: Vec<_> = spaces.iter().map(String::as_str).collect();

    let mut looks = Looks::start(&spaces);
    let load = Load::start(&ways, random);
    let mut seen = Seen::default();
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut once = Once::start(&spaces);
    while Instant::now() < end {
        seen.take(&looks.next());
        if let Some(output) = once.ended() {
            seen.once(&output);
            once = Once::start(&spaces);
        }
    }
    println!("{seconds} s: {seen}; done so far: {:?}", load.done());
    assert!(seen.findings.is_empty(), "found on a healthy host: {:#?}", seen.findings);
    assert!(seen.looks >= seconds / 4 && seen.onces >= seconds / 15, "too few looks: {seen}");

    // The same looker, on the same busy host, finds what is stuck.
    let (port, _ends) = stuck(&labs[0]);
    let look = looks.wait_for("what is stuck", |look| !look.findings.is_empty());
    assert_eq!(look.findings.len(), 1, "{look:#?}");
    assert_eq!(look.one("fin-unanswered")["local"]["port"], port, "{look:#?}");

    let done = load.stop();
    println!("done: {done:?}");
    looks.stop();
}

/// Lets a FIN be lost again and again; the client's port, and the server's ends.
fn stuck(lab: &Lab) -> (u16, [Endpoint<'_>; 2]) {
    let listener = lab.listen().expect("a listener");
    let address = lab.server_address();
    let client =
        lab.run_in(Side::Client, move || TcpStream::connect(address)).expect("runs").expect("a client");
    let server = listener.accept().expect("accepted");
    let port = client.local_addr().expect("an address").port();
    // Others may come from the same port, to another listener.
    let its = move |segment: &Segment| (segment.source_port, segment.destination_port) == (port, PORT);
    lab.wire().drop_when(Direction::ToServer, its);
    drop(client);
    (port, [listener, server])
}

/// What was seen.
#[derive(Default)]
struct Seen {
    looks: u64,
    onces: u64,
    most_sockets: u64,
    lost: u64,
    /// The first of each name, and how often it came.
    findings: BTreeMap<String, (u64, Value)>,
}

impl Seen {
    fn take(&mut self, look: &Look) {
        self.looks += 1;
        self.most_sockets = self.most_sockets.max(look.end["sockets"].as_u64().unwrap_or(0));
        self.lost = look.end["lost"].as_u64().unwrap_or(0);
        for finding in &look.findings {
            self.found(finding);
        }
    }

    fn found(&mut self, finding: &Value) {
        let name = finding["name"].as_str().unwrap_or("?").to_owned();
        let (times, _) = self.findings.entry(name).or_insert_with(|| (0, finding.clone()));
        *times += 1;
        if *times == 1 {
            println!("found: {finding}");
        }
    }

    fn once(&mut self, output: &Output) {
        self.onces += 1;
        let lines = String::from_utf8_lossy(&output.stdout);
        let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut findings = 0;
        for finding in lines.filter(|line| line["type"] == "finding") {
            self.found(&finding);
            findings += 1;
        }
        assert_eq!(output.status.code(), Some(i32::from(findings > 0)), "{output:?}");
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let findings: u64 = self.findings.values().map(|(times, _)| times).sum();
        write!(
            f,
            "{} looks and {} single ones, {} sockets at most, {} events lost, {findings} findings",
            self.looks, self.onces, self.most_sockets, self.lost
        )
    }
}

/// A single `stuck`, as a monitoring check runs it.
struct Once(std::process::Child);

impl Once {
    fn start(spaces: &[&str]) -> Self {
        let mut command = command(&["stuck", "--format", "json"]);
        Self(command.args(spaces).stdout(Stdio::piped()).spawn().expect("tcptrace starts"))
    }

    /// What it said, once it has ended.
    fn ended(&mut self) -> Option<Output> {
        let status = self.0.try_wait().expect("our own child")?;
        let mut stdout = Vec::new();
        if let Some(mut pipe) = self.0.stdout.take() {
            std::io::Read::read_to_end(&mut pipe, &mut stdout).expect("readable output");
        }
        Some(Output { status, stdout, stderr: Vec::new() })
    }
}

impl Drop for Once {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
