//! `tcptrace record`: keeps what happens, for every view, later and elsewhere.

use super::{
    feed::{Feed, owner},
    filter_args::ScopeArgs,
    trace::AttachArgs,
};
use crate::{
    cli,
    flow::Entry,
    record::{
        file::{KEEP, Limits, Options},
        tape::FileTape,
    },
    run::{Next, Sink, report::Resync},
    source::surroundings::Surroundings,
    summary::LostCounts,
    tell,
};
use std::{io, path::PathBuf, time::Duration};

/// Arguments of `record`.
#[derive(Clone, Debug, clap::Args)]
#[command(mut_arg("state", |state| state.hide(true)), after_help = "Examples:\n  \
    sudo tcptrace record incident.tct                      until Ctrl-C; then, anywhere and without root:\n  \
    tcptrace stuck --from incident.tct                     what did not move when it ended\n  \
    tcptrace watch --from incident.tct --port 10000        each event\n  \
    sudo tcptrace record -d 1h --max-size 2GiB --keep 8 black-box.tct")]
pub struct Args {
    /// The file; further ones of a rotated recording stand beside it. Readable by its owner alone
    file: PathBuf,
    /// Stop after this time: 10s, 500ms, 1h 30m
    #[arg(short, long, value_parser = cli::duration, allow_hyphen_values = true, value_name = "TIME", help_heading = "Limits")]
    duration: Option<Duration>,
    /// What all its files together may take; the oldest goes when another begins
    #[arg(long, value_parser = cli::size, default_value = "1GiB", value_name = "BYTES", help_heading = "Limits")]
    max_size: u64,
    /// Begin another file after this time
    #[arg(long, value_parser = cli::duration, allow_hyphen_values = true, value_name = "TIME", help_heading = "Limits")]
    rotate: Option<Duration>,
    /// Files kept; with 1 the recording ends when it is full
    #[arg(long, value_parser = |text: &str| cli::some::<u32>(text, "files"), allow_hyphen_values = true, default_value_t = KEEP, value_name = "N", help_heading = "Limits")]
    keep: u32,
    /// Replace a recording of this name
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    scope: ScopeArgs,
    #[command(flatten)]
    attach: AttachArgs,
}

/// Records until told to stop.
///
/// # Errors
/// What is wrong, why, and what to type.
pub fn run(args: Args) -> anyhow::Result<()> {
    let filter = args.scope.spec(false)?;
    if !filter.states.is_empty() {
        anyhow::bail!("a recording has every state: give --state to the command that shows it");
    }
    let limits = Limits { max_bytes: Some(args.max_size), rotate_every: args.rotate, keep: args.keep };
    let sandbox = args.attach.sandbox.into();
    let options = Options { limits, force: args.force, owner: owner(), sandbox, ..Options::default() };
    let tape = FileTape::create(&args.file, options)?;
    super::block_on(async {
        let feed = Feed::recorded(tape, &args.attach, filter)?;
        tell!("recording to {}; Ctrl-C ends it", args.file.display());
        let origin = feed.origin();
        feed.run(args.duration, &origin, &mut Nobody).await.map(drop)
    })
}

/// Who shows nothing.
struct Nobody;

impl Sink for Nobody {
    fn entry(&mut self, _: &Entry) -> io::Result<Next> {
        Ok(Next::Continue)
    }

    fn lost(&mut self, _: u64, lost: &LostCounts) -> io::Result<()> {
        tell!("lost {} events: a larger --ring-size or a narrower filter helps", lost.total());
        Ok(())
    }

    fn resynced(&mut self, _: u64, _: &Resync, _: &mut dyn Surroundings) -> io::Result<Next> {
        Ok(Next::Continue)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
