//! Writes a recording of a crowd: `crowd CONNECTIONS EVENTS PEERS FILE` opens that many connections and then, for the rest of
//! the events, closes the oldest and opens another. For `cargo xtask bench replay`: no machine has to hold a million sockets.
#![allow(clippy::expect_used)] // a developer's tool: what goes wrong is said, and nothing is kept

#[path = "../benches/made.rs"]
mod made;

use made::{ENDS, OPENS};
use std::{path::Path, thread, time::Duration};
use tcptrace::{
    flow::Capabilities,
    record::{
        file::{Options, Preamble, Writer},
        frame::{FRAME, Frame, RECORD},
    },
    run::Started,
    summary::LostCounts,
};
use tcptrace_common::{counters::Counters, state::TcpState};

/// Between two events: a thousand a second, so that few wait in TIME_WAIT beside those that are open.
const STEP_NS: u64 = 1_000_000;
/// Events between two readings of the ring, as of a busy machine.
const DRAIN: u64 = 256;
/// What the writer's thread may be behind.
const BEHIND: usize = 16 << 20;

struct Crowd {
    writer: Writer,
    counters: Counters,
    peers: u64,
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
        self.now_ns += STEP_NS;
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
    let options = Options { force: true, preamble, ..Options::default() };
    let writer = Writer::create(Path::new(file), options).expect("a file");
    let mut crowd = Crowd {
        writer,
        counters: Counters::ZERO,
        peers,
        bytes: Vec::new(),
        events: 0,
        now_ns: 1,
        counted_ns: 0,
    };
    crowd.frame(&Frame::Started(Box::new(started)));
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
