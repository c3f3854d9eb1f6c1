//! `tcptrace lab`: makes a TCP condition happen in two private network namespaces, and watches it.

mod judge;

use super::{
    feed::beside,
    observer::Observer,
    trace::{Choice, Output, TraceArgs, quietly},
};
use crate::{
    error::StartError,
    event::TcpState,
    flow::{Entry, FlowId, Known, Role, What},
    record::recorder::Recorder,
    run::{
        Looked, Next, Origin, Run, Signals, Sink, Wanted,
        report::{Resync, Why},
    },
    source::{filter::FilterSpec, live::boot_time_ns, surroundings::Surroundings},
    summary::LostCounts,
    tell,
};
use anyhow::{Context, anyhow, bail};
use hashbrown::HashMap;
use judge::{Judging, Latest};
use serde_json::json;
use std::{
    collections::VecDeque,
    io::{self, Write},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};
use tcptrace_lab::{Family, Lab, LabError, SCENARIOS, Scenario, Side, Stage, find};
use tokio::sync::oneshot;

/// Arguments of `lab`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Name of the scenario; `--list` shows them
    name: Option<String>,
    /// List the scenarios: what each shows, and which commands it stands for
    #[arg(long)]
    list: bool,
    /// Explain the scenario instead of playing it: its states on the diagram, what governs it, what is often believed
    #[arg(long)]
    explain: bool,
    /// IP version of the two hosts
    #[arg(long, value_name = "4|6", default_value = "4", value_parser = ["4", "6"])]
    family: String,
    /// Record it to this file, too
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Replace a recording of this name
    #[arg(long, requires = "record")]
    force: bool,
    #[command(flatten)]
    trace: TraceArgs,
}

/// Lists, or plays and watches.
///
/// # Errors
/// What is wrong, why, and what to type; also a path of states that is not the one expected.
pub fn run(args: Args) -> anyhow::Result<()> {
    let name = match (args.list, &args.name) {
        (true, _) => return list(),
        (false, Some(name)) => name,
        (false, None) => bail!("name a scenario; `tcptrace lab --list` shows them"),
    };
    let Some(scenario) = find(name) else {
        let names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        bail!("there is no scenario {name:?}; there are: {}", names.join(" "));
    };
    if args.explain {
        return print(&scenario.explain());
    }
    let family = if args.family == "6" { Family::V6 } else { Family::V4 };
    let sandbox = args.trace.attach.sandbox.into();
    let tape = args.record.as_deref().map(|path| beside(path, args.force, sandbox)).transpose()?;
    // A lab's errors name their cause themselves: as a source it would stand there twice.
    let lab = Lab::new(family).map_err(|error| anyhow!("the lab cannot be set up: {error}"))?;
    let hosts = Side::ALL.map(|side| lab.netns(side));
    let filter = FilterSpec { netns: hosts.into(), ..FilterSpec::default() };
    let options = args.trace.attach.load_options(filter.clone());
    super::block_on(async {
        let signals = Signals::listen()?;
        let ready = args.trace.attach.start(&options, true).map_err(|error| match error {
            StartError::Filter { why, .. } => {
                anyhow!("the lab traces its two network namespaces, which it cannot: {why}")
            }
            other => anyhow!(other),
        })?;
        let wanted =
            Wanted { resync: Some(LOOK_EVERY), eager: true, ..args.trace.attach.wanted(options.filter) };
        let run = Run::new(signals, ready, wanted);
        let origin = Origin::live(run.started());
        let output = Output::new(&args.trace, Choice::default(), &origin);
        let observer = Observer::endless(&filter, run.started(), Latest::default());
        let mut output = LabOutput::new(output, observer, hosts);
        if !quietly(output.output.begin(run.started()))? {
            return Ok(());
        }
        output.remarks().push_back(Remark::plain(scenario.title));
        let (ended, end) = oneshot::channel();
        let remarks = Arc::clone(&output.remarks);
        let judging = output.judging();
        let play = thread::Builder::new().name("lab-script".into()).spawn(move || {
            let result = play(scenario, &lab, &remarks, &judging);
            let _ = ended.send(()); // nobody waits any more: the trace was interrupted
            result
        })?;
        // The script goes on with all that it needs.
        run.confine(sandbox);
        let mut interrupted = true;
        let stop = async {
            let _ = end.await; // an error means that the script is gone: that is an end too
            interrupted = false;
        };
        const UNWRITABLE: &str = "cannot write to standard output";
        let summary = match tape {
            None => run.until_stopped(None, stop, &mut output).await.context(UNWRITABLE)?,
            Some(tape) => {
                let started = run.started().clone();
                let mut recorder = Recorder::new(tape, &started, &origin, false, &mut output);
                let summary = run.until_stopped(None, stop, &mut recorder).await.context(UNWRITABLE)?;
                recorder.into_tape().finish("the scenario ended")?;
                summary
            }
        };
        quietly(output.catch_up(u64::MAX))?;
        output.output.end(&summary)?;
        if interrupted {
            return Ok(()); // the namespaces vanish with us
        }
        match play.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => bail!("scenario {} did not play to its end: {error}", scenario.name),
            Err(_) => bail!("the script of {} panicked; please report this", scenario.name),
        }
        output.judge(scenario)
    })
}

