//! Errors that users can do something about: what is wrong, why, what to type. And the exit codes.

use thiserror::Error;

/// Everything went well; a closed pipe and an interrupted trace count as well.
pub const EXIT_OK: u8 = 0;
/// `stuck` has found something.
pub const EXIT_FOUND: u8 = 1;
/// It could not be done: bad arguments, missing privileges, a kernel that cannot do it.
pub const EXIT_ERROR: u8 = 2;

/// Why nothing is traced.
#[derive(Debug, Error)]
pub enum StartError {
    /// The user may not load programs.
    #[error(
        "tracing needs {}, which this process does not have; type: sudo {command}\n  (or give the file those capabilities: {setcap})",
        missing.join(" and ")
    )]
    Capability {
        /// Names of the capabilities.
        missing: Vec<&'static str>,
        /// What the user typed.
        command: String,
        /// What to type once instead.
        setcap: String,
    },
    /// Ring buffers came with 5.8.
    #[error("this kernel is {0}; tcptrace needs Linux 5.8 or later (BPF ring buffers)")]
    OldKernel(String),
    /// Built with `TCPTRACE_EBPF=skip`.
    #[error(
        "this tcptrace was built without its kernel programs (TCPTRACE_EBPF=skip); build it again without that"
    )]
    NoPrograms,
    /// A forced way cannot be taken.
    #[error(
        "{flag} {way} cannot be used here: {why}\n  {flag} auto takes what this kernel has; `tcptrace doctor` shows it"
    )]
    Forced {
        /// `--hooks` or `--retransmit-hook`.
        flag: &'static str,
        /// The word after it.
        way: String,
        /// Why not.
        why: String,
    },
    /// The file given with `--btf` cannot be used.
    #[error("{0}\n  give the type information of the running kernel, or `none` to do without")]
    Types(String),
    /// A condition that this kernel gives no data for.
    #[error("{flag} cannot be used here: {why}\n  filter by --port or --addr instead")]
    Filter {
        /// The option.
        flag: &'static str,
        /// Why not.
        why: String,
    },
    /// No way of attaching the state tracepoint works.
    #[error("cannot trace state changes on this kernel:\n{}\n  `tcptrace doctor` shows what works here", reasons.join("\n"))]
    NoStateHook {
        /// One line a way that was tried.
        reasons: Vec<String>,
    },
    /// `--aggregate kernel` needs typed programs.
    #[error(
        "--aggregate kernel cannot be used here: {0}\n  leave it out: the kernel then sends events, which every kernel that tcptrace traces on can"
    )]
    Aggregate(
        /// Why not.
        String,
    ),
    /// The kernel refused the object as a whole.
    #[error("the kernel refused to create maps: {why}\n  {advice}")]
    Maps {
        /// What it said.
        why: String,
        /// What to do about it.
        advice: String,
    },
    /// Something that should never fail.
    #[error("{what}: {why}\n  please report this, with the output of `tcptrace doctor`")]
    Unexpected {
        /// What was attempted.
        what: String,
        /// What came of it.
        why: String,
    },
}
