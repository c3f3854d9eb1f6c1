//! `cargo xtask bench loss`: up to which rate of events nothing is lost, ours beside other tools, and what each says of what is;
//! writes `docs/loss.md`.

mod page;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args;

use super::{
    bpf_stats, checks,
    cores::Cores,
    figures::number,
    load::{LEAST_RESPONSE, TRANSITIONS},
    loader::{Loader, Request, Stretch, WARM_UP},
    machine,
    modes::{Filter, Mode, Programs},
    report::{self, Report, Subject},
    rivals::{Rival, Rivals},
    tracer::{Outcome, Tracer},
};
use crate::tools::Tools;

const PAGE: &str = "docs/loss.md";
/// Ours; rivals follow.
const MODES: [Mode; 2] = [Mode::Json, Mode::SmallRing];
/// Connections a second that each load makes, slowest first; 0: as many as there is time for.
const PACES: [u64; 6] = [500, 1000, 2000, 5000, 10_000, 0];

/// Options of `cargo xtask bench loss`.
#[derive(Args)]
pub struct Options {
    /// Rounds: a rate counts as one without loss if none of them lost anything
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds of load, for each tool at each rate in each round
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Leave out tcpstates, tcplife and bpftrace, which are otherwise got from Debian's packages
    #[arg(long)]
    no_rivals: bool,
    #[command(flatten)]
    common: report::Common,
}

/// What is asked of the loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    /// So many loads, each on its own processor.
    loads: usize,
    /// Of [`PACES`].
    pace: u64,
}

/// One stretch beside one tool.
struct Run {
    mode: Mode,
    step: Step,
    /// Changes of state a second, while the clock ran.
    events: f64,
    /// Lines that it owes, for all connections of the stretch.
    owed: u64,
    /// Lines of these that it did not print.
    missing: u64,
    /// Lines that it says are missing.
    said: u64,
}

/// Everything that the page is made of.
struct Measured {
    command: String,
    version: String,
    commit: String,
    date: String,
    machine: String,
    rounds: u32,
    seconds: u32,
    /// Most loads at once.
    loads: usize,
    modes: Vec<Mode>,
    runs: Vec<Run>,
    wrong: Vec<String>,
    versions: Vec<String>,
    skipped: Vec<(Rival, String)>,
}

/// Measures and writes. A loss is no failure here, one that is counted wrongly is.
pub fn run(options: &Options) -> Result<ExitCode> {
    // As whoever types this, so that what is unpacked is theirs; root, who measures, finds it there.
    let rivals = Rivals::obtain(&Tools::new(), !options.no_rivals);
    let numbers = [("--rounds", options.rounds), ("--seconds", options.seconds)];
    let numbers = numbers.into_iter().flat_map(|(option, value)| [option.to_owned(), value.to_string()]);
    let report = Report {
        task: &["bench", "loss"],
        page: PAGE,
        why_root: Some("it attaches kernel programs, and makes network namespaces"),
        arguments: numbers.chain(options.no_rivals.then(|| "--no-rivals".to_owned())).collect(),
    };
    report.run(&options.common, |subject| {
        let measured = measure(subject, rivals, options, report.command())?;
        let page = page::write(&measured)?;
        Ok((page, measured.wrong))
    })
}

fn measure(subject: &Subject, rivals: Rivals, options: &Options, command: String) -> Result<Measured> {
    bpf_stats::must_be_off()?;
    let Subject { tools, program, commit } = subject;
    let cores = Cores::choose()?;
    let mut loaders = vec![Loader::start(cores)?];
    if cores.tracer != cores.load {
        // The tracer has no processor for itself then. It is nowhere told where to run.
        loaders.push(Loader::start(Cores { load: cores.tracer, ..cores })?);
    }
    let mut programs = Programs::new(program, rivals);
    programs.try_rivals();
    let modes = programs.and_rivals(&MODES);
    let steps = (1..=loaders.len()).flat_map(|loads| PACES.map(|pace| Step { loads, pace }));
    let (steps, mut runs, mut wrong) = (steps.collect::<Vec<_>>(), Vec::new(), Vec::new());
    for round in 0..options.rounds as usize {
        for step in &steps {
            eprintln!("round {} of {}, {}", round + 1, options.rounds, step.name());
            // Each round begins with another one, so that nobody always follows the same.
            for index in 0..modes.len() {
                let mode = modes[(round + index) % modes.len()];
                let loaders = &mut loaders[..step.loads];
                let (run, complaints) = once(&programs, loaders, mode, *step, options.seconds)?;
                let [made, missing, said] = [run.events, run.missing as f64, run.said as f64];
                eprintln!(
                    "  {:<38} {:>8} events/s, {:>9} missing, {:>9} said",
                    mode.name(),
                    number(made, 0),
                    number(missing, 0),
                    number(said, 0)
                );
                wrong.extend(complaints);
                runs.push(run);
            }
        }
    }
    Ok(Measured {
        command,
        version: machine::version(tools, program)?,
        commit: commit.clone(),
        date: machine::date(tools)?,
        machine: machine::describe(),
        rounds: options.rounds,
        seconds: options.seconds,
        loads: loaders.len(),
        modes,
        runs,
        wrong,
        versions: programs.rivals.versions,
        skipped: programs.rivals.skipped,
    })
}

