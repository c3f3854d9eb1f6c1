//! `cargo xtask bench latency`: how long after an event somebody can read its line, ours beside other tools; writes
//! `docs/latency.md`.

mod line;
mod page;
mod reader;

use std::{
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use self::{
    line::Printer,
    reader::{Reader, Way},
};
use super::{
    bpf_stats,
    cores::{self, Cores},
    figures::number,
    load::{LEAST_RESPONSE, TRANSITIONS},
    loader::{Loader, Request, WARM_UP},
    machine,
    modes::{Filter, Mode, Programs},
    output::Output,
    process::{end_with_us, ends_within, wait_for_rest},
    report::{self, Report, Subject},
    rivals::{Rival, Rivals},
};
use crate::tools::Tools;

const PAGE: &str = "docs/latency.md";
/// How long a tracer may take to attach, and to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long it is given to write what is left.
const MOST_CATCHING_UP: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(1);

/// Options of `cargo xtask bench latency`.
#[derive(Args)]
pub struct Options {
    /// Rounds; the page shows their median
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds of load, for each line of the tables in each round
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Connections a second where there are few
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pace: u64,
    /// Leave out tcpstates, tcplife and bpftrace, which are otherwise got from Debian's packages
    #[arg(long)]
    no_rivals: bool,
    #[command(flatten)]
    common: report::Common,
}

/// One row of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    printer: Printer,
    way: Way,
    /// As many connections as there is time for.
    full: bool,
}

/// Where there are few connections: as people look at it, and as another program reads it.
const SLOW: [(Printer, Way); 8] = [
    (Printer::Text, Way::Terminal),
    (Printer::Text, Way::Pipe),
    (Printer::Json, Way::Pipe),
    (Printer::Rival(Rival::Tcpstates), Way::Terminal),
    (Printer::Rival(Rival::Tcpstates), Way::Pipe),
    (Printer::Rival(Rival::Tcplife), Way::Terminal),
    (Printer::Rival(Rival::Bpftrace), Way::Terminal),
    (Printer::Rival(Rival::Bpftrace), Way::Pipe),
];
/// At full load: those that print when an event was.
const FULL: [(Printer, Way); 3] =
    [(Printer::Text, Way::Pipe), (Printer::Json, Way::Pipe), (Printer::Rival(Rival::Bpftrace), Way::Pipe)];

/// One stretch of load.
struct Run {
    case: Case,
    /// Milliseconds: the one in the middle, that which 99 % do not exceed, the largest.
    p50: f64,
    p99: f64,
    max: f64,
    /// Connections a second, by the clock.
    rate: f64,
    /// Lines that came, as a share of those that it owes.
    printed: f64,
    /// The share of the time that the load waited for its processor.
    waited: f64,
}

/// Everything that the page is made of.
struct Measured {
    command: String,
    version: String,
    commit: String,
    date: String,
    machine: String,
    cores: Cores,
    rounds: u32,
    seconds: u32,
    pace: u64,
    runs: Vec<Run>,
    /// Lines of ours that are missing, in words.
    wrong: Vec<String>,
    versions: Vec<String>,
    skipped: Vec<(Rival, String)>,
}

