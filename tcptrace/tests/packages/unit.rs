//! What a unit of systemd says, as far as a test starts it without systemd.

use crate::dist::{file, project, said};
use clap::Parser as _;
use std::{collections::BTreeMap, fs, path::Path, process::Command};
use tcptrace::cli::Cli;

pub const UNIT: &str = "packaging/systemd/tcptrace-export.service";
pub const DEFAULTS: &str = "packaging/systemd/tcptrace.default";

/// Its settings, by name; those given several times have all their values.
pub struct Unit(BTreeMap<String, Vec<String>>);

impl Unit {
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut settings: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with(['#', '[']) && !line.is_empty()) {
            let (name, value) = line.split_once('=').unwrap_or_else(|| panic!("no setting: {line}"));
            settings.entry(name.to_owned()).or_default().push(value.to_owned());
        }
        Self(settings)
    }

    /// All values of a setting, separated by blanks.
    pub fn words(&self, name: &str) -> Vec<&str> {
        self.0.get(name).into_iter().flatten().flat_map(|value| value.split_whitespace()).collect()
    }

    /// The words of its command, as systemd makes them of variables: an empty one is no word.
    pub fn command(&self, variables: &BTreeMap<String, String>) -> Vec<String> {
        let expand = |word: &&str| match word.strip_prefix('$') {
            Some(name) => {
                let value = variables.get(name).map(String::as_str).unwrap_or_default();
                value.split_whitespace().map(str::to_owned).collect()
            }
            None => vec![(*word).to_owned()],
        };
        self.words("ExecStart").iter().flat_map(expand).collect()
    }
}

/// The variables that a file for a unit sets.
pub fn variables(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned())).collect()
}

#[test]
fn the_command_is_one_with_the_options_that_ship_and_those_that_they_show() {
    let unit = Unit::read(&project().join(UNIT));
    let text = fs::read_to_string(project().join(DEFAULTS)).expect("it ships");
    let shown: Vec<_> = text.lines().filter_map(|line| line.strip_prefix('#')).collect();
    let shown = variables(&shown.join("\n").replace("# ", ""));
    let ships = variables(&text);
    assert_eq!(ships.keys().collect::<Vec<_>>(), ["TCPTRACE_EXPORT_OPTS"]);
    for (variables, words) in [(&BTreeMap::new(), 2), (&ships, 2), (&shown, 6)] {
        let command = unit.command(variables);
        assert_eq!(command.len(), words, "{command:?}");
        assert_eq!(command[..2], ["/usr/bin/tcptrace", "export"]);
        if let Err(error) = Cli::try_parse_from(&command) {
            panic!("{command:?}: {error}");
        }
    }
    for name in ["TCPTRACE_LOG", "OTEL_EXPORTER_OTLP_ENDPOINT"] {
        assert!(shown.contains_key(name), "{name}: {shown:?}");
    }
}

#[test]
fn it_may_become_nothing_more() {
    let unit = Unit::read(&project().join(UNIT));
    assert_eq!(unit.words("AmbientCapabilities"), unit.words("CapabilityBoundingSet"));
    let with_containers = Unit::read(&project().join("packaging/systemd/containers.conf"));
    for name in ["AmbientCapabilities", "CapabilityBoundingSet"] {
        assert_eq!(unit.words(name), ["CAP_BPF", "CAP_PERFMON", "CAP_DAC_READ_SEARCH"], "{name}");
        assert_eq!(with_containers.words(name), ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"], "{name}");
    }
    for (name, value) in [("DynamicUser", "yes"), ("NoNewPrivileges", "yes"), ("ProtectSystem", "strict")] {
        assert_eq!(unit.words(name), [value]);
    }
}

#[test]
#[ignore = "needs systemd and packages: systemd-analyze reads the unit"]
fn systemd_understands_it_and_finds_little_exposed() {
    // Checked with the program that it starts.
    let text = fs::read_to_string(project().join(UNIT)).expect("it ships");
    let program = file("/tcptrace");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("unit");
    fs::create_dir_all(&folder).expect("made");
    let unit = folder.join("tcptrace-export.service");
    fs::write(&unit, text.replace("/usr/bin/tcptrace", &program.display().to_string())).expect("written");
    let systemd = || Command::new(crate::tools::tool("systemd-analyze"));
    let checked = systemd().args(["verify", "--man=no"]).arg(&unit).output().expect("it starts");
    let complaints = String::from_utf8_lossy(&checked.stderr).into_owned();
    // Of other units, which it loads, too, it may complain.
    let ours: Vec<_> = complaints.lines().filter(|line| line.contains("tcptrace")).collect();
    assert!(checked.status.success() && ours.is_empty(), "{complaints}");
    // Out of 100, where 100 is a service without a single such line.
    said(systemd().args(["security", "--offline=true", "--threshold=30"]).arg(&unit));
    fs::remove_dir_all(&folder).expect("removed");
}
