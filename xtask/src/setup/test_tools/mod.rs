//! What tests need and no build does. Programs are kept in a folder of the project's own, never installed into the system; a
//! test whose program is missing is skipped and says why.

mod debian;
mod duckdb;
mod iproute;
mod nft;
mod prometheus;
mod systemd;

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{advice::advice, tools::Tools, workspace};

/// Names the folder, for xtask and for the tests; without it they are in `tools` of cargo's target directory.
pub const FOLDER_VARIABLE: &str = "TCPTRACE_TOOLS";

/// A tool, by the name that tests call it by in `#[ignore = "needs NAME: …"]`.
struct Tool {
    name: &'static str,
    /// What tests start: names in `bin` of the folder.
    programs: &'static [&'static str],
    why: &'static str,
    /// Makes the programs. May use and keep whatever else it needs in the folder.
    install: fn(&Tools, &Path) -> Result<()>,
    /// The way out where that fails.
    by_hand: &'static str,
}

const TOOLS: [Tool; 5] = [
    Tool {
        name: "prometheus",
        programs: &["prometheus", "promtool"],
        why: "tests have it scrape tcptrace and check the alert rules",
        install: prometheus::install,
        by_hand: "put prometheus and promtool, 2.40 or later, on PATH",
    },
    Tool {
        name: "duckdb",
        programs: &["duckdb-python"],
        why: "tests have it read the Parquet files",
        install: duckdb::install,
        by_hand: "put a python3 on PATH that can `import duckdb`, 1.1 or later",
    },
    Tool {
        name: "debian",
        programs: &["debian-packages"],
        why: "tests make a Debian of its essential packages, and install tcptrace there",
        install: debian::install,
        by_hand: "run this on a Debian or Ubuntu whose package mirror is in reach",
    },
    Tool {
        name: "systemd",
        programs: &["systemd-analyze"],
        why: "tests have it read the unit",
        install: systemd::install,
        by_hand: "put systemd-analyze, 250 or later, on PATH",
    },
    Tool {
        name: "nft",
        programs: &["nft"],
        why: "a test has it drop packets that leave, in a network namespace of its own",
        install: nft::install,
        by_hand: "apt-get install nftables",
    },
];

/// The folder with what could be had.
pub struct TestTools {
    folder: PathBuf,
    /// Names and reasons of the others.
    missing: Vec<(&'static str, anyhow::Error)>,
}

impl TestTools {
    /// Gets what is missing; what cannot be had is a warning. Nothing is done where all is there.
    pub fn ensure(tools: &Tools) -> Result<Self> {
        iproute::ensure(tools);
        let mut found = Self::look(tools)?;
        for (name, reason) in &mut found.missing {
            let Some(tool) = TOOLS.iter().find(|tool| tool.name == *name) else { continue };
            eprintln!("getting {name} into {}: {}", found.folder.display(), tool.why);
            if let Err(error) = tool.get(tools, &found.folder) {
                eprintln!("warning: tests that need {name} are skipped");
                eprintln!("    {error:#}");
                *reason = error;
            }
        }
        let still = |name| TOOLS.iter().any(|tool| tool.name == name && !tool.is_in(&found.folder));
        found.missing.retain(|(name, _)| still(*name));
        Ok(found)
    }

    /// Only looks.
    pub fn look(tools: &Tools) -> Result<Self> {
        let folder = match env::var_os(FOLDER_VARIABLE).filter(|value| !value.is_empty()) {
            // Tests run in other folders than we do.
            Some(folder) => std::path::absolute(folder)?,
            None => workspace::target_dir(tools)?.join("tools"),
        };
        Ok(Self::in_folder(folder))
    }

    /// Those in this folder.
    pub fn in_folder(folder: PathBuf) -> Self {
        let missing = TOOLS.iter().filter(|tool| !tool.is_in(&folder));
        let missing = missing.map(|tool| (tool.name, tool.is_missing())).collect();
        Self { folder, missing }
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether a test that needs this can run; why not, in one line.
    pub fn answer(&self, name: &str) -> Result<(), String> {
        if let Some((_, reason)) = self.missing.iter().find(|(missing, _)| *missing == name) {
            return Err(format!("{reason:#}").lines().next().unwrap_or_default().to_owned());
        }
        if TOOLS.iter().any(|tool| tool.name == name) {
            Ok(())
        } else {
            Err(format!("nothing here brings {name}"))
        }
    }

    /// One answer for each tool: its name, or how to get it.
    pub fn answers(self) -> impl Iterator<Item = Result<&'static str>> {
        let Self { mut missing, .. } = self;
        TOOLS.iter().map(move |tool| match missing.iter().position(|(name, _)| *name == tool.name) {
            Some(index) => Err(missing.swap_remove(index).1),
            None => Ok(tool.name),
        })
    }
}

impl Tool {
    fn is_in(&self, folder: &Path) -> bool {
        // Follows links: one that leads nowhere is missing.
        self.programs.iter().all(|program| folder.join("bin").join(program).is_file())
    }

    fn get(&self, tools: &Tools, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder.join("bin"))
            .with_context(|| format!("cannot write to {}", folder.display()))?;
        let got = (self.install)(tools, folder);
        got.map_err(|error| {
            advice(format!("{} cannot be had: {error:#}", self.name), self.why, &[self.by_hand])
        })
    }

    fn is_missing(&self) -> anyhow::Error {
        let ways = ["cargo xtask setup --tests", self.by_hand];
        advice(format!("{} is missing", self.name), self.why, &ways)
    }
}

/// Puts a program into `bin`, in place of what was there.
fn link(program: &Path, folder: &Path, name: &str) -> Result<()> {
    let link = folder.join("bin").join(name);
    match fs::remove_file(&link) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => symlink(program, &link),
    }
    .with_context(|| format!("cannot make {}", link.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_leads_nowhere_is_missing() {
        let folder = env::temp_dir().join(format!("xtask-test-tools-{}", std::process::id()));
        fs::create_dir_all(folder.join("bin")).unwrap();
        link(Path::new("/bin/sh"), &folder, "prometheus").unwrap();
        link(&folder.join("gone"), &folder, "promtool").unwrap();
        let why = TestTools::in_folder(folder.clone()).answer("prometheus").unwrap_err();
        assert_eq!(why, "prometheus is missing");
        link(Path::new("/bin/sh"), &folder, "promtool").unwrap();
        let found = TestTools::in_folder(folder.clone());
        assert_eq!(found.answer("prometheus"), Ok(()));
        assert!(found.answer("duckdb").is_err());
        assert!(found.answer("QEMU").is_err(), "nobody brings it");
        let answers: Vec<_> = found.answers().map(|answer| answer.ok()).collect();
        assert_eq!(answers, [Some("prometheus"), None, None, None, None]);
        fs::remove_dir_all(folder).unwrap();
    }
}
