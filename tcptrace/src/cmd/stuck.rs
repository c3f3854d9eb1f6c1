//! `tcptrace stuck`: which connections do not move, why, whose they are, until when, and what to do.

pub mod observer;

use super::{
    block_on,
    filter_args::FilterArgs,
    trace::{Format, quietly},
};
use crate::{
    cli,
    diagnose::{Diagnosis, Scene, group::group},
    error::{EXIT_FOUND, EXIT_OK, StartError},
    run::{Next, Run, Signals, Wanted, look::Looks},
    source::{
        filter::FilterSpec,
        live::{Live, wall_offset_ns},
        load::{HookChoice, LoadOptions, RetransmitChoice},
        netns,
    },
    tell,
    view::{self, ColorChoice, Palette},
    wall::Wall,
    wire,
};
use anyhow::Context;
use observer::{Observer, Show};
use std::{
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

/// Arguments of `stuck`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 nothing is stuck, 1 something is, 2 it could not be looked at.\n\n\
    Examples:\n  \
    tcptrace stuck                              everything past the limit of its state (docs/diagnoses.md)\n  \
    tcptrace stuck --state fin-wait-1 -v        each of them, with the evidence\n  \
    tcptrace stuck --state close-wait --older-than 1m --lport 8080\n  \
    tcptrace stuck --watch                      again and again; remembers who closed what\n  \
    tcptrace stuck --format json | jq .         for programs (docs/events.md)")]
pub struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// Network namespace, instead of all: a name of `ip netns`, a pid, a file, or net:[number]
    #[arg(long, value_name = "NETNS", help_heading = "Filter")]
    netns: Vec<String>,
    /// Not moving for longer than this, instead of the limits of each state: 90s, 5m
    #[arg(long, value_parser = cli::duration, allow_hyphen_values = true, value_name = "TIME", help_heading = "Filter")]
    older_than: Option<Duration>,
    /// Look again and again until interrupted, so often (2s if no time is given)
    #[arg(long, value_parser = cli::interval, num_args = 0..=1, default_missing_value = "2s", value_name = "TIME", help_heading = "Looking")]
    watch: Option<Duration>,
    /// How long to watch events before the answer: bursts of resets and refusals, failed sends and growth show only in time
    #[arg(long = "for", value_parser = cli::interval, allow_hyphen_values = true, default_value = "1s", value_name = "TIME", conflicts_with = "watch", help_heading = "Looking")]
    watch_for: Duration,
    /// Do not trace; only look at the sockets
    #[arg(long, help_heading = "Looking")]
    no_trace: bool,
    /// Each connection with its evidence
    #[arg(short, long, help_heading = "Output")]
    verbose: bool,
    /// Output format
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    format: Format,
    /// Colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    color: ColorChoice,
}

/// Looks, once or again and again; the exit code says whether anything is stuck.
///
/// # Errors
/// What is wrong, why, and what to type.
pub fn run(args: Args) -> anyhow::Result<u8> {
    let mut filter = args.filter.spec()?;
    let netns: Result<_, String> = args.netns.iter().map(|text| netns::find(text)).collect();
    filter.netns = netns.map_err(anyhow::Error::msg).context("--netns")?;
    let looks = if args.watch.is_some() { u64::MAX } else { 2 };
    let every = args.watch.unwrap_or(args.watch_for);
    // A flow is judged by all its states: which are shown is decided at the end.
    let states = std::mem::take(&mut filter.states);
    let output = Output {
        states,
        older_than: args.older_than,
        verbose: args.verbose,
        again: args.watch.is_some(),
        format: args.format,
        palette: Palette::new(args.color),
        wall: Wall::new(wall_offset_ns()),
        line: Vec::new(),
        found: false,
    };
    let mut observer = Observer::new(&filter, args.older_than, looks, output);
    let found = block_on(async {
        let signals = Signals::listen()?;
        let traced = if args.no_trace { Err("--no-trace".to_owned()) } else { start(&filter) };
        match traced {
            Ok(live) => {
                observer.traced();
                let wanted = Wanted {
                    filter,
                    max_flows: crate::flow::DEFAULT_MAX_FLOWS,
                    resync: Some(every),
                    eager: args.watch.is_none(),
                };
                let run = Run::new(signals, live, wanted);
                let ended = run.until_stopped(None, std::future::pending(), &mut observer).await;
                ended.context("cannot write to standard output")?;
            }
            Err(why) => {
                observer.not_traced(why);
                look_again(signals, filter, every, looks, &mut observer).await?;
            }
        }
        Ok(observer.show.found)
    })?;
    Ok(if found { EXIT_FOUND } else { EXIT_OK })
}

