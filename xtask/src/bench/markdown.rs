//! What the pages are made of: tables, and the first of them, the verdict.

use std::fmt::Write as _;

/// A row of the verdict.
pub struct Row {
    /// What.
    pub what: String,
    /// In words.
    pub measured: String,
    /// In words.
    pub target: String,
    /// By the median.
    pub reached: Reached,
}

/// Whether a target was reached.
#[derive(Clone, Copy)]
pub enum Reached {
    Yes,
    No,
    /// The rounds differ by more than what is to be judged.
    Unclear,
}

impl From<bool> for Reached {
    fn from(reached: bool) -> Self {
        if reached { Self::Yes } else { Self::No }
    }
}

/// What was to be reached, beside what was.
pub fn verdict(page: &mut String, rows: &[Row]) {
    table(page, "Verdict", &["what", "measured", "target", "reached?"]);
    for entry in rows {
        let reached = match entry.reached {
            Reached::Yes => "yes",
            Reached::No => "**no**",
            Reached::Unclear => "cannot be told: the rounds differ by more",
        };
        row(page, &[&entry.what, &entry.measured, &entry.target, reached]);
    }
}

/// A title and the header of a table.
pub fn table(page: &mut String, title: &str, header: &[&str]) {
    // Writing to a String cannot fail.
    let _ = write!(page, "\n## {title}\n\n");
    row(page, header);
    row(page, &vec!["---"; header.len()]);
}

/// A table row; the first two make the header.
pub fn row(page: &mut String, cells: &[&str]) {
    let _ = writeln!(page, "| {} |", cells.join(" | "));
}
