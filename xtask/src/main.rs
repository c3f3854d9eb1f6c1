//! What a developer types: `cargo xtask <task>`. Each task is a module with its own options and `run`.

mod advice;
mod artifacts;
mod bench;
mod ci;
mod dist;
mod fuzz;
mod lint;
mod root;
mod run;
mod setup;
mod soak;
mod test;
mod tidy;
mod tools;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

/// Everything a developer of tcptrace types; CI types the same words.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", disable_help_subcommand = true)]
enum Task {
    /// Install what the build needs: the sources of `core` and bpf-linker; with --tests what tests start, too
    Setup(setup::Options),
    /// Build tcptrace and run it, as root only where it must be: cargo xtask run -- watch
    Run(run::Options),
    /// Run every test this machine can run, and count the others
    Test(test::Options),
    /// Formatting, clippy for both worlds, tidy
    Lint,
    /// The project's own mechanical rules: imports, module docs, sizes, links
    Tidy,
    /// What CI runs: setup, lint, test
    Ci,
    /// Make what users get: a static program, an archive, a .deb, an .rpm
    Dist(dist::Options),
    /// Measure what tcptrace costs
    Bench(bench::Options),
    /// Boot real kernels in QEMU, and run tests in each
    Vm(vm::Options),
    /// What the first process of such a guest does
    #[command(hide = true)]
    Guest,
    /// Look for inputs that make the readers of foreign bytes panic, hang or grow
    Fuzz(fuzz::Options),
    /// Run under full load for long, disturbed in every way, and compare with the kernel and ss at the end
    Soak(soak::Options),
    /// The load of `soak`: processes of their own that it starts
    #[command(hide = true)]
    SoakLoad(soak::Seed),
    /// Network namespaces that come and go: a process of its own that `soak` starts
    #[command(hide = true)]
    SoakChurn(soak::Seed),
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Setup(options) => setup::run(&options),
        Task::Run(options) => run::run(&options),
        Task::Test(options) => test::run(&options),
        Task::Lint => lint::run(),
        Task::Tidy => tidy::run(),
        Task::Ci => ci::run(),
        Task::Dist(options) => dist::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Vm(options) => vm::run(&options),
        Task::Guest => vm::guest(),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Soak(options) => soak::run(&options),
        Task::SoakLoad(options) => soak::load::run(&options),
        Task::SoakChurn(options) => soak::churn::run(&options),
    };
    done.unwrap_or_else(|error| {
        advice::print(&error);
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory as _;
        Task::command().debug_assert();
    }
}
