//! Makes the recordings: plays the lab's scenarios and some situations of its own, keeps what the kernel answers, and has
//! it judged at once.

use super::recording::{Hosts, NOW_NS, Recording};
use crate::{
    diagnose::{Around, Memory, diagnose},
    event::TcpState,
    sight::{Sight, TimerKind},
    source::{
        details::{DetailSource, Part, SocketDetail},
        live::boot_time_ns,
        netns::{Limits, Namespace},
        sockdiag::{Detail, Query, SockDiag, States, recorded},
    },
};
use std::{
    cell::RefCell,
    fs,
    process::Command,
    time::{Duration, Instant},
};
use tcptrace_lab::{Direction, Endpoint, Family, Lab, Listening, SCENARIOS, Side};

/// Set: what is recorded is written to tests/recordings. Otherwise it is only judged.
const WRITE: &str = "TCPTRACE_RECORD";
const PATIENCE: Duration = Duration::from_secs(30);

fn namespace(lab: &Lab, side: Side) -> Namespace {
    Namespace::open(&format!("net:[{}]", lab.netns(side))).unwrap()
}

/// The two hosts now.
fn look(lab: &Lab, about: &str) -> [Recording; 2] {
    Side::ALL.map(|side| {
        let namespace = namespace(lab, side);
        let datagrams = recorded::record(&namespace);
        let now_ns = boot_time_ns();
        let details = DetailSource::new().read(&namespace).unwrap();
        let mut details: Vec<_> = details.into_values().map(|detail| moved(detail, now_ns)).collect();
        details.sort_by_key(|detail| detail.cookie);
        let settings = namespace.enter(|| {
            let read = RefCell::new(Vec::new());
            Limits::from_files(|name| {
                let says = fs::read_to_string(format!("/proc/sys/net/{name}")).ok()?;
                read.borrow_mut().push((name.to_owned(), says.trim().replace('\t', " ")));
                Some(says)
            });
            read.into_inner()
        });
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let kernel = release.trim().split('-').next().unwrap().to_owned();
        let about = format!("{about}; {side}");
        Recording { kernel, about, settings: settings.unwrap(), details, datagrams }
    })
}

/// Times as they are when it is played at [`NOW_NS`].
fn moved(mut detail: SocketDetail, now_ns: u64) -> SocketDetail {
    if let Part::Connection(stall) = &mut detail.part {
        for time in [&mut stall.began_ns, &mut stall.probes_began_ns] {
            *time = time.map(|time| NOW_NS - now_ns.saturating_sub(time));
        }
    }
    detail
}

/// Judges what was recorded, and keeps it.
fn keep(recordings: [Recording; 2], name: &str, findings: &[(Side, &str)]) {
    // Through the text, as a replay goes.
    let hosts = Hosts::from(&recordings.each_ref().map(|each| Recording::parse(&each.text())));
    let diagnosis = diagnose(&hosts.scene(Around::default(), None, &mut Memory::default()));
    let mut found: Vec<_> = diagnosis
        .findings
        .iter()
        .map(|finding| (if finding.subject.netns == 1 { Side::Client } else { Side::Server }, finding.name))
        .collect();
    found.dedup();
    let sorted = |list: &[(Side, &str)]| {
        let mut list: Vec<_> = list.iter().map(|(side, name)| format!("{side} {name}")).collect();
        list.sort();
        list.dedup();
        list
    };
    assert_eq!(sorted(&found), sorted(findings), "{name}: {:#?}", diagnosis.findings);
    if std::env::var_os(WRITE).is_some() {
        for (side, recording) in Side::ALL.iter().zip(&recordings) {
            if !recording.sights(1).is_empty() {
                recording.write(&format!("{name}.{side}"));
            }
        }
    }
}

#[test]
#[ignore = "needs root: makes network namespaces, loads a BPF iterator"]
fn what_is_recorded_of_each_scenario_is_judged_alike() {
    // Of these events tell, not sockets.
    const BY_EVENTS: [&str; 2] = ["connect-refused", "rst-storm"];
    let only = std::env::var("SCENARIO").ok();
    for scenario in
        SCENARIOS.iter().filter(|scenario| only.as_deref().is_none_or(|only| only == scenario.name))
    {
        let family = if scenario.name == "fin-wait1-drop" { Family::V6 } else { Family::V4 };
        let lab = Lab::new(family).unwrap();
        let mut done = false;
        scenario
            .run(&lab, &mut |stage| {
                let findings = stage.findings.unwrap_or_default();
                if done || findings.iter().all(|(_, name)| BY_EVENTS.contains(name)) {
                    return;
                }
                done = true;
                let about = format!("tcptrace lab {}: {}", scenario.name, stage.text);
                keep(look(&lab, &about), scenario.name, findings);
            })
            .unwrap();
        println!("{}", scenario.name);
    }
}

/// Waits until a connection of that host is as wanted.
fn until(lab: &Lab, side: Side, is: impl Fn(&Sight) -> bool) {
    let mut diag = SockDiag::open(&namespace(lab, side)).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut sights = Vec::new();
        let mut dump = diag.dump(Query::of(States::ALL, Detail::Full)).unwrap();
        while dump.next_batch(&mut sights).unwrap().is_some() {}
        if sights.iter().any(&is) {
            return;
        }
        assert!(Instant::now() < deadline, "{sights:#?}");
        std::thread::sleep(Duration::from_millis(10)); // a timer of the kernel runs, and nothing tells when it has
    }
}

