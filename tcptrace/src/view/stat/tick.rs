//! What happened since the last tick, for people: a head line, then rates.

use super::{groups, told};
use crate::{
    event::{Reason, Segment, TcpState},
    stat::{
        ORDER,
        rates::{ROWS, Traced, per_second},
        report::{Interval, Report},
    },
    view::Palette,
    wall::Wall,
};
use std::io::{self, Write};

/// Width of the titles.
const TITLE: usize = 12;

/// What was said already: what stays the same is said once.
#[derive(Clone, Debug, Default)]
pub struct Before {
    any: bool,
    unusual: Vec<&'static str>,
}

/// One tick; what the next one need not say again.
///
/// # Errors
/// Those of `out`.
pub fn write(
    out: &mut impl Write,
    palette: &Palette,
    wall: &mut Wall,
    report: &Report,
    before: &Before,
) -> io::Result<Before> {
    let unusual = report.unusual();
    let now = Before { any: true, unusual: unusual.iter().map(|unusual| unusual.name).collect() };
    let first = !before.any;
    if first {
        report.notes.iter().try_for_each(|note| writeln!(out, "{0}note: {note}{0:#}", palette.dim))?;
    }
    head(out, palette, wall, report)?;
    for unusual in unusual.iter().filter(|_| now.unusual != before.unusual) {
        let style = if unusual.bad { palette.bad } else { palette.warn };
        writeln!(out, "{:<TITLE$} {style}{}{style:#}", "", unusual.text)?;
    }
    if now.unusual.is_empty() && !before.unusual.is_empty() {
        writeln!(out, "{:<TITLE$} nothing unusual any more", "")?;
    }
    if let Some(interval) = &report.interval {
        counters(out, palette, interval)?;
        match &interval.traced {
            Ok(traced) => self::traced(out, palette, traced, interval.ns)?,
            Err(why) if first => writeln!(out, "{:<TITLE$} {why}", "traced")?,
            Err(_) => {}
        }
    }
    groups(out, palette, report)?;
    if report.picture.groups.is_some() {
        writeln!(out)?;
    }
    Ok(now)
}

fn head(out: &mut impl Write, palette: &Palette, wall: &mut Wall, report: &Report) -> io::Result<()> {
    let all = &report.picture.all;
    let (dim, strong) = (palette.dim, palette.strong);
    let states: Vec<_> = ORDER
        .iter()
        .filter(|state| all.count(**state) > 0)
        .map(|state| format!("{} {}", state.name(), all.count(*state)))
        .collect();
    write!(
        out,
        "{dim}{}{dim:#} {strong}{} sockets{strong:#}",
        wall.clock(report.picture.taken.to_ns),
        all.total()
    )?;
    if !states.is_empty() {
        write!(out, ": {}", states.join(", "))?;
    }
    let fin_wait2 = all.fin_wait2();
    let told = [
        ("orphans", all.orphans()),
        ("FIN_WAIT2 minisockets", fin_wait2.minisockets),
        ("not accepted", all.unaccepted()),
    ];
    for (what, count) in told.into_iter().filter(|(_, count)| *count > 0) {
        write!(out, " | {what} {count}")?;
    }
    writeln!(out)
}

fn counters(out: &mut impl Write, palette: &Palette, interval: &Interval) -> io::Result<()> {
    for row in &ROWS {
        let rate = |added: u64| {
            (row.always && row.title != "sent again" || added > 0).then(|| rate(added, interval.ns))
        };
        let style = if row.always { anstyle::Style::new() } else { palette.warn };
        match told(row, &interval.added, rate) {
            Some(told) => writeln!(out, "{:<TITLE$} {style}{told}{style:#}", row.title)?,
            None if row.always => writeln!(out, "{:<TITLE$} nothing", row.title)?,
            None => {}
        }
    }
    Ok(())
}

fn traced(out: &mut impl Write, palette: &Palette, traced: &Traced, ns: u64) -> io::Result<()> {
    let mut line = |title: &str, items: Vec<String>| match items.is_empty() {
        true => Ok(()),
        false => writeln!(out, "{title:<TITLE$} {}", items.join(", ")),
    };
    line("changes", changes(traced, ns))?;
    let kinds = Segment::ALL.iter().zip(traced.retransmits).flat_map(|(segment, row)| {
        let of = Reason::ALL.iter().zip(row).filter(|(_, count)| *count > 0);
        of.map(|(reason, count)| format!("{} by {} {}", segment.name(), reason.name(), rate(count, ns)))
            .collect::<Vec<_>>()
    });
    line("retransmits", kinds.collect())?;
    let resets = ["sent", "received"].into_iter().zip(traced.resets).filter(|(_, count)| *count > 0);
    line("RST", resets.map(|(way, count)| format!("{way} {}", rate(count, ns))).collect())?;
    if traced.lost > 0 {
        let bad = palette.bad;
        writeln!(
            out,
            "{:<TITLE$} {bad}lost {} records{bad:#}: the two lines above lack them, the changes are exact",
            "", traced.lost
        )?;
    }
    Ok(())
}

/// Transitions by pair, the most frequent first.
fn changes(traced: &Traced, ns: u64) -> Vec<String> {
    let mut pairs: Vec<_> = TcpState::ALL
        .into_iter()
        .flat_map(|old| TcpState::ALL.into_iter().map(move |new| (old, new)))
        .map(|(old, new)| (traced.matrix[usize::from(old.number())][usize::from(new.number())], old, new))
        .filter(|(count, ..)| *count > 0)
        .collect();
    pairs.sort_by_key(|(count, ..)| std::cmp::Reverse(*count));
    pairs
        .into_iter()
        .map(|(count, old, new)| format!("{} -> {} {}", old.name(), new.name(), rate(count, ns)))
        .collect()
}

/// `12/s`, and below 10 with a digit more, so that 1 in 4 seconds is not nothing.
fn rate(added: u64, ns: u64) -> String {
    let rate = per_second(added, ns);
    if added == 0 {
        "0/s".to_owned()
    } else if rate >= 9.95 {
        format!("{rate:.0}/s")
    } else if rate >= 0.095 {
        format!("{rate:.1}/s")
    } else {
        format!("{added} in all")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_short_and_never_nothing() {
        for (added, ns, text) in [
            (0, 1_000_000_000, "0/s"),
            (1, 1_000_000_000, "1.0/s"),
            (100, 1_000_000_000, "100/s"),
            (5, 500_000_000, "10/s"),
            (1, 4_000_000_000, "0.2/s"),
            (1, 3_600_000_000_000, "1 in all"),
            (7, 0, "7000000000/s"),
        ] {
            assert_eq!(rate(added, ns), text);
        }
    }
}
