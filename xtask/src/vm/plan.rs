//! What host and guest tell each other: the plan, a file in the guest, and messages, a line of JSON each over a serial port.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where the guest finds its plan.
pub const FILE: &str = "/plan.json";
/// The serial port of the messages; the first is the kernel's console.
pub const PORT: &str = "/dev/ttyS1";

/// What a guest is to do.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Plan {
    /// Modules, in the order in which they are loaded.
    pub modules: Vec<PathBuf>,
    /// One after the other.
    pub steps: Vec<Step>,
}

/// A program to be run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    /// What the messages call it.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Variables besides those that all get.
    pub environment: Vec<(String, String)>,
    /// Where it runs.
    pub folder: PathBuf,
    /// How long it may take, in seconds.
    pub limit_s: u64,
}

/// What the guest says.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Message {
    /// It is up.
    Up {
        /// As `uname -r` says it.
        release: String,
        /// The lockdown mode in force; `None`: this kernel has none.
        lockdown: Option<String>,
    },
    /// A module could not be loaded, and so on: a line for people.
    Note {
        /// What happened.
        text: String,
    },
    /// A step begins.
    Began {
        /// Its name.
        step: String,
    },
    /// A line that the step's program printed.
    Line {
        /// Without its end.
        text: String,
        /// On standard error.
        error: bool,
    },
    /// A step has ended.
    Ended {
        /// Its name.
        step: String,
        /// The exit code; `None`: it was killed, or did not start.
        code: Option<i32>,
        /// How long it took, in milliseconds of the guest's clock.
        took_ms: u64,
    },
    /// All steps have ended.
    Done,
}

impl Message {
    /// A line of the serial port; `None` for what is no message.
    pub fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line.trim()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_were() {
        let all = [
            Message::Up { release: "6.1".into(), lockdown: None },
            Message::Line { text: "test a ... ok \"quoted\" \u{1b}[0m".into(), error: true },
            Message::Ended { step: "lab".into(), code: Some(101), took_ms: 7 },
            Message::Done,
        ];
        for message in all {
            let line = serde_json::to_string(&message).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(Message::parse(&format!("{line}\r\n")), Some(message));
        }
    }

    #[test]
    fn other_lines_are_no_messages() {
        for line in ["", "{}", "[    1.2] Kernel panic", "{\"type\":\"unknown\"}"] {
            assert_eq!(Message::parse(line), None, "{line}");
        }
    }
}
