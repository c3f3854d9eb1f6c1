//! `cargo xtask test`: everything this machine can run, and an honest count on the last line.
//! Tests that need root are `#[ignore = "needs root: …"]`: cargo itself must work for everyone. They
//! run here in a second pass, one at a time, where root is to be had.

mod execute;
mod libtest;
mod report;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::{
    advice,
    artifacts::{self, Executable},
    root::Access,
    setup,
    tools::Tools,
};
pub use report::Report;

/// Options of `cargo xtask test`.
#[derive(Args, Default)]
pub struct Options {
    /// Only tests whose name contains this
    filter: Option<String>,
}

/// Runs the tests; the count is the last line of standard output.
pub fn run(options: &Options) -> Result<ExitCode> {
    let report = execute(options);
    report.print();
    Ok(report.exit_code())
}

/// Runs the tests and leaves printing the count to the caller. Whatever stops them is a failure too.
pub fn execute(options: &Options) -> Report {
    let mut report = Report::default();
    if let Err(error) = all(options, &mut report) {
        advice::print(&error);
        report.failed += 1;
    }
    report
}

fn all(options: &Options, report: &mut Report) -> Result<()> {
    let tools = setup::ensure()?;
    setup::ensure_test_tools(&tools);
    let filter = options.filter.as_deref();
    let access = Access::find(&tools);
    let executables = build(&tools)?;

    let mut waiting = Vec::new();
    for executable in &executables {
        let run = execute::as_anyone(&tools, executable, filter)?;
        report.count(&run.counts);
        let (for_root, skipped): (Vec<_>, Vec<_>) =
            run.ignored.into_iter().partition(|test| access != Access::None && test.needs_root());
        let unread = run.counts.ignored.saturating_sub(for_root.len() + skipped.len());
        report.skip(&executable.label(), skipped, unread);
        if !for_root.is_empty() {
            waiting.push((executable, for_root));
        }
    }
    let run = execute::doc_tests(&tools, filter)?;
    report.count(&run.counts);
    let unread = run.counts.ignored.saturating_sub(run.ignored.len());
    report.skip("doc tests", run.ignored, unread);

    for (executable, tests) in waiting {
        report.count(&execute::as_root(&tools, executable, &tests, access)?.counts);
    }
    Ok(())
}

fn build(tools: &Tools) -> Result<Vec<Executable>> {
    let mut cargo = tools.cargo();
    cargo.args(["test", "--workspace", "--no-run"]);
    let built = artifacts::build(&mut cargo)?;
    let mut tests: Vec<_> = built.into_iter().filter(|executable| executable.is_test).collect();
    // Cargo names them as they are done, in another order each time.
    tests.sort_by_key(Executable::label);
    Ok(tests)
}
