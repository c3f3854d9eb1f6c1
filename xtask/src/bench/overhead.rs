//! `cargo xtask bench overhead`: builds tcptrace, measures it as root, writes `docs/cost.md`.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Args;

use super::{
    accuracy::Accuracy,
    bpf_stats,
    cores::{self, Cores},
    figures::{Spread, size},
    idle,
    kernel::Kernel,
    load::{LARGER_RESPONSES, LEAST_RESPONSE},
    loader::Loader,
    machine,
    modes::{Mode, Programs},
    page,
    report::{self, Report, Subject},
    rivals::{Rival, Rivals},
    throughput::{LARGER_MODES, MODES, Throughput},
};
use crate::tools::Tools;

const PAGE: &str = "docs/cost.md";
/// The kernel's measurement and what is counted are steady: more time would not tell more.
const MOST_IN_STEADY_ROUND: Duration = Duration::from_secs(1);
/// The share of its time that the load may wait for its processor. The kernel's own threads there take about 2 %.
const BUSY: f64 = 0.05;

/// Options of `cargo xtask bench overhead`.
#[derive(Args)]
pub struct Options {
    /// Rounds; the page shows their median
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds of load, for each mode in each round
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Leave out tcpstates, tcplife and bpftrace, which are otherwise got from Debian's packages
    #[arg(long)]
    no_rivals: bool,
    #[command(flatten)]
    common: report::Common,
}

/// Everything that the page is made of.
pub struct Measured {
    /// What to type for another page like this.
    pub command: String,
    /// `tcptrace 0.1.0`.
    pub version: String,
    /// What it was built from.
    pub commit: String,
    /// Today.
    pub date: String,
    /// On what.
    pub machine: String,
    /// Where load and tracer ran.
    pub cores: Cores,
    /// How many.
    pub rounds: u32,
    /// How long each stretch was.
    pub seconds: u32,
    /// With and without, connections that do almost nothing but open and close.
    pub throughput: Throughput,
    /// The same for connections that carry more.
    pub larger: Vec<Throughput>,
    /// By the kernel's own measurement.
    pub kernel: Kernel,
    /// What the exporters say, beside what there was.
    pub accuracy: Accuracy,
    /// The share of a core that a tracer takes which sees nothing.
    pub idle: f64,
    /// Versions of the packages that rivals came in.
    pub versions: Vec<String>,
    /// Rivals that were not measured, and why.
    pub skipped: Vec<(Rival, String)>,
}

impl Measured {
    /// Counts that do not add up, in words.
    fn wrong(&self) -> Vec<String> {
        let throughput =
            self.larger.iter().chain([&self.throughput]).flat_map(|throughput| &throughput.wrong);
        throughput.chain(&self.kernel.wrong).chain(&self.accuracy.wrong).cloned().collect()
    }
}

/// Measures and writes. Targets that are missed are no failure, wrong counts and lost events are.
pub fn run(options: &Options) -> Result<ExitCode> {
    // As whoever types this, so that what is unpacked is theirs; root, who measures, finds it there.
    let rivals = Rivals::obtain(&Tools::new(), !options.no_rivals);
    let mut arguments = vec![
        "--rounds".to_owned(),
        options.rounds.to_string(),
        "--seconds".to_owned(),
        options.seconds.to_string(),
    ];
    arguments.extend(options.no_rivals.then(|| "--no-rivals".to_owned()));
    let report = Report {
        task: &["bench", "overhead"],
        page: PAGE,
        why_root: Some(
            "it attaches kernel programs, makes a network namespace, and asks the kernel to measure",
        ),
        arguments,
    };
    report.run(&options.common, |subject| {
        let measured = measure(subject, rivals, options, report.command())?;
        Ok((page::write(&measured)?, measured.wrong()))
    })
}

fn measure(subject: &Subject, rivals: Rivals, options: &Options, command: String) -> Result<Measured> {
    bpf_stats::must_be_off()?;
    let Subject { tools, program, commit } = subject;
    let cores = Cores::choose()?;
    let version = machine::version(tools, program)?;
    let mut loader = Loader::start(cores)?;
    // What we start from here on inherits this: every tracer. So do we, who only wait.
    cores::pin(cores.tracer)?;
    let mut programs = Programs::new(program, rivals);
    programs.try_rivals();
    let timed = Duration::from_secs(u64::from(options.seconds));
    let mut throughput = Throughput::new(LEAST_RESPONSE, programs.and_rivals(&MODES));
    let mut modes = programs.and_rivals(&LARGER_MODES);
    modes.retain(|mode| !matches!(mode, Mode::Rival(Rival::Tcplife | Rival::Bpftrace)));
    let mut larger = LARGER_RESPONSES.map(|response| Throughput::new(response, modes.clone()));
    for round in 0..options.rounds {
        eprintln!("throughput, round {} of {}", round + 1, options.rounds);
        throughput.round(round as usize, &programs, &mut loader, timed)?;
        for throughput in &mut larger {
            eprintln!("  responses of {}", size(throughput.response));
            throughput.round(round as usize, &programs, &mut loader, timed)?;
        }
    }
    let waits = larger.iter().chain([&throughput]).flat_map(|throughput| &throughput.waited);
    let waited = Spread::of(waits.copied())?.max;
    if waited > BUSY {
        let percent = waited * 100.0;
        eprintln!(
            "warning: the machine is not quiet: the load waited up to {percent:.0} % of a stretch for its processor"
        );
    }
    let mut kernel = Kernel::default();
    let timed = timed.min(MOST_IN_STEADY_ROUND);
    for round in 1..=options.rounds {
        eprintln!("kernel, round {round} of {}", options.rounds);
        kernel.round(&programs, &mut loader, timed)?;
    }
    let mut accuracy = Accuracy::default();
    for round in 1..=options.rounds {
        eprintln!("accuracy, round {round} of {}", options.rounds);
        accuracy.round(&programs, &mut loader, timed)?;
    }
    eprintln!("a tracer that sees nothing");
    let idle = idle::measure(&programs, loader.netns)?;
    Ok(Measured {
        command,
        version,
        commit: commit.clone(),
        date: machine::date(tools)?,
        machine: machine::describe(),
        cores,
        rounds: options.rounds,
        seconds: options.seconds,
        throughput,
        larger: larger.into(),
        kernel,
        accuracy,
        idle,
        versions: programs.rivals.versions,
        skipped: programs.rivals.skipped,
    })
}
