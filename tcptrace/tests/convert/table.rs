//! The table, asked by DuckDB.

use crate::{Folder, convert, duckdb::query, recordings, support, text};
use serde_json::Value;
use std::{collections::BTreeMap, path::Path};

const DOCUMENT: &str = include_str!("../../../docs/parquet.md");

/// All recordings as tables; the folder, and a pattern that names them.
fn tables(name: &str) -> (Folder, String) {
    let folder = Folder::new(name);
    for recording in recordings() {
        let out = folder.path(recording.file_name().unwrap().to_str().unwrap()).with_extension("parquet");
        let output = convert(&recording, &["-o", out.to_str().unwrap()]);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let pattern = format!("'{}'", folder.path("*.parquet").display());
    (folder, pattern)
}

/// What `watch` says of a recording.
fn lines(recording: &Path) -> Vec<Value> {
    let mut command = support::command(&["watch", "--format", "json", "--from"]);
    let output = command.arg(recording).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// How often something is there, and the sum of a number, by what it is.
type Sums = BTreeMap<Vec<String>, (u64, u64)>;

fn add(sums: &mut Sums, key: [&Value; 4], number: &Value) {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (count, sum) = sums.entry(key.map(word).to_vec()).or_default();
    *count += 1;
    *sum += number.as_u64().unwrap_or(0);
}

#[test]
#[ignore = "needs duckdb: counts in the tables of all recordings"]
fn tables_and_lines_say_the_same() {
    let (_folder, from) = tables("same");
    let mut said = Sums::new();
    for recording in recordings() {
        for line in lines(&recording)
            .iter()
            .filter(|line| !["start", "summary"].iter().any(|not| line["type"] == *not))
        {
            let state = if line["old"].is_null() { &line["state"] } else { &line["old"] };
            add(
                &mut said,
                [&line["type"], state, &line["cause"], &line["owner"]["comm"]],
                &line["in_state_ns"],
            );
        }
    }
    assert!(said.len() > 20, "{said:?}");
    let rows = query(&format!(
        "SELECT type, coalesce(old, state, ''), coalesce(cause, ''), coalesce(owner_comm, ''), count(*), \
         coalesce(sum(in_state_ns), 0)::BIGINT FROM {from} GROUP BY ALL"
    ));
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let counted: Sums = rows
        .iter()
        .map(|row| {
            (row[..4].iter().map(word).collect(), (row[4].as_u64().unwrap(), row[5].as_u64().unwrap()))
        })
        .collect();
    assert_eq!(counted, said);
}

/// Of docs/parquet.md, on our recordings.
#[test]
#[ignore = "needs duckdb: runs the queries of the documentation"]
fn the_queries_of_the_document_work() {
    let (_folder, from) = tables("queries");
    let mut queries = 0;
    for block in DOCUMENT.split("```sql\n").skip(1) {
        let sql = block.split("```").next().unwrap().trim().trim_end_matches(';');
        assert!(sql.contains("'lab/*.parquet'"), "{sql}");
        let rows = query(&format!(
            "SELECT to_json(answer)::VARCHAR FROM ({}) answer",
            sql.replace("'lab/*.parquet'", &from)
        ));
        assert!(!rows.is_empty(), "{sql}: no rows");
        queries += 1;
    }
    assert!(queries >= 3, "{queries}");
}
