//! Writes a recording of a crowd: `crowd CONNECTIONS EVENTS PEERS FILE` opens that many connections and then, for the rest of
//! the events, closes the oldest and opens another. For `cargo xtask bench replay`: no machine has to hold a million sockets.
#![allow(clippy::expect_used)] // a developer's tool: what goes wrong is said, and nothing is kept

use std::{path::Path, thread, time::Duration};
use tcptrace::{
    flow::Capabilities,
    record::{
        file::{Limits, Options, Preamble, Writer},
        frame::{FRAME, Frame, RECORD},
    },
    run::Started,
    summary::LostCounts,
};
use tcptrace_common::{
    address::Address,
    counters::Counters,
    event::{
        BITS_KNOWN, Close, DEAD, DONE, ERROR_KNOWN, HAS_SOCKET, Header, Kind, LastNumbers, NUMBERS_KNOWN,
        OwnedTransition, Prefix, Task, Tuple,
    },
    state::TcpState,
};
use zerocopy::{FromZeros as _, IntoBytes as _};

/// Between two events: a thousand a second, so that few wait in TIME_WAIT beside those that are open.
const STEP_NS: u64 = 1_000_000;
/// Events between two readings of the ring, as of a busy machine.
const DRAIN: u64 = 256;
/// Programs that connect.
const PROGRAMS: u64 = 100;
/// What the writer's thread may be behind.
const BEHIND: usize = 16 << 20;

struct Crowd {
    writer: Writer,
    counters: Counters,
    peers: u64,
    events: u64,
    now_ns: u64,
    counted_ns: u64,
}

impl Crowd {
    fn frame(&mut self, frame: &Frame) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes).expect("frames have a form");
        self.writer.write(FRAME, self.now_ns, &bytes).expect("a frame that fits");
    }

    fn record(&mut self, bytes: &[u8]) {
        self.writer.write(RECORD, self.now_ns, bytes).expect("a record that fits");
    }

    fn header(&self, connection: u64, kind: Kind, from: TcpState, to: TcpState) -> Header {
        let mut remote = [0; 16];
        remote[10..12].copy_from_slice(&[0xff; 2]);
        let peer = (connection % self.peers) as u32;
        remote[12..].copy_from_slice(&(0x0a01_0000 + peer).to_be_bytes());
        let mut local = remote;
        local[12..].copy_from_slice(&[10, 0, 0, 1]);
        let closes = to == TcpState::Close;
        Header {
            pre: Prefix {
                kind: kind as u8,
                flags: 0,
                state: from.number(),
                to: to.number(),
                netns: 1,
                time_ns: self.now_ns,
                sock: 0xffff_8880_0000_0000 + connection * 2432,
                cookie: connection + 1,
            },
            tuple: Tuple {
                local: Address::from_bytes(local),
                remote: Address::from_bytes(remote),
                // As many as there are for one peer, so that no two connections have the same ends.
                lport: (1024 + connection / self.peers % 64_000) as u16,
                rport: 443,
                family: 4,
                bits: BITS_KNOWN | if closes { DEAD | DONE } else { HAS_SOCKET },
                shutdown: if closes { 3 } else { 0 },
                spare: 0,
            },
        }
    }

    fn event(&mut self, connection: u64, from: TcpState, to: TcpState) {
        self.now_ns += STEP_NS;
        self.events += 1;
        self.counters.matrix[from.number() as usize][to.number() as usize] += 1;
        let program = connection % PROGRAMS;
        let mut task = Task::new_zeroed();
        (task.pid, task.tid, task.cgroup) = (1000 + program as u32, 1000 + program as u32, 1 + program);
        task.comm.as_mut_bytes()[..7].copy_from_slice(b"program");
        let owned = from == TcpState::Close || to == TcpState::FinWait1;
        match (owned, to) {
            (true, _) => {
                let head = self.header(connection, Kind::OwnedTransition, from, to);
                self.record(OwnedTransition { head, task }.as_bytes());
            }
            (_, TcpState::Close) => {
                let head = self.header(connection, Kind::Close, from, to);
                let known = NUMBERS_KNOWN | ERROR_KNOWN;
                let numbers = LastNumbers { known, bytes_sent: 100, srtt_us: 900, ..LastNumbers::default() };
                self.record(Close { head, task, numbers }.as_bytes());
            }
            _ => {
                let head = self.header(connection, Kind::Transition, from, to);
                self.record(head.as_bytes());
            }
        }
        if self.events.is_multiple_of(DRAIN) {
            self.drained();
        }
    }

    fn drained(&mut self) {
        let now_ns = self.now_ns;
        self.frame(&Frame::Tick(now_ns));
        self.frame(&Frame::HandedOver);
        if now_ns >= self.counted_ns + 1_000_000_000 {
            self.counted_ns = now_ns;
            self.count(false);
        }
        while self.writer.state().waiting > BEHIND {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn count(&mut self, last: bool) {
        let counters = Box::new(self.counters);
        self.frame(&Frame::Counted { now_ns: self.now_ns, counters, lost: LostCounts::default(), last });
    }

    fn opens(&mut self, connection: u64) {
        self.event(connection, TcpState::Close, TcpState::SynSent);
        self.event(connection, TcpState::SynSent, TcpState::Established);
    }

    fn closes(&mut self, connection: u64) {
        self.event(connection, TcpState::Established, TcpState::FinWait1);
        self.event(connection, TcpState::FinWait1, TcpState::FinWait2);
        self.event(connection, TcpState::FinWait2, TcpState::Close);
    }
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [connections, events, peers, file] = &arguments[..] else {
        eprintln!("usage: crowd CONNECTIONS EVENTS PEERS FILE");
        std::process::exit(2);
    };
    let number = |text: &String| text.parse::<u64>().expect("a number");
    let (connections, events, peers) = (number(connections), number(events), number(peers).max(1));
    let capabilities =
        Capabilities { cookies: true, resets: true, all_states: true, ..Capabilities::default() };
    // Also those in TIME_WAIT.
    let max_flows = (connections as usize + 100_000) * 2;
    let started =
        Started { capabilities, state_way: "tp_btf".into(), ..Started::without_trace(1, max_flows) };
    let mut preamble = Preamble::default();
    let mut bytes = Vec::new();
    Frame::Started(Box::new(started.clone())).encode(&mut bytes).expect("frames have a form");
    preamble.push(FRAME, &bytes).expect("it fits");
    let options = Options { limits: Limits::default(), force: true, owner: None, preamble };
    let writer = Writer::create(Path::new(file), options).expect("a file");
    let mut crowd = Crowd { writer, counters: Counters::ZERO, peers, events: 0, now_ns: 1, counted_ns: 0 };
    crowd.frame(&Frame::Started(Box::new(started)));
    for connection in 0..connections {
        crowd.opens(connection);
    }
    let mut oldest = 0;
    while crowd.events < events {
        crowd.closes(oldest);
        crowd.opens(oldest + connections);
        oldest += 1;
    }
    crowd.drained();
    crowd.count(true);
    crowd.frame(&Frame::End(crowd.now_ns));
    let summary =
        crowd.writer.finish("as many as were asked for", Duration::from_secs(60)).expect("it is on disk");
    assert_eq!(summary.dropped, 0);
    println!("{}", crowd.events);
}
