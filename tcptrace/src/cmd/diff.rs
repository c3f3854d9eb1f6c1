//! `tcptrace diff`: what changed between two recordings.

use super::{
    block_on,
    collector::Collector,
    feed::recording,
    filter_args::ScopeArgs,
    observer::{Plan, Show, observe},
    trace::{Format, quietly},
};
use crate::{
    diagnose::{Diagnosis, Found, Scene},
    diff::{Diff, Side},
    sandbox::Sandbox,
    source::filter::FilterSpec,
    view::{self, ColorChoice, Palette},
    wall::Wall,
    wire,
};
use anyhow::{Context, bail};
use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

/// What `--state` means here, as in `hist`.
const STATES: &str = "States shown, and transitions from or to them, in any spelling";

/// What `--netns` means here.
const NETNS: &str = "Network namespace, as the recordings know it: net:[number]";

/// Arguments of `diff`.
#[derive(Clone, Debug, clap::Args)]
#[command(mut_arg("state", |state| state.help(STATES)), mut_arg("netns", |netns| netns.help(NETNS)), after_help = "Examples:\n  \
    sudo tcptrace record -d 5m before.tct                  then change something, and:\n  \
    sudo tcptrace record -d 5m after.tct\n  \
    tcptrace diff before.tct after.tct                     without root, on any machine\n  \
    tcptrace diff before.tct after.tct --port 443 --state fin-wait-2")]
pub struct Args {
    /// The recording that is compared with (`tcptrace record`)
    #[arg(value_name = "A")]
    a: PathBuf,
    /// The other recording
    #[arg(value_name = "B")]
    b: PathBuf,
    #[command(flatten)]
    scope: ScopeArgs,
    /// Output format
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    format: Format,
    /// Colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    color: ColorChoice,
}

/// Plays both, and compares.
///
/// # Errors
/// What is wrong, why, and what to type.
pub fn run(args: Args) -> anyhow::Result<()> {
    let mut filter = args.scope.spec(true)?;
    let states = std::mem::take(&mut filter.states);
    for path in [&args.a, &args.b] {
        if path.as_os_str() == "-" {
            bail!("diff reads each recording twice, so standard input will not do; give two files");
        }
    }
    let ((a, _), (b, mut wall)) = (side(&args.a, &filter)?, side(&args.b, &filter)?);
    let diff = Diff::new([a, b]);
    let mut text = Vec::new();
    match args.format {
        Format::Json => wire::diff::line(&mut text, &mut wall, &states, &diff)?,
        Format::Text => {
            let page = view::diff::Page { palette: &Palette::new(args.color), states: &states };
            page.write(&mut text, &diff)?;
        }
    }
    let mut out = io::stdout().lock();
    quietly(out.write_all(&text).and_then(|()| out.flush())).map(drop)
}

/// Plays a recording twice: for what happened, and for what did not move at its end.
fn side(path: &Path, filter: &FilterSpec) -> anyhow::Result<(Side, Wall)> {
    const UNWRITABLE: &str = "cannot write to standard output";
    let playback = recording(path, filter.clone())?;
    let (started, origin) = (playback.started().clone(), playback.origin().clone());
    let mut collector = Collector::new(None, Vec::new(), origin.places.clone());
    let played = playback.play(None, &mut collector).context(UNWRITABLE)?;
    let summary = &played.summary;
    // Of a recording the kernel has counted more than what is chosen from it now.
    let kernel = summary.by_kernel.then_some(&summary.matrix);
    let side = Side {
        name: path.display().to_string(),
        ended_ns: summary.ended_ns,
        duration_ns: summary.duration_ns,
        kernel: started.kernel,
        filter: started.filter,
        settings: collector.settings().clone(),
        report: collector.finish(kernel, 0),
        lost: summary.lost.total(),
        findings: findings(path, filter),
        flaws: played.flaws,
    };
    Ok((side, origin.wall()))
}

/// By name. Where nothing can be said: why, in one line.
fn findings(path: &Path, filter: &FilterSpec) -> Result<BTreeMap<&'static str, Found>, String> {
    let plan = Plan {
        filter: filter.clone(),
        older_than: None,
        every: Duration::ZERO,
        looks: Some(1),
        no_trace: false,
        sandbox: Sandbox::Off, // nothing is traced
        from: Some(path.to_owned()),
    };
    let seen = block_on(observe(plan, |_, _| Findings::default()));
    seen.map(|seen| seen.0).map_err(|error| format!("{error:#}"))
}

/// Remembers what was found.
#[derive(Default)]
struct Findings(BTreeMap<&'static str, Found>);

impl Show for Findings {
    fn show(&mut self, _: &Scene, diagnosis: Diagnosis, _: &[String]) -> io::Result<()> {
        self.0 = diagnosis.by_name();
        Ok(())
    }
}
