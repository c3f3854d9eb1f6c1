//! `tcptrace convert`: a recording for query engines.

use clap::ValueEnum;
use std::path::PathBuf;

/// What a recording can become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum To {
    /// Apache Parquet: one table, one row for each event (docs/parquet.md)
    #[default]
    Parquet,
}

/// Arguments of `convert`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tcptrace convert incident.tct --to parquet             makes incident.parquet\n  \
    duckdb -c \"SELECT cause, count(*) FROM 'incident.parquet' WHERE type = 'close' GROUP BY cause\"\n  \
    tcptrace convert incident.tct -o - | aws s3 cp - s3://BUCKET/host=web1/incident.parquet\n\
    For lines of JSON: tcptrace watch --from incident.tct --format json")]
pub struct Args {
    /// The recording (`tcptrace record`); `-`: standard input
    file: PathBuf,
    /// What it becomes
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    to: To,
    /// Where to: a file, or `-` for a pipe; without this the recording's name, ending in .parquet
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace a file of that name
    #[arg(long)]
    force: bool,
}

#[cfg(not(feature = "parquet"))]
/// Says that it cannot.
///
/// # Errors
/// Always.
pub fn run(_: Args) -> anyhow::Result<()> {
    anyhow::bail!(
        "this tcptrace was built without Parquet; build it with: cargo build --release --features parquet\n  \
         or take lines of JSON: tcptrace watch --from FILE --format json"
    )
}

#[cfg(feature = "parquet")]
pub use parquet::run;

#[cfg(feature = "parquet")]
mod parquet {
    use super::{Args, To};
    use crate::{
        cmd::feed::recording,
        columnar::{Closing, Columnar, Target, TargetError},
        record::playback::Playback,
        source::filter::FilterSpec,
        tell,
        view::Bytes,
    };
    use std::{
        ffi::OsStr,
        fs,
        io::{self, Write},
        os::unix::fs::MetadataExt,
        path::{Path, PathBuf},
    };

    /// Converts.
    ///
    /// # Errors
    /// What is wrong, why, and what to type.
    pub fn run(args: Args) -> anyhow::Result<()> {
        let Args { file, to: To::Parquet, output, force } = args;
        let output = output.unwrap_or_else(|| beside(&file));
        let playback = recording(&file, FilterSpec::default())?;
        anyhow::ensure!(
            !same(&file, &output),
            "{} is the recording itself; -o names another file",
            output.display()
        );
        let shown = if output.as_os_str() == "-" { "standard output".into() } else { output.clone() };
        let mut target = Counted { target: Target::open(&output, force)?, bytes: 0 };
        let (rows, flaws) = match write(playback, &mut target) {
            Ok(written) => written,
            // Nobody reads any more.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(TargetError::Write { path: shown, error }.into()),
        };
        let Counted { target, bytes } = target;
        target.complete()?;
        for flaw in &flaws {
            tell!("{}: {flaw}", file.display());
        }
        let all = if flaws.is_empty() { "" } else { ": all that could be read" };
        tell!("{rows} rows, {}, to {}{all}", Bytes(bytes), shown.display());
        Ok(())
    }

    /// How many rows, and what is wrong with the recording.
    fn write(playback: Playback, to: &mut Counted) -> io::Result<(u64, Vec<String>)> {
        let mut columnar = Columnar::new(to, playback.origin().clone(), playback.started())?;
        let flaws = playback.play(None, &mut columnar)?.flaws;
        let rows = columnar.rows();
        let closing = if flaws.is_empty() { Closing::Complete } else { Closing::CutOff(flaws.join("; ")) };
        columnar.finish(&closing)?;
        Ok((rows, flaws))
    }

    /// `incident.tct` becomes `incident.parquet`, what comes from a pipe goes into one.
    fn beside(file: &Path) -> PathBuf {
        let rotated = |ending: &OsStr| ending.as_encoded_bytes().iter().all(u8::is_ascii_digit);
        match file.extension() {
            None if file.as_os_str() == "-" => file.to_path_buf(),
            // `incident.tct.2` is one file of several.
            Some(ending) if rotated(ending) => {
                let mut name = file.as_os_str().to_owned();
                name.push(".parquet");
                name.into()
            }
            _ => file.with_extension("parquet"),
        }
    }

    fn same(one: &Path, other: &Path) -> bool {
        let identity = |path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
        identity(one).is_some_and(|one| identity(other) == Some(one))
    }

    struct Counted {
        target: Target,
        bytes: u64,
    }

    impl Write for Counted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let written = self.target.write(bytes)?;
            self.bytes += written as u64;
            Ok(written)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.target.flush()
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn names_beside() {
            for (file, output) in [
                ("incident.tct", "incident.parquet"),
                ("a.b/incident", "a.b/incident.parquet"),
                ("incident.tct.2", "incident.tct.2.parquet"),
                ("-", "-"),
            ] {
                assert_eq!(beside(Path::new(file)), Path::new(output));
            }
        }
    }
}
