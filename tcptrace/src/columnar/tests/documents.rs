//! docs/parquet.md has every column, as it is.

use crate::columnar::{COLUMNS, Column};

const DOCUMENT: &str = include_str!("../../../../docs/parquet.md");

#[test]
fn the_document_has_the_table() {
    let mut table = String::from("| column | type | in rows | meaning |\n| --- | --- | --- | --- |\n");
    for Column { name, sql, required, rows, meaning, .. } in COLUMNS {
        let null = if *required { " NOT NULL" } else { "" };
        let meaning = meaning.replace('|', "\\|");
        table.push_str(&format!("| `{name}` | {sql}{null} | {rows} | {meaning} |\n"));
    }
    assert!(DOCUMENT.contains(&table), "docs/parquet.md must have this table:\n{table}");
}
