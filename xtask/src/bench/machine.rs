//! What was measured, and on what: the facts without which no figure means anything.

use std::{fs, path::Path};

use anyhow::Result;

use crate::tools::{Tools, output_of};

/// What the compiled programs are made from.
const SOURCES: [&str; 5] = ["tcptrace", "tcptrace-common", "tcptrace-ebpf", "Cargo.toml", "Cargo.lock"];

/// Model and number of processors, whether there is a host below, and the kernel.
pub fn describe() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |name: &str| {
        let mut pairs = info.lines().filter_map(|line| line.split_once(':'));
        pairs.find_map(|(key, value)| (key.trim() == name).then(|| value.trim().to_owned()))
    };
    // Only some architectures name their model.
    let model = value("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    // In a virtual machine the name may be that of a whole line of products, over generations.
    let generation = value("cpu family").zip(value("model"));
    let generation =
        generation.map(|(family, model)| format!(" (family {family}, model {model})")).unwrap_or_default();
    let processors = info.lines().filter(|line| line.starts_with("processor")).count();
    let virtual_machine =
        value("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    let below = if virtual_machine { ", a virtual machine" } else { "" };
    let plural = if processors == 1 { "" } else { "s" };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}{generation}, {processors} processor{plural}{below}, Linux {}", kernel.trim())
}

/// As the program itself says: `tcptrace 0.1.0`.
pub fn version(tools: &Tools, program: &Path) -> Result<String> {
    Ok(output_of(tools.command(program).arg("--version"))?.trim().to_owned())
}

/// Which commit it was built from. Not known outside a clone.
pub fn commit(tools: &Tools) -> String {
    let git = |arguments: &[&str]| {
        let mut git = tools.command("git");
        output_of(git.current_dir(crate::workspace::root()).args(arguments))
            .map(|text| text.trim().to_owned())
    };
    let Ok(hash) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown commit".to_owned() };
    let changed = git(&[&["status", "--porcelain", "--"], &SOURCES[..]].concat());
    match changed {
        Ok(text) if text.is_empty() => format!("commit {hash}"),
        _ => format!("commit {hash} with changes"),
    }
}

/// Today, in UTC.
pub fn date(tools: &Tools) -> Result<String> {
    Ok(output_of(tools.command("date").args(["-u", "+%Y-%m-%d"]))?.trim().to_owned())
}
