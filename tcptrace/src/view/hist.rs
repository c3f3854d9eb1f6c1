//! Transitions and times, for people: one table of pairs, one of states, the same for each group.

use super::{Duration, Palette};
use crate::{
    event::TcpState,
    hist::{By, Dwell, Report, Row, Tally, Times},
    stat::by::Top,
    summary::Summary,
};
use std::io::{self, Write};

/// Limits of the bars' columns are powers of the square root of ten, in microseconds: up to 17 minutes and 20 columns.
const COLUMNS: u32 = 20;
/// What stands over them: each begins where its first letter is.
#[cfg(test)]
const SCALE: &str = " 1us   1ms   1s    17m";
/// What stands over [`columns`]; the bars have their scale.
pub(super) const TITLES: &str = "      p50       p90       p99       max   1us   1ms   1s    17m";
/// The heights of a column.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// The first column, with room for two states and an arrow.
const PAIR: usize = 26;

/// A page.
pub struct Page<'a> {
    /// Styles.
    pub palette: &'a Palette,
    /// States shown; empty: all.
    pub states: &'a [TcpState],
    /// What else is known of the trace.
    pub summary: &'a Summary,
}

impl Page<'_> {
    /// Writes it.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut impl Write, report: &Report) -> io::Result<()> {
        let strong = self.palette.strong;
        let all = &report.all;
        writeln!(
            out,
            "{strong}{} transitions in {}{strong:#}, {}; {} more inferred; {} connections still open",
            all.events(),
            Duration(self.summary.duration_ns),
            if report.counted_by_kernel { "by the kernel's own count" } else { "counted from events" },
            all.inferred(),
            all.open(),
        )?;
        self.missing(out, report)?;
        self.tables(out, all)?;
        if let Some((by, top)) = &report.groups {
            self.groups(out, *by, top)?;
        }
        self.legend(out, all)
    }

    /// What words mean that do not explain themselves.
    fn legend(&self, out: &mut impl Write, all: &Tally) -> io::Result<()> {
        let mut states = all.states();
        states.retain(|(state, ..)| self.shows(*state));
        let at_least = |(_, times, open): &(_, Times, Times)| times.at_least + open.at_least > 0;
        let half_open = |entry: &(TcpState, Times, Times)| entry.0 == TcpState::SynRecv && at_least(entry);
        let dim = self.palette.dim;
        if states.iter().any(at_least) {
            writeln!(
                out,
                "{dim}at least: when that began was not seen; such times are not among the others{dim:#}"
            )?;
        }
        if states.iter().any(half_open) {
            writeln!(
                out,
                "{dim}SYN_RECV: the kernel kept no time of those (SYN cookies), or its types are not known (tcptrace doctor){dim:#}"
            )?;
        }
        Ok(())
    }

    /// What makes counts and times incomplete.
    fn missing(&self, out: &mut impl Write, report: &Report) -> io::Result<()> {
        let lost = &self.summary.lost;
        let bad = self.palette.bad;
        if lost.total() > 0 {
            let kinds: Vec<_> = lost
                .each()
                .filter(|(_, count)| *count > 0)
                .map(|(k, count)| format!("{k} {count}"))
                .collect();
            let counts = match (report.counted_by_kernel, lost.skipped()) {
                (false, _) => "every count is \"at least\"",
                (true, 0) => "the first counts are exact, those of groups are \"at least\"",
                (true, _) => "every count is a little too small",
            };
            writeln!(
                out,
                "{bad}lost {} ({}){bad:#}: times are missing, {counts}; a larger --ring-size or a narrower filter helps",
                lost.total(),
                kinds.join(", ")
            )?;
        }
        if self.summary.totals.evicted > 0 {
            writeln!(
                out,
                "{bad}{} flows were forgotten to make room{bad:#}: their times are unknown; try a larger --max-flows",
                self.summary.totals.evicted
            )?;
        }
        Ok(())
    }

    fn shows(&self, state: TcpState) -> bool {
        self.states.is_empty() || self.states.contains(&state)
    }

    fn groups(&self, out: &mut impl Write, by: By, top: &Top<Tally>) -> io::Result<()> {
        let strong = self.palette.strong;
        for (key, tally) in &top.groups {
            let guess = if tally.guesses > 0 && matches!(by, By::Process | By::Container) { "?" } else { "" };
            let may_lack = if tally.may_lack { ", or more: there were too many groups" } else { "" };
            writeln!(out, "\n{strong}{} {key}{guess}{strong:#}: {}{may_lack}", by.name(), head(tally))?;
            self.tables(out, tally)?;
        }
        if top.others.weight() > 0 {
            let more = top.more.map_or("more than are kept apart".to_owned(), |more| format!("{more} more"));
            writeln!(out, "\n{strong}others ({more}){strong:#}: {}", head(&top.others))?;
            self.tables(out, &top.others)?;
        }
        Ok(())
    }

    fn tables(&self, out: &mut impl Write, tally: &Tally) -> io::Result<()> {
        let shows = |state| self.shows(state);
        let rows = tally.rows();
        let shown = rows.iter().filter(|((old, new), _)| shows(*old) || shows(*new));
        let (dim, strong) = (self.palette.dim, self.palette.strong);
        let mut header =
            Some(format!("{:<PAIR$} {:>9} {:>9} {TITLES}", "FROM        -> TO", "COUNT", "INFERRED"));
        for ((old, new), row) in shown {
            if let Some(header) = header.take() {
                writeln!(out, "{strong}{header}{strong:#}")?;
            }
            let pair = format!("{:<11} -> {}", old.name(), new.name());
            let notes = [of_pair(&rows, (*old, *new), row), of_times(&row.times)].concat().join(", ");
            let counts = [row.events, row.inferred].map(some);
            let line =
                format!("{pair:<PAIR$} {:>9} {:>9} {}", counts[0], counts[1], columns(&row.times.exact));
            line_with(out, &line, &notes, dim)?;
        }
        let states = tally.states();
        let mut header = Some(format!("{:<PAIR$} {:>9} {:>9} {TITLES}", "STATE", "LEFT IT", "OPEN"));
        for (state, times, open) in states.iter().filter(|(state, ..)| shows(*state)) {
            if let Some(header) = header.take() {
                writeln!(out, "{strong}{header}{strong:#}")?;
            }
            let mut notes = of_times(times);
            notes.extend(of_open(state, open));
            let counts = [times.count(), open.count()].map(some);
            let line = format!(
                "{:<PAIR$} {:>9} {:>9} {}",
                state.name(),
                counts[0],
                counts[1],
                columns(&times.exact)
            );
            line_with(out, &line, &notes.join(", "), dim)?;
        }
        Ok(())
    }
}

