//! The cgroup v2 hierarchy as the file system shows it: where it is, which group a process is in, a group's id.

use std::{
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Component, Path, PathBuf},
};

/// Where it is mounted: usually /sys/fs/cgroup, on hybrid hosts /sys/fs/cgroup/unified. `None`: nowhere.
pub fn mount() -> Option<PathBuf> {
    let mounts = fs::read("/proc/self/mounts").ok()?;
    mounts.split(|byte| *byte == b'\n').find_map(|line| {
        let mut words = line.split(|byte| *byte == b' ');
        let (_, place, kind) = (words.next()?, words.next()?, words.next()?);
        (kind == b"cgroup2").then(|| PathBuf::from(std::ffi::OsStr::from_bytes(place)))
    })
}

/// What /proc/PID/cgroup says: a line a hierarchy. `None`: the process is gone, or may not be looked at.
pub fn lines_of(pid: u32) -> Option<String> {
    Some(String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cgroup")).ok()?).into_owned())
}

/// The path in the v2 hierarchy among these lines: the one with number 0 and no controllers.
pub fn v2_path(lines: &str) -> Option<&str> {
    lines.lines().find_map(|line| line.strip_prefix("0::"))
}

/// The id of the group at this path, which is the inode number of its folder. `None`: it is gone, or outside of what
/// this cgroup namespace shows (such paths begin with `/..`).
pub fn id(mount: &Path, path: &str) -> Option<u64> {
    let inside = Path::new(path.trim_start_matches('/'));
    if inside.components().any(|part| part == Component::ParentDir) {
        return None;
    }
    Some(fs::metadata(mount.join(inside)).ok()?.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_v2_line_is_found() {
        let hybrid = "4:memory:/a\n1:name=systemd:/b\n0::/user.slice/session-1.scope\n";
        assert_eq!(v2_path(hybrid), Some("/user.slice/session-1.scope"));
        assert_eq!(v2_path("4:memory:/a\n"), None);
    }

    #[test]
    fn paths_outside_of_the_namespace_have_no_id() {
        assert_eq!(id(Path::new("/"), "/../proc"), None);
        assert!(id(Path::new("/"), "/proc").is_some());
        assert_eq!(id(Path::new("/"), "/proc"), id(Path::new("/proc"), "/"));
    }
}
