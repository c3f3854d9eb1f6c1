//! One boot of a kernel: the suites that belong to it, put into a file system, run, and what they came to.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Guests, Options,
    machine::{Boot, Machine, Next},
    outcome::{self, Outcomes},
    packages::Unpacked,
    plan::{Message, Plan, Step},
    suites::{Lockdown, SUITES, Suite, WAYS},
};
use crate::{
    artifacts::Executable,
    test,
    tools::{Tools, output_of},
};

/// How long a suite may take in a guest, in seconds.
const LIMIT_S: u64 = 2400;
/// How long a guest may say nothing: some tests wait for several of the kernel's timers.
const SILENCE: Duration = Duration::from_secs(600);

/// The suites to run with their tests, and their executables.
pub struct Chosen {
    suites: Vec<(&'static Suite, Vec<String>)>,
    executables: Vec<Executable>,
}

impl Chosen {
    /// Builds what is needed.
    pub fn of(tools: &Tools, options: &Options) -> Result<Self> {
        let wanted = |suite: &&Suite| {
            (suite.in_ci || !options.ci)
                && options.suite.as_ref().is_none_or(|part| suite.name.contains(part))
        };
        let suites: Vec<_> = SUITES.iter().filter(wanted).collect();
        let targets = suites.iter().filter_map(|suite| suite.target());
        let only: Vec<_> = targets.flat_map(|target| ["--test".to_owned(), target]).collect();
        ensure!(!only.is_empty(), "there is no such suite; see xtask/src/vm/suites.rs");
        let executables = test::build_some(tools, &only)?;
        let mut with_tests = Vec::new();
        for suite in suites {
            let executable = find(&executables, suite)?;
            let said = output_of(tools.command(&executable.path).args(["--list", "--ignored"]))?;
            let listed = said.lines().filter_map(|line| line.strip_suffix(": test"));
            let named = |test: &&str| options.test.as_ref().is_none_or(|part| test.contains(part));
            let tests: Vec<_> =
                listed.filter(|test| suite.takes(test)).filter(named).map(str::to_owned).collect();
            if !tests.is_empty() {
                with_tests.push((suite, tests));
            }
        }
        ensure!(!with_tests.is_empty(), "no suite has such a test");
        Ok(Self { suites: with_tests, executables })
    }

    /// The outcomes by suite; nothing is booted where no suite wants this.
    pub(super) fn boot(
        &self,
        guests: &Guests<'_>,
        kernel: &Unpacked,
        lockdown: Lockdown,
    ) -> Result<BTreeMap<String, Outcomes>> {
        let suites: Vec<_> = self.suites.iter().filter(|(suite, _)| suite.lockdown == lockdown).collect();
        let mut plan = Plan::default();
        for module in &kernel.modules {
            plan.modules.push(Path::new("/modules").join(module.file_name().unwrap_or_default()));
        }
        for (suite, tests) in &suites {
            plan.steps.push(step(suite, tests, find(&self.executables, suite)?));
        }
        if plan.steps.is_empty() {
            return Ok(BTreeMap::new());
        }
        // Without what was only built to be called: the program is known by its path.
        let own: Vec<_> = self.executables.iter().map(|executable| executable.path.clone()).collect();
        let files = guests.folder.join(format!("{}-{}.cpio", kernel.release, lockdown.name()));
        guests.maker.write(&plan, &kernel.modules, &own, &files)?;
        let console = guests.folder.join(format!("{}-{}.console", kernel.release, lockdown.name()));
        let line = lockdown.line();
        let boot = Boot { image: &kernel.image, line: &line, files: &files, console: &console };
        eprintln!("\n=== Linux {}, lockdown {}", kernel.release, lockdown.name());
        let machine = Machine::start(guests.qemu.command(guests.tools), &boot)?;
        let said = listen(&machine, &console);
        let _ = fs::remove_file(&files);
        Ok(judge(&suites, &said))
    }
}

fn judge(suites: &[&(&Suite, Vec<String>)], said: &BTreeMap<String, String>) -> BTreeMap<String, Outcomes> {
    let mut outcomes = BTreeMap::new();
    for (suite, tests) in suites {
        let output = said.get(suite.name).map(String::as_str).unwrap_or_default();
        if suite.in_all_ways {
            outcomes.extend(outcome::by_way(output, tests, &WAYS.map(|(name, _)| name)));
        } else {
            outcomes.insert(suite.name.to_owned(), outcome::read(output, tests));
        }
    }
    outcomes
}

fn find<'a>(executables: &'a [Executable], suite: &Suite) -> Result<&'a Executable> {
    let is = |executable: &&Executable| executable.is_test && suite.is_of(&executable.label());
    executables.iter().find(is).with_context(|| format!("cargo built no {}", suite.source))
}

fn step(suite: &Suite, tests: &[String], executable: &Executable) -> Step {
    let words = ["--ignored", "--exact", "--show-output", "--color=never", "--test-threads=1"];
    let arguments = words.map(str::to_owned).into_iter().chain(tests.iter().cloned()).collect();
    let package = executable.package_dir.display().to_string();
    let mut environment = vec![("CARGO_MANIFEST_DIR".to_owned(), package)];
    if suite.in_all_ways {
        let ways = WAYS.map(|(name, _)| name).join(",");
        environment.push(("TCPTRACE_TEST_WAYS".to_owned(), ways));
    }
    Step {
        name: suite.name.to_owned(),
        program: executable.path.clone(),
        arguments,
        environment,
        folder: executable.package_dir.clone(),
        limit_s: LIMIT_S,
    }
}

/// What each step printed on standard output, until the machine ends; all of it is passed on.
fn listen(machine: &Machine, console: &Path) -> BTreeMap<String, String> {
    let mut said: BTreeMap<String, String> = BTreeMap::new();
    let mut step = String::new();
    let start = Instant::now();
    let mut done = false;
    loop {
        match machine.next(SILENCE) {
            Next::Message(Message::Up { release, lockdown }) => {
                let lockdown = lockdown.unwrap_or_else(|| "unknown".to_owned());
                let took = start.elapsed().as_secs_f64();
                eprintln!("--- {release} is up after {took:.0} s, lockdown {lockdown}");
            }
            Next::Message(Message::Note { text }) => eprintln!("note: {text}"),
            Next::Message(Message::Began { step: name }) => {
                eprintln!("--- {name}");
                step = name;
            }
            Next::Message(Message::Line { text, error: true }) => eprintln!("{text}"),
            Next::Message(Message::Line { text, error: false }) => {
                println!("{text}");
                let said = said.entry(step.clone()).or_default();
                said.push_str(&text);
                said.push('\n');
            }
            Next::Message(Message::Ended { step, code, took_ms }) => {
                let code = code.map_or_else(|| "no code".to_owned(), |code| code.to_string());
                eprintln!("--- {step} ended with {code} after {} s", took_ms / 1000);
            }
            Next::Message(Message::Done) => done = true,
            Next::Ended if done => return said,
            Next::Ended => {
                eprintln!("error: the machine ended too early; its console: {}", console.display());
                return said;
            }
            Next::Silent => {
                eprintln!("error: the machine says nothing any more; its console: {}", console.display());
                return said;
            }
        }
    }
}
