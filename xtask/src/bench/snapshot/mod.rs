//! `cargo xtask bench snapshot`: how long it takes to know every socket, ours beside `ss` and `netstat`; writes `docs/snapshot.md`.

mod crowd;
mod page;
pub mod population;
mod programs;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;

use self::{
    crowd::Crowd,
    programs::{PROGRAMS, Program, Said},
};
use super::{
    figures::number,
    machine,
    report::{self, Report, Subject},
    timed::Took,
};
use crate::tools::output_of;

const PAGE: &str = "docs/snapshot.md";
/// The share of its time that `ss -tan`, which never waits, may be without a processor.
const BUSY: f64 = 0.1;

/// Options of `cargo xtask bench snapshot`.
#[derive(Args)]
pub struct Options {
    /// Rounds; the page shows their median
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How many sockets there are, several numbers with commas between them
    #[arg(long, value_delimiter = ',', default_value = "10000,100000,200000,400000")]
    #[arg(value_parser = clap::value_parser!(u64).range(2..=2_000_000))]
    sockets: Vec<u64>,
    #[command(flatten)]
    common: report::Common,
}

/// Everything that the page is made of.
struct Measured {
    command: String,
    version: String,
    ss: String,
    commit: String,
    date: String,
    machine: String,
    rounds: u32,
    /// Programs that are not installed.
    absent: Vec<&'static str>,
    populations: Vec<Population>,
}

/// All rounds among the same sockets.
struct Population {
    sockets: u64,
    processes: u64,
    runs: Vec<Run>,
    wrong: Vec<String>,
}

/// One program in one round.
struct Run {
    program: Program,
    round: u32,
    took: Took,
    /// Of tcptrace only.
    said: Option<Said>,
}

impl Population {
    fn of(&self, program: Program) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |run| run.program == program)
    }

    fn said(&self, program: Program) -> impl Iterator<Item = &Said> {
        self.of(program).filter_map(|run| run.said.as_ref())
    }

    /// Ours as a share of theirs, in each round that has both.
    fn ratios(&self, ours: Program, theirs: Program) -> impl Iterator<Item = f64> {
        self.of(ours).filter_map(move |run| {
            let other = self.of(theirs).find(|other| other.round == run.round)?;
            Some(run.took.wall.as_secs_f64() / other.took.wall.as_secs_f64())
        })
    }
}

/// Measures and writes. Targets that are missed are no failure, wrong counts are.
pub fn run(options: &Options) -> Result<ExitCode> {
    let sockets: Vec<_> = options.sockets.iter().map(u64::to_string).collect();
    let words = ["--sockets", &sockets.join(","), "--rounds", &options.rounds.to_string()];
    let report = Report {
        task: &["bench", "snapshot"],
        page: PAGE,
        why_root: Some(
            "it makes a network namespace, and loads the iterator that finds the owners of sockets",
        ),
        arguments: words.map(str::to_owned).to_vec(),
    };
    report.run(&options.common, |subject| {
        let measured = measure(subject, options, report.command())?;
        let wrong = measured.populations.iter().flat_map(|population| population.wrong.clone());
        Ok((page::write(&measured)?, wrong.collect()))
    })
}

fn measure(subject: &Subject, options: &Options, command: String) -> Result<Measured> {
    let tools = &subject.tools;
    let ss = output_of(tools.command("ss").arg("-V"))?.trim().to_owned();
    let here = here(subject);
    let mut populations = Vec::new();
    for sockets in &options.sockets {
        ensure!(sockets % 2 == 0, "every connection has two sockets: {sockets} is an odd number of them");
        populations.push(population(subject, *sockets, options.rounds)?);
    }
    Ok(Measured {
        command,
        version: machine::version(tools, &subject.program)?,
        ss,
        commit: subject.commit.clone(),
        date: machine::date(tools)?,
        machine: machine::describe(),
        rounds: options.rounds,
        absent: PROGRAMS
            .iter()
            .filter(|program| !here.contains(program))
            .map(|program| program.name())
            .collect(),
        populations,
    })
}

/// What can be measured here.
fn here(subject: &Subject) -> Vec<Program> {
    let there = |program: &Program| program.needs().is_none_or(|name| subject.tools.find(name).is_some());
    PROGRAMS.into_iter().filter(there).collect()
}

fn population(subject: &Subject, sockets: u64, rounds: u32) -> Result<Population> {
    eprintln!("{} sockets", number(sockets as f64, 0));
    let crowd = Crowd::gather(sockets)?;
    let listed = programs::count(subject, &crowd.netns)?;
    ensure!(listed == sockets, "ss shows {listed} sockets where there should be {sockets}");
    let mut population =
        Population { sockets, processes: crowd.processes, runs: Vec::new(), wrong: Vec::new() };
    let programs = here(subject);
    for round in 0..rounds {
        eprintln!("  round {} of {rounds}", round + 1);
        // Each round begins with another one, so that nobody always follows the same.
        let first = round as usize % programs.len();
        let order = programs.iter().cycle().skip(first).take(programs.len());
        for program in order.copied().filter(|program| program.runs(round, sockets)) {
            let (took, said) = program.run(subject, &crowd)?;
            eprintln!("    {:<24} {:>8.1} ms", program.name(), took.wall.as_secs_f64() * 1e3);
            population.wrong.extend(said.and_then(|said| said.wrong(program, sockets)));
            population.runs.push(Run { program, round, took, said });
        }
    }
    let waited = population.of(Program::Ss).map(|run| page::waited(&run.took)).fold(0.0, f64::max);
    if waited > BUSY {
        let percent = waited * 100.0;
        eprintln!(
            "warning: the machine is not quiet: ss -tan was up to {percent:.0} % of its time without a processor"
        );
    }
    Ok(population)
}
