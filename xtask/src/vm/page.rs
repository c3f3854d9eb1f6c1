//! docs/kernels.md: what the last runs came to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{
    kernels::KERNELS,
    outcome::{Outcome, Outcomes},
    suites::{SUITES, WAYS},
};

/// The page, in the workspace.
pub const PAGE: &str = "docs/kernels.md";

/// What a kernel came to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ran {
    /// As `uname -r` says it.
    pub release: String,
    /// All boots together, in seconds.
    pub took_s: u64,
    /// Outcomes by suite.
    pub suites: BTreeMap<String, Outcomes>,
}

impl Ran {
    /// Keeps it, for the page. Where only some suites have run, those replace theirs in the last run of the same kernel; without
    /// such a run nothing is kept.
    pub fn keep(mut self, folder: &Path, series: &str, complete: bool) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        if !complete {
            let Some(last) = read(folder, series).filter(|last| last.release == self.release) else {
                return Ok(());
            };
            self.took_s = last.took_s;
            let kept = last.suites.into_iter().filter(|(suite, _)| !self.suites.contains_key(suite));
            let kept: Vec<_> = kept.collect();
            self.suites.extend(kept);
        }
        let file = folder.join(format!("{series}.json"));
        fs::write(&file, serde_json::to_vec_pretty(&self)?)
            .with_context(|| format!("cannot write {}", file.display()))
    }
}

fn read(folder: &Path, series: &str) -> Option<Ran> {
    serde_json::from_slice(&fs::read(folder.join(format!("{series}.json"))).ok()?).ok()
}

/// The last run of each kernel of the list; `None`: of one of them some suite has not run yet.
pub fn complete(folder: &Path) -> Option<Vec<Ran>> {
    let whole = |ran: &Ran| suites().all(|suite| ran.suites.contains_key(suite));
    KERNELS.iter().map(|kernel| read(folder, kernel.series).filter(whole)).collect()
}

/// What outcomes are kept by: the ways of attaching, and the other suites.
fn suites() -> impl Iterator<Item = &'static str> {
    let others = SUITES.iter().filter(|suite| !suite.in_all_ways).map(|suite| suite.name);
    WAYS.iter().map(|(way, _)| *way).chain(others)
}

/// The text of the page.
pub fn text(all: &[Ran]) -> String {
    let mut page = String::from(include_str!("page.md"));
    // Writing to a String cannot fail.
    let _ = write!(page, "\n## The kernels\n\n");
    row(&mut page, ["kernel", "as Debian calls it", "why it is among them"].map(str::to_owned));
    row(&mut page, ["---"; 3].map(str::to_owned));
    for (kernel, ran) in KERNELS.iter().zip(all) {
        row(&mut page, [version(ran), format!("`{}`", ran.release), kernel.why.to_owned()]);
    }
    let _ = write!(page, "\n## Scenarios\n\n{}\n\n", legend());
    scenarios(&mut page, all);
    let _ = write!(page, "\n## Everything else\n\n");
    others(&mut page, all);
    reasons(&mut page, all);
    page
}

fn legend() -> String {
    let ways: Vec<_> = WAYS.iter().map(|(name, what)| format!("{name} ({what})")).collect();
    format!(
        "Each is played in IPv4 and IPv6 while a tracer of each way of attaching looks on: {}. `all`: right in every way.",
        ways.join(", ")
    )
}

fn scenarios(page: &mut String, all: &[Ran]) {
    header(page, "scenario", all);
    let of_ways = WAYS.iter().flat_map(|(way, _)| all.iter().filter_map(|ran| ran.suites.get(*way)));
    let names: BTreeSet<_> = of_ways.flat_map(BTreeMap::keys).collect();
    for name in names {
        let cells = all.iter().map(|ran| in_all_ways(ran, name));
        row(page, std::iter::once(name.replace('_', "-")).chain(cells));
    }
}

fn in_all_ways(ran: &Ran, test: &str) -> String {
    let right = |way: &&str| ran.suites.get(*way).and_then(|it| it.get(test)) == Some(&Outcome::Passed);
    let (right, wrong): (Vec<_>, Vec<_>) = WAYS.iter().map(|(way, _)| *way).partition(right);
    match (right.as_slice(), wrong.as_slice()) {
        (_, []) => "all".to_owned(),
        ([], _) => "**none**".to_owned(),
        (_, wrong) => format!("**not {}**", wrong.join(", ")),
    }
}

fn others(page: &mut String, all: &[Ran]) {
    header(page, "test", all);
    for suite in SUITES.iter().filter(|suite| !suite.in_all_ways) {
        let names: BTreeSet<_> =
            all.iter().filter_map(|ran| ran.suites.get(suite.name)).flat_map(BTreeMap::keys).collect();
        for name in names {
            let cells = all.iter().map(|ran| {
                let outcome = ran.suites.get(suite.name).and_then(|outcomes| outcomes.get(name));
                match outcome {
                    Some(Outcome::Passed) => "yes",
                    Some(Outcome::Skipped(_)) => "not there",
                    Some(Outcome::Failed | Outcome::Unfinished) => "**no**",
                    None => "not run",
                }
                .to_owned()
            });
            let words = name.replace("::", ": ").replace('_', " ");
            row(page, std::iter::once(format!("{}: {words}", suite.name)).chain(cells));
        }
    }
}

