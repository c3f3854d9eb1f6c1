//! What tcptrace can do with which capabilities, and what it gives up when it no longer needs them.
#![allow(clippy::expect_used)] // a test that cannot go on says so

mod commands;
mod given_up;
#[path = "../cli/run.rs"]
#[allow(dead_code)]
mod run;
#[path = "../support/mod.rs"]
mod support;
mod traced;
#[path = "../support/unprivileged.rs"]
mod unprivileged;

use caps::Capability::{self, CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN, CAP_SYS_PTRACE};
use run::Running;
use std::process::Command;
use tcptrace_lab::{Lab, Side};

/// Enough to trace.
const TRACING: [Capability; 2] = [CAP_BPF, CAP_PERFMON];
/// Enough to see other namespaces, too.
const EVERYWHERE: [Capability; 4] = [CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN, CAP_SYS_PTRACE];

/// Starts it in a lab host's network namespace.
fn started(lab: &Lab, command: Command) -> Running {
    lab.run_in(Side::Client, move || Running::start(command)).expect("the host runs it")
}

/// Maps can be used without CAP_BPF, whatever kernel.unprivileged_bpf_disabled says: from 5.19 on.
fn maps_need_no_capability() -> bool {
    tcptrace::source::privileges::kernel_version().1.is_some_and(|version| version >= (5, 19))
}
