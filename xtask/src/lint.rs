//! `cargo xtask lint`: formatting, clippy on the host and for bpf, tidy.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    setup, tidy,
    tools::{Tools, must},
    workspace,
};

type Check = fn(&Tools) -> Result<()>;

const CHECKS: [(&str, Check); 3] =
    [("formatting", formatting), ("clippy", clippy), ("clippy for bpf", clippy_for_bpf)];

/// Every check runs, so that one round shows all there is to mend.
pub fn run() -> Result<ExitCode> {
    let tools = setup::ensure()?;
    setup::ensure_lint_tools(&tools)?;
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        eprintln!("--- {name}");
        if let Err(error) = check(&tools) {
            crate::advice::print(&error);
            failed.push(name);
        }
    }
    eprintln!("--- tidy");
    if tidy::run()? != ExitCode::SUCCESS {
        failed.push("tidy");
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("error: lint failed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

fn formatting(tools: &Tools) -> Result<()> {
    must(tools.cargo().args(["fmt", "--all", "--check"]))
}

fn clippy(tools: &Tools) -> Result<()> {
    let mut all = tools.cargo();
    all.args(["clippy", "--workspace", "--all-targets"]).args(workspace::OPTIONAL);
    must(all.args(["--", "-D", "warnings"]))?;
    // What is there only where an optional part is not.
    must(tools.cargo().args(["clippy", "--package", "tcptrace", "--", "-D", "warnings"]))
}

/// On the host the kernel programs are only a stub, so they are checked again for the target they are for.
/// With a target directory of its own: other flags would make cargo rebuild `core` for every build.
fn clippy_for_bpf(tools: &Tools) -> Result<()> {
    let target = if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };
    let mut cargo = tools.cargo();
    cargo.args(["clippy", "--package", "tcptrace-ebpf", "--release", "--target", target]);
    cargo.args(["-Zbuild-std=core", "--target-dir"]).arg(workspace::target_dir(tools)?.join("ebpf-clippy"));
    cargo.args(["--", "-D", "warnings"]);
    // aya-ebpf takes the layout of the registers from this flag; -Z is unlocked for this process only.
    let flag = format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH);
    must(cargo.env("RUSTC_BOOTSTRAP", "1").env("CARGO_ENCODED_RUSTFLAGS", flag).env_remove("RUSTFLAGS"))
}
