//! What `watch` and `lab` share: how to attach, and where entries are written.

use super::sandbox_args::SandboxArgs;
use crate::{
    cli,
    diagnose::{Finding, group::group},
    enrich::Places,
    error::StartError,
    event::{Direction, TcpState},
    flow::{DEFAULT_MAX_FLOWS, Entry, What},
    run::{
        Next, Origin, Questions, Ready, Sink, Started, Wanted,
        report::{Resync, Why},
    },
    source::{
        btf::KERNEL_BTF,
        filter::FilterSpec,
        load::{HookChoice, LoadOptions, MIN_RING_BYTES, RetransmitChoice},
        surroundings::Surroundings,
    },
    summary::{LostCounts, Summary},
    tell,
    view::{self, Bytes, ColorChoice, Lines, Palette},
    wall::Wall,
    wire,
};
use anyhow::Context;
use clap::{Args, ValueEnum};
use std::{
    io::{self, Write},
    path::PathBuf,
};

/// For whom the output is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned lines for people.
    #[default]
    Text,
    /// One JSON object a line (docs/events.md).
    Json,
}

/// How to attach, and how to write.
#[derive(Clone, Debug, Args)]
pub struct TraceArgs {
    /// Output format
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub format: Format,
    /// Colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, value_enum, default_value_t, help_heading = "Output")]
    pub color: ColorChoice,
    /// How to attach.
    #[command(flatten)]
    pub attach: AttachArgs,
}

/// How to attach.
#[derive(Clone, Debug, Args)]
pub struct AttachArgs {
    /// How programs are attached
    #[arg(long, value_enum, default_value_t, value_name = "WAY", help_heading = "Tracing")]
    pub hooks: HookChoice,
    /// Where retransmissions are learnt from
    #[arg(long, value_enum, default_value_t, value_name = "SOURCE", help_heading = "Tracing")]
    pub retransmit_hook: RetransmitChoice,
    /// Size of the ring buffer; rounded up to a power of two
    #[arg(long, value_parser = cli::ring_size, default_value = "8MiB", value_name = "BYTES", help_heading = "Tracing")]
    pub ring_size: u32,
    /// Flows kept at once; the ones silent for longest are forgotten first
    #[arg(long, default_value_t = DEFAULT_MAX_FLOWS, value_name = "N", value_parser = max_flows, help_heading = "Tracing")]
    pub max_flows: usize,
    /// Every so often the kernel is asked for all its sockets, to correct what was missed; `off`: never, also not at the
    /// start. SIGUSR1 asks at once, and prints every connection known
    #[arg(long, value_parser = cli::resync, default_value = "30s", allow_hyphen_values = true, value_name = "TIME", help_heading = "Tracing")]
    pub resync: cli::Resync,
    /// How little it may do once it is attached.
    #[command(flatten)]
    pub sandbox: SandboxArgs,
    /// The kernel's type information: a file, or `none` to do without
    #[arg(long, default_value = KERNEL_BTF, value_name = "FILE", help_heading = "Tracing")]
    pub btf: PathBuf,
}

fn max_flows(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(flows) if (1..=100_000_000).contains(&flows) => Ok(flows),
        _ => Err(format!("{text:?} is not a number of flows; valid are 1 to 100000000")),
    }
}

impl AttachArgs {
    /// What to load. Says so where a size had to be rounded.
    pub fn load_options(&self, filter: FilterSpec) -> LoadOptions {
        let ring_bytes = self.ring_size.next_power_of_two().max(MIN_RING_BYTES);
        if ring_bytes != self.ring_size {
            tell!(
                "--ring-size is rounded up to {}: the kernel wants a power of two, at least {}",
                Bytes(u64::from(ring_bytes)),
                Bytes(u64::from(MIN_RING_BYTES))
            );
        }
        let btf = (self.btf.as_os_str() != "none").then(|| self.btf.clone());
        LoadOptions { hooks: self.hooks, retransmit: self.retransmit_hook, ring_bytes, btf, filter }
    }

    /// Loads and attaches, and what will be asked for. `details`: of what sockets tell themselves, too.
    ///
    /// # Errors
    /// As [`Ready::start`].
    pub fn start(&self, options: &LoadOptions, details: bool) -> Result<Ready, StartError> {
        let asks = self.resync.is_some();
        let questions = Questions { holders: asks, details: asks && details };
        Ready::start(options, questions, self.sandbox.into())
    }

    /// What a run needs to know.
    pub fn wanted(&self, filter: FilterSpec) -> Wanted {
        Wanted { filter, max_flows: self.max_flows, resync: self.resync, eager: false, look_at_end: false }
    }
}

