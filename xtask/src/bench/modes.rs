//! What is run beside the load: tcptrace in the ways people use it, and the program that does nothing.

/// One way of running tcptrace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A program that does nothing, on the same tracepoint.
    Empty,
    /// Every event as JSON, into a file.
    Json,
    /// Every event as JSON, thrown away: what is left is nearly only tcptrace's own work, without the kernel's.
    Nowhere,
    /// Every event as a line for people, into a file.
    Text,
    /// Only counts.
    Summary,
}

/// What the filter lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// All there is on the machine.
    Everything,
    /// The load's namespace: exactly the load.
    Netns(u64),
    /// This port.
    Port(u64),
}

impl Mode {
    /// How it is named in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "a program that does nothing",
            Self::Json => "`watch --format json`",
            Self::Nowhere => "`watch --format json >/dev/null`",
            Self::Text => "`watch`",
            Self::Summary => "`watch --summary`",
        }
    }

    /// What to type after `tcptrace`.
    pub fn arguments(self, filter: Filter) -> Vec<String> {
        let mut words = match self {
            Self::Empty => return vec!["attach-empty".to_owned()],
            Self::Json | Self::Nowhere => vec!["watch", "--format", "json"],
            Self::Text => vec!["watch", "--color", "never"],
            // JSON, too: only its last line is of another form, and we can read that one.
            Self::Summary => vec!["watch", "--summary", "--format", "json"],
        };
        let value = match filter {
            Filter::Everything => None,
            Filter::Netns(inode) => Some(("--netns", format!("net:[{inode}]"))),
            Filter::Port(port) => Some(("--port", port.to_string())),
        };
        if let Some((option, value)) = &value {
            words.extend([*option, value]);
        }
        words.into_iter().map(str::to_owned).collect()
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
    }
}
