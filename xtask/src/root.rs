//! Who needs root, and how to get it. Cargo never gets it: only finished programs do.

use std::{ffi::OsStr, ffi::OsString, process::Stdio};

use crate::tools::Tools;

/// Commands of tcptrace that run as anyone. All others load kernel programs or make network
/// namespaces.
const COMMANDS_WITHOUT_ROOT: [&str; 4] = ["doctor", "help", "completions", "manual"];
/// Options that make any command run as anyone: they only print, or read a recording.
const OPTIONS_WITHOUT_ROOT: [&str; 5] = ["--help", "-h", "--version", "-V", "--from"];
/// Options that do so for one command only.
const COMMAND_OPTIONS_WITHOUT_ROOT: [(&str, &str); 1] = [("lab", "--list")];
/// Options with a value that may come before the command, where the value must not be taken for it.
const VALUED_OPTIONS: [&str; 2] = ["--color", "--format"];

/// Whether tcptrace needs root for these arguments.
pub fn needs_root(arguments: &[OsString]) -> bool {
    let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
    let has = |option: &str| {
        let with_value = format!("{option}=");
        words.iter().any(|word| word == option || word.starts_with(&with_value))
    };
    let mut rest = words.iter();
    let command = loop {
        match rest.next() {
            None => return false,
            Some(option) if VALUED_OPTIONS.contains(&option.as_ref()) => drop(rest.next()),
            Some(option) if option.starts_with('-') => {}
            Some(command) => break command,
        }
    };
    !COMMANDS_WITHOUT_ROOT.contains(&command.as_ref())
        && !OPTIONS_WITHOUT_ROOT.iter().any(|option| has(option))
        && !COMMAND_OPTIONS_WITHOUT_ROOT.iter().any(|(of, option)| command == of && has(option))
}

/// How a program can be started as root here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// We are root.
    Already,
    /// Through sudo, which asks for no password.
    Sudo,
    /// Not without asking someone.
    None,
}

impl Access {
    /// Tries sudo only where it is needed.
    pub fn find(tools: &Tools) -> Self {
        if is_root() {
            return Self::Already;
        }
        let mut sudo = tools.command("sudo");
        let tried =
            sudo.args(["-n", "true"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if tried.status().is_ok_and(|status| status.success()) { Self::Sudo } else { Self::None }
    }
}

/// Whether xtask itself runs as root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether a variable is for tcptrace; sudo drops those it is not told to keep.
pub fn is_for_tcptrace(key: &OsStr) -> bool {
    let key = key.to_string_lossy();
    key.starts_with("TCPTRACE_") || ["RUST_LOG", "RUST_BACKTRACE", "NO_COLOR"].contains(&key.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root_for(line: &str) -> bool {
        needs_root(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn tracing_needs_root() {
        for line in ["watch", "watch --port 443", "stuck --older-than 60s", "lab fin-wait1-drop", "stat 1 5"]
        {
            assert!(root_for(line), "{line}");
        }
        assert!(root_for("--color never watch"));
        assert!(root_for("watch --list"), "--list is an option of lab");
    }

    #[test]
    fn asking_does_not() {
        for line in ["", "doctor", "doctor --format json", "help", "help watch", "lab --list"] {
            assert!(!root_for(line), "{line}");
        }
        for line in ["--help", "-h", "--version", "-V", "watch --help", "watch -h", "--color=never"] {
            assert!(!root_for(line), "{line}");
        }
        assert!(!root_for("--color never doctor"));
        assert!(!root_for("--format json lab --list"));
    }

    #[test]
    fn replaying_does_not() {
        assert!(!root_for("watch --from day.jsonl"));
        assert!(!root_for("stuck --from=day.jsonl"));
    }

    #[test]
    fn an_unknown_command_gets_what_tracing_gets() {
        assert!(root_for("brand-new-command"));
    }
}