/// What is shown of what is traced. Everything is traced all the same: a reset explains a close.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Kinds shown; empty: all.
    pub only: Vec<Only>,
    /// States shown, of what the kernel let through; empty: all.
    pub states: Vec<TcpState>,
    /// Commands shown; empty: all. Flows whose owner is unknown are then not shown.
    pub comms: Vec<String>,
    /// Stop after this many entries.
    pub count: Option<u64>,
    /// Only the summary.
    pub summary_only: bool,
    /// Sights are shown even if nobody named them: to machines, whose picture they complete.
    pub sights: bool,
}

/// A kind of entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Only {
    /// State changes.
    Transitions,
    /// Segments sent again.
    Retransmits,
    /// RSTs.
    Resets,
    /// Ends of connections, with their cause.
    Closes,
    /// Sockets that were there before the trace, or that no event tells of
    Sights,
}

impl Choice {
    fn shows(&self, entry: &Entry) -> bool {
        let kind = match entry.what {
            What::Transition { .. } => Only::Transitions,
            What::Retransmit(_) => Only::Retransmits,
            What::Reset(_) => Only::Resets,
            What::Close(_) => Only::Closes,
            What::Sight(_) if self.only.is_empty() => {
                return self.sights && !self.summary_only && self.of_comm(entry);
            }
            What::Sight(_) => Only::Sights,
            // Somebody asked for these.
            What::State { .. } => return !self.summary_only && self.of_comm(entry),
        };
        !self.summary_only
            && (self.only.is_empty() || self.only.contains(&kind))
            && self.of_state(entry)
            && self.of_comm(entry)
    }

    /// TIME_WAIT is inferred from the closes of other states, which are let through for that.
    fn of_state(&self, entry: &Entry) -> bool {
        let wanted = |state: TcpState| {
            self.states.contains(&if state == TcpState::NewSynRecv { TcpState::SynRecv } else { state })
        };
        self.states.is_empty()
            || match &entry.what {
                What::Transition { old, new, .. } => wanted(*old) || wanted(*new),
                What::Retransmit(event) => event.state.is_none_or(wanted),
                What::Reset(event) => event.state.is_none_or(wanted),
                What::Close(closed) => {
                    wanted(closed.old)
                        || wanted(TcpState::Close)
                        || closed.verdict.continues_as.is_some_and(wanted)
                }
                What::Sight(seen) => wanted(seen.sight.state),
                What::State { state, .. } => wanted(*state),
            }
    }

    /// Who chose kinds of lines, or none, is told only on request.
    fn tells_resync(&self, resync: &Resync) -> bool {
        resync.why == Why::Asked
            || self.only.contains(&Only::Sights)
            || (self.only.is_empty() && !self.summary_only)
    }

    fn of_comm(&self, entry: &Entry) -> bool {
        let comm =
            |owner: &crate::flow::owner::Owner| self.comms.iter().any(|comm| **comm == *owner.process.comm);
        self.comms.is_empty() || entry.who.owner.as_ref().is_some_and(comm)
    }
}

/// Standard output, in either format. Lines are collected and written a batch at a time.
pub struct Output {
    format: Format,
    choice: Choice,
    shown: u64,
    palette: Palette,
    lines: Lines,
    wall: Wall,
    places: Places,
    owners: wire::Owners,
    /// What is shown is not happening now.
    replayed: bool,
    /// Lines that are not written yet.
    made: Vec<u8>,
}

/// A batch is written when it has grown to this.
const BATCH_BYTES: usize = 64 << 10;

impl Output {
    /// Output as the arguments want it.
    pub fn new(args: &TraceArgs, choice: Choice, origin: &Origin) -> Self {
        let palette = Palette::new(args.color);
        Self {
            format: args.format,
            choice,
            shown: 0,
            palette,
            lines: Lines::new(palette),
            wall: origin.wall(),
            places: origin.places.clone(),
            owners: wire::Owners::new(origin.places.clone()),
            replayed: origin.replayed,
            made: Vec::with_capacity(2 * BATCH_BYTES),
        }
    }

    /// Says what is traced: the first JSON line, or one line on standard error and the column names.
    ///
    /// # Errors
    /// Standard output's.
    pub fn begin(&mut self, started: &Started) -> io::Result<()> {
        match self.format {
            Format::Json => {
                let hooks = started.hooks.iter().map(|hook| {
                    let way = hook.way.clone();
                    (hook.target.clone(), way.map_or(serde_json::Value::Null, Into::into))
                });
                let identity = if started.capabilities.cookies { "cookie" } else { "generation" };
                let body = serde_json::json!({
                    "version": started.version,
                    "kernel": started.kernel,
                    "hooks": serde_json::Value::Object(hooks.collect()),
                    "identity": identity,
                });
                wire::start(&mut self.made, &mut self.wall, started.began_ns, body)?;
            }
            Format::Text => {
                if !self.replayed {
                    let state = &started.state_way;
                    tell!("watching through {state}; Ctrl-C stops and prints the summary");
                }
                for (tells, without) in started.hooks.iter().filter_map(|hook| hook.missing.as_ref()) {
                    tell!("no {tells}: {without} (see tcptrace doctor)");
                }
                if !self.choice.summary_only {
                    self.lines.header(&mut self.made)?;
                }
            }
        }
        self.flush()
    }

