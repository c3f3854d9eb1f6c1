//! Everything that one line of JSON, or one page of text, says.

use super::{
    by::Key,
    limits::Limits,
    picture::Picture,
    rates::{Traced, Values},
    unusual::{self, Unusual},
};

/// A report.
#[derive(Clone, Debug)]
pub struct Report {
    /// The namespaces that were looked at: inode number, and the name people know.
    pub spaces: Vec<(u32, String)>,
    /// The sockets.
    pub picture: Picture,
    /// Use against limits.
    pub limits: Limits,
    /// A filter was given: the picture is about some sockets, limits and counters are about all.
    pub filtered: bool,
    /// The namespaces' counters since they began, added up.
    pub counters: Values,
    /// What happened since the report before; `None`: there is none before.
    pub interval: Option<Interval>,
    /// What could not be seen, and why.
    pub notes: Vec<String>,
}

/// What happened between two reports.
#[derive(Clone, Debug)]
pub struct Interval {
    /// How long it was.
    pub ns: u64,
    /// What was added to each counter.
    pub added: Values,
    /// What was traced; or why nothing was.
    pub traced: Result<Traced, String>,
}

impl Report {
    /// What stands out.
    pub fn unusual(&self) -> Vec<Unusual> {
        unusual::find(&self.picture, &self.limits)
    }

    /// A group as people know it.
    pub fn label(&self, key: &Key) -> String {
        match key {
            Key::Netns(number) => self.space(*number),
            key => key.to_string(),
        }
    }

    /// A namespace as people know it.
    pub fn space(&self, netns: u32) -> String {
        let known = self.spaces.iter().find(|(number, _)| *number == netns);
        known.map_or_else(|| Key::Netns(netns).to_string(), |(_, name)| name.clone())
    }
}
