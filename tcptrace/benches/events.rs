//! The way of an event through user space, part by part: `cargo bench -p tcptrace --bench events`.
#![allow(missing_docs, clippy::expect_used)] // criterion's macros; what goes wrong ends the benchmark

mod made;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use made::{ENDS, OPENS};
use std::hint::black_box;
use tcptrace::{
    decode::Decoder,
    enrich::Places,
    event::Event,
    flow::{Capabilities, Entry, Ledger},
    source::filter::FilterSpec,
    view::{Lines, Palette},
    wall::Wall,
    wire,
};

/// Connections that are open while others come and go.
const OPEN: u64 = 10_000;
/// Connections in a batch, of five events each.
const BATCH: u64 = 1_000;
const PEERS: u64 = 1_000;
/// A thousand events a second.
const STEP_NS: u64 = 1_000_000;

/// Records of connections from `first` on: in turn, the oldest of those that are open ends, and another one opens.
fn records(first: u64) -> Vec<Vec<u8>> {
    let mut time_ns = first * 5 * STEP_NS;
    let mut records = Vec::new();
    for connection in first..first + BATCH {
        let oldest = ENDS.map(|change| (connection - OPEN, change));
        for (which, change) in oldest.into_iter().chain(OPENS.map(|change| (connection, change))) {
            time_ns += STEP_NS;
            let mut record = Vec::new();
            made::record(&mut record, which, PEERS, time_ns, change);
            records.push(record);
        }
    }
    records
}

fn decoded(records: &[Vec<u8>]) -> Vec<Event> {
    let decoder = Decoder::default();
    records.iter().map(|record| decoder.decode(record, 0).expect("a record")).collect()
}

/// A ledger with that many open connections.
fn ledger() -> Ledger {
    let capabilities =
        Capabilities { cookies: true, resets: true, all_states: true, ..Capabilities::default() };
    let mut ledger = Ledger::new(capabilities, 1 << 20, 1);
    let mut out = Vec::new();
    let decoder = Decoder::default();
    for connection in 0..OPEN {
        for change in OPENS {
            let mut record = Vec::new();
            made::record(&mut record, connection, PEERS, (connection + 1) * STEP_NS, change);
            ledger.fold(&decoder.decode(&record, 0).expect("a record"), &mut out);
            out.clear();
        }
    }
    ledger
}

fn entries() -> Vec<Entry> {
    let mut ledger = ledger();
    let mut out = Vec::new();
    for event in decoded(&records(OPEN)) {
        ledger.fold(&event, &mut out);
    }
    out
}

fn events(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("events");
    let records = records(OPEN);
    group.throughput(Throughput::Elements(records.len() as u64));
    let decoder = Decoder::default();
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            for record in &records {
                black_box(decoder.decode(black_box(record), 0)).expect("a record");
            }
        });
    });
    let spec = FilterSpec { port: vec![443..=443, 8000..=8100], ..FilterSpec::default() };
    group.bench_function("filter", |bencher| {
        bencher.iter_batched_ref(
            || decoded(&records),
            |events| events.iter_mut().map(|event| u64::from(spec.admits(event))).sum::<u64>(),
            BatchSize::LargeInput,
        );
    });
    group.bench_function("fold", |bencher| {
        bencher.iter_batched_ref(
            || (ledger(), decoded(&records), Vec::new()),
            |(ledger, events, out)| {
                for event in events {
                    ledger.fold(event, out);
                    black_box(&out);
                    out.clear();
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn render(criterion: &mut Criterion) {
    let entries = entries();
    let mut group = criterion.benchmark_group("render");
    group.throughput(Throughput::Elements(entries.len() as u64));
    let (mut lines, mut wall, mut out) = (Lines::new(Palette::default()), Wall::new(0), Vec::new());
    group.bench_function("text", |bencher| {
        bencher.iter(|| {
            for entry in &entries {
                out.clear();
                lines.entry(&mut out, &mut wall, black_box(entry)).expect("memory takes anything");
            }
        });
    });
    let mut owners = wire::Owners::new(Places::default());
    group.bench_function("json", |bencher| {
        bencher.iter(|| {
            for entry in &entries {
                out.clear();
                wire::entry(&mut out, &mut wall, &mut owners, black_box(entry))
                    .expect("memory takes anything");
            }
        });
    });
    group.finish();
}

criterion_group!(all, events, render);
criterion_main!(all);
