//! Entries as columns: a Parquet file that query engines read. docs/parquet.md is its contract.

mod kind;
mod row;
mod schema;
mod target;
mod writer;

pub use schema::{COLUMNS, Column, VERSION};
pub use target::{Target, TargetError};
pub use writer::{Closing, Columnar};

#[cfg(test)]
mod tests;
