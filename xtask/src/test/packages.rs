//! The packages that some tests need: made when the first of them is to run, because that takes minutes.

use anyhow::{Context as _, Result};

use super::{Plan, libtest::Ignored};
use crate::{
    advice,
    dist::{self, Dist, Profile},
    tools::Tools,
};

/// How tests call them in what they need.
pub const NEED: &str = "packages";

/// What became of them.
#[derive(Default)]
pub enum Packages {
    /// Nobody has asked.
    #[default]
    NotYet,
    /// They are where tests look.
    Made,
    /// What packs is not to be had here.
    Missing(String),
}

impl Packages {
    /// Makes them if this plan has tests for them; if what packs is missing, those are skipped. What cannot be built or packed
    /// is an error: it is ours.
    pub fn provide(&mut self, tools: &mut Tools, plan: &mut Plan) -> Result<()> {
        let needs = |test: &Ignored| test.needs().contains(&NEED);
        if !plan.with_tools.iter().chain(&plan.as_root).any(needs) {
            return Ok(());
        }
        if matches!(self, Self::NotYet) {
            *self = make(tools)?;
        }
        if let Self::Missing(why) = self {
            for tests in [&mut plan.with_tools, &mut plan.as_root] {
                for mut test in tests.extract_if(.., |test| needs(test)) {
                    test.reason = format!("{} ({why})", test.reason);
                    plan.skipped.push(test);
                }
            }
        }
        Ok(())
    }
}

fn make(tools: &mut Tools) -> Result<Packages> {
    eprintln!("making a draft of the packages");
    let dist = match Dist::prepare(tools, None, Profile::Draft) {
        Ok(dist) => dist,
        Err(error) => {
            eprintln!("warning: tests that need the packages are skipped");
            advice::print(&error);
            return Ok(Packages::Missing(error.to_string().lines().next().unwrap_or_default().to_owned()));
        }
    };
    let folder = dist.make(tools).context("the packages could not be made")?;
    tools.set(dist::FOLDER_VARIABLE, &folder);
    Ok(Packages::Made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_what_packs_only_its_tests_are_skipped() {
        let test = |reason: &str| Ignored { name: "t".into(), reason: reason.into() };
        let mut plan = Plan {
            with_tools: vec![test("needs packages: a"), test("needs duckdb: b")],
            as_root: vec![test("needs root, packages and debian: c"), test("needs root: d")],
            skipped: Vec::new(),
        };
        Packages::Missing("no cargo-deb".into()).provide(&mut Tools::new(), &mut plan).unwrap();
        let reasons = |tests: &[Ignored]| tests.iter().map(|test| test.reason.clone()).collect::<Vec<_>>();
        assert_eq!(reasons(&plan.with_tools), ["needs duckdb: b"]);
        assert_eq!(reasons(&plan.as_root), ["needs root: d"]);
        let skipped =
            ["needs packages: a (no cargo-deb)", "needs root, packages and debian: c (no cargo-deb)"];
        assert_eq!(reasons(&plan.skipped), skipped);
    }
}
