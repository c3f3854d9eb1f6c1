//! What is written is read back by Parquet's own reader, and compared with the JSON of the same entries.

mod any;
mod documents;
mod duckdb;

use super::{COLUMNS, Closing, Columnar};
use crate::{
    enrich::Places,
    flow::{Entry, Reconciled},
    record::recorded::Recorded,
    run::{
        Origin, Sink, Started,
        report::{Broken, Resync, Why},
    },
    summary::LostCounts,
    wall::Wall,
    wire,
};
use bytes::Bytes;
use parquet::{
    file::reader::{FileReader, SerializedFileReader},
    record::Field,
};
use proptest::prelude::*;
use serde_json::{Map, Value};
use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tcptrace_common::counters::Counters;

/// 2020-09-13, and some nanoseconds that microseconds cut off.
const OFFSET_NS: i64 = 1_600_000_000_000_000_999;

fn columnar<W: Write + Send>(to: W) -> Columnar<W> {
    begun(to).expect("memory")
}

fn begun<W: Write + Send>(to: W) -> io::Result<Columnar<W>> {
    let started = Started {
        version: "0.0.9".into(),
        kernel: "6.1.0".into(),
        began_ns: 77,
        wall_offset_ns: OFFSET_NS,
        filter: Some("--port 80".into()),
        ..Started::default()
    };
    Columnar::new(to, Origin::recorded(&started), &started)
}

fn reader(file: Vec<u8>) -> SerializedFileReader<Bytes> {
    SerializedFileReader::new(Bytes::from(file)).expect("a Parquet file")
}

/// Rows by column, as JSON has such values. Times are microseconds.
fn rows(file: Vec<u8>) -> Vec<Map<String, Value>> {
    let value = |field: &Field| match field {
        Field::Null => Value::Null,
        Field::Bool(value) => (*value).into(),
        Field::Int(value) => (*value).into(),
        Field::Long(value) | Field::TimestampMicros(value) => (*value).into(),
        Field::ULong(value) => (*value).into(),
        Field::Str(value) => value.as_str().into(),
        other => panic!("no column has {other:?}"),
    };
    let reader = reader(file);
    let rows = reader.get_row_iter(None).expect("rows");
    rows.map(|row| {
        let row = row.expect("a row");
        row.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect()
    })
    .collect()
}

/// Lines of JSON as rows: what an object has becomes columns named after both.
fn flat(json: &[u8]) -> Vec<Map<String, Value>> {
    let text = std::str::from_utf8(json).expect("JSON is text");
    text.lines().map(|line| flat_line(serde_json::from_str(line).expect("an object"))).collect()
}

fn flat_line(line: Map<String, Value>) -> Map<String, Value> {
    let mut row = Map::new();
    for (name, value) in line {
        match value {
            Value::Object(inner) if name == "dwell_ns" => row.extend(
                inner
                    .into_iter()
                    .map(|(state, ns)| (format!("dwell_{}_ns", state.to_ascii_lowercase()), signed(ns))),
            ),
            Value::Object(inner) => {
                row.extend(inner.into_iter().map(|(field, value)| (format!("{name}_{field}"), signed(value))))
            }
            Value::String(text) if name == "flow" || name == "cgroup" => {
                row.insert(name, text.trim_start_matches('g').parse::<u64>().expect("a number").into());
            }
            Value::String(text) if name == "time" => {
                let time: jiff::Timestamp = text.parse().expect("a time");
                let us = time.as_nanosecond().div_euclid(1000);
                row.insert(name, i64::try_from(us).expect("this century").into());
            }
            value if name == "v" => assert_eq!(value, 1),
            value => {
                row.insert(name, signed(value));
            }
        }
    }
    row
}

/// Numbers are signed in SQL; larger ones are as large as those can be.
fn signed(value: Value) -> Value {
    match value.as_u64() {
        Some(number) => i64::try_from(number).unwrap_or(i64::MAX).into(),
        None => value,
    }
}

#[track_caller]
fn assert_same(rows: &[Map<String, Value>], lines: &[Map<String, Value>]) {
    assert_eq!(rows.len(), lines.len());
    for (row, line) in rows.iter().zip(lines) {
        for (name, value) in row.iter().filter(|(name, _)| *name != "owner_cgroup") {
            let said = line.get(name).unwrap_or(&Value::Null);
            assert_eq!(value, said, "{name} of {line:#?}");
        }
        for (name, _) in line.iter().filter(|(_, value)| !value.is_null()) {
            let null_there = ["owner", "by", "closed_by", "timer"].contains(&name.as_str());
            assert!(row.contains_key(name) || null_there, "{name} is no column: {line:#?}");
        }
    }
}

fn resync() -> Resync {
    Resync {
        why: Why::Lost,
        duration_ns: 5_000,
        namespaces: 2,
        unread: 1,
        broken: Broken { restarts: 3, unreadable: 4 },
        reconciled: Reconciled { sockets: 10, found: 7, corrected: 6, vanished: 5 },
    }
}

