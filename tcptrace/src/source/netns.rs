//! Network namespaces, as people name them: by `ip netns` name, by a process in it, by file, by inode number.

use nix::sched::CloneFlags;
use std::{
    fs::File,
    io::ErrorKind,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::PathBuf,
};

/// The inode number of the namespace that `text` names: a name from `ip netns`, a pid, a file, or `net:[4026531840]`
/// as `lsns` prints it.
///
/// # Errors
/// A sentence that says what was looked for.
pub fn find(text: &str) -> Result<u32, String> {
    if let Some(number) = text.strip_prefix("net:[").and_then(|rest| rest.strip_suffix(']')) {
        return number.parse().map_err(|_| format!("{text} is no namespace number"));
    }
    let path = if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
        PathBuf::from(format!("/proc/{text}/ns/net"))
    } else if text.contains('/') {
        PathBuf::from(text)
    } else {
        PathBuf::from("/run/netns").join(text)
    };
    let hint = "`lsns -t net` and `ip netns` list them";
    let file = File::open(&path).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => format!("{} may not be read: that needs root", path.display()),
        _ => format!("no network namespace {text:?} ({}: {error}); {hint}", path.display()),
    })?;
    // SAFETY: the descriptor is open, and the call takes no further argument. Files that are no namespaces refuse it.
    let kind = unsafe { namespace_type(file.as_raw_fd()) };
    if kind != Ok(CloneFlags::CLONE_NEWNET.bits()) {
        return Err(format!("{} is not a network namespace; {hint}", path.display()));
    }
    let inode = file.metadata().map_err(|error| format!("{}: {error}", path.display()))?.ino();
    u32::try_from(inode).map_err(|_| format!("{}: {inode} is not a namespace number", path.display()))
}

nix::ioctl_none!(
    /// NS_GET_NSTYPE, since 4.11: what kind of namespace a descriptor is, as its CLONE_NEW flag.
    namespace_type,
    0xb7,
    0x3
);
