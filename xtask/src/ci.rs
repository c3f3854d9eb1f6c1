//! `cargo xtask ci`: what the forge runs, in this order, with how long each step took.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{advice, lint, setup, test, vm};

/// Neither lint nor other kernels stop the tests: one push should tell everything. The test count is the last line.
pub fn run() -> Result<ExitCode> {
    let mut steps = Steps::default();
    steps.run("setup", || setup::ensure().map(|_| true))?;
    let linted = steps.run("lint", || lint::run().map(|code| code == ExitCode::SUCCESS));
    let linted = linted.unwrap_or_else(|error| {
        advice::print(&error);
        false
    });
    let booted = steps.run("kernels", || {
        let ran = vm::run(&vm::Options::of_ci())?;
        Ok(ran == ExitCode::SUCCESS)
    });
    let booted = booted.unwrap_or_else(|error| {
        advice::print(&error);
        false
    });
    let mut report = test::Report::default();
    steps.run("test", || {
        report = test::execute(&test::Options::default());
        Ok(report.is_good())
    })?;
    steps.print();
    report.print();
    Ok(if linted && booted { report.exit_code() } else { ExitCode::FAILURE })
}

#[derive(Default)]
struct Steps {
    done: Vec<(&'static str, bool, Duration)>,
}

impl Steps {
    fn run(&mut self, name: &'static str, step: impl FnOnce() -> Result<bool>) -> Result<bool> {
        eprintln!("=== {name}");
        let start = Instant::now();
        let result = step();
        let good = matches!(result, Ok(true));
        let took = start.elapsed();
        eprintln!("=== {name}: {} after {:.1} s", if good { "ok" } else { "FAILED" }, took.as_secs_f64());
        self.done.push((name, good, took));
        result
    }

    fn print(&self) {
        for (name, good, took) in &self.done {
            let verdict = if *good { "ok" } else { "FAILED" };
            eprintln!("{name:7} {verdict:6} {:7.1} s", took.as_secs_f64());
        }
    }
}
