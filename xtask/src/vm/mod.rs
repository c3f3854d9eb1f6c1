//! `cargo xtask vm`: boots real kernels of Debian in QEMU and runs the tests that need root inside, the same executables as
//! natively.

mod archive;
mod boot;
mod files;
mod guest;
mod kernels;
mod machine;
mod outcome;
mod packages;
mod page;
mod plan;
mod qemu;
mod suites;

use std::{collections::BTreeMap, fs, path::Path, process::ExitCode, time::Instant};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{
    advice, setup,
    test::{
        Report,
        libtest::{Counts, Ignored},
    },
    tools::Tools,
    workspace,
};
use boot::Chosen;
use files::Maker;
use kernels::KERNELS;
use outcome::Outcome;
use packages::Unpacked;
use page::{PAGE, Ran};
use qemu::Qemu;
use suites::Lockdown;

pub use guest::run as guest;

/// Options of `cargo xtask vm`.
#[derive(Args, Default)]
pub struct Options {
    /// Versions, as far as they matter: 6.1, 7.3; all that are listed, if none is named
    kernels: Vec<String>,
    /// Show the list
    #[arg(long)]
    list: bool,
    /// Only what CI runs
    #[arg(long)]
    ci: bool,
    /// Ask the mirrors for newer kernels of these series, instead of taking those that were got before
    #[arg(long)]
    renew: bool,
    /// Only suites whose name contains this
    #[arg(long)]
    suite: Option<String>,
    /// Only tests whose name contains this
    #[arg(long)]
    test: Option<String>,
}

/// Runs them; the count is the last line.
pub fn run(options: &Options) -> Result<ExitCode> {
    if options.list {
        for kernel in &KERNELS {
            println!("{:5} {}: {}", kernel.series, kernel.suites.join(", "), kernel.why);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = kernels::wanted(&options.kernels, options.ci)?;
    let tools = setup::ensure()?;
    let folder = workspace::target_dir(&tools)?.join("vm");
    fs::create_dir_all(&folder).with_context(|| format!("cannot write to {}", folder.display()))?;
    // Where there is none to be had nothing has failed.
    let qemu = match Qemu::ensure(&tools, &folder.join("qemu")) {
        Ok(qemu) => qemu,
        Err(error) => {
            println!("skipped: {error:#}");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let chosen = Chosen::of(&tools, options)?;
    let maker = Maker::new(&tools, &folder.join("stripped"))?;
    let guests = Guests { tools: &tools, qemu, maker, folder: &folder };
    let mut report = Report::default();
    let mut times = Vec::new();
    for wanted in &wanted {
        let kernel = match packages::obtain(&tools, wanted, &folder.join("kernels"), options.renew) {
            Ok(kernel) => kernel,
            // As on a machine that is no Debian.
            Err(error) => {
                let all = Ignored { name: "all tests".to_owned(), reason: format!("{error:#}") };
                report.skip(&format!("Linux {}", wanted.series), vec![all], 0);
                continue;
            }
        };
        match guests.run(&chosen, &kernel) {
            Ok(ran) => {
                times.push(format!("Linux {}: {} s", ran.release, ran.took_s));
                count(&ran, &mut report);
                if options.test.is_none() {
                    ran.keep(&folder.join("results"), wanted.kernel.series, options.is_complete())?;
                }
            }
            Err(error) => {
                advice::print(&error);
                report.failed += 1;
                times.push(format!("Linux {}: not run", kernel.release));
            }
        }
    }
    if options.test.is_none()
        && !options.ci
        && let Some(all) = page::complete(&folder.join("results"))
    {
        let page = workspace::root().join(PAGE);
        fs::write(&page, page::text(&all)).with_context(|| format!("cannot write {}", page.display()))?;
        eprintln!("wrote {PAGE}");
    }
    times.iter().for_each(|line| eprintln!("{line}"));
    report.print();
    Ok(if times.is_empty() { ExitCode::SUCCESS } else { report.exit_code() })
}

impl Options {
    /// What CI runs.
    pub fn of_ci() -> Self {
        Self { ci: true, ..Self::default() }
    }

    /// Nothing is left out but kernels.
    fn is_complete(&self) -> bool {
        !self.ci && self.suite.is_none() && self.test.is_none()
    }
}

/// What all guests have in common.
struct Guests<'a> {
    tools: &'a Tools,
    qemu: Qemu,
    maker: Maker<'a>,
    folder: &'a Path,
}

impl Guests<'_> {
    /// All boots of one kernel.
    fn run(&self, chosen: &Chosen, kernel: &Unpacked) -> Result<Ran> {
        let start = Instant::now();
        let mut suites = BTreeMap::new();
        for lockdown in Lockdown::ALL {
            suites.extend(chosen.boot(self, kernel, lockdown)?);
        }
        Ok(Ran { release: kernel.release.clone(), took_s: start.elapsed().as_secs(), suites })
    }
}

fn count(ran: &Ran, report: &mut Report) {
    for (suite, outcomes) in &ran.suites {
        let mut counts = Counts::default();
        let mut skipped = Vec::new();
        for (test, outcome) in outcomes {
            match outcome {
                Outcome::Passed => counts.passed += 1,
                Outcome::Skipped(why) => skipped.push(Ignored { name: test.clone(), reason: why.clone() }),
                Outcome::Failed | Outcome::Unfinished => {
                    counts.failed += 1;
                    eprintln!("failed: Linux {}, {suite}: {test}: {outcome:?}", ran.release);
                }
            }
        }
        report.count(&counts);
        report.skip(&format!("Linux {}, {suite}", ran.release), skipped, 0);
    }
}