fn reasons(page: &mut String, all: &[Ran]) {
    let mut lines = Vec::new();
    for ran in all {
        for (suite, outcomes) in &ran.suites {
            for (test, outcome) in outcomes {
                if let Outcome::Skipped(why) = outcome {
                    lines.push(format!("- {}, {suite}, {}: {why}", version(ran), test.replace('_', " ")));
                }
            }
        }
    }
    if !lines.is_empty() {
        let _ = write!(page, "\nWhat is not there:\n\n{}\n", lines.join("\n"));
    }
}

fn header(page: &mut String, first: &str, all: &[Ran]) {
    row(page, std::iter::once(first.to_owned()).chain(all.iter().map(version)));
    row(page, std::iter::repeat_n("---".to_owned(), all.len() + 1));
}

fn row(page: &mut String, cells: impl IntoIterator<Item = String>) {
    let cells: Vec<_> = cells.into_iter().map(|cell| cell.replace('|', "\\|")).collect();
    let _ = writeln!(page, "| {} |", cells.join(" | "));
}

/// `6.12.118+deb13-amd64` is 6.12.
fn version(ran: &Ran) -> String {
    ran.release.splitn(3, ['.', '-', '+']).take(2).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    fn ran(release: &str, suites: &[(&str, &[(&str, Outcome)])]) -> Ran {
        let outcomes = |tests: &[(&str, Outcome)]| {
            tests.iter().map(|(name, outcome)| ((*name).to_owned(), outcome.clone())).collect()
        };
        let suites = suites.iter().map(|(suite, tests)| ((*suite).to_owned(), outcomes(tests))).collect();
        Ran { release: release.into(), took_s: 61, suites }
    }

    #[test]
    fn a_scenario_is_right_in_all_ways_or_says_in_which_not() {
        let ways = WAYS.map(|(name, _)| name);
        let good: [(&str, Outcome); 1] = [("syn_drop", Outcome::Passed)];
        let bad: [(&str, Outcome); 1] = [("syn_drop", Outcome::Unfinished)];
        let all: Vec<_> = ways.iter().map(|way| (*way, &good[..])).collect();
        assert_eq!(in_all_ways(&ran("6.1.0-5-amd64", &all), "syn_drop"), "all");
        let mut one = all.clone();
        one[1].1 = &bad[..];
        let text = in_all_ways(&ran("6.1.0-5-amd64", &one), "syn_drop");
        assert_eq!(text, format!("**not {}**", ways[1]));
        assert_eq!(in_all_ways(&ran("6.1.0-5-amd64", &[]), "syn_drop"), "**none**");
    }

    #[test]
    fn some_suites_replace_theirs_of_the_last_run() {
        let folder = std::env::temp_dir().join(format!("xtask-vm-page-{}", std::process::id()));
        let (good, bad) = ([("a", Outcome::Passed)], [("a", Outcome::Failed)]);
        ran("6.1.0-5-amd64", &[("x", &bad), ("y", &bad)]).keep(&folder, "6.1", true).unwrap();
        ran("6.1.0-5-amd64", &[("y", &good)]).keep(&folder, "6.1", false).unwrap();
        let kept = read(&folder, "6.1").unwrap();
        assert_eq!((&kept.suites["x"]["a"], &kept.suites["y"]["a"]), (&Outcome::Failed, &Outcome::Passed));
        ran("6.1.0-6-amd64", &[("y", &good)]).keep(&folder, "6.1", false).unwrap();
        assert_eq!(
            read(&folder, "6.1").unwrap().release,
            "6.1.0-5-amd64",
            "of another kernel it has no others"
        );
        assert!(complete(&folder).is_none());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_page_is_made_of_whole_runs() {
        let folder = std::env::temp_dir().join(format!("xtask-vm-whole-{}", std::process::id()));
        let good = [("a", Outcome::Passed)];
        let all: Vec<_> = suites().map(|suite| (suite, &good[..])).collect();
        let last = KERNELS.len() - 1;
        for (kernel, run) in KERNELS.iter().zip((0..).map(|index| &all[usize::from(index == last)..])) {
            ran(&format!("{}.0-amd64", kernel.series), run).keep(&folder, kernel.series, true).unwrap();
        }
        assert!(complete(&folder).is_none(), "a suite is missing");
        let series = KERNELS[last].series;
        ran(&format!("{series}.0-amd64"), &all[..1]).keep(&folder, series, false).unwrap();
        assert!(!text(&complete(&folder).unwrap()).contains("not run"));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_page_has_the_reasons() {
        let skipped = [("a_b", Outcome::Skipped("no such thing".into()))];
        let other = SUITES.iter().find(|suite| !suite.in_all_ways).unwrap().name;
        let page = text(&[ran("7.3.4+deb13-amd64", &[(other, &skipped)])]);
        assert!(page.contains(&format!("| {other}: a b | not there |")), "{page}");
        assert!(page.contains(&format!("- 7.3, {other}, a b: no such thing")), "{page}");
    }

    #[test]
    fn the_page_that_is_kept_is_about_the_kernels_of_the_list() {
        let page = fs::read_to_string(workspace::root().join(PAGE)).unwrap();
        let tables: Vec<_> = page
            .lines()
            .filter(|line| line.starts_with("| scenario") || line.starts_with("| test"))
            .collect();
        assert_eq!(tables.len(), 2);
        for table in tables {
            let columns: Vec<_> = table.trim_matches('|').split('|').map(str::trim).skip(1).collect();
            assert_eq!(columns.len(), KERNELS.len(), "{table}");
            for (column, kernel) in columns.iter().zip(&KERNELS) {
                assert!(super::super::kernels::is_of(column, kernel.series), "{column}");
            }
        }
        assert!(page.contains(&legend()));
    }
}