fn tries(state: TcpState, kind: TimerKind, least: u8) -> impl Fn(&Sight) -> bool {
    move |sight| {
        let counted = |sight: &Sight| {
            let info = sight.info.map_or(0, |info| info.retransmits.max(info.probes).max(info.backoff));
            sight.timer.is_some_and(|timer| timer.kind == kind && timer.retransmits.max(info) >= least)
        };
        sight.state == state && counted(sight)
    }
}

fn connect<'lab>(lab: &'lab Lab, listener: &Endpoint<'lab>) -> (Endpoint<'lab>, Endpoint<'lab>) {
    let client = lab.dial().unwrap();
    let server = listener.accept().unwrap();
    client.connected(PATIENCE).unwrap();
    (client, server)
}

/// Its name, what must be found and of which host, and what leads to it.
type Situation = (&'static str, &'static [(Side, &'static str)], fn(&Lab) -> [Recording; 2]);

/// Not in the lab.
const SITUATIONS: &[Situation] = &[
    ("fin-behind-data", &[(Side::Client, "fin-behind-data")], |lab| {
        let listener = lab.listen().unwrap();
        let (client, server) = connect(lab, &listener);
        lab.wire().drop_when(Direction::ToServer, |_| true);
        client.send(&[b'x'; 700]).unwrap();
        client.close().unwrap();
        until(lab, Side::Client, tries(TcpState::FinWait1, TimerKind::Retransmit, 4));
        let recorded = look(lab, "data is lost, then the client closes");
        drop((server, listener));
        recorded
    }),
    ("fin-held", &[(Side::Client, "fin-unanswered")], |lab| {
        let listener = lab.listen().unwrap();
        let (client, server) = connect(lab, &listener);
        lab.wire().drop_when(Direction::ToServer, |_| true);
        client.shutdown_write().unwrap();
        until(lab, Side::Client, tries(TcpState::FinWait1, TimerKind::Retransmit, 4));
        let recorded = look(lab, "the client shuts down and keeps its descriptor, and its FIN is lost");
        drop((client, server, listener));
        recorded
    }),
    ("fin-blackhole", &[(Side::Client, "fin-cannot-leave")], |lab| {
        let listener = lab.listen().unwrap();
        let (client, server) = connect(lab, &listener);
        let address = lab.address(Side::Server).to_string();
        let mut command = Command::new("ip");
        command.args(["route", "add", "blackhole", &format!("{address}/32")]);
        assert!(lab.command(Side::Client, command).unwrap().status.success());
        client.close().unwrap();
        until(lab, Side::Client, tries(TcpState::FinWait1, TimerKind::Probe, 4));
        let recorded = look(lab, "the client's route to the server is a black hole, and the client closes");
        drop((server, listener));
        recorded
    }),
    ("zero-window", &[(Side::Client, "zero-window-stall")], |lab| {
        let few = Listening { receive_buffer: Some(4096), ..Listening::default() };
        let listener = lab.listen_as(few).unwrap();
        let (client, server) = connect(lab, &listener);
        client.send(&[b'x'; 16_384]).unwrap();
        until(lab, Side::Client, tries(TcpState::Established, TimerKind::Probe, 7));
        let recorded = look(lab, "the client sends more than the server reads");
        drop((client, server, listener));
        recorded
    }),
    ("close-wait-busy", &[(Side::Server, "close-wait-busy")], |lab| {
        lab.set_sysctl(Side::Server, "net.ipv4.tcp_fin_timeout", "2").unwrap();
        let listener = lab.listen().unwrap();
        let (client, server) = connect(lab, &listener);
        client.shutdown_write().unwrap();
        server.receive_end().unwrap();
        until(lab, Side::Client, |sight| sight.state == TcpState::FinWait2);
        lab.wire().drop_when(Direction::ToClient, |_| true);
        server.send(&[b'x'; 700]).unwrap();
        until(lab, Side::Server, tries(TcpState::CloseWait, TimerKind::Retransmit, 4));
        let recorded = look(lab, "the client has shut down, and the server's answer is lost");
        drop((client, server, listener));
        recorded
    }),
    ("last-ack", &[(Side::Server, "last-ack-unanswered")], |lab| {
        let listener = lab.listen().unwrap();
        let (client, server) = connect(lab, &listener);
        client.shutdown_write().unwrap();
        server.receive_end().unwrap();
        until(lab, Side::Client, |sight| sight.state == TcpState::FinWait2);
        lab.wire().drop_when(Direction::ToClient, |_| true);
        server.close().unwrap();
        until(lab, Side::Server, tries(TcpState::LastAck, TimerKind::Retransmit, 4));
        let recorded = look(lab, "the client has shut down, the server closes, and its FIN is lost");
        drop((client, listener));
        recorded
    }),
];

#[test]
#[ignore = "needs root: makes network namespaces, loads a BPF iterator"]
fn what_is_recorded_of_each_situation_is_judged_alike() {
    let only = std::env::var("SCENARIO").ok();
    for (name, findings, situation) in
        SITUATIONS.iter().filter(|(name, ..)| only.as_deref().is_none_or(|only| only == *name))
    {
        let lab = Lab::new(Family::V4).unwrap();
        keep(situation(&lab), name, findings);
        println!("{name}");
    }
}
