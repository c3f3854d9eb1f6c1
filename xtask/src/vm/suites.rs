//! What is run in the guests: which tests, under which conditions.

use std::path::Path;

/// What a kernel is told about what its own programs may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lockdown {
    /// Nothing.
    Off,
    /// The kernel may not be changed.
    Integrity,
    /// And not be read.
    Confidentiality,
}

impl Lockdown {
    /// One boot each.
    pub const ALL: [Self; 3] = [Self::Off, Self::Integrity, Self::Confidentiality];

    /// What the kernel calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "none",
            Self::Integrity => "integrity",
            Self::Confidentiality => "confidentiality",
        }
    }

    /// For the kernel's command line.
    pub fn line(self) -> String {
        match self {
            Self::Off => String::new(),
            mode => format!("lockdown={}", mode.name()),
        }
    }
}

/// Tests of one executable that run under the same conditions.
#[derive(Debug)]
pub struct Suite {
    /// Its name, in messages and in the table.
    pub name: &'static str,
    /// The source of its executable: `tcptrace/tests/lab.rs`.
    pub source: &'static str,
    /// What the names of its tests begin with; an empty list: all that need root.
    pub only: &'static [&'static str],
    /// What the names of those begin with that are left out.
    pub without: &'static [&'static str],
    /// Plays each scenario once for [`WAYS`], and prints what each of them came to.
    pub in_all_ways: bool,
    /// The boot in which it runs.
    pub lockdown: Lockdown,
    /// It is among those that CI runs.
    pub in_ci: bool,
}

/// Ways of attaching, as `TCPTRACE_TEST_WAYS` calls them, and what they are.
pub const WAYS: [(&str, &str); 5] = [
    ("auto", "the best that works, hook by hook, and function probes"),
    ("btf", "`--hooks btf`"),
    ("raw", "`--hooks raw`"),
    ("classic", "`--hooks classic`"),
    ("untyped", "the kernel's type information hidden from tcptrace"),
];

const PLAIN: Suite = Suite {
    name: "",
    source: "",
    only: &[],
    without: &[],
    in_all_ways: false,
    lockdown: Lockdown::Off,
    in_ci: true,
};

const LAB: &str = "tcptrace/tests/lab.rs";
const CONDITIONS: &str = "tcptrace/tests/conditions.rs";
/// Tests of the lab that are no scenario.
const NO_SCENARIOS: [&str; 4] = ["all_ways_", "causes_", "a_segment_", "without_type_"];

/// All of them, in the order in which they run.
pub const SUITES: [Suite; 12] = [
    Suite { name: "scenarios", source: LAB, without: &NO_SCENARIOS, in_all_ways: true, ..PLAIN },
    Suite { name: "conditions", source: CONDITIONS, only: &["perf_", "what_netem_"], ..PLAIN },
    Suite { name: "sends", source: LAB, only: &["a_segment_", "without_type_"], ..PLAIN },
    Suite { name: "probes", source: "tcptrace/tests/probes.rs", ..PLAIN },
    Suite {
        name: "hooks",
        source: "tcptrace/tests/cli/main.rs",
        only: &["works::hooks_", "works::retransmissions_", "works::without_type_", "endings::doctor_"],
        ..PLAIN
    },
    Suite {
        name: "handshakes",
        source: "tcptrace/tests/hist.rs",
        only: &["handshakes_"],
        in_ci: false,
        ..PLAIN
    },
    Suite { name: "neighbours", source: "tcptrace/tests/neighbours.rs", in_ci: false, ..PLAIN },
    Suite { name: "privileges", source: "tcptrace/tests/privileges/main.rs", in_ci: false, ..PLAIN },
    Suite {
        name: "sums",
        source: "tcptrace/tests/export/main.rs",
        only: &["aggregate::"],
        in_ci: false,
        ..PLAIN
    },
    Suite { name: "details", source: "tcptrace/tests/details/main.rs", in_ci: false, ..PLAIN },
    Suite {
        name: "integrity",
        source: CONDITIONS,
        only: &["lockdown_for_integrity_"],
        lockdown: Lockdown::Integrity,
        ..PLAIN
    },
    Suite {
        name: "confidentiality",
        source: CONDITIONS,
        only: &["lockdown_for_confidentiality_"],
        lockdown: Lockdown::Confidentiality,
        ..PLAIN
    },
];

impl Suite {
    /// Whether a test of its executable belongs to it.
    pub fn takes(&self, test: &str) -> bool {
        let begins = |starts: &[&str]| starts.iter().any(|start| test.starts_with(start));
        (self.only.is_empty() || begins(self.only)) && !begins(self.without)
    }

    /// Whether this is its executable.
    pub fn is_of(&self, label: &str) -> bool {
        Path::new(label) == Path::new(self.source)
    }

    /// The name of its executable's target, as cargo takes it.
    pub fn target(&self) -> Option<String> {
        let main = Path::new(self.source);
        let name = match main.file_stem()?.to_str()? {
            "main" => main.parent()?.file_name()?.to_str()?,
            name => name,
        };
        Some(name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn every_suite_has_its_source_and_its_tests() {
        for suite in &SUITES {
            let main = workspace::root().join(suite.source);
            assert!(main.is_file(), "{}", suite.source);
            assert!(suite.target().is_some());
            let folder = main.parent().unwrap().to_path_buf();
            let sources = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            let text: String = sources.filter_map(|file| std::fs::read_to_string(file).ok()).collect();
            for name in suite.only.iter().chain(suite.without) {
                let name = name.rsplit("::").next().unwrap();
                assert!(text.contains(&format!("fn {name}")), "{}: {name}", suite.name);
            }
        }
    }

    #[test]
    fn targets_are_called_as_cargo_calls_them() {
        let targets: Vec<_> = SUITES.iter().filter_map(Suite::target).collect();
        assert!(targets.contains(&"lab".to_owned()) && targets.contains(&"cli".to_owned()));
    }

    #[test]
    fn a_suite_takes_its_tests_only() {
        let scenarios = &SUITES[0];
        assert!(scenarios.takes("syn_drop") && !scenarios.takes("causes_are_the_right_ones"));
    }
}
