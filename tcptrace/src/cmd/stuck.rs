//! `tcptrace stuck`: which connections do not move, why, whose they are, until when, and what to do.

use super::{
    block_on,
    filter_args::{FilterArgs, present},
    observer::{Plan, Show, observe},
    sandbox_args::SandboxArgs,
    trace::Format,
};
use crate::{
    cli,
    diagnose::{Diagnosis, Finding, RULES, Scene, group::group},
    enrich::Places,
    error::{EXIT_FOUND, EXIT_OK},
    event::TcpState,
    flow::owner::Owner,
    run::{Origin, Started},
    view::{self, ColorChoice, Palette},
    wall::Wall,
    wire,
};
use hashbrown::{HashMap, HashSet};
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
    /// Command of the process that opened or closed the connection; hides those whose owner is unknown
    #[arg(long, value_parser = cli::comm, value_name = "COMMAND", help_heading = "Filter")]
    comm: Vec<String>,
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
    #[command(flatten)]
    sandbox: SandboxArgs,
    /// How it was at the end of a recording (`tcptrace record`), or with --watch at each look of it; `-`: standard input
    #[arg(long, value_name = "FILE", help_heading = "Looking", conflicts_with = "no_trace")]
    from: Option<PathBuf>,
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
    filter.netns = present(&args.netns, args.from.is_some())?;
    // A flow is judged by all its states: which are shown is decided at the end.
    let states = std::mem::take(&mut filter.states);
    let make = |origin: &Origin, _: &Started| Output {
        states,
        comms: args.comm,
        older_than: args.older_than,
        verbose: args.verbose,
        again: args.watch.is_some(),
        format: args.format,
        palette: Palette::new(args.color),
        wall: origin.wall(),
        places: origin.places.clone(),
        line: Vec::new(),
        found: false,
    };
    let plan = Plan {
        filter,
        older_than: args.older_than,
        every: args.watch.unwrap_or(args.watch_for),
        looks: args.watch.is_none().then_some(2),
        no_trace: args.no_trace,
        sandbox: args.sandbox.into(),
        from: args.from,
    };
    let output = block_on(observe(plan, make))?;
    Ok(if output.found { EXIT_FOUND } else { EXIT_OK })
}

/// Standard output, in either format.
struct Output {
    states: Vec<TcpState>,
    comms: Vec<String>,
    older_than: Option<Duration>,
    verbose: bool,
    again: bool,
    format: Format,
    palette: Palette,
    wall: Wall,
    places: Places,
    line: Vec<u8>,
    found: bool,
}

impl Show for Output {
    /// In one go: half a page helps nobody.
    fn show(&mut self, scene: &Scene, mut diagnosis: Diagnosis, notes: &[String]) -> io::Result<()> {
        if !self.states.is_empty() {
            // A full accept queue is a matter of SYN_RECV, too.
            let named =
                |name: &str| RULES.iter().find(|rule| rule.name == name).map_or(&[][..], |rule| rule.states);
            diagnosis.findings.retain(|Finding { name, subject, .. }| {
                self.states.iter().any(|state| *state == subject.state || named(name).contains(&state.name()))
            });
        }
        if !self.comms.is_empty() {
            let of = |owner: &Option<Owner>| {
                owner
                    .as_ref()
                    .is_some_and(|owner| self.comms.iter().any(|comm| **comm == *owner.process.comm))
            };
            diagnosis.findings.retain(|finding| of(&finding.subject.owner) || of(&finding.subject.closed_by));
        }
        self.found = !diagnosis.findings.is_empty();
        match self.format {
            Format::Json => {
                for finding in &diagnosis.findings {
                    wire::finding::line(
                        &mut self.line,
                        &mut self.wall,
                        &self.places,
                        scene.taken.from_ns,
                        finding,
                    )?;
                }
                wire::finding::end(&mut self.line, &mut self.wall, scene, &diagnosis, notes)?;
            }
            Format::Text => {
                let made_in = made_in(&self.places, &diagnosis);
                let page = view::finding::Page {
                    palette: &self.palette,
                    verbose: self.verbose,
                    older_than: self.older_than,
                    made_in,
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

/// Where sockets were made that nobody is known to own.
pub(super) fn made_in(places: &Places, diagnosis: &Diagnosis) -> HashMap<u64, String> {
    let unowned = diagnosis.findings.iter().map(|finding| &finding.subject);
    let unowned = unowned.filter(|subject| subject.owner.is_none() && subject.closed_by.is_none());
    let ids: HashSet<u64> = unowned.filter_map(|subject| subject.cgroup).collect();
    let named = |id| Some((id, places.of(id).filter(|place| !place.is_root())?.name().to_owned()));
    ids.into_iter().filter_map(named).collect()
}