/// One stretch, and what is wrong with what ours says of it.
fn once(
    programs: &Programs,
    loaders: &mut [Loader],
    mode: Mode,
    step: Step,
    seconds: u32,
) -> Result<(Run, Vec<String>)> {
    let filter = match loaders {
        [one, two] => Filter::Both([one.netns, two.netns]),
        [one, ..] => Filter::Netns(one.netns),
        [] => Filter::Everything,
    };
    let ports: Vec<_> = loaders.iter().map(|loader| loader.port).collect();
    let tracer = Tracer::start(programs, mode, filter)?;
    let timed = Duration::from_secs(u64::from(seconds));
    let request = Request { warm: WARM_UP, timed, response: LEAST_RESPONSE, pace: step.pace };
    loaders.iter_mut().try_for_each(|loader| loader.ask(request))?;
    let stretches: Result<Vec<Stretch>> = loaders.iter_mut().map(Loader::ran).collect();
    let stretches = stretches?;
    let outcome = tracer.finish(&ports)?;
    let connections: u64 = stretches.iter().map(|stretch| stretch.connections).sum();
    let events = stretches.iter().map(|stretch| stretch.by_the_clock).sum::<f64>() * TRANSITIONS as f64;
    let run = |owed: u64, printed: u64, said| Run {
        mode,
        step,
        events,
        owed,
        missing: owed.saturating_sub(printed),
        said,
    };
    if let Mode::Rival(rival) = mode {
        let run = run(connections * rival.lines(), outcome.lines, outcome.said_lost);
        return Ok((run, Vec::new()));
    }
    let said = outcome.summary.and_then(|summary| summary.lost_transitions);
    let said = said.context("tcptrace does not say what it lost")?;
    let run = run(connections * TRANSITIONS, outcome.out.count(is_event)?, said);
    let wrong = wrong(&run, filter, connections, &outcome);
    Ok((run, wrong.into_iter().map(|what| format!("{}: {what}", step.name())).collect()))
}

/// The kernel's counts must be right, and what is said to be lost must be what is missing.
fn wrong(run: &Run, filter: Filter, connections: u64, outcome: &Outcome) -> Vec<String> {
    let mut wrong = checks::counts(run.mode, filter, connections, outcome);
    // To lose is allowed here.
    wrong.retain(|what| !what.ends_with("events were lost"));
    if run.said != run.missing {
        let [said, missing] = [run.said, run.missing].map(|count| number(count as f64, 0));
        wrong.push(format!("{}: {said} transitions are said to be lost, {missing} are", run.mode.name()));
    }
    wrong
}

/// A line about a change of state that the kernel told, not one that was inferred.
fn is_event(line: &[u8]) -> bool {
    let has = |part: &[u8]| line.windows(part.len()).any(|window| window == part);
    has(b"\"type\":\"transition\"") && has(b"\"inferred\":false")
}

impl Step {
    fn name(self) -> String {
        let pace = match self.pace {
            0 => "full speed".to_owned(),
            pace => format!("{} events/s", number((pace * TRANSITIONS) as f64, 0)),
        };
        format!("{pace} on {}", self.processors())
    }

    fn processors(self) -> &'static str {
        if self.loads == 1 { "one processor" } else { "each of two processors" }
    }
}

impl Measured {
    fn of(&self, mode: Mode, step: Step) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |run| run.mode == mode && run.step == step)
    }

    /// The last of the steps, slowest first, up to which no round lost anything.
    fn highest(&self, mode: Mode, loads: usize) -> Option<Step> {
        let steps = PACES.map(|pace| Step { loads, pace });
        steps.into_iter().take_while(|step| self.of(mode, *step).all(|run| run.missing == 0)).last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(missing: impl Fn(u64) -> u64) -> Measured {
        let text = String::new;
        let run = |pace| Run {
            mode: Mode::Json,
            step: Step { loads: 1, pace },
            events: 10.0,
            owed: 100,
            missing: missing(pace),
            said: 0,
        };
        Measured {
            command: text(),
            version: text(),
            commit: text(),
            date: text(),
            machine: text(),
            rounds: 1,
            seconds: 1,
            loads: 1,
            modes: vec![Mode::Json],
            runs: PACES.map(run).into(),
            wrong: Vec::new(),
            versions: Vec::new(),
            skipped: Vec::new(),
        }
    }

    #[test]
    fn the_highest_rate_is_below_the_first_loss() {
        let highest =
            |missing: fn(u64) -> u64| measured(missing).highest(Mode::Json, 1).map(|step| step.pace);
        assert_eq!(highest(|_| 0), Some(0), "full speed is the last");
        assert_eq!(highest(|pace| u64::from(pace == 2000)), Some(1000));
        assert_eq!(highest(|_| 1), None);
    }

    #[test]
    fn only_what_the_kernel_told_is_an_event() {
        assert!(is_event(br#"{"v":1,"type":"transition","old":"CLOSE","inferred":false}"#));
        assert!(!is_event(br#"{"v":1,"type":"transition","old":"CLOSE","inferred":true}"#));
        assert!(!is_event(br#"{"v":1,"type":"close","inferred":false}"#));
    }
}
