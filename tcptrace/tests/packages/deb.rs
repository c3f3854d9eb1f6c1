//! The .deb in a clean Debian: from its installation to nothing being left of it.

use crate::{
    dist::{EVERYWHERE, file, said},
    root::Root,
    service::{Service, as_nobody},
    unit::{Unit, variables},
};
use std::{collections::BTreeSet, fs, process::Command};
use tcptrace_lab::{Family, Lab};

const CONFIGURATION: &str = "/etc/default/tcptrace";
/// What dpkg writes about packages: its log, its lists, and the copies that it keeps of them.
const OF_DPKG: [&str; 3] = ["/var/lib/dpkg/", "/var/log/dpkg.log", "/var/log/alternatives.log"];

#[test]
#[ignore = "needs root, packages and debian: installs the package in a file system of its own"]
fn it_is_installed_runs_and_leaves_nothing_behind() {
    let root = Root::debian();
    let before = root.files();
    let package = root.bring(&file(".deb"));

    said(root.command("dpkg").args(["--install", &package]));
    assert_eq!(log(&root), ["half-installed", "unpacked", "half-configured", "installed"]);
    let altered = said(root.command("dpkg").args(["--verify", "tcptrace"]));
    assert!(altered.is_empty(), "{altered}");
    let listed = said(root.command("dpkg").args(["--listfiles", "tcptrace"]));
    let listed: BTreeSet<_> = listed.lines().collect();
    for path in EVERYWHERE.iter().chain(&[
        CONFIGURATION,
        "/usr/share/zsh/vendor-completions/_tcptrace",
        "/usr/share/doc/tcptrace/copyright",
        "/usr/share/doc/tcptrace/changelog.gz",
        "/usr/share/doc/tcptrace/changelog.Debian.gz",
    ]) {
        assert!(listed.contains(path), "{path}: {listed:#?}");
    }
    // Installed, and neither enabled nor started.
    let enabled = root.path("/etc/systemd/system/multi-user.target.wants/tcptrace-export.service");
    assert!(enabled.symlink_metadata().is_err());
    let script = "source /usr/share/bash-completion/completions/tcptrace
        COMP_WORDS=(tcptrace expo) COMP_CWORD=1; _tcptrace tcptrace expo tcptrace; echo \"${COMPREPLY[*]}\"";
    assert_eq!(said(root.command("bash").args(["-c", script])).split_whitespace().next(), Some("export"));

    let unit = Unit::read(&root.path("/usr/lib/systemd/system/tcptrace-export.service"));
    let files: Vec<_> =
        unit.words("EnvironmentFile").iter().map(|file| file.trim_start_matches('-')).collect();
    assert!(files.contains(&CONFIGURATION), "{files:?}");
    let variables = variables(&fs::read_to_string(root.path(CONFIGURATION)).expect("it is there"));
    let command = unit.command(&variables);
    let lab = Lab::new(Family::V4).expect("a lab");
    let service = Service::start(&lab, as_nobody(&root, &unit.words("AmbientCapabilities"), &command));
    let metrics = service.metrics("tcptrace_sockets{");
    assert!(metrics.contains("tcptrace_hook_attached{hook=\"inet_sock_set_state\"} 1"), "{metrics}");
    assert_eq!(service.page("/healthz").trim(), "alive");
    let complaints = service.end();
    assert!(!complaints.contains("panicked") && !complaints.contains("warning"), "{complaints}");

    // What an administrator wrote stays as it is when a package of another version comes, and when this one goes.
    fs::write(root.path(CONFIGURATION), "TCPTRACE_EXPORT_OPTS=\"--label port\"\n").expect("written");
    said(root.command("dpkg").args(["--install", &package]));
    said(root.command("dpkg").args(["--remove", "tcptrace"]));
    let kept = fs::read_to_string(root.path(CONFIGURATION)).expect("kept");
    assert_eq!(kept, "TCPTRACE_EXPORT_OPTS=\"--label port\"\n");
    assert_eq!(log(&root).last().map(String::as_str), Some("config-files"));
    let left = left(&root, &before, &package);
    let of_systemd =
        |path: &&String| path.contains("deb-systemd-helper") || path.ends_with("tcptrace-export.service");
    let left: Vec<_> = left.iter().filter(|path| !of_systemd(path)).collect();
    assert_eq!(left, [CONFIGURATION]);

    said(root.command("dpkg").args(["--purge", "tcptrace"]));
    assert_eq!(log(&root).last().map(String::as_str), Some("not-installed"));
    assert_eq!(self::left(&root, &before, &package), Vec::<String>::new());
}

/// What is in it.
pub fn paths() -> Vec<String> {
    let listed = said(Command::new("dpkg-deb").arg("--contents").arg(file(".deb")));
    let paths = listed.lines().filter_map(|line| line.split_whitespace().last());
    paths.map(|path| path.trim_start_matches('.').to_owned()).collect()
}

/// What is there and was not, but for the package that was brought and what dpkg keeps of its own.
fn left(root: &Root, before: &BTreeSet<String>, package: &str) -> Vec<String> {
    let after = root.files();
    let is_dpkgs = |path: &&String| OF_DPKG.iter().any(|start| path.starts_with(start));
    let left: Vec<_> =
        (&after - before).iter().filter(|path| *path != package && !is_dpkgs(path)).cloned().collect();
    let gone: Vec<_> = before.difference(&after).filter(|path| !is_dpkgs(path)).collect();
    assert!(gone.is_empty(), "{gone:?}");
    let lists: Vec<_> =
        after.iter().filter(|path| path.starts_with("/var/lib/dpkg/info/tcptrace.")).collect();
    assert!(!left.is_empty() || lists.is_empty(), "{lists:?}");
    left
}

/// The states that the package went through, by dpkg's log, repetitions apart.
fn log(root: &Root) -> Vec<String> {
    let log = fs::read_to_string(root.path("/var/log/dpkg.log")).expect("dpkg writes it");
    let states = log.lines().filter(|line| line.contains(" tcptrace:") && line.contains(" status "));
    let mut states: Vec<_> =
        states.filter_map(|line| line.split_whitespace().nth(3)).map(str::to_owned).collect();
    states.dedup();
    states
}