/// The ways out that are no entry: two kinds lost, a look.
fn remarks(sink: &mut Columnar<&mut Vec<u8>>, json: &mut Vec<u8>, wall: &mut Wall) {
    let mut counters = Counters::ZERO;
    counters.lost[0] = 17;
    let lost = LostCounts::new(&counters, 3, 0);
    sink.lost(4_999, &lost).expect("memory");
    wire::lost(json, wall, 4_999, &lost).expect("memory");
    sink.resynced(5_000, &resync(), &mut Recorded::default()).expect("memory");
    wire::resync(json, wall, 5_000, &resync()).expect("memory");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// In any number of row groups.
    #[test]
    fn rows_say_what_the_json_says(
        entries in proptest::collection::vec(any::entry(), 0..60),
        group_rows in 1..40_usize,
    ) {
        let (mut json, mut wall) = (Vec::new(), Wall::new(OFFSET_NS));
        let mut owners = wire::Owners::new(Places::recorded());
        let mut file = Vec::new();
        let mut sink = columnar(&mut file);
        sink.group_rows = group_rows;
        for entry in &entries {
            sink.entry(entry).expect("memory");
            wire::entry(&mut json, &mut wall, &mut owners, entry).expect("memory");
        }
        remarks(&mut sink, &mut json, &mut wall);
        let count = sink.rows();
        sink.finish(&Closing::Complete).expect("memory");
        let metadata = reader(file.clone()).metadata().clone();
        assert_eq!(metadata.num_row_groups(), (entries.len() + 3).div_ceil(group_rows));
        assert_eq!(metadata.file_metadata().num_rows().cast_unsigned(), count);
        assert_same(&rows(file), &flat(&json));
    }
}

fn empty() -> Vec<u8> {
    let mut file = Vec::new();
    columnar(&mut file).finish(&Closing::Complete).expect("memory");
    file
}

#[test]
fn nothing_is_a_file_too() {
    let file = empty();
    assert_eq!(reader(file.clone()).metadata().num_row_groups(), 0);
    assert!(rows(file).is_empty());
}

#[test]
fn names_are_columns_once() {
    let mut names: Vec<_> = COLUMNS.iter().map(|column| column.name).collect();
    let reader = reader(empty());
    let schema = reader.metadata().file_metadata().schema_descr();
    let written: Vec<_> = schema.columns().iter().map(|column| column.name().to_owned()).collect();
    assert_eq!(written, names);
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), written.len());
    assert!(names.contains(&"type"));
}

/// The end of the file says how it ended.
#[test]
fn the_metadata_says_what_is_missing() {
    let ends = [(Closing::Complete, None), (Closing::CutOff("no end".into()), Some("no end"))];
    for (closing, why) in ends {
        let mut file = Vec::new();
        let mut sink = columnar(&mut file);
        remarks(&mut sink, &mut Vec::new(), &mut Wall::new(0));
        sink.finish(&closing).expect("memory");
        let reader = reader(file);
        let said = reader.metadata().file_metadata().key_value_metadata().expect("some");
        let value = |key: &str| {
            let found = said.iter().find(|said| said.key == format!("tcptrace.{key}"));
            found.and_then(|found| found.value.as_deref())
        };
        assert_eq!(value("schema"), Some("1"));
        assert_eq!(value("version"), Some("0.0.9"));
        assert_eq!(value("kernel"), Some("6.1.0"));
        assert_eq!(value("began_ns"), Some("77"));
        assert_eq!(value("filter"), Some("--port 80"));
        assert_eq!(value("lost"), Some("20"));
        assert_eq!(value("mono_to_unix_ns"), Some("1600000000000000999"));
        assert_eq!(value("complete"), Some(if why.is_none() { "true" } else { "false" }));
        assert_eq!(value("cut_off"), why);
    }
}

/// Texts of which every row has another end the row group before they fill the memory.
#[test]
fn long_texts_end_a_row_group() {
    let mut sink = columnar(io::sink());
    let mut seen = 0;
    for number in 0..40_u32 {
        let text = format!("{number}{}", "x".repeat(1 << 20));
        sink.push(super::schema::Row {
            time: Some(0),
            mono_ns: Some(0),
            r#type: Some(&text),
            ..Default::default()
        })
        .expect("it goes nowhere");
        seen = seen.max(sink.waiting);
    }
    assert!((2..20).contains(&seen), "{seen}");
}

/// Takes a number of bytes, then fails as a full disk does.
struct Disk {
    left: Arc<AtomicUsize>,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = bytes.len().min(left);
        self.left.store(left - written, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Wherever it becomes full.
#[test]
fn a_full_disk_is_told_as_one() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let tree = proptest::collection::vec(any::entry(), 50).new_tree(&mut runner).expect("entries");
    let entries: Vec<Entry> = proptest::strategy::ValueTree::current(&tree);
    let write = |to: Disk| -> io::Result<()> {
        let mut sink = begun(to)?;
        sink.group_rows = 20;
        entries.iter().try_for_each(|entry| sink.entry(entry).map(drop))?;
        sink.finish(&Closing::Complete)
    };
    let room = 1 << 20;
    let left = Arc::new(AtomicUsize::new(room));
    write(Disk { left: Arc::clone(&left) }).expect("there is room");
    let size = room - left.load(Ordering::Relaxed);
    for room in (0..size).step_by(997).chain([size - 1]) {
        let error = write(Disk { left: Arc::new(AtomicUsize::new(room)) }).expect_err("there is none");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{room} of {size}: {error}");
    }
    write(Disk { left: Arc::new(AtomicUsize::new(size)) }).expect("just enough");
}
