//! Where the packages are, and what may be said of all of them.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The one file with this ending.
///
/// # Panics
///
/// If there is none: only a test that says `needs packages` asks.
pub fn file(ending: &str) -> PathBuf {
    let of_target = || PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("dist");
    let folder =
        env::var_os("TCPTRACE_DIST").filter(|value| !value.is_empty()).map_or_else(of_target, PathBuf::from);
    let there = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let found: Vec<_> = there.filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    let [file] = found.as_slice() else {
        panic!("{found:?} in {}: type `cargo xtask dist`", folder.display())
    };
    file.clone()
}

/// The project's folder.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace")
}

/// What a command prints; it must succeed.
#[track_caller]
pub fn said(command: &mut Command) -> String {
    let done = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&done.stderr));
    said
}

/// What every way of installing brings.
pub const EVERYWHERE: [&str; 6] = [
    "/usr/bin/tcptrace",
    "/usr/share/man/man1/tcptrace.1.gz",
    "/usr/share/man/man1/tcptrace-export.1.gz",
    "/usr/share/bash-completion/completions/tcptrace",
    "/usr/share/fish/vendor_completions.d/tcptrace.fish",
    "/usr/lib/systemd/system/tcptrace-export.service",
];

#[test]
#[ignore = "needs packages: looks at the checksums"]
fn the_checksums_are_those_of_every_file() {
    let sums = file("SHA256SUMS");
    let folder = sums.parent().expect("a folder");
    said(Command::new("sha256sum").args(["--check", "--strict", "--quiet"]).arg(&sums).current_dir(folder));
    let text = fs::read_to_string(&sums).expect("text");
    let named: BTreeSet<_> =
        text.lines().filter_map(|line| line.split("  ").nth(1)).map(str::to_owned).collect();
    let there = fs::read_dir(folder).expect("it is there").flatten();
    let there: BTreeSet<_> = there.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let own = BTreeSet::from(["SHA256SUMS".to_owned()]);
    assert_eq!(named, &there - &own);
    assert_eq!(there.len(), 5, "{there:?}");
}

#[test]
#[ignore = "needs packages: unpacks the archive"]
fn the_archive_is_complete_and_its_program_runs() {
    let archive = file(".tar.gz");
    let name = archive.file_name().expect("a name").to_string_lossy().replace(".tar.gz", "");
    let above = Path::new(env!("CARGO_TARGET_TMPDIR")).join("archive");
    let _ = fs::remove_dir_all(&above);
    fs::create_dir_all(&above).expect("made");
    said(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&above));
    let tree = above.join(&name);
    for part in [
        "LICENSE-MIT",
        "man/man1/tcptrace-watch.1",
        "completions/_tcptrace",
        "completions/tcptrace.fish",
        "packaging/systemd/tcptrace-export.service",
        "packaging/kubernetes/daemonset.yaml",
        "docs/install.md",
    ] {
        assert!(tree.join(part).is_file(), "{part}");
    }
    let version = said(Command::new(tree.join("tcptrace")).arg("--version"));
    assert_eq!(version.trim(), concat!("tcptrace ", env!("CARGO_PKG_VERSION")));
    fs::remove_dir_all(&above).expect("removed");
}
