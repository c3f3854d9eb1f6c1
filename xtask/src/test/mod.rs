//! `cargo xtask test`: everything this machine can run, and an honest count on the last line.
//! Tests that need root are `#[ignore = "needs root: …"]`, those that start a tool `#[ignore = "needs prometheus: …"]` or
//! `"needs root and duckdb: …"`: cargo itself must work for everyone. They run here in a second pass where what they need is
//! to be had; as root one at a time. `needs packages` is a tool that is made here: `cargo xtask dist`, only if such a test runs.

mod execute;
pub mod libtest;
mod packages;
mod report;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::{
    advice,
    artifacts::{self, Executable},
    root::Access,
    setup::{self, TestTools},
    tools::Tools,
    workspace,
};
use libtest::Ignored;
use packages::Packages;
pub use report::Report;

/// How tests call root in what they need.
const ROOT: &str = "root";

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
    let mut tools = setup::ensure()?;
    let test_tools = TestTools::ensure(&tools)?;
    tools.set(setup::FOLDER_VARIABLE, test_tools.folder());
    let filter = options.filter.as_deref();
    let access = Access::find(&tools);
    let executables = build(&tools)?;
    let mut packages = Packages::default();

    let mut waiting = Vec::new();
    for executable in &executables {
        let run = execute::as_anyone(&tools, executable, filter)?;
        report.count(&run.counts);
        let ignored = run.ignored.len();
        let mut plan = Plan::of(run.ignored, access, &test_tools);
        packages.provide(&mut tools, &mut plan)?;
        report.skip(&executable.label(), plan.skipped, run.counts.ignored.saturating_sub(ignored));
        if !plan.with_tools.is_empty() {
            report.count(&execute::with_tools(&tools, executable, &plan.with_tools)?.counts);
        }
        if !plan.as_root.is_empty() {
            waiting.push((executable, plan.as_root));
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

/// What becomes of the tests that were ignored at first.
#[derive(Default)]
struct Plan {
    with_tools: Vec<Ignored>,
    as_root: Vec<Ignored>,
    skipped: Vec<Ignored>,
}

impl Plan {
    fn of(ignored: Vec<Ignored>, access: Access, test_tools: &TestTools) -> Self {
        let mut plan = Self::default();
        for mut test in ignored {
            let needs = test.needs();
            let for_root = needs.contains(&ROOT);
            let tools = || needs.iter().filter(|&&need| need != ROOT && need != packages::NEED);
            let missing = tools().find_map(|need| test_tools.answer(need).err());
            let can = !needs.is_empty() && missing.is_none() && (!for_root || access != Access::None);
            if can {
                let place = if for_root { &mut plan.as_root } else { &mut plan.with_tools };
                place.push(test);
                continue;
            }
            if let Some(missing) = missing {
                test.reason = format!("{} ({missing})", test.reason);
            }
            plan.skipped.push(test);
        }
        plan
    }
}

/// Builds them all.
fn build(tools: &Tools) -> Result<Vec<Executable>> {
    let mut tests = build_some(tools, &[])?;
    tests.retain(|executable| executable.is_test);
    // Cargo names them as they are done, in another order each time.
    tests.sort_by_key(Executable::label);
    Ok(tests)
}

/// Builds some test executables, which are the same as those of all, and the programs that they start.
pub fn build_some(tools: &Tools, only: &[String]) -> Result<Vec<Executable>> {
    let mut cargo = tools.cargo();
    cargo.args(["test", "--workspace", "--no-run"]).args(workspace::OPTIONAL).args(only);
    artifacts::build(&mut cargo)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_runs_where_all_it_needs_is() {
        let reasons = [
            "needs root: a",
            "needs root and prometheus: b",
            "needs duckdb: c",
            "needs QEMU",
            "needs QEMU: d",
        ];
        let ignored = || reasons.map(|reason| Ignored { name: "t".into(), reason: reason.into() }).into();
        let nothing = TestTools::in_folder("/proc/nothing".into());
        let plan = Plan::of(ignored(), Access::Already, &nothing);
        let reasons = |tests: &[Ignored]| tests.iter().map(|test| test.reason.clone()).collect::<Vec<_>>();
        assert_eq!(reasons(&plan.as_root), ["needs root: a"]);
        assert!(plan.with_tools.is_empty());
        let skipped = [
            "needs root and prometheus: b (prometheus is missing)",
            "needs duckdb: c (duckdb is missing)",
            "needs QEMU",
            "needs QEMU: d (nothing here brings QEMU)",
        ];
        assert_eq!(reasons(&plan.skipped), skipped);
        assert!(Plan::of(ignored(), Access::None, &nothing).as_root.is_empty());
    }
}