fn list() -> anyhow::Result<()> {
    let entry = |scenario: &Scenario| {
        format!("{:<21} {}\n{:<21} instead of: {}\n\n", scenario.name, scenario.title, "", scenario.replaces)
    };
    print(&SCENARIOS.iter().map(entry).collect::<String>())
}

fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn play(
    scenario: &Scenario,
    lab: &Lab,
    remarks: &Mutex<VecDeque<Remark>>,
    judging: &Judging,
) -> Result<(), LabError> {
    scenario.run(lab, &mut |stage| {
        let Stage { text, client, server, findings, .. } = *stage;
        let remark = Remark { time_ns: boot_time_ns(), text, client, server };
        remarks.lock().unwrap_or_else(PoisonError::into_inner).push_back(remark);
        if let Some(findings) = findings {
            judging.wait(text, findings);
        }
    })
}

/// What the script says, at its time.
struct Remark {
    time_ns: u64,
    text: &'static str,
    client: Option<&'static str>,
    server: Option<&'static str>,
}

impl Remark {
    fn plain(text: &'static str) -> Self {
        Self { time_ns: boot_time_ns(), text, client: None, server: None }
    }
}

/// The script's remarks among the entries, and the paths that the entries show.
struct LabOutput {
    output: Output,
    remarks: Arc<Mutex<VecDeque<Remark>>>,
    /// By flow: its role, and the states it was in.
    paths: HashMap<FlowId, (Role, Vec<TcpState>)>,
    observer: Observer<Latest>,
    judging: Judging,
    /// Stages of which something else was found than what they are about.
    differs: Vec<String>,
    judged: u32,
    hosts: [u32; 2],
}

impl LabOutput {
    fn new(output: Output, observer: Observer<Latest>, hosts: [u32; 2]) -> Self {
        Self {
            output,
            remarks: Arc::default(),
            paths: HashMap::new(),
            observer,
            judging: Judging::default(),
            differs: Vec::new(),
            judged: 0,
            hosts,
        }
    }

    fn judging(&self) -> Judging {
        self.judging.clone()
    }

    /// A look has been taken: if the script waits for one, it is shown.
    fn judge_stage(&mut self) -> io::Result<()> {
        let Some((taken_ns, findings)) = self.observer.show.take() else { return Ok(()) };
        let Some(verdict) = self.judging.judge(taken_ns, &findings, self.hosts) else { return Ok(()) };
        self.catch_up(u64::MAX)?;
        self.judged += 1;
        self.differs.extend(verdict);
        self.output.findings(taken_ns, findings)?;
        self.judging.go_on();
        Ok(())
    }

