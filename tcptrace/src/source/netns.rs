//! Network namespaces, as people name them: by `ip netns` name, by a process in it, by file, by inode number.

use std::{fs, os::unix::fs::MetadataExt, path::PathBuf};

/// The inode number of the namespace that `text` names: a name from `ip netns`, a pid, a file, or `net:[4026531840]`
/// as `lsns` prints it.
///
/// # Errors
/// A sentence that says what was looked for.
pub fn find(text: &str) -> Result<u32, String> {
    if let Some(number) = text.strip_prefix("net:[").and_then(|rest| rest.strip_suffix(']')) {
        return number.parse().map_err(|_| format!("{text} is no namespace number"));
    }
    let path = if text.chars().all(|c| c.is_ascii_digit()) && !text.is_empty() {
        PathBuf::from(format!("/proc/{text}/ns/net"))
    } else if text.contains('/') {
        PathBuf::from(text)
    } else {
        PathBuf::from("/run/netns").join(text)
    };
    let inode = fs::metadata(&path).map(|file| file.ino());
    let inode = inode.map_err(|error| {
        format!(
            "no network namespace {text:?} ({}: {error}); `lsns -t net` and `ip netns` list them",
            path.display()
        )
    })?;
    u32::try_from(inode).map_err(|_| format!("{} is not a namespace", path.display()))
}
