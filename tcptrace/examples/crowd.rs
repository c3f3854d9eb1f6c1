//! Writes a recording of a crowd: `crowd CONNECTIONS EVENTS PEERS RATE FILE` opens that many connections and then, for the rest of
//! the events, closes the oldest and opens another, at so many connections a second. For `cargo xtask bench replay`: no machine
//! has to hold a million sockets, nor make as many a second.
#![allow(clippy::expect_used)] // a developer's tool: what goes wrong is said, and nothing is kept

#[path = "../benches/made.rs"]
mod made;

use made::{ENDS, OPENS};
use std::{path::Path, thread, time::Duration};
use tcptrace::{
    flow::{Capabilities, Limits},
    record::{
        file::{Options, Preamble, Writer},
        frame::{FRAME, Frame, RECORD},
    },
    run::{Attached, Started},
    summary::LostCounts,
};
use tcptrace_common::{counters::Counters, state::TcpState};

/// Events between two readings of the ring, as of a busy machine.
const DRAIN: u64 = 256;
/// Questions that a run asks between two readings. Nobody answers them here: what is overdue is believed.
const QUESTIONS: u32 = 64;
/// Minisockets that the kernel keeps by default, where there is memory (`tcp_max_tw_buckets`).
const MINISOCKETS: u64 = 262_144;
/// The network namespace of the records.
const NETNS: u32 = 1;
/// What the writer's thread may be behind.
const BEHIND: usize = 16 << 20;

struct Crowd {
    writer: Writer,
    counters: Counters,
    peers: u64,
    /// Between two events.
    step_ns: u64,
    bytes: Vec<u8>,
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

    fn event(&mut self, connection: u64, change: (TcpState, TcpState)) {
        self.now_ns += self.step_ns;
        self.events += 1;
        let (from, to) = change;
        self.counters.matrix[from.number() as usize][to.number() as usize] += 1;
        self.bytes.clear();
        made::record(&mut self.bytes, connection, self.peers, self.now_ns, change);
        self.writer.write(RECORD, self.now_ns, &self.bytes).expect("a record that fits");
        if self.events.is_multiple_of(DRAIN) {
            self.drained();
        }
    }

    fn drained(&mut self) {
        let now_ns = self.now_ns;
        self.frame(&Frame::Tick(now_ns));
        self.frame(&Frame::HandedOver);
        self.frame(&Frame::Ask { now_ns, most: QUESTIONS });
        self.frame(&Frame::Overdue(now_ns));
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

    fn all(&mut self, connection: u64, changes: &[(TcpState, TcpState)]) {
        for change in changes {
            self.event(connection, *change);
        }
    }
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [connections, events, peers, rate, file] = &arguments[..] else {
        eprintln!("usage: crowd CONNECTIONS EVENTS PEERS RATE FILE");
        std::process::exit(2);
    };
    let number = |text: &String| text.parse::<u64>().expect("a number");
    let (connections, events, peers) = (number(connections), number(events), number(peers).max(1));
    let events_a_second = number(rate).max(1) * (OPENS.len() + ENDS.len()) as u64;
    let capabilities =
        Capabilities { cookies: true, resets: true, all_states: true, ..Capabilities::default() };
    // Also those in TIME_WAIT.
    let max_flows = connections as usize * 2 + 2 * MINISOCKETS as usize;
    // Without a hook nothing is traced, and nothing that happens is shown.
    let state = Attached { target: "inet_sock_set_state".into(), way: Some("tp_btf".into()), missing: None };
    let started = Started {
        capabilities,
        hooks: vec![state],
        state_way: "tp_btf".into(),
        ..Started::without_trace(1, max_flows)
    };
    let mut preamble = Preamble::default();
    let mut bytes = Vec::new();
    Frame::Started(Box::new(started.clone())).encode(&mut bytes).expect("frames have a form");
    preamble.push(FRAME, &bytes).expect("it fits");
    let options = Options { force: true, preamble, ..Options::default() };
    let writer = Writer::create(Path::new(file), options).expect("a file");
    let mut crowd = Crowd {
        writer,
        counters: Counters::ZERO,
        peers,
        step_ns: (1_000_000_000 / events_a_second).max(1),
        bytes: Vec::new(),
        events: 0,
        now_ns: 1,
        counted_ns: 0,
    };
    crowd.frame(&Frame::Started(Box::new(started)));
    let limits = Limits { max_minisockets: Some(MINISOCKETS), ..Limits::default() };
    crowd.frame(&Frame::Settings(vec![(NETNS, limits)]));
    for connection in 0..connections {
        crowd.all(connection, &OPENS);
    }
    let mut oldest = 0;
    while crowd.events < events {
        crowd.all(oldest, &ENDS);
        crowd.all(oldest + connections, &OPENS);
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