pub(super) fn line_with(
    out: &mut impl Write,
    line: &str,
    notes: &str,
    style: anstyle::Style,
) -> io::Result<()> {
    if notes.is_empty() {
        writeln!(out, "{}", line.trim_end())
    } else {
        writeln!(out, "{line}  {style}{notes}{style:#}")
    }
}

/// What there is none of stays empty: tables are read faster so.
pub(super) fn some(count: u64) -> String {
    if count == 0 { String::new() } else { count.to_string() }
}

fn head(tally: &Tally) -> String {
    format!("{} transitions, {} more inferred, {} open", tally.events(), tally.inferred(), tally.open())
}

/// Quantiles, the longest, and the bars: under [`TITLES`].
pub(super) fn columns(times: &Dwell) -> String {
    let quantile = |part| times.quantile_ns(part).map_or("-".to_owned(), |ns| Duration(ns).to_string());
    let longest = if times.count() > 0 { Duration(times.max_ns()).to_string() } else { "-".to_owned() };
    format!("{:>9} {:>9} {:>9} {longest:>9}  {}", quantile(0.5), quantile(0.9), quantile(0.99), bars(times))
}

/// How many times in each column, beside the column that has most.
fn bars(times: &Dwell) -> String {
    let mut below = 0;
    let counts: Vec<_> = (0..COLUMNS)
        .map(|column| {
            let limit = if column + 1 == COLUMNS { u64::MAX } else { limit_ns(column) };
            let upto = times.at_most(limit);
            let count = upto.saturating_sub(below);
            below = upto;
            count
        })
        .collect();
    let most = counts.iter().max().copied().unwrap_or(0).max(1);
    let bar = |count: u64| match count {
        0 => ' ',
        _ => BARS[((count * BARS.len() as u64).div_ceil(most) as usize).clamp(1, BARS.len()) - 1],
    };
    counts.into_iter().map(bar).chain([' '; 2]).collect()
}

