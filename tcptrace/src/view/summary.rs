//! The end of a trace, for people.

use super::{Duration, Palette};
use crate::{
    event::{Direction, Reason, Segment, TcpState},
    flow::totals::Matrix,
    summary::Summary,
};
use std::io::{self, Write};

/// Writes it: first whether anything is missing, then what happened.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut impl Write, palette: &Palette, summary: &Summary) -> io::Result<()> {
    let strong = palette.strong;
    let totals = &summary.totals;
    let transitions: u64 = summary.matrix.iter().flatten().sum();
    writeln!(out)?;
    writeln!(
        out,
        "{strong}{transitions} transitions in {}{strong:#}, {} retransmitted, {} RST sent, {} RST received, {} still open",
        Duration(summary.duration_ns),
        totals.retransmitted(),
        totals.reset_count(Direction::Sent),
        totals.reset_count(Direction::Received),
        summary.open_flows,
    )?;
    lost(out, palette, summary)?;
    if summary.minisockets > 0 {
        writeln!(out, "{} go on without a socket, in TIME_WAIT or FIN_WAIT2", summary.minisockets)?;
    }
    for (old, new, count) in pairs(&summary.matrix) {
        writeln!(out, "  {:<11} -> {:<11} {count:>9}", old.name(), new.name())?;
    }
    for (old, new, count) in pairs(&totals.inferred) {
        writeln!(
            out,
            "  {:<11} -> {:<11} {count:>9}  without an event: inferred, or seen in a dump",
            old.name(),
            new.name()
        )?;
    }
    let retransmits = Segment::ALL.iter().zip(totals.retransmits).flat_map(|(segment, row)| {
        let named = Reason::ALL.iter().zip(row).filter(|(_, count)| *count > 0);
        named
            .map(move |(reason, count)| format!("{} by {} {count}", segment.name(), reason.name()))
            .collect::<Vec<_>>()
    });
    list(out, "retransmitted", retransmits)?;
    if totals.failed_sends > 0 {
        list(out, "failed sends", [totals.failed_sends.to_string()])?;
    }
    if let Some(calls) = summary.calls.filter(|calls| calls.attempts > 0) {
        list(
            out,
            "attempts",
            [format!("{} for {} segments, {} failed", calls.attempts, calls.segments, calls.failed)],
        )?;
    }
    let resets = totals.resets.iter().map(|((direction, reason), count)| {
        let reason = if reason.is_empty() { String::new() } else { format!(" {reason}") };
        format!("{direction}{reason} {count}")
    });
    list(out, "RST", resets)?;
    list(out, "closed", totals.causes.iter().map(|(cause, count)| format!("{} {count}", cause.name())))
}

fn lost(out: &mut impl Write, palette: &Palette, summary: &Summary) -> io::Result<()> {
    let missing: Vec<_> = summary.lost.each().filter(|(_, count)| *count > 0).collect();
    if missing.is_empty() {
        writeln!(out, "lost 0")?;
    } else {
        let (bad, skipped) = (palette.bad, summary.lost.skipped());
        let kinds: Vec<_> = missing.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        writeln!(
            out,
            "{bad}lost {} ({}){bad:#}: {}, the lines above are not complete{}",
            summary.lost.total(),
            kinds.join(", "),
            if skipped > 0 {
                "the counts below are a little too small"
            } else {
                "the counts below are exact"
            },
            if skipped < summary.lost.total() { "; try a larger --ring-size" } else { "" }
        )?;
    }
    if summary.totals.evicted > 0 {
        writeln!(
            out,
            "{} flows were forgotten to make room; try a larger --max-flows",
            summary.totals.evicted
        )?;
    }
    Ok(())
}

fn pairs(matrix: &Matrix) -> impl Iterator<Item = (TcpState, TcpState, u64)> {
    TcpState::ALL.into_iter().flat_map(move |old| {
        TcpState::ALL.into_iter().filter_map(move |new| {
            let count = matrix[old.number() as usize][new.number() as usize];
            (count > 0).then_some((old, new, count))
        })
    })
}

fn list(out: &mut impl Write, title: &str, items: impl IntoIterator<Item = String>) -> io::Result<()> {
    let items: Vec<_> = items.into_iter().collect();
    if items.is_empty() { Ok(()) } else { writeln!(out, "  {title}: {}", items.join(", ")) }
}