    /// A remark between the entries.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn remark(
        &mut self,
        time_ns: u64,
        kind: &str,
        text: &str,
        details: serde_json::Value,
    ) -> io::Result<()> {
        match self.format {
            Format::Json => wire::remark(&mut self.made, &mut self.wall, time_ns, kind, text, details)?,
            Format::Text => {
                let strong = self.palette.strong;
                writeln!(self.made, "{strong}## {text}{strong:#}")?;
            }
        }
        Ok(())
    }

    /// What a diagnosis says at this moment.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn findings(&mut self, taken_ns: u64, findings: Vec<Finding>) -> io::Result<()> {
        match self.format {
            Format::Json => findings.iter().try_for_each(|finding| {
                wire::finding::line(&mut self.made, &mut self.wall, &self.places, taken_ns, finding)
            })?,
            Format::Text => {
                let page = view::finding::Page::plain(&self.palette);
                group(findings).iter().try_for_each(|group| page.group(&mut self.made, group))?;
            }
        }
        Ok(())
    }

    /// Writes the summary.
    ///
    /// # Errors
    /// Standard output's; a broken pipe is none.
    pub fn end(&mut self, summary: &Summary) -> anyhow::Result<()> {
        match self.format {
            Format::Json => wire::summary(&mut self.made, &mut self.wall, summary.ended_ns, summary)?,
            Format::Text => view::summary::write(&mut self.made, &self.palette, summary)?,
        }
        quietly(self.flush()).map(drop)
    }
}

impl Sink for Output {
    fn entry(&mut self, entry: &Entry) -> io::Result<Next> {
        if self.choice.count.is_some_and(|count| self.shown >= count) {
            return Ok(Next::Enough);
        }
        if !self.choice.shows(entry) {
            return Ok(Next::Continue);
        }
        match self.format {
            Format::Json => wire::entry(&mut self.made, &mut self.wall, &mut self.owners, entry)?,
            Format::Text => self.lines.entry(&mut self.made, &mut self.wall, entry)?,
        }
        // Sights and states come on top of what happens: they are not counted.
        self.shown += u64::from(!matches!(entry.what, What::Sight(_) | What::State { .. }));
        if self.choice.count.is_some_and(|count| self.shown >= count) {
            return Ok(Next::Enough);
        }
        if self.made.len() >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(Next::Continue)
    }

    fn lost(&mut self, now_ns: u64, lost: &LostCounts) -> io::Result<()> {
        let (total, skipped) = (lost.total(), lost.skipped());
        if total > skipped {
            tell!("lost {} events: a larger --ring-size or a narrower filter helps", total - skipped);
        }
        if skipped > 0 {
            tell!(
                "lost {skipped} events, of any connection on this machine: the kernel was inside of the same program when \
                 they came; nothing helps, but the kernel's list of sockets mends the states"
            );
        }
        if self.format == Format::Json {
            wire::lost(&mut self.made, &mut self.wall, now_ns, lost)?;
        }
        Ok(())
    }

    fn resynced(&mut self, now_ns: u64, resync: &Resync, _: &mut dyn Surroundings) -> io::Result<Next> {
        match self.format {
            Format::Json if !self.choice.tells_resync(resync) => {}
            Format::Json => wire::resync(&mut self.made, &mut self.wall, now_ns, resync)?,
            Format::Text => view::resync::tell(resync),
        }
        Ok(Next::Continue)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.made.is_empty() {
            return Ok(());
        }
        let written = io::stdout().lock().write_all(&self.made);
        self.made.clear();
        written.and_then(|()| io::stdout().flush())
    }
}

/// Whether somebody still reads: a broken pipe is an end, not an error.
///
/// # Errors
/// Any other.
pub fn quietly(written: io::Result<()>) -> anyhow::Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}

/// A line on standard error when a summary shows nothing at all: the usual reasons.
pub fn hint_if_silent(summary: &Summary, filtered: bool) {
    let nothing = summary.matrix.iter().flatten().all(|count| *count == 0)
        && summary.totals.retransmitted() == 0
        && summary.totals.reset_count(Direction::Sent) == 0
        && summary.lost.total() == 0;
    if nothing && filtered {
        tell!(
            "nothing matched the filter; `tcptrace watch` without one shows whether there is traffic at all"
        );
    }
}