/// Starts to trace; the first line of why not.
pub(super) fn start(filter: &FilterSpec) -> Result<Live, String> {
    let options = LoadOptions {
        hooks: HookChoice::default(),
        retransmit: RetransmitChoice::default(),
        ring_bytes: RING_BYTES,
        btf: Some(PathBuf::from(crate::source::btf::KERNEL_BTF)),
        filter: filter.clone(),
    };
    Live::start(&options).map_err(|error| match error {
        StartError::Capability { missing, .. } => format!("tracing needs {}", missing.join(" and ")),
        error => error.to_string().lines().next().unwrap_or_default().to_owned(),
    })
}

/// The default of `watch --ring-size`.
const RING_BYTES: u32 = 8 << 20;

/// Without a trace: two looks, or one after the other.
async fn look_again(
    mut signals: Signals,
    filter: FilterSpec,
    every: Duration,
    most: u64,
    observer: &mut Observer<Output>,
) -> anyhow::Result<()> {
    let mut looks = Looks::new(filter);
    for number in 1..=most {
        match looks.look(observer) {
            Ok(Next::Continue) if number < most => {}
            Ok(_) => break,
            Err(error) => return quietly(Err(error)).map(drop),
        }
        tokio::select! {
            () = signals.any() => break,
            () = tokio::time::sleep(every) => {}
        }
    }
    Ok(())
}

/// Standard output, in either format.
struct Output {
    states: Vec<crate::event::TcpState>,
    older_than: Option<Duration>,
    verbose: bool,
    again: bool,
    format: Format,
    palette: Palette,
    wall: Wall,
    line: Vec<u8>,
    found: bool,
}

impl Show for Output {
    /// In one go: half a page helps nobody.
    fn show(&mut self, scene: &Scene, mut diagnosis: Diagnosis, notes: &[String]) -> io::Result<()> {
        if !self.states.is_empty() {
            diagnosis.findings.retain(|finding| self.states.contains(&finding.subject.state));
        }
        self.found = !diagnosis.findings.is_empty();
        match self.format {
            Format::Json => {
                for finding in &diagnosis.findings {
                    wire::finding::line(&mut self.line, &mut self.wall, scene.taken.from_ns, finding)?;
                }
                wire::finding::end(&mut self.line, &mut self.wall, scene, &diagnosis, notes)?;
            }
            Format::Text => {
                let page = view::finding::Page {
                    palette: &self.palette,
                    verbose: self.verbose,
                    older_than: self.older_than,
                    time: self.again.then(|| self.wall.clock(scene.taken.from_ns).to_owned()),
                };
                let counts = view::finding::Counts::new(scene, &diagnosis);
                page.write(&mut self.line, &counts, &group(diagnosis.findings), notes)?;
            }
        }
        let mut out = io::stdout().lock();
        let written = out.write_all(&self.line).and_then(|()| out.flush());
        self.line.clear();
        written
    }
}

/// Says that nothing could be traced, and what that costs.
pub(super) fn tell_untraced(why: &str) {
    tell!(
        "not traced ({why}): bursts of refusals and resets, failed sends, and who closed an orphan are not seen"
    );
}
