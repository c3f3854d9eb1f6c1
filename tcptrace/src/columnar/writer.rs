//! The sink: collects rows and writes them a row group at a time. Only ever appends, so it writes into pipes, too.

use super::{
    kind::Texts,
    row::{self, Beside},
    schema::{self, COLUMNS, Columns, Row},
};
use crate::{
    flow::Entry,
    run::{Next, Origin, Sink, Started, report::Resync},
    source::surroundings::Surroundings,
    summary::LostCounts,
};
use parquet::{
    basic::Compression,
    errors::ParquetError,
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, WriterProperties},
        writer::SerializedFileWriter,
    },
};
use std::{io, mem, sync::Arc};

/// Rows of a row group: engines read groups in parallel and skip them by their smallest and largest values, and all of
/// one is in memory until it is written.
const GROUP_ROWS: usize = 65_536;
/// Texts of a row group: where nearly every row has names of its own, it ends earlier.
const GROUP_TEXT_BYTES: usize = 16 << 20;
/// Text in statistics: enough to tell any state, cause or address from others.
const STATISTICS_BYTES: usize = 64;

/// Entries as Parquet.
pub struct Columnar<W: io::Write + Send> {
    file: SerializedFileWriter<W>,
    columns: Columns,
    texts: Texts,
    origin: Origin,
    /// What the end of the file says of the trace: name and value.
    about: Vec<(&'static str, String)>,
    /// Collected and not written.
    pub(super) waiting: usize,
    pub(super) group_rows: usize,
    rows: u64,
    lost: u64,
}

/// How the entries ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closing {
    /// Everything is there.
    Complete,
    /// Something follows that could not be read, and why.
    CutOff(String),
}

impl<W: io::Write + Send> Columnar<W> {
    /// Begins a file about a trace that began so.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn new(to: W, origin: Origin, started: &Started) -> io::Result<Self> {
        let mut properties = WriterProperties::builder()
            .set_created_by(format!("tcptrace version {}", env!("CARGO_PKG_VERSION")))
            .set_compression(Compression::LZ4_RAW)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_statistics_truncate_length(Some(STATISTICS_BYTES))
            .set_offset_index_disabled(true);
        for column in COLUMNS {
            if let Some(encoding) = column.encoding() {
                properties = properties
                    .set_column_dictionary_enabled(column.path(), false)
                    .set_column_encoding(column.path(), encoding);
            }
        }
        let schema = schema::parquet().map_err(written)?;
        let file = SerializedFileWriter::new(to, schema, Arc::new(properties.build())).map_err(written)?;
        let (columns, texts) = (Columns::default(), Texts::default());
        Ok(Self {
            file,
            columns,
            texts,
            origin,
            about: about(started),
            waiting: 0,
            group_rows: GROUP_ROWS,
            rows: 0,
            lost: 0,
        })
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes what is left and the end of the file, without which it cannot be read.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(mut self, closing: &Closing) -> io::Result<()> {
        self.write_group()?;
        let mut about = mem::take(&mut self.about);
        about.push(("lost", self.lost.to_string()));
        about.push(("complete", (*closing == Closing::Complete).to_string()));
        if let Closing::CutOff(why) = closing {
            about.push(("cut_off", why.clone()));
        }
        for (key, value) in about {
            self.file.append_key_value_metadata(KeyValue::new(format!("tcptrace.{key}"), value));
        }
        self.file.finish().map_err(written)?;
        self.file.flush()
    }

    pub(super) fn push(&mut self, row: Row<'_>) -> io::Result<()> {
        self.columns.push(row, &mut self.texts);
        self.rows += 1;
        self.waiting += 1;
        if self.waiting >= self.group_rows || self.texts.bytes() >= GROUP_TEXT_BYTES {
            self.write_group()?;
        }
        Ok(())
    }

    fn write_group(&mut self) -> io::Result<()> {
        if self.waiting == 0 {
            return Ok(());
        }
        let mut group = self.file.next_row_group().map_err(written)?;
        self.columns.write(&mut group, &self.texts).map_err(written)?;
        group.close().map_err(written)?;
        self.texts.clear();
        self.waiting = 0;
        Ok(())
    }

    fn time_us(&self, mono_ns: u64) -> i64 {
        mono_ns.cast_signed().saturating_add(self.origin.wall_offset_ns).div_euclid(1000)
    }
}

impl<W: io::Write + Send> Sink for Columnar<W> {
    fn entry(&mut self, entry: &Entry) -> io::Result<Next> {
        let beside = Beside::of(entry, &self.origin.places);
        self.push(row::of(entry, self.time_us(entry.time_ns), &beside))?;
        Ok(Next::Continue)
    }

    fn lost(&mut self, now_ns: u64, lost: &LostCounts) -> io::Result<()> {
        self.lost += lost.total();
        for (kind, count) in lost.each().filter(|(_, count)| *count > 0) {
            self.push(row::lost(kind, count, self.time_us(now_ns), now_ns))?;
        }
        Ok(())
    }

    fn resynced(&mut self, now_ns: u64, resync: &Resync, _: &mut dyn Surroundings) -> io::Result<Next> {
        self.push(row::resync(resync, self.time_us(now_ns), now_ns))?;
        Ok(Next::Continue)
    }

    /// Rows wait until there are enough of them.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn about(started: &Started) -> Vec<(&'static str, String)> {
    let mut about = vec![
        ("schema", schema::VERSION.to_string()),
        ("version", started.version.clone()),
        ("kernel", started.kernel.clone()),
        ("began_ns", started.began_ns.to_string()),
        ("mono_to_unix_ns", started.wall_offset_ns.to_string()),
    ];
    about.extend(started.filter.iter().map(|filter| ("filter", filter.clone())));
    about
}

/// The writer wraps what went wrong below it: a full disk, a closed pipe.
fn written(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(other) => io::Error::other(other),
        },
        other => other.into(),
    }
}
