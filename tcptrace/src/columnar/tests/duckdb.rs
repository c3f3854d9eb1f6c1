//! DuckDB reads what was written: the same types, the same rows.

use super::{OFFSET_NS, any, assert_same, columnar, flat, remarks};
use crate::{
    columnar::{COLUMNS, Closing},
    enrich::Places,
    run::Sink,
    wall::Wall,
    wire,
};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use serde_json::Map;
use std::{env, fs};

#[path = "../../../tests/support/duckdb.rs"]
mod engine;
use engine::query;

#[test]
#[ignore = "needs duckdb: reads the file back with it"]
fn duckdb_reads_the_same() {
    let mut runner = TestRunner::deterministic();
    let entries =
        proptest::collection::vec(any::entry(), 500).new_tree(&mut runner).expect("entries").current();
    let path = env::temp_dir().join(format!("tcptrace-duckdb-{}.parquet", std::process::id()));
    let (mut file, mut json) = (Vec::new(), Vec::new());
    let (mut wall, mut owners) = (Wall::new(OFFSET_NS), wire::Owners::new(Places::recorded()));
    let mut sink = columnar(&mut file);
    sink.group_rows = 200;
    for entry in &entries {
        sink.entry(entry).expect("memory");
        wire::entry(&mut json, &mut wall, &mut owners, entry).expect("memory");
    }
    remarks(&mut sink, &mut json, &mut wall);
    sink.finish(&Closing::Complete).expect("memory");
    fs::write(&path, &file).expect("written");
    let from = format!("'{}'", path.display());

    let types = query(&format!("SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM {from})"));
    let types: Vec<_> =
        types.iter().map(|row| (row[0].as_str().unwrap(), row[1].as_str().unwrap())).collect();
    // The list has the short name.
    let long = |sql| if sql == "TIMESTAMPTZ" { "TIMESTAMP WITH TIME ZONE" } else { sql };
    let ours: Vec<_> = COLUMNS.iter().map(|column| (column.name, long(column.sql))).collect();
    assert_eq!(types, ours);

    let columns: Vec<_> = COLUMNS.iter().map(|column| column.name).collect();
    let rest = columns[1..].join(", ");
    let all = query(&format!("SELECT epoch_us(time), {rest} FROM {from}"));
    let rows: Vec<Map<_, _>> =
        all.into_iter().map(|row| columns.iter().map(|name| (*name).to_owned()).zip(row).collect()).collect();
    let lines = flat(&json);
    assert_same(&rows, &lines);

    // And so do counts by what is in the file, over all row groups.
    let counts = query(&format!("SELECT type, count(*) FROM {from} GROUP BY type ORDER BY type"));
    assert_eq!(counts.len(), 8, "{counts:?}");
    for count in counts {
        let same = lines.iter().filter(|line| line["type"] == count[0]).count();
        assert_eq!(count[1], same, "{}", count[0]);
    }
    let groups = query(&format!("SELECT count(DISTINCT row_group_id) FROM parquet_metadata({from})"));
    assert_eq!(groups, [[3]]);
    let said = query(&format!(
        "SELECT decode(value) FROM parquet_kv_metadata({from}) WHERE decode(key) = 'tcptrace.complete'"
    ));
    assert_eq!(said, [["true"]]);
    fs::remove_file(path).expect("it is ours");
}