    fn remarks(&self) -> std::sync::MutexGuard<'_, VecDeque<Remark>> {
        self.remarks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the remarks that were made before this time.
    fn catch_up(&mut self, time_ns: u64) -> io::Result<()> {
        loop {
            let due = {
                let mut remarks = self.remarks();
                match remarks.front() {
                    Some(remark) if remark.time_ns <= time_ns => remarks.pop_front(),
                    _ => None,
                }
            };
            let Some(remark) = due else { return Ok(()) };
            let details = json!({ "client": remark.client, "server": remark.server });
            self.output.remark(remark.time_ns, "stage", remark.text, details)?;
        }
    }

    /// Were the paths the ones that the scenario is about?
    fn judge(&self, scenario: &Scenario) -> anyhow::Result<()> {
        let mut differs = false;
        for (side, role, expected) in
            [("client", Role::Active, &scenario.client), ("server", Role::Passive, &scenario.server)]
        {
            let seen = self.paths.values().find(|(of, _)| *of == role).map(|(_, path)| path.as_slice());
            let seen: Vec<_> = seen.unwrap_or_default().iter().map(|state| state.name()).collect();
            let verdict = if seen == expected.path { "as expected" } else { "NOT as expected" };
            differs |= seen != expected.path;
            let path = if seen.is_empty() { "no socket of its own".to_owned() } else { seen.join(" ") };
            tell!("{side}: {path}: {verdict}");
        }
        let verdict = if self.differs.is_empty() { "as expected" } else { "NOT as expected" };
        tell!("what a diagnosis says at {} stages: {verdict}", self.judged);
        self.differs.iter().for_each(|differs| tell!("{differs}"));
        differs |= !self.differs.is_empty();
        if differs {
            bail!(
                "this kernel went another way than the one described; please report it with `tcptrace doctor`"
            );
        }
        Ok(())
    }
}

impl Sink for LabOutput {
    fn entry(&mut self, entry: &Entry) -> io::Result<Next> {
        self.catch_up(entry.time_ns)?;
        self.observer.entry(entry)?;
        // The script's paths are the kernel's own: what we infer comes on top.
        if let What::Transition { old, new, known: Known::Event, .. } = entry.what
            && old != new
        {
            let (_, path) = self.paths.entry(entry.who.id).or_insert_with(|| (entry.who.role, vec![old]));
            path.push(new);
        }
        self.output.entry(entry)
    }

    fn lost(&mut self, now_ns: u64, lost: &LostCounts) -> io::Result<()> {
        self.observer.lost(now_ns, lost)?;
        self.output.lost(now_ns, lost)
    }

    fn looking(&mut self, surroundings: &mut dyn Surroundings) -> io::Result<()> {
        self.observer.looking(surroundings)
    }

    fn looked_at(&mut self, look: &Looked<'_>) {
        self.observer.looked_at(look);
    }

    /// Looks are taken several times a second: only what is not the timer's is worth a line.
    fn resynced(
        &mut self,
        now_ns: u64,
        resync: &Resync,
        surroundings: &mut dyn Surroundings,
    ) -> io::Result<Next> {
        self.observer.resynced(now_ns, resync, surroundings)?;
        self.judge_stage()?;
        if resync.why == Why::Timer {
            return Ok(Next::Continue);
        }
        self.output.resynced(now_ns, resync, surroundings)
    }

    fn flush(&mut self) -> io::Result<()> {
        // The ring was emptied a moment ago: a remark is older than what comes next.
        self.catch_up(boot_time_ns().saturating_sub(SETTLED_NS))?;
        self.output.flush()
    }
}

/// Time between two looks, while the script plays.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A remark waits this long for entries that happened before it.
const SETTLED_NS: u64 = 50_000_000;