/// Measures and writes. Lines that are missing of ours are a failure.
pub fn run(options: &Options) -> Result<ExitCode> {
    // As whoever types this, so that what is unpacked is theirs; root, who measures, finds it there.
    let rivals = Rivals::obtain(&Tools::new(), !options.no_rivals);
    let numbers = [("--rounds", options.rounds.into()), ("--seconds", options.seconds.into())];
    let numbers = numbers.into_iter().chain([("--pace", options.pace)]);
    let mut arguments: Vec<_> =
        numbers.flat_map(|(option, value)| [option.to_owned(), value.to_string()]).collect();
    arguments.extend(options.no_rivals.then(|| "--no-rivals".to_owned()));
    let report = Report {
        task: &["bench", "latency"],
        page: PAGE,
        why_root: Some("it attaches kernel programs, and makes a network namespace"),
        arguments,
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
    let mut loader = Loader::start(cores)?;
    // Tracers inherit this; and we, who read what they write.
    cores::pin(cores.tracer)?;
    let mut programs = Programs::new(program, rivals);
    programs.try_rivals();
    let case = |full: bool| move |(printer, way): (Printer, Way)| Case { printer, way, full };
    let cases = SLOW.into_iter().map(case(false)).chain(FULL.into_iter().map(case(true)));
    let is_here = |case: &Case| match case.printer {
        Printer::Rival(rival) => programs.rivals.found().any(|found| found == rival),
        _ => true,
    };
    let cases: Vec<_> = cases.filter(is_here).collect();
    let (mut runs, mut wrong) = (Vec::new(), Vec::new());
    for round in 0..options.rounds as usize {
        eprintln!("round {} of {}", round + 1, options.rounds);
        // Each round begins with another one, so that nobody always follows the same.
        for index in 0..cases.len() {
            let run = once(&programs, &mut loader, cases[(round + index) % cases.len()], options)?;
            let load = if run.case.full { "full load" } else { "few" };
            let Run { p50, p99, max, .. } = run;
            let name = run.case.printer.name();
            let way = run.case.way.name();
            eprintln!("  {name:<22} {way:<10} {load:<9} {p50:>8.3} ms, 99 % {p99:.3}, max {max:.3}");
            if !matches!(run.case.printer, Printer::Rival(_)) && run.printed < 1.0 {
                let percent = number(run.printed * 100.0, 3);
                wrong.push(format!("{name} through {way}, {load}: {percent} % of the lines came"));
            }
            runs.push(run);
        }
    }
    Ok(Measured {
        command,
        version: machine::version(tools, program)?,
        commit: commit.clone(),
        date: machine::date(tools)?,
        machine: machine::describe(),
        cores,
        rounds: options.rounds,
        seconds: options.seconds,
        pace: options.pace,
        runs,
        wrong,
        versions: programs.rivals.versions,
        skipped: programs.rivals.skipped,
    })
}

/// A tracer whose output we read. Dropping it ends it.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn once(programs: &Programs, loader: &mut Loader, case: Case, options: &Options) -> Result<Run> {
    let complaints = Output::new()?;
    let (reader, out) = Reader::start(case.way, case.printer, loader.port)?;
    let mut command = case.printer.command(programs, loader.netns)?;
    command.stdin(Stdio::null()).stdout(out).stderr(complaints.for_child()?);
    // Times of day are ours.
    command.env("TZ", "UTC0");
    end_with_us(&mut command, Signal::SIGKILL);
    let mut started =
        Started(command.spawn().with_context(|| format!("cannot start {}", case.printer.name()))?);
    // It holds the writing end, too.
    drop(command);
    let told = |what: &str| -> Result<()> {
        let said = complaints.tail().unwrap_or_default();
        bail!("{} {what}; it said:\n{}", case.printer.name(), said.trim())
    };
    let pid = Pid::from_raw(started.0.id().cast_signed());
    let start = Instant::now();
    while bpf_stats::programs(pid)?.is_empty() {
        if start.elapsed() > PATIENCE || started.0.try_wait()?.is_some() {
            told("does not trace")?;
        }
        thread::sleep(LOOK);
    }
    // It cannot tell. When it has its programs and has come to rest, it has attached them.
    wait_for_rest(pid, MOST_CATCHING_UP)?;
    let timed = Duration::from_secs(u64::from(options.seconds));
    let (warm, pace) = if case.full { (WARM_UP, 0) } else { (Duration::ZERO, options.pace) };
    let stretch = loader.run(Request { warm, timed, response: LEAST_RESPONSE, pace })?;
    wait_for_rest(pid, MOST_CATCHING_UP)?;
    kill(pid, Signal::SIGINT).context("a tracer cannot be stopped")?;
    if !ends_within(&started.0, PATIENCE)? {
        told("did not stop")?;
    }
    if !started.0.wait()?.success() {
        told("failed")?;
    }
    let read = reader.finish()?;
    let ages_ns = if case.by_own_time() {
        read.ages_ns
    } else {
        since(&stretch.begun, &read.counted_ns, case.printer.counting_lines())
            .with_context(|| format!("{} through {}", case.printer.name(), case.way.name()))?
    };
    ensure!(!ages_ns.is_empty(), "{} printed nothing of the load", case.printer.name());
    let owed = stretch.connections * case.printer.owed();
    let [p50, p99, max] = quantiles(ages_ns);
    let printed = read.lines as f64 / owed as f64;
    Ok(Run { case, p50, p99, max, rate: stretch.by_the_clock, printed, waited: stretch.waited })
}

impl Case {
    /// Whether its lines tell when their event was, exactly enough; otherwise it is known when the load began a connection.
    fn by_own_time(self) -> bool {
        match self.printer {
            Printer::Json | Printer::Rival(Rival::Bpftrace) => true,
            // To the millisecond.
            Printer::Text => self.full,
            Printer::Rival(_) => false,
        }
    }
}

impl Printer {
    fn name(self) -> &'static str {
        match self {
            Self::Json => Mode::Json.name(),
            Self::Text => Mode::Text.name(),
            Self::Rival(rival) => rival.name(),
        }
    }

    /// Lines about changes of state that it owes for a connection.
    fn owed(self) -> u64 {
        match self {
            Self::Json | Self::Text => TRANSITIONS,
            Self::Rival(rival) => rival.lines(),
        }
    }

    fn command(self, programs: &Programs, netns: u64) -> Result<Command> {
        let filter = Filter::Netns(netns);
        match self {
            Self::Json => programs.command(Mode::Json, filter),
            Self::Text => programs.command(Mode::Text, filter),
            Self::Rival(rival) => programs.rivals.command(rival),
        }
    }
}

/// From the beginning of each connection to the lines that count it, `each` of them.
fn since(begun_ns: &[u64], counted_ns: &[u64], each: usize) -> Result<Vec<u64>> {
    ensure!(
        counted_ns.len() == begun_ns.len() * each,
        "{} lines for {} connections: which belongs to which is not known",
        counted_ns.len(),
        begun_ns.len()
    );
    let lines = counted_ns.chunks(each).zip(begun_ns);
    Ok(lines.flat_map(|(lines, begun)| lines.iter().map(|line| line.saturating_sub(*begun))).collect())
}

/// The middle one, that which 99 % do not exceed, and the largest, in milliseconds. Of at least one.
fn quantiles(mut ages_ns: Vec<u64>) -> [f64; 3] {
    ages_ns.sort_unstable();
    let last = ages_ns.len() - 1;
    [last / 2, (ages_ns.len() * 99).div_ceil(100) - 1, last].map(|index| ages_ns[index] as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_belong_to_their_connections() {
        assert_eq!(since(&[10, 20], &[15, 26], 1).unwrap(), [5, 6]);
        assert_eq!(since(&[10, 20], &[15, 16, 26, 27], 2).unwrap(), [5, 6, 6, 7]);
        assert!(since(&[10, 20], &[15], 1).is_err());
    }

    #[test]
    fn quantiles_are_values_that_were_there() {
        let ages = (1..=200).map(|ms| ms * 1_000_000).collect();
        assert_eq!(quantiles(ages), [100.0, 198.0, 200.0]);
        assert_eq!(quantiles(vec![3_000_000]), [3.0, 3.0, 3.0]);
    }
}
