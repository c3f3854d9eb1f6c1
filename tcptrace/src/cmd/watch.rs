//! `tcptrace watch`: one line for each thing that happens.

use super::{
    feed::{Feed, FeedArgs},
    filter_args::ScopeArgs,
    trace::{Choice, Format, Only, Output, TraceArgs, hint_if_silent, quietly},
};
use crate::{cli, source::filter::FilterSpec};
use std::time::Duration;

/// What `--state` means for events.
const STATES: &str = "States entered or left, in any spelling; with this, times in states are mostly unknown";

/// Arguments of `watch`.
#[derive(Clone, Debug, clap::Args)]
#[command(mut_arg("state", |state| state.help(STATES)), after_help = "Examples:\n  \
    tcptrace watch --port 10000                    everything about one service\n  \
    tcptrace watch --only closes --rport 5432      why database connections end\n  \
    tcptrace watch --state fin-wait-1 --format json | jq .\n  \
    tcptrace watch --summary --duration 10s        counts only")]
pub struct Args {
    #[command(flatten)]
    scope: ScopeArgs,
    /// Command of the process that opened the connection; hides those whose owner is unknown (the summary counts all)
    #[arg(long, value_parser = cli::comm, value_name = "COMMAND", help_heading = "Filter")]
    comm: Vec<String>,
    /// Kinds of lines
    #[arg(long, value_enum, value_name = "KINDS", value_delimiter = ',', help_heading = "Output")]
    only: Vec<Only>,
    /// Stop after this time: 10s, 500ms, 1h 30m
    #[arg(long, value_parser = cli::duration, allow_hyphen_values = true, value_name = "TIME", help_heading = "Output")]
    duration: Option<Duration>,
    /// Stop after this many lines
    #[arg(long, value_parser = |text: &str| cli::some::<u64>(text, "lines"), allow_hyphen_values = true, value_name = "N", help_heading = "Output")]
    count: Option<u64>,
    /// Print only the summary
    #[arg(long, help_heading = "Output", conflicts_with = "count")]
    summary: bool,
    #[command(flatten)]
    feed: FeedArgs,
    #[command(flatten)]
    trace: TraceArgs,
}

/// Watches until told to stop.
///
/// # Errors
/// What is wrong, why, and what to type.
pub fn run(args: Args) -> anyhow::Result<()> {
    let filter = args.scope.spec(args.feed.from.is_some())?;
    let filtered = !args.comm.is_empty() || filter != FilterSpec::default();
    let choice = Choice {
        only: args.only,
        states: filter.states.clone(),
        comms: args.comm,
        count: args.count,
        summary_only: args.summary,
        sights: args.trace.format == Format::Json,
    };
    super::block_on(async {
        let feed = Feed::open(&args.feed, &args.trace.attach, filter)?;
        let origin = feed.origin();
        let mut output = Output::new(&args.trace, choice, &origin);
        if !quietly(output.begin(feed.started()))? {
            return Ok(());
        }
        let summary = feed.run(args.duration, &origin, &mut output).await?;
        output.end(&summary)?;
        hint_if_silent(&summary, filtered);
        Ok(())
    })
}
