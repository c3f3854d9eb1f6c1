//! `cargo xtask bench overhead`: builds tcptrace, measures it as root, writes `docs/cost.md`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use clap::Args;

use super::{
    bpf_stats,
    cores::{self, Cores},
    figures::{Spread, size},
    idle,
    kernel::Kernel,
    load::{LARGER_RESPONSES, LEAST_RESPONSE},
    loader::Loader,
    machine, page,
    throughput::{LARGER_MODES, MODES, Throughput},
};
use crate::{advice::advice, root, run, setup, tools::Tools, workspace};

const PAGE: &str = "docs/cost.md";
/// The kernel's measurement is steady: more time would not tell more.
const MOST_IN_KERNEL_ROUND: Duration = Duration::from_secs(1);
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
    /// Print the page, and leave docs/cost.md as it is
    #[arg(long)]
    no_write: bool,
    /// Measure this tcptrace instead of building one, and only print the page
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// What the program was built from: said by the user's xtask to the one it starts as root
    #[arg(long, hide = true, requires = "program")]
    commit: Option<String>,
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
    /// The share of a core that a tracer takes which sees nothing.
    pub idle: f64,
}

impl Measured {
    /// Counts that do not add up, in words.
    fn wrong(&self) -> Vec<String> {
        let throughput =
            self.larger.iter().chain([&self.throughput]).flat_map(|throughput| &throughput.wrong);
        throughput.chain(&self.kernel.wrong).cloned().collect()
    }
}

/// Measures and writes. Targets that are missed are no failure, wrong counts and lost events are.
pub fn run(options: &Options) -> Result<ExitCode> {
    let (tools, program, commit) = subject(options)?;
    let (page, wrong) = if root::is_root() {
        let measured = measure(&tools, &program, commit, options)?;
        let wrong = measured.wrong();
        (page::write(&measured)?, wrong)
    } else {
        (as_root(&tools, &program, &commit, options)?, Vec::new())
    };
    if !wrong.is_empty() {
        print!("{page}");
        for what in &wrong {
            eprintln!("error: {what}");
        }
        eprintln!(
            "error: tcptrace's counts are not the load's, so its figures are worth nothing; {PAGE} stays as it is"
        );
        return Ok(ExitCode::FAILURE);
    }
    if options.no_write || options.program.is_some() {
        print!("{page}");
    } else {
        let file = workspace::root().join(PAGE);
        fs::write(&file, page).with_context(|| format!("cannot write {}", file.display()))?;
        eprintln!("wrote {PAGE}");
    }
    Ok(ExitCode::SUCCESS)
}

/// What to measure, and what it was built from.
fn subject(options: &Options) -> Result<(Tools, PathBuf, String)> {
    if let Some(program) = &options.program {
        let commit = options.commit.clone().unwrap_or_else(|| "given as a file".to_owned());
        return Ok((Tools::new(), program.clone(), commit));
    }
    let tools = setup::ensure()?;
    let program = run::build(&tools)?;
    let commit = machine::commit(&tools);
    Ok((tools, program, commit))
}

/// The whole measurement again, by an xtask that is root. It gives us the page, so that the file becomes ours.
fn as_root(tools: &Tools, program: &Path, commit: &str, options: &Options) -> Result<String> {
    let what = "bench overhead needs root";
    let why = "it attaches kernel programs, makes a network namespace, and asks the kernel to measure";
    // With --commit, sudo has just given us somebody who is not root.
    let Some(sudo) = tools.find("sudo").filter(|_| options.commit.is_none()) else {
        return Err(advice(what, why, &["cargo xtask bench overhead, as root"]));
    };
    let mut command = tools.command(sudo);
    command.arg("--").arg(env::current_exe().context("xtask does not find itself")?);
    command.args(["bench", "overhead", "--no-write", "--commit", commit]).arg("--program").arg(program);
    command.args(["--rounds", &options.rounds.to_string(), "--seconds", &options.seconds.to_string()]);
    let done =
        command.stderr(Stdio::inherit()).stdin(Stdio::inherit()).output().context("sudo does not start")?;
    let page = String::from_utf8_lossy(&done.stdout).into_owned();
    if !done.status.success() {
        print!("{page}");
        let why = "the measurement, which runs as root, failed: it said why above";
        return Err(advice(format!("{PAGE} stays as it is"), why, &["mend that, then the same again"]));
    }
    Ok(page)
}

fn measure(tools: &Tools, program: &Path, commit: String, options: &Options) -> Result<Measured> {
    bpf_stats::must_be_off()?;
    let cores = Cores::choose()?;
    let version = machine::version(tools, program)?;
    let mut loader = Loader::start(cores)?;
    // What we start from here on inherits this: every tracer. So do we, who only wait.
    cores::pin(cores.tracer)?;
    let timed = Duration::from_secs(u64::from(options.seconds));
    let mut throughput = Throughput::new(LEAST_RESPONSE, &MODES);
    let mut larger = LARGER_RESPONSES.map(|response| Throughput::new(response, &LARGER_MODES));
    for round in 0..options.rounds {
        eprintln!("throughput, round {} of {}", round + 1, options.rounds);
        throughput.round(round as usize, program, &mut loader, timed)?;
        for throughput in &mut larger {
            eprintln!("  responses of {}", size(throughput.response));
            throughput.round(round as usize, program, &mut loader, timed)?;
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
    let timed = timed.min(MOST_IN_KERNEL_ROUND);
    for round in 1..=options.rounds {
        eprintln!("kernel, round {round} of {}", options.rounds);
        kernel.round(program, &mut loader, timed)?;
    }
    eprintln!("a tracer that sees nothing");
    let idle = idle::measure(program, loader.netns)?;
    Ok(Measured {
        command: format!(
            "cargo xtask bench overhead --rounds {} --seconds {}",
            options.rounds, options.seconds
        ),
        version,
        commit,
        date: machine::date(tools)?,
        machine: machine::describe(),
        cores,
        rounds: options.rounds,
        seconds: options.seconds,
        throughput,
        larger: larger.into(),
        kernel,
        idle,
    })
}
