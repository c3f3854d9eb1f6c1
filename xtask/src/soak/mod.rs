//! `cargo xtask soak`: full load on every core, namespaces that come and go, other tracers that are killed or hang; and at the end
//! memory that is flat, counts that are the kernel's, and a table of sockets that is `ss`'s. Writes `docs/reliability.md`.

pub mod churn;
mod compare;
mod disturb;
pub mod load;
mod page;
pub mod scrape;
mod space;
mod subject;
mod worker;

use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Args;

use self::{
    compare::{Counted, Held},
    disturb::{Disturber, Fates},
    space::Space,
    subject::{Subject, flat},
    worker::Worker,
};
use crate::bench::{
    machine,
    report::{self, Report},
};
pub use worker::Seed;

const PAGE: &str = "docs/reliability.md";
/// Between two looks at the exporters.
const LOOK: Duration = Duration::from_secs(3);
/// How long the ledger may take to be what `ss` shows, once the load has ended: it asks the kernel every ten seconds, and what it
/// has in TIME_WAIT must expire.
const SETTLE: Duration = Duration::from_secs(100);

/// Options of `cargo xtask soak`.
#[derive(Args)]
pub struct Options {
    /// How long
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    minutes: u32,
    /// What happens follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    common: report::Common,
}

/// Everything that the page is made of.
struct Soaked {
    command: String,
    version: String,
    commit: String,
    date: String,
    machine: String,
    time: Duration,
    loads: usize,
    namespaces: u64,
    fates: Fates,
    counted: Counted,
    held: Held,
    exporters: Vec<Exporter>,
}

/// One that ran all the time.
struct Exporter {
    what: &'static str,
    events: u64,
    lost: u64,
    cpu: Duration,
    /// Resident bytes, early and late.
    early: f64,
    late: f64,
}

/// Soaks. What is wrong at the end is a failure.
pub fn run(options: &Options) -> Result<ExitCode> {
    let report = Report {
        task: &["soak"],
        page: PAGE,
        why_root: Some("it attaches kernel programs and makes network namespaces"),
        arguments: vec![
            "--minutes".to_owned(),
            options.minutes.to_string(),
            "--seed".to_owned(),
            options.seed.to_string(),
        ],
    };
    report.run(&options.common, |subject| soak(subject, options, report.command()))
}

fn soak(built: &report::Subject, options: &Options, command: String) -> Result<(String, Vec<String>)> {
    let mut wrong = Vec::new();
    let space = Space::make()?;
    // So that there is a process whose namespace it is.
    let keeper = Worker::keeper(&space)?;
    let netns = keeper.pid().to_string();
    let mut exporters = [
        ("export, the load's namespace only", Subject::start(&built.program, &["--netns", &netns])?),
        ("export, the whole host", Subject::start(&built.program, &[])?),
    ];
    let cores = thread::available_parallelism().context("how many cores there are is not known")?.get();
    let loads = (0..cores as u64).map(|core| Worker::load(&space, options.seed + core));
    let mut loads = loads.collect::<Result<Vec<_>>>()?;
    let mut churn = Worker::churn(options.seed)?;
    let disturber = Disturber::start(&built.program, options.seed);

    let time = Duration::from_secs(60 * u64::from(options.minutes));
    let start = Instant::now();
    let mut told = 0;
    while start.elapsed() < time && !disturber.has_ended() {
        thread::sleep(LOOK);
        for (what, exporter) in &mut exporters {
            let gone_back = exporter.look()?;
            wrong.extend(gone_back.iter().map(|counter| format!("{what}: {counter} has gone back")));
        }
        let minutes = start.elapsed().as_secs() / 60;
        if minutes > told {
            told = minutes;
            let resident = exporters.iter().filter_map(|(_, exporter)| exporter.resident.last());
            let resident: Vec<_> =
                resident.map(|bytes| format!("{:.1} MiB", bytes / f64::from(1 << 20))).collect();
            eprintln!("{minutes} of {} minutes, resident {}", options.minutes, resident.join(" and "));
        }
    }
    let time = start.elapsed();
    let fates = disturber.stop().unwrap_or_else(|error| {
        wrong.push(format!("another tracer: {error:#}"));
        Fates::default()
    });
    let namespaces = churn.end();
    for load in &mut loads {
        load.finish()?;
    }
    let (counted, held) = compare::settle(&space, &mut exporters[0].1, SETTLE)?;
    wrong.extend(counted.wrong().into_iter().chain(held.wrong()));
    let mut costs = Vec::new();
    for (what, exporter) in &mut exporters {
        let (early, late, is_flat) = flat(&exporter.resident).context("there were too few looks")?;
        if !is_flat {
            wrong.push(format!("{what}: resident memory grew from {early} to {late} bytes"));
        }
        costs.push(Exporter {
            what,
            events: exporter.metrics.sum("tcptrace_transitions_total"),
            lost: exporter.metrics.sum("tcptrace_lost_events_total"),
            cpu: exporter.cpu()?,
            early,
            late,
        });
        exporter.stop().with_context(|| format!("{what} at the end"))?;
    }
    let soaked = Soaked {
        command,
        version: machine::version(&built.tools, &built.program)?,
        commit: built.commit.clone(),
        date: machine::date(&built.tools)?,
        machine: machine::describe(),
        time,
        loads: cores,
        namespaces,
        fates,
        counted,
        held,
        exporters: costs,
    };
    Ok((page::write(&soaked), wrong))
}
