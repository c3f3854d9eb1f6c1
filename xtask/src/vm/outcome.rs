//! What came of the tests of one suite, read from what its executable printed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::test::libtest::{self, Verdict};

/// What came of one test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It held.
    Passed,
    /// It said itself that this kernel has not what it tests, and why.
    Skipped(String),
    /// It did not hold.
    Failed,
    /// It did not come to an end.
    Unfinished,
}

/// The outcome of every test that was asked for, by its name.
pub type Outcomes = BTreeMap<String, Outcome>;

/// Silence is not success: a test without a verdict has failed.
pub fn read(output: &str, asked: &[String]) -> Outcomes {
    let verdicts = libtest::verdicts(output);
    let printed = libtest::printed(output);
    let of = |name: &String| {
        let verdict = verdicts.iter().find(|(test, _)| test == name).map(|(_, verdict)| verdict);
        let skipped = || {
            let own = printed.iter().find(|(test, _)| test == name);
            own.and_then(|(_, text)| text.lines().find_map(|line| line.strip_prefix("skipped: ")))
        };
        let outcome = match verdict {
            Some(Verdict::Passed) => {
                skipped().map_or(Outcome::Passed, |why| Outcome::Skipped(why.to_owned()))
            }
            Some(Verdict::Failed) => Outcome::Failed,
            None => Outcome::Unfinished,
        };
        (name.clone(), outcome)
    };
    asked.iter().map(of).collect()
}

/// Of a suite whose tests say of each way how it went: the outcomes by way. A test that did not come to its end says nothing.
pub fn by_way(output: &str, asked: &[String], ways: &[&str]) -> BTreeMap<String, Outcomes> {
    let whole = read(output, asked);
    let printed = libtest::printed(output);
    let of = |way: &str, test: &String| {
        let own = printed.iter().find(|(name, _)| name == test).map(|(_, text)| text.as_str());
        let said = own
            .unwrap_or_default()
            .lines()
            .find_map(|line| line.strip_prefix("way ")?.strip_prefix(way)?.strip_prefix(": "));
        let outcome = match (said, whole.get(test)) {
            (Some("right"), _) => Outcome::Passed,
            (Some(_), _) => Outcome::Failed,
            (None, Some(Outcome::Passed) | None) => Outcome::Unfinished,
            (None, Some(other)) => other.clone(),
        };
        (test.clone(), outcome)
    };
    ways.iter().map(|way| ((*way).to_owned(), asked.iter().map(|test| of(way, test)).collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\nrunning 4 tests\ntest good ... ok\ntest other ... ok\ntest bad ... FAILED\n\n\
        successes:\n\n---- good stdout ----\nattempt 1 failed\n\n---- other stdout ----\nskipped: no such probe\n\n\n\
        successes:\n    good\n    other\n\nfailures:\n\n---- bad stdout ----\nskipped: not said by a test that passed\n\n\
        test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n";

    #[test]
    fn every_test_that_was_asked_for_has_an_outcome() {
        let asked = ["good", "other", "bad", "hung"].map(str::to_owned);
        let outcomes = read(SAID, &asked);
        assert_eq!(outcomes["good"], Outcome::Passed);
        assert_eq!(outcomes["other"], Outcome::Skipped("no such probe".into()));
        assert_eq!(outcomes["bad"], Outcome::Failed);
        assert_eq!(outcomes["hung"], Outcome::Unfinished);
        assert_eq!(outcomes.len(), 4);
    }

    #[test]
    fn each_way_has_its_own_outcome() {
        let said = "test a ... FAILED\ntest b ... ok\n\nsuccesses:\n\n---- b stdout ----\nway raw: right\nway btf: right\n\n\
                    failures:\n\n---- a stdout ----\nattempt 1\nway raw: wrong\nway btf: right\n\n";
        let ways = by_way(said, &["a", "b", "c"].map(str::to_owned), &["raw", "btf"]);
        assert_eq!((&ways["raw"]["a"], &ways["btf"]["a"]), (&Outcome::Failed, &Outcome::Passed));
        assert_eq!((&ways["raw"]["b"], &ways["raw"]["c"]), (&Outcome::Passed, &Outcome::Unfinished));
    }
}
