//! Two traces, for people: what is clearly not the same, then all of it side by side.

use super::{
    Duration, Palette,
    hist::{TITLES, columns, line_with, of_times, some},
};
use crate::{
    diagnose::Found,
    diff::{Change, Diff, Side},
    event::TcpState,
};
use std::io::{self, Write};

/// The first column, with room for two states and an arrow.
const PAIR: usize = 26;
/// Changes told of; the tables have all.
const CHANGES: usize = 12;

/// A page.
pub struct Page<'a> {
    /// Styles.
    pub palette: &'a Palette,
    /// States shown; empty: all.
    pub states: &'a [TcpState],
}

impl Page<'_> {
    /// Writes it.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write, diff: &Diff) -> io::Result<()> {
        for (letter, side) in ["A", "B"].into_iter().zip(&diff.sides) {
            writeln!(
                out,
                "{letter} {}: {} transitions in {} ({}), {} more inferred, {} open",
                side.name,
                side.report.all.events(),
                Duration(side.duration_ns),
                rate(side.per_second(side.report.all.events())),
                side.report.all.inferred(),
                side.report.all.open(),
            )?;
        }
        let warn = self.palette.warn;
        diff.notes().iter().try_for_each(|note| writeln!(out, "{warn}note: {note}{warn:#}"))?;
        self.changes(out, diff)?;
        self.findings(out, diff)?;
        self.pairs(out, diff)?;
        self.times(out, diff)
    }

    fn shows(&self, state: TcpState) -> bool {
        self.states.is_empty() || self.states.contains(&state)
    }

    fn changes(&self, out: &mut impl Write, diff: &Diff) -> io::Result<()> {
        let strong = self.palette.strong;
        let shown = |change: &&Change| match change {
            Change::Rate { pair, .. } => self.shows(pair.0) || self.shows(pair.1),
            Change::Time { state, .. } => self.shows(*state),
            Change::Finding { .. } => true,
        };
        let changes: Vec<_> = diff.changes.iter().filter(shown).collect();
        if changes.is_empty() {
            return writeln!(out, "{strong}nothing differs by a quarter or more, but for chance{strong:#}");
        }
        writeln!(out, "{strong}what differs most, A -> B{strong:#}")?;
        for change in changes.iter().take(CHANGES) {
            let (what, [a, b]) = match change {
                Change::Rate { pair: (old, new), per_second } => {
                    (format!("{} -> {}", old.name(), new.name()), per_second.map(rate))
                }
                Change::Time { state, quantile, ns } => {
                    (format!("{} {quantile}", state.name()), ns.map(|ns| Duration(ns).to_string()))
                }
                Change::Finding { name, count } => ((*name).to_owned(), count.map(|count| count.to_string())),
            };
            writeln!(out, "  {what:<PAIR$} {a:>9} -> {b:<9} {}", factor(change))?;
        }
        if changes.len() > CHANGES {
            writeln!(out, "  and {} more, see below", changes.len() - CHANGES)?;
        }
        Ok(())
    }

    fn findings(&self, out: &mut impl Write, diff: &Diff) -> io::Result<()> {
        let strong = self.palette.strong;
        let findings = diff.findings();
        if findings.is_empty() {
            return Ok(());
        }
        writeln!(out, "\n{strong}{:<PAIR$} {:>9} {:>9}   OLDEST{strong:#}", "STUCK AT THE END", "A", "B")?;
        for (name, found) in findings {
            let count = |found: Option<Found>| found.map_or("?".to_owned(), |found| found.count.to_string());
            let oldest = |found: Option<Found>| {
                let ns = found.and_then(|found| found.oldest_ns);
                ns.map_or("-".to_owned(), |ns| Duration(ns).to_string())
            };
            let [a, b] = found;
            writeln!(out, "{name:<PAIR$} {:>9} {:>9}   {}, {}", count(a), count(b), oldest(a), oldest(b))?;
        }
        Ok(())
    }

    fn pairs(&self, out: &mut impl Write, diff: &Diff) -> io::Result<()> {
        let strong = self.palette.strong;
        let pairs = diff.pairs();
        let mut header = Some(format!(
            "{:<PAIR$} {:>9} {:>9} {:>11} {:>11}",
            "FROM        -> TO", "A", "B", "A a second", "B a second"
        ));
        for ((old, new), rows) in pairs.iter().filter(|((old, new), _)| self.shows(*old) || self.shows(*new))
        {
            if let Some(header) = header.take() {
                writeln!(out, "\n{strong}{header}{strong:#}")?;
            }
            let counts = rows.each_ref().map(|row| row.events + row.inferred);
            let [a, b] = &diff.sides;
            let per_second =
                |side: &Side, count| if count == 0 { String::new() } else { rate(side.per_second(count)) };
            let rates = [per_second(a, counts[0]), per_second(b, counts[1])];
            let change = diff
                .changes
                .iter()
                .find(|change| matches!(change, Change::Rate { pair, .. } if *pair == (*old, *new)));
            let line = format!(
                "{:<PAIR$} {:>9} {:>9} {:>11} {:>11}  {}",
                format!("{:<11} -> {}", old.name(), new.name()),
                some(counts[0]),
                some(counts[1]),
                rates[0],
                rates[1],
                change.map(factor).unwrap_or_default()
            );
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    fn times(&self, out: &mut impl Write, diff: &Diff) -> io::Result<()> {
        let (strong, dim) = (self.palette.strong, self.palette.dim);
        let mut header = Some(format!("{:<PAIR$} {:>9} {:>9} {TITLES}", "STATE", "LEFT IT", "OPEN"));
        for (state, sides) in diff.states().iter().filter(|(state, _)| self.shows(*state)) {
            if let Some(header) = header.take() {
                writeln!(out, "\n{strong}{header}{strong:#}")?;
            }
            for (letter, (times, open)) in ["A", "B"].into_iter().zip(sides) {
                let title = format!("{:<12} {letter}", state.name());
                let line = format!(
                    "{title:<PAIR$} {:>9} {:>9} {}",
                    some(times.count()),
                    some(open.count()),
                    columns(&times.exact)
                );
                line_with(out, &line, &of_times(times).join(", "), dim)?;
            }
        }
        Ok(())
    }
}

/// `× 2.1`, `/ 2.1`, or that there was nothing before or after.
fn factor(change: &Change) -> String {
    match change.factor() {
        Some(factor) if factor >= 1.0 => format!("× {}", short(factor)),
        Some(factor) => format!("/ {}", short(1.0 / factor)),
        None => {
            let new = match change {
                Change::Rate { per_second, .. } => per_second[0] == 0.0,
                Change::Time { ns, .. } => ns[0] == 0,
                Change::Finding { count, .. } => count[0] == 0,
            };
            if new { "new" } else { "gone" }.to_owned()
        }
    }
}

/// Two digits, or as many as it has before the point.
fn short(number: f64) -> String {
    if number < 9.95 { format!("{number:.1}") } else { format!("{number:.0}") }
}

/// By the second, or by the minute or hour where that is little.
fn rate(per_second: f64) -> String {
    match per_second {
        0.0 => "0".to_owned(),
        rate if rate >= 0.1 => format!("{}/s", short(rate)),
        rate if rate * 60.0 >= 0.1 => format!("{}/min", short(rate * 60.0)),
        rate => format!("{}/h", short(rate * 3600.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_a_unit_that_fits() {
        for (per_second, text) in [
            (0.0, "0"),
            (1234.5, "1234/s"),
            (16.1, "16/s"),
            (0.5, "0.5/s"),
            (0.05, "3.0/min"),
            (0.001, "3.6/h"),
        ] {
            assert_eq!(rate(per_second), text);
        }
    }

    #[test]
    fn factors_go_both_ways() {
        let change = |a, b| factor(&Change::Finding { name: "any", count: [a, b] });
        assert_eq!(
            [change(2, 4), change(4, 2), change(0, 4), change(4, 0), change(1, 100)],
            ["× 2.0", "/ 2.0", "new", "gone", "× 100"]
        );
    }
}
