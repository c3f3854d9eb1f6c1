//! DuckDB, as the Python that `cargo xtask setup --tests` brings can import it.
#![allow(clippy::expect_used)] // a test that cannot go on says so

use serde_json::Value;
use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// Prints what a query gives as one JSON array.
const QUERY: &str = "import json, sys, duckdb\n\
                     print(json.dumps(duckdb.connect().execute(sys.argv[1]).fetchall()))";

fn python() -> PathBuf {
    let folder = env::var_os("TCPTRACE_TOOLS").filter(|value| !value.is_empty());
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools");
    folder.map_or_else(usual, PathBuf::from).join("bin/duckdb-python")
}

/// The rows of a query; what JSON has no words for is to be cast in it.
#[track_caller]
pub fn query(sql: &str) -> Vec<Vec<Value>> {
    let output = Command::new(python()).args(["-c", QUERY, sql]).output().expect("DuckDB's Python starts");
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("an array of rows")
}
