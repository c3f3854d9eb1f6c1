//! What is allocated for an event where connections come and go and as many are open as before: counted, stage by stage.

mod counting;
#[path = "../made.rs"]
mod made;

use made::{ENDS, OPENS};
use std::hint::black_box;
use tcptrace::{
    decode::Decoder,
    enrich::Places,
    event::Event,
    flow::{Capabilities, Entry, Ledger, Question},
    source::filter::FilterSpec,
    view::{Lines, Palette},
    wall::Wall,
    wire,
};

/// Connections that are open while others come and go.
const OPEN: u64 = 10_000;
const PEERS: u64 = 1_000;
/// A thousand events a second.
const STEP_NS: u64 = 1_000_000;
/// Records between two looks at the clock.
const DRAIN: usize = 256;
/// Connections that open, and others that end, before anything is counted: five times what TIME_WAIT holds, so that
/// tables have the size that they keep.
const WARM_UP: u64 = 60_000;
/// And while it is counted.
const COUNTED: u64 = 10_000;

/// What a stage did.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    /// Its name.
    pub stage: &'static str,
    /// Events that it was given, or entries.
    pub events: u64,
    /// Allocations, and what was made larger.
    pub allocations: u64,
}

/// One after another, what is done with every record.
struct Way {
    decoder: Decoder,
    filter: FilterSpec,
    ledger: Ledger,
    questions: Vec<Question>,
    entries: Vec<Entry>,
    lines: Lines,
    wall: Wall,
    owners: wire::Owners,
    out: Vec<u8>,
    counted: [Counted; 5],
}

impl Way {
    fn new() -> Self {
        let capabilities =
            Capabilities { cookies: true, resets: true, all_states: true, ..Capabilities::default() };
        let names = ["decode", "filter", "fold", "text line", "JSON line"];
        Self {
            decoder: Decoder::default(),
            filter: FilterSpec { port: vec![443..=443, 8000..=8100], ..FilterSpec::default() },
            ledger: Ledger::new(capabilities, 1 << 20, 1),
            questions: Vec::new(),
            entries: Vec::new(),
            lines: Lines::new(Palette::default()),
            wall: Wall::new(0),
            owners: wire::Owners::new(Places::recorded()),
            out: Vec::new(),
            counted: names.map(|stage| Counted { stage, events: 0, allocations: 0 }),
        }
    }

    fn count<T>(&mut self, stage: usize, events: u64, work: impl FnOnce(&mut Self) -> T) -> T {
        let before = counting::allocations();
        let result = work(self);
        self.counted[stage].allocations += counting::allocations() - before;
        self.counted[stage].events += events;
        result
    }

    /// All records that come between two looks at the clock.
    fn drain(&mut self, records: &[Vec<u8>], events: &mut Vec<Event>, now_ns: u64) {
        let many = records.len() as u64;
        events.clear();
        self.count(0, many, |way| {
            events.extend(records.iter().flat_map(|record| way.decoder.decode(black_box(record), 0)));
        });
        self.count(1, many, |way| events.retain_mut(|event| way.filter.admits(event)));
        assert_eq!(events.len() as u64, many, "records and filter are made for each other");
        self.count(2, many, |way| way.fold(events, now_ns));
        let entries = std::mem::take(&mut self.entries);
        let many = entries.len() as u64;
        self.count(3, many, |way| {
            for entry in &entries {
                way.out.clear();
                way.lines.entry(&mut way.out, &mut way.wall, black_box(entry)).expect("memory");
            }
        });
        self.count(4, many, |way| {
            for entry in &entries {
                way.out.clear();
                wire::entry(&mut way.out, &mut way.wall, &mut way.owners, black_box(entry)).expect("memory");
            }
        });
        self.entries = entries;
        self.ledger.take_back(&mut self.entries);
    }

    /// As a run does that nobody may ask.
    fn fold(&mut self, events: &[Event], now_ns: u64) {
        for event in events {
            self.ledger.fold(event, &mut self.entries);
        }
        self.ledger.tick(now_ns, &mut self.entries);
        self.ledger.questions(now_ns, DRAIN, &mut self.questions);
        for question in self.questions.drain(..) {
            self.ledger.unanswered(&question, now_ns, &mut self.entries);
        }
        self.ledger.overdue(now_ns, &mut self.entries);
    }
}

/// Lets 10,000 connections open, then as many end as open: what every stage allocated from then on.
pub fn stages() -> Vec<Counted> {
    let mut way = Way::new();
    let mut traffic = Traffic { records: vec![Vec::new(); DRAIN], events: Vec::new(), waiting: 0, now_ns: 1 };
    for connection in 0..OPEN {
        traffic.all(&mut way, connection, &OPENS);
    }
    for connection in 0..WARM_UP + COUNTED {
        if connection == WARM_UP {
            for counted in &mut way.counted {
                (counted.events, counted.allocations) = (0, 0);
            }
        }
        if connection % 10 == 0 {
            traffic.repeat(&mut way, connection);
        }
        traffic.all(&mut way, connection, &ENDS);
        traffic.all(&mut way, OPEN + connection, &OPENS);
    }
    way.counted.to_vec()
}

/// Records on their way: their memory is the bench's, not what it counts.
struct Traffic {
    records: Vec<Vec<u8>>,
    events: Vec<Event>,
    waiting: usize,
    now_ns: u64,
}

impl Traffic {
    fn all(
        &mut self,
        way: &mut Way,
        connection: u64,
        changes: &[(tcptrace::event::TcpState, tcptrace::event::TcpState)],
    ) {
        for change in changes {
            self.put(way, |record, now_ns| made::record(record, connection, PEERS, now_ns, *change));
        }
    }

    fn repeat(&mut self, way: &mut Way, connection: u64) {
        self.put(way, |record, now_ns| made::retransmit(record, connection, PEERS, now_ns));
    }

    fn put(&mut self, way: &mut Way, make: impl FnOnce(&mut Vec<u8>, u64)) {
        self.now_ns += STEP_NS;
        let record = &mut self.records[self.waiting];
        record.clear();
        make(record, self.now_ns);
        self.waiting += 1;
        if self.waiting == DRAIN {
            way.drain(&self.records, &mut self.events, self.now_ns);
            self.waiting = 0;
        }
    }
}