/// The longest time of a column: 1 us, 3.16 us, 10 us and so on.
fn limit_ns(column: u32) -> u64 {
    let power = 10_u64.saturating_pow(column / 2).saturating_mul(1000);
    if column.is_multiple_of(2) { power } else { power / 100 * 316 }
}

fn of_pair(
    rows: &[((TcpState, TcpState), &Row)],
    (old, new): (TcpState, TcpState),
    row: &Row,
) -> Vec<String> {
    let mut notes = Vec::new();
    if old == new {
        let closed =
            [(row.events, "its descriptor was closed"), (row.inferred, "goes on without its program")];
        notes.extend(closed.iter().filter(|(count, _)| *count > 0).map(|(_, what)| (*what).to_owned()));
    }
    let inferred = |new| rows.iter().any(|((from, to), row)| (*from, *to) == (old, new) && row.inferred > 0);
    if new == TcpState::Close && row.times.count() < row.events + row.inferred {
        // The socket is closed, the connection is not.
        if inferred(TcpState::TimeWait) {
            notes.push(format!("goes on: see {} -> TIME_WAIT", old.name()));
        } else if inferred(old) {
            notes.push(format!("goes on: see {} -> {}", old.name(), old.name()));
        }
    }
    notes
}

pub(super) fn of_times(times: &Times) -> Vec<String> {
    let mut notes = Vec::new();
    if times.at_least > 0 {
        notes.push(format!("{} at least: up to {}", times.at_least, Duration(times.at_least_max_ns)));
    }
    if times.unknown > 0 {
        notes.push(format!("{} unknown", times.unknown));
    }
    notes
}

fn of_open(state: &TcpState, open: &Times) -> Option<String> {
    let (exact, least) = (open.exact.max_ns(), open.at_least_max_ns);
    let at_least = if least > exact { "at least " } else { "" };
    let verb = if *state == TcpState::Listen { "listening" } else { "open" };
    (open.count() > open.unknown)
        .then(|| format!("{verb} for up to {at_least}{}", Duration(exact.max(least))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_begins_where_its_label_is() {
        let column = |ns: u64| {
            let mut dwell = Dwell::default();
            dwell.record(ns);
            bars(&dwell).chars().position(|bar| bar == '█')
        };
        let label = |text: &str| SCALE.find(text);
        assert_eq!(column(500), Some(0));
        for (ns, text) in
            [(1_050, "1us"), (1_050_000, "1ms"), (1_050_000_000, "1s"), (1_050_000_000_000, "17m")]
        {
            assert_eq!(column(ns), label(text), "{text}");
            assert_eq!(column(ns * 100 / 109), label(text).map(|at| at - 1), "below {text}");
        }
        assert_eq!(column(u64::MAX), Some(COLUMNS as usize - 1));
        assert!(TITLES.ends_with(SCALE));
    }

    #[test]
    fn what_there_is_is_never_invisible() {
        let mut dwell = Dwell::default();
        (0..10_000).for_each(|_| dwell.record(5_000_000));
        dwell.record(5_000_000_000);
        let bars = bars(&dwell);
        assert_eq!(bars.trim().chars().filter(|bar| *bar != ' ').collect::<String>(), "█▁");
    }
}
