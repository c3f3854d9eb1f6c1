//! A file system of its own: a Debian of nothing but essential packages, or an empty one. What runs there has its own mounts,
//! which are gone with it.

use crate::{dist::said, tools::tool};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{DirBuilderExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio, id},
    sync::atomic::{AtomicU32, Ordering},
};

/// In Debian these lead into /usr, and packages rely on it.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];
/// Mounts what programs expect, then runs one: `sh` becomes it, so that it has the process that was started.
const ENTER: &str = r#"set -e
root=$1; shift
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
exec "$@""#;

/// Removed when it is dropped.
pub struct Root {
    path: PathBuf,
}

impl Root {
    /// With nothing in it but places to mount what a container has.
    pub fn empty() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("root-{}-{number}", id()));
        let root = Self { path };
        for folder in ["", "proc", "sys", "dev", "usr/bin"] {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(root.path.join(folder)).expect("made");
        }
        root
    }

    /// Unpacks the essential packages and has their own dpkg install them, as debootstrap does.
    pub fn debian() -> Self {
        let list = fs::read_to_string(tool("debian-packages")).expect("a list");
        let root = Self::empty();
        for name in MERGED {
            fs::create_dir_all(root.path.join("usr").join(name)).expect("made");
            symlink(format!("usr/{name}"), root.path.join(name)).expect("linked");
        }
        for package in list.lines() {
            let mut unpack = Command::new("dpkg-deb")
                .arg("--fsys-tarfile")
                .arg(package)
                .stdout(Stdio::piped())
                .spawn()
                .expect("dpkg-deb starts");
            let archive = unpack.stdout.take().expect("piped");
            let mut tar = Command::new("tar");
            said(tar.args(["-x", "--keep-directory-symlink", "-C"]).arg(&root.path).stdin(archive));
            assert!(unpack.wait().expect("our own child").success(), "{package}");
        }
        let dpkg = root.path.join("var/lib/dpkg");
        for folder in ["info", "updates", "triggers", "alternatives", "parts"] {
            fs::create_dir_all(dpkg.join(folder)).expect("made");
        }
        ["status", "available"].iter().for_each(|name| fs::write(dpkg.join(name), "").expect("written"));
        let inside: Vec<_> = list.lines().map(|package| root.bring(Path::new(package))).collect();
        said(root.command("dpkg").args(["--install", "--force-depends"]).args(&inside));
        inside.iter().for_each(|package| fs::remove_file(root.path.join(&package[1..])).expect("removed"));
        root
    }

    /// Copies a file to the top; its path inside.
    pub fn bring(&self, file: &Path) -> String {
        let name = file.file_name().expect("a name").to_string_lossy();
        fs::copy(file, self.path.join(&*name)).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        format!("/{name}")
    }

    /// Where it is.
    pub fn top(&self) -> &Path {
        &self.path
    }

    /// Where a path of inside is.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.path.join(inside.trim_start_matches('/'))
    }

    /// A command inside, by its name or path there.
    pub fn command(&self, program: &str) -> Command {
        let mut command = self.mounted();
        command.arg("chroot").arg(&self.path).arg(program);
        command
    }

    /// A command of this machine's, to which the words lead that are yet to come, with all mounts of the inside.
    pub fn mounted(&self) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", ENTER, "sh"]);
        command.arg(&self.path).stdin(Stdio::null()).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// Every file, folder and link inside.
    pub fn files(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut folders = vec![self.path.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder").flatten() {
                let path = entry.path();
                found.insert(format!("/{}", path.strip_prefix(&self.path).expect("inside").display()));
                if entry.file_type().expect("a type").is_dir() {
                    folders.push(path);
                }
            }
        }
        found
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
