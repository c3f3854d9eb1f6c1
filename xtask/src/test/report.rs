//! The count. A test that could not run is listed with its reason, never counted as passed.

use std::{
    fmt,
    io::{self, Write as _},
    process::ExitCode,
};

use super::libtest::{Counts, Ignored};

/// All runs together.
#[derive(Default)]
pub struct Report {
    passed: usize,
    /// Also raised by what is no test: a build that failed.
    pub failed: usize,
    skipped: usize,
    /// One line for each skipped test.
    reasons: Vec<String>,
}

impl Report {
    /// Adds what ran.
    pub fn count(&mut self, counts: &Counts) {
        self.passed += counts.passed;
        self.failed += counts.failed;
    }

    /// Adds what did not, `unread` of them counted by the harness but not read by us.
    pub fn skip(&mut self, place: &str, tests: Vec<Ignored>, unread: usize) {
        self.skipped += tests.len() + unread;
        self.reasons.extend(tests.iter().map(|test| {
            let reason = if test.reason.is_empty() { "no reason given" } else { &test.reason };
            format!("{place}: {}: {reason}", test.name)
        }));
        if unread > 0 {
            self.reasons.push(format!("{place}: {unread} more"));
        }
    }

    /// The skipped tests, then the count, alone on the last line: people and scripts look there.
    pub fn print(&self) {
        let mut out = io::stdout().lock();
        // A reader that went away is not our problem.
        let _ = write!(out, "{}", self.details()).and_then(|()| writeln!(out, "{self}"));
    }

    fn details(&self) -> String {
        let mut text = String::new();
        if !self.reasons.is_empty() {
            text = format!("\nskipped:\n    {}\n", self.reasons.join("\n    "));
        }
        if self.reasons.iter().any(|reason| reason.contains(": needs root")) {
            text += "    (as root, or with sudo that asks for no password, those that need root run too)\n";
        }
        text + "\n"
    }

    /// Success needs at least one test that ran: a filter that matches nothing has tested nothing.
    pub fn exit_code(&self) -> ExitCode {
        if self.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Whether all that ran passed, and something ran.
    pub fn is_good(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(name: &str, reason: &str) -> Ignored {
        Ignored { name: name.into(), reason: reason.into() }
    }

    #[test]
    fn ignored_tests_that_ran_later_are_not_skipped() {
        let mut report = Report::default();
        report.count(&Counts { passed: 5, failed: 0, ignored: 2 });
        report.skip("lab", vec![ignored("slow", "needs QEMU")], 0);
        report.count(&Counts { passed: 1, failed: 0, ignored: 0 });
        assert_eq!(report.to_string(), "6 passed, 0 failed, 1 skipped");
        assert!(report.details().contains("lab: slow: needs QEMU"));
    }

    #[test]
    fn unread_ones_are_counted_too() {
        let mut report = Report::default();
        report.skip("doc tests", vec![ignored("a", "")], 2);
        assert_eq!(report.to_string(), "0 passed, 0 failed, 3 skipped");
        assert!(report.details().contains("doc tests: 2 more"));
    }

    #[test]
    fn nothing_ran_is_not_good() {
        assert!(!Report::default().is_good());
        assert!(Report { passed: 1, ..Report::default() }.is_good());
        assert!(!Report { passed: 1, failed: 1, ..Report::default() }.is_good());
    }
}
