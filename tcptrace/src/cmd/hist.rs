//! `tcptrace hist`: how often connections change their state, and how long they stay in each.

use super::{
    collector::Collector,
    feed::{Feed, FeedArgs},
    filter_args::ScopeArgs,
    trace::{Choice, Format, Output, TraceArgs, hint_if_silent, quietly},
};
use crate::{
    cli,
    event::TcpState,
    flow::Entry,
    hist::By,
    run::{Next, Reading, Sink, report::Resync},
    source::{filter::FilterSpec, surroundings::Surroundings},
    summary::{LostCounts, Summary},
    view::{self, Palette},
    wall::Wall,
    wire,
};
use std::{
    io::{self, Write},
    time::Duration,
};

/// What `--state` means here: the kernel lets everything through, or nobody would know when a state began.
const STATES: &str =
    "States shown, and transitions from or to them, in any spelling; everything is traced all the same";

/// Arguments of `hist`.
#[derive(Clone, Debug, clap::Args)]
#[command(mut_arg("state", |state| state.help(STATES)), after_help = "Examples:\n  \
    tcptrace hist --duration 1m                        all transitions, and how long connections were in each state\n  \
    tcptrace hist --port 10000 --state fin-wait-2      how long peers of one service take to close\n  \
    tcptrace hist --by port --top 5                    the same for each of the busiest services\n  \
    tcptrace hist --from incident.tct                  of a recording, without root\n  \
    tcptrace hist --duration 10s --format json | jq 'select(.type == \"hist\") | .matrix'")]
pub struct Args {
    #[command(flatten)]
    scope: ScopeArgs,
    /// Command of the process that opened the connection; leaves out those whose owner is unknown, and counts from events
    #[arg(long, value_parser = cli::comm, value_name = "COMMAND", help_heading = "Filter")]
    comm: Vec<String>,
    /// Group the connections
    #[arg(long, value_enum, value_name = "WHAT", help_heading = "Groups")]
    by: Option<By>,
    /// Groups shown; the rest is one
    #[arg(long, default_value_t = 10, value_parser = |text: &str| cli::some::<usize>(text, "groups"), allow_hyphen_values = true, value_name = "N", help_heading = "Groups", requires = "by")]
    top: usize,
    /// Stop after this time: 10s, 500ms, 1h 30m
    #[arg(long, value_parser = cli::duration, allow_hyphen_values = true, value_name = "TIME", help_heading = "Output")]
    duration: Option<Duration>,
    #[command(flatten)]
    feed: FeedArgs,
    #[command(flatten)]
    trace: TraceArgs,
}

/// Counts until told to stop, and then prints.
///
/// # Errors
/// What is wrong, why, and what to type.
pub fn run(args: Args) -> anyhow::Result<()> {
    let mut filter = args.scope.spec(args.feed.from.is_some())?;
    let filtered = !args.comm.is_empty() || filter != FilterSpec::default();
    let states = std::mem::take(&mut filter.states);
    // Of a recording the kernel has counted more than what is chosen from it now.
    let by_kernel = args.comm.is_empty() && (args.feed.from.is_none() || filter == FilterSpec::default());
    super::block_on(async {
        let feed = Feed::open(&args.feed, &args.trace.attach, filter)?;
        let origin = feed.origin();
        let choice = Choice { summary_only: true, ..Choice::default() };
        let mut output = Output::new(&args.trace, choice, &origin);
        if !quietly(output.begin(feed.started()))? {
            return Ok(());
        }
        let collector = Collector::new(args.by, args.comm, origin.places.clone());
        let mut teller = Teller { output, collector };
        let summary = feed.run(args.duration, &origin, &mut teller).await?;
        let page =
            Page { format: args.trace.format, palette: Palette::new(args.trace.color), states, by_kernel };
        quietly(page.print(teller.collector, &summary, args.top, &mut origin.wall()))?;
        hint_if_silent(&summary, filtered);
        Ok(())
    })
}

/// Collects, and tells at once what is to be told at once.
struct Teller {
    output: Output,
    collector: Collector,
}

impl Sink for Teller {
    fn entry(&mut self, entry: &Entry) -> io::Result<Next> {
        self.collector.entry(entry)
    }

    fn lost(&mut self, now_ns: u64, lost: &LostCounts) -> io::Result<()> {
        self.output.lost(now_ns, lost)
    }

    fn counted(&mut self, reading: &Reading<'_>) -> io::Result<()> {
        self.collector.counted(reading)
    }

    fn resynced(
        &mut self,
        now_ns: u64,
        resync: &Resync,
        surroundings: &mut dyn Surroundings,
    ) -> io::Result<Next> {
        self.output.resynced(now_ns, resync, surroundings)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// How it is printed.
struct Page {
    format: Format,
    palette: Palette,
    states: Vec<TcpState>,
    by_kernel: bool,
}

impl Page {
    fn print(&self, collector: Collector, summary: &Summary, most: usize, wall: &mut Wall) -> io::Result<()> {
        let report = collector.finish((self.by_kernel && summary.by_kernel).then_some(&summary.matrix), most);
        let mut text = Vec::new();
        match self.format {
            Format::Json => wire::hist::lines(&mut text, wall, &self.states, summary, &report)?,
            Format::Text => {
                let page = view::hist::Page { palette: &self.palette, states: &self.states, summary };
                page.write(&mut text, &report)?;
            }
        }
        let mut out = io::stdout().lock();
        out.write_all(&text).and_then(|()| out.flush())
    }
}
