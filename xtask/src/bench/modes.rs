//! What is run beside the load: tcptrace in the ways people use it, the program that does nothing, and others' tools.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::rivals::{Rival, Rivals};

/// One way of tracing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A program that does nothing, on the same tracepoint.
    Empty,
    /// Every event as JSON, into a file.
    Json,
    /// The same, with a ring that is too small.
    SmallRing,
    /// Every event as JSON, thrown away: what is left is nearly only tcptrace's own work, without the kernel's.
    Nowhere,
    /// Every event as a line for people, into a file.
    Text,
    /// Only counts.
    Summary,
    /// Metrics, asked for once a second.
    Export,
    /// Metrics of what the kernel adds up, without a record for each event; asked for once a second, too.
    Sums,
    /// Somebody else's tool, into a file.
    Rival(Rival),
}

/// What the filter lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// All there is on the machine.
    Everything,
    /// The load's namespace: exactly the load.
    Netns(u64),
    /// Those of two loads.
    Both([u64; 2]),
    /// This port.
    Port(u64),
}

impl Mode {
    /// How it is named in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "a program that does nothing",
            Self::Json => "`watch --format json`",
            Self::SmallRing => "`watch --format json --ring-size 64KiB`",
            Self::Nowhere => "`watch --format json >/dev/null`",
            Self::Text => "`watch`",
            Self::Summary => "`watch --summary`",
            Self::Export => "`export`, scraped once a second",
            Self::Sums => "`export --aggregate kernel`, scraped once a second",
            Self::Rival(rival) => rival.name(),
        }
    }

    /// Whether it is tcptrace, which can be held to its word.
    pub fn is_ours(self) -> bool {
        !matches!(self, Self::Empty | Self::Rival(_))
    }

    /// Whether it serves metrics, and says nothing else.
    pub fn is_export(self) -> bool {
        matches!(self, Self::Export | Self::Sums)
    }

    /// What to type after `tcptrace`, or after the other tool's name.
    pub fn arguments(self, filter: Filter) -> Vec<String> {
        let words = match self {
            Self::Empty => return vec!["attach-empty".to_owned()],
            Self::Json | Self::Nowhere => vec!["watch", "--format", "json"],
            Self::SmallRing => vec!["watch", "--format", "json", "--ring-size", "64KiB"],
            Self::Text => vec!["watch", "--color", "never"],
            // JSON, too: only its last line is of another form, and we can read that one.
            Self::Summary => vec!["watch", "--summary", "--format", "json"],
            // Any port that is free.
            Self::Export => vec!["export", "--listen", "127.0.0.1:0"],
            Self::Sums => vec!["export", "--listen", "127.0.0.1:0", "--aggregate", "kernel"],
            // Those see the whole machine: they know no namespaces.
            Self::Rival(rival) => {
                return rival.arguments().iter().copied().map(str::to_owned).collect();
            }
        };
        let netns = |inode: u64| ["--netns".to_owned(), format!("net:[{inode}]")];
        let filter = match filter {
            Filter::Everything => Vec::new(),
            Filter::Netns(inode) => netns(inode).to_vec(),
            Filter::Both(inodes) => inodes.map(netns).concat(),
            Filter::Port(port) => vec!["--port".to_owned(), port.to_string()],
        };
        words.into_iter().map(str::to_owned).chain(filter).collect()
    }
}

/// Everything that can be run beside the load.
pub struct Programs {
    /// Ours.
    pub tcptrace: PathBuf,
    /// The others.
    pub rivals: Rivals,
}

impl Programs {
    /// tcptrace, and no rival yet.
    pub fn new(tcptrace: &Path, rivals: Rivals) -> Self {
        Self { tcptrace: tcptrace.to_path_buf(), rivals }
    }

    /// What starts a mode.
    pub fn command(&self, mode: Mode, filter: Filter) -> Result<Command> {
        if let Mode::Rival(rival) = mode {
            return self.rivals.command(rival);
        }
        let mut command = Command::new(&self.tcptrace);
        command.args(mode.arguments(filter));
        Ok(command)
    }

    /// The modes, and after them every rival that is here.
    pub fn and_rivals(&self, modes: &[Mode]) -> Vec<Mode> {
        modes.iter().copied().chain(self.rivals.found().map(Mode::Rival)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_follows_the_command() {
        let words = Mode::Json.arguments(Filter::Netns(4_026_531_840));
        assert_eq!(words.join(" "), "watch --format json --netns net:[4026531840]");
        assert_eq!(Mode::Text.arguments(Filter::Everything).join(" "), "watch --color never");
        assert_eq!(Mode::Empty.arguments(Filter::Port(1)), ["attach-empty"]);
        let sums = Mode::Sums.arguments(Filter::Port(1)).join(" ");
        assert_eq!(sums, "export --listen 127.0.0.1:0 --aggregate kernel --port 1");
        let both = Mode::Text.arguments(Filter::Both([1, 2])).join(" ");
        assert_eq!(both, "watch --color never --netns net:[1] --netns net:[2]");
    }
}
