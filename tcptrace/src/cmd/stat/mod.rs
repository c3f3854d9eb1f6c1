//! `tcptrace stat`: how many sockets are in which state, how near to the limits, and what happens to them by the second.

mod look;
mod owners;
mod replay;
mod ticks;
mod tracing;

use super::{
    feed::recording,
    filter_args::{FilterArgs, named, present},
    sandbox_args::SandboxArgs,
    trace::Format,
};
use crate::{
    cli,
    source::{filter::FilterSpec, live::wall_offset_ns, netns::Namespace},
    stat::{by::By, report::Report},
    tell,
    view::{self, ColorChoice, Palette},
    wall::Wall,
    wire,
};
use anyhow::{Context, bail};
use look::{Looker, Which};
use replay::{Reports, Wanted};
use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

/// Arguments of `stat`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tcptrace stat                        sockets by state, limits, accept queues, and what stands out\n  \
    tcptrace stat 1                      the same by the second, with rates\n  \
    tcptrace stat --by port              which service has them\n  \
    tcptrace stat --by peer --state time-wait --top 5\n  \
    tcptrace stat 10 6 --format json     six lines of ten seconds each (docs/events.md)")]
pub struct Args {
    /// Time between two reports: 1, 500ms, 1m; without it there is one report, and no rates
    #[arg(value_parser = cli::duration, allow_hyphen_values = true)]
    interval: Option<Duration>,
    /// Stop after this many reports
    #[arg(value_parser = |text: &str| cli::some::<u64>(text, "reports"), allow_hyphen_values = true)]
    count: Option<u64>,
    /// Group the sockets
    #[arg(long, value_enum, value_name = "WHAT", help_heading = "Groups")]
    by: Option<By>,
    /// Groups shown; the rest is one row
    #[arg(long, default_value_t = 20, value_parser = |text: &str| cli::some::<usize>(text, "groups"), value_name = "N", help_heading = "Groups", requires = "by")]
    top: usize,
    /// Network namespace, instead of this one: a name of `ip netns`, a pid, a file, or net:[number]
    #[arg(long, value_name = "NETNS", help_heading = "Filter")]
    netns: Vec<String>,
    /// Every network namespace that can be found
    #[arg(long, conflicts_with = "netns", help_heading = "Filter")]
    all_netns: bool,
    #[command(flatten)]
    filter: FilterArgs,
    /// Of a recording (`tcptrace record`): the last list of all sockets in it, or with an interval each; `-`: standard input
    #[arg(long, value_name = "FILE", help_heading = "Recording")]
    from: Option<PathBuf>,
    #[command(flatten)]
    sandbox: SandboxArgs,
    /// Output format
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    format: Format,
    /// Colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    color: ColorChoice,
}

/// Looks once, or again and again.
///
/// # Errors
/// What is wrong, why, and what to type.
pub fn run(args: Args) -> anyhow::Result<()> {
    let filter = args.filter.spec()?;
    if let Some(path) = args.from.clone() {
        return replayed(&args, &path, filter);
    }
    let which = if args.all_netns {
        Which::All
    } else if args.netns.is_empty() {
        Which::These(vec![Namespace::own()?])
    } else {
        Which::These(named(&args.netns)?)
    };
    let mut looker = Looker::new(which, filter, args.by, args.top);
    let mut output = Output::new(args.format, args.color);
    match args.interval {
        None => {
            let report = looker.look()?;
            super::trace::quietly(output.page(&report)).map(drop)
        }
        Some(interval) => {
            super::block_on(ticks::run(looker, interval, args.count, output, args.sandbox.into()))
        }
    }
}

fn replayed(args: &Args, path: &Path, filter: FilterSpec) -> anyhow::Result<()> {
    let playback = recording(path, FilterSpec::default())?;
    let started = playback.started();
    let netns = match (args.all_netns, args.netns.as_slice()) {
        (true, _) => Default::default(),
        // As without a recording: one's own, if it was traced.
        (false, []) if started.netns == 0 => Default::default(),
        (false, []) => [started.netns].into(),
        (false, named) => present(named, true)?,
    };
    let wanted = Wanted {
        filter: FilterSpec { netns, ..filter },
        by: args.by,
        top: args.top,
        interval: args.interval,
        count: args.count,
    };
    let origin = playback.origin().clone();
    let output = Output { wall: origin.wall(), ..Output::new(args.format, args.color) };
    let mut reports = Reports::new(wanted, origin.places, output, started.is_traced());
    let played = playback.play(None, &mut reports).context("cannot write to standard output")?;
    played.flaws.iter().for_each(|flaw| tell!("{flaw}"));
    match reports.finish() {
        Ok(false) => bail!("{}: the recording has no list of sockets to report", path.display()),
        Ok(true) => Ok(()),
        Err(error) => super::trace::quietly(Err(error)).map(drop),
    }
}

/// Standard output, in either format.
struct Output {
    format: Format,
    palette: Palette,
    wall: Wall,
    line: Vec<u8>,
    before: view::stat::tick::Before,
}

impl Output {
    fn new(format: Format, color: ColorChoice) -> Self {
        let palette = Palette::new(color);
        Self {
            format,
            palette,
            wall: Wall::following(wall_offset_ns(), wall_offset_ns),
            line: Vec::new(),
            before: Default::default(),
        }
    }

    /// The only report.
    fn page(&mut self, report: &Report) -> io::Result<()> {
        match self.format {
            Format::Text => view::stat::page(&mut self.line, &self.palette, report)?,
            Format::Json => wire::stat::line(&mut self.line, &mut self.wall, report)?,
        }
        self.write()
    }

    /// One of many.
    fn tick(&mut self, report: &Report) -> io::Result<()> {
        match self.format {
            Format::Text => {
                let (line, palette) = (&mut self.line, &self.palette);
                self.before = view::stat::tick::write(line, palette, &mut self.wall, report, &self.before)?;
            }
            Format::Json => wire::stat::line(&mut self.line, &mut self.wall, report)?,
        }
        self.write()
    }

    /// A report is written at once: half a page helps nobody.
    fn write(&mut self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let written = out.write_all(&self.line).and_then(|()| out.flush());
        self.line.clear();
        written
    }
}
