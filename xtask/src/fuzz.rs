//! `cargo xtask fuzz`: runs the fuzz targets, one after the other, each for some time, from inputs that it makes first.

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{
    advice::advice,
    setup,
    tools::{Tools, must},
    workspace,
};

/// What can be fuzzed; each is a file in fuzz/targets.
const TARGETS: [&str; 3] = ["recording", "replay", "ring"];
/// More than that, and an input has made something grow that must not.
const MEMORY_MIB: u32 = 1024;
/// Longer than that for one input, in seconds, is a hang.
const HANG: u32 = 10;

/// Options of `cargo xtask fuzz`.
#[derive(Args)]
pub struct Options {
    /// One target instead of all
    #[arg(value_parser = TARGETS)]
    target: Option<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
}

/// Runs them; the first finding ends it.
pub fn run(options: &Options) -> Result<ExitCode> {
    let tools = Tools::new();
    let target_dir = workspace::target_dir(&tools)?;
    let fuzzer = setup::ensure_fuzzer(&tools, &target_dir)?;
    let wanted = |target: &&&str| options.target.as_ref().is_none_or(|one| one == **target);
    for target in TARGETS.iter().filter(wanted) {
        one(&tools, &fuzzer, &target_dir, target, options.seconds)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn one(tools: &Tools, fuzzer: &Path, target_dir: &Path, target: &str, seconds: u32) -> Result<()> {
    let fuzz = workspace::root().join("fuzz");
    let (corpus, seeds) = (fuzz.join("corpus").join(target), target_dir.join("fuzz-seeds").join(target));
    for folder in [&corpus, &seeds] {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let mut command = tools.command(fuzzer);
    command.current_dir(workspace::root());
    // The kernel programs are not what is fuzzed. The target writes its seeds itself before it reads them.
    command.env("TCPTRACE_EBPF", "skip").env("TCPTRACE_FUZZ_SEEDS", &seeds);
    // There is no unsafe code in what is fuzzed: panics, hangs and memory are what is looked for, at twice the speed.
    command.args(["run", "--sanitizer", "none", "--fuzz-dir"]).arg(&fuzz);
    command.arg("--target-dir").arg(target_dir.join("fuzz"));
    command.arg(target).arg(&corpus).arg(&seeds);
    command.args(["--", "-print_final_stats=1", "-use_value_profile=1"]);
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-rss_limit_mb={MEMORY_MIB}")).arg(format!("-timeout={HANG}"));
    must(&mut command).map_err(|why| {
        let found =
            format!("an input is in fuzz/artifacts/{target}; mend what it shows, and make a test of it");
        let again = format!("cargo xtask fuzz {target}");
        advice(
            format!("fuzzing {target} has ended: {why}"),
            "a panic, a hang, or too much memory",
            &[&found, &again],
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_listed() {
        let folder = workspace::root().join("fuzz/targets");
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut names: Vec<_> =
            files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
        names.sort();
        assert_eq!(names, TARGETS);
    }
}
