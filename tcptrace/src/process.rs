//! A process, as the kernel names it.

use serde::{Deserialize, Serialize};
use zerocopy::IntoBytes;

/// A process at one moment: when it acted, or when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    /// Process id in the initial pid namespace (what is read from /proc: in the namespace of the reader).
    pub pid: u32,
    /// Real uid.
    pub uid: u32,
    /// cgroup v2 id; 0: unknown.
    pub cgroup: u64,
    /// Command name.
    pub comm: Box<str>,
}

/// A command name as a record has it, to find it by; what is longer is cut.
pub fn comm_words(name: &str) -> [u64; 2] {
    let mut words = [0; 2];
    let bytes = words.as_mut_bytes();
    let len = name.len().min(bytes.len());
    bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
    words
}

/// The command name in a record: in memory order, zero padded.
pub fn comm(words: &[u64; 2]) -> Box<str> {
    let bytes = words.as_bytes().split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(bytes).into()
}
