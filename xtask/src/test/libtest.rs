//! What Rust's test harness prints: its result line, and the tests it ignored and why.

/// The numbers of a result line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Ran and held.
    pub passed: usize,
    /// Ran and did not, or never came to an end.
    pub failed: usize,
    /// Did not run.
    pub ignored: usize,
}

/// A test that did not run, and the reason its author gave.
#[derive(Debug, PartialEq, Eq)]
pub struct Ignored {
    /// Its full name, as the harness takes it with `--exact`.
    pub name: String,
    /// Empty if there is none.
    pub reason: String,
}

impl Ignored {
    /// What it needs, by the project's convention for tests that run where that is to be had: `needs root: …`,
    /// `needs root and prometheus: …`. Nothing of any other reason.
    pub fn needs(&self) -> Vec<&str> {
        let needs = self.reason.strip_prefix("needs ").and_then(|rest| rest.split_once(": "));
        let words = needs.map(|(words, _why)| words.split(" and ").flat_map(|words| words.split(", ")));
        words.into_iter().flatten().collect()
    }
}

/// What one run comes to, with `asked` tests named by us. Silence is not success: a run without a
/// result line, or one that ends badly without naming a failure, has failed.
pub fn judge(results: &[Counts], succeeded: bool, asked: usize) -> Counts {
    let sum = |number: fn(&Counts) -> usize| results.iter().map(number).sum::<usize>();
    let mut counts = Counts {
        passed: sum(|counts| counts.passed),
        failed: sum(|counts| counts.failed),
        ignored: sum(|counts| counts.ignored),
    };
    let missing = asked.saturating_sub(counts.passed + counts.failed);
    counts.failed += missing;
    if (results.is_empty() || !succeeded) && counts.failed == 0 {
        counts.failed = 1;
    }
    counts
}

/// What came of one test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It held.
    Passed,
    /// It did not.
    Failed,
}

/// Each test that came to an end, and how. What comes after the first empty section is what tests printed.
pub fn verdicts(output: &str) -> Vec<(String, Verdict)> {
    let verdict = |line: &str| {
        let (name, said) = line.strip_prefix("test ")?.split_once(" ... ")?;
        let verdict = match said {
            "ok" => Verdict::Passed,
            "FAILED" => Verdict::Failed,
            _ => return None,
        };
        Some((name.strip_suffix(" - should panic").unwrap_or(name).to_owned(), verdict))
    };
    let own = output.lines().take_while(|line| !["failures:", "successes:"].contains(line));
    own.filter_map(verdict).collect()
}

/// What each test printed, as far as the harness shows it: of those that failed, and with `--show-output` of all.
pub fn printed(output: &str) -> Vec<(String, String)> {
    let mut printed: Vec<(String, String)> = Vec::new();
    for line in output.lines().skip_while(|line| !["failures:", "successes:"].contains(line)) {
        let name = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"));
        match (name, printed.last_mut()) {
            (Some(name), _) => printed.push((name.to_owned(), String::new())),
            (None, Some((_, text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    printed
}

/// Every result line, in order. A failing test may print one of its own, but never the last.
pub fn results(output: &str) -> Vec<Counts> {
    output.lines().filter_map(result).collect()
}

fn result(line: &str) -> Option<Counts> {
    let (_verdict, numbers) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |name: &str| {
        let field = numbers.split(';').map(str::trim).find_map(|field| field.strip_suffix(name));
        field?.trim().parse().ok()
    };
    Some(Counts { passed: number("passed")?, failed: number("failed")?, ignored: number("ignored")? })
}

/// The tests that were ignored. What comes after `failures:` is what tests printed.
pub fn ignored(output: &str) -> Vec<Ignored> {
    output.lines().take_while(|line| *line != "failures:").filter_map(ignored_test).collect()
}

fn ignored_test(line: &str) -> Option<Ignored> {
    let (name, verdict) = line.strip_prefix("test ")?.split_once(" ... ignored")?;
    let reason = verdict.strip_prefix(", ").unwrap_or_default();
    let name = name.strip_suffix(" - should panic").unwrap_or(name);
    Some(Ignored { name: name.to_owned(), reason: reason.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXED: &str = "\nrunning 3 tests\n\
        test flow::folds ... ok\n\
        test lab::refused ... ignored, needs root: makes namespaces\n\
        test lab::panics - should panic ... ignored, needs QEMU\n\
        test later ... ignored\n\
        test bad ... FAILED\n\n\
        failures:\n\n---- bad stdout ----\n\
        test fake ... ignored, needs root: printed by a test\n\
        test result: ok. 99 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n\n\
        failures:\n    bad\n\n\
        test result: FAILED. 1 passed; 1 failed; 3 ignored; 0 measured; 2 filtered out; finished in 0.12s\n\n";

    fn counts(passed: usize, failed: usize, ignored: usize) -> Counts {
        Counts { passed, failed, ignored }
    }

    #[test]
    fn the_last_result_line_is_the_harness_s() {
        assert_eq!(results(MIXED).last(), Some(&counts(1, 1, 3)));
    }

    #[test]
    fn ignored_tests_come_with_their_reasons() {
        let found = ignored(MIXED);
        let pairs: Vec<_> = found.iter().map(|test| (test.name.as_str(), test.reason.as_str())).collect();
        let expected =
            [("lab::refused", "needs root: makes namespaces"), ("lab::panics", "needs QEMU"), ("later", "")];
        assert_eq!(pairs, expected);
    }

    #[test]
    fn each_test_has_its_verdict() {
        let own = ("flow::folds".to_owned(), Verdict::Passed);
        assert_eq!(verdicts(MIXED), [own, ("bad".to_owned(), Verdict::Failed)]);
        let printed = printed(MIXED);
        assert_eq!(printed.len(), 1);
        assert!(printed[0].0 == "bad" && printed[0].1.starts_with("test fake ... ignored"));
    }

    #[test]
    fn what_a_test_needs_is_in_its_reason() {
        let needs = |reason: &str| {
            let test = Ignored { name: "a".into(), reason: reason.into() };
            test.needs().into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(needs("needs root: makes namespaces"), ["root"]);
        assert_eq!(needs("needs root and prometheus: scrapes: all"), ["root", "prometheus"]);
        assert_eq!(needs("needs root, prometheus and duckdb: all"), ["root", "prometheus", "duckdb"]);
        for other in ["", "needs QEMU", "slow", "slow: needs root: no"] {
            assert!(needs(other).is_empty(), "{other}");
        }
    }

    #[test]
    fn other_lines_are_no_results() {
        for line in
            ["", "test result", "test result: ok.", "test result: ok. many passed", "result: 1 passed"]
        {
            assert_eq!(result(line), None, "{line}");
        }
    }

    #[test]
    fn an_empty_run_that_says_so_is_fine() {
        let result = "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out";
        assert_eq!(judge(&results(result), true, 0), counts(0, 0, 0));
    }

    #[test]
    fn silence_and_a_bad_end_are_failures() {
        assert_eq!(judge(&[], true, 0), counts(0, 1, 0), "no result line");
        assert_eq!(judge(&[], false, 4), counts(0, 4, 0), "none of the four came to an end");
        assert_eq!(judge(&[counts(5, 0, 0)], false, 0), counts(5, 1, 0), "crashed after its result");
        assert_eq!(judge(&[counts(5, 2, 0)], false, 0), counts(5, 2, 0), "said which failed");
    }

    #[test]
    fn tests_that_were_asked_for_and_did_not_run_have_failed() {
        assert_eq!(judge(&[counts(2, 0, 0)], true, 3), counts(2, 1, 0));
    }
}
