//! The page.

use std::fmt::Write as _;

use super::Soaked;
use crate::bench::{
    figures::{mebibytes, number},
    markdown::{row, table},
};

/// Writes it.
pub fn write(soaked: &Soaked) -> String {
    let mut page = String::new();
    let Soaked {
        command,
        version,
        commit,
        date,
        machine,
        time,
        loads,
        namespaces,
        fates,
        counted,
        held,
        exporters,
    } = soaked;
    let minutes = time.as_secs_f64() / 60.0;
    let count = |value: u64| number(value as f64, 0);
    // Writing to a String cannot fail.
    let _ = write!(
        page,
        "# Reliability\n\nWritten by `{command}`; do not edit. {version}, {commit}, {date}, on {machine}.\n\n\
        For {minutes:.0} minutes {loads} processes opened and closed connections as fast as they could (refused, orderly from either \
        side, half-closed, aborted, with unread data, long ones), in IPv4 and IPv6. {} network namespaces came and went with \
        connections in them. Beside two exporters that ran all the time, others traced with a ring of one page: {} whose reader went \
        away (each ended with code 0), {} killed with `kill -9` (none of their programs was left in the kernel), {} stopped for a while \
        and then ended (of what the kernel counted, {} events were written and {} said to be lost: each time the sum was exact).\n",
        count(*namespaces),
        count(fates.unread),
        count(fates.killed),
        count(fates.hung),
        count(fates.written),
        count(fates.lost),
    );
    table(
        &mut page,
        "The exporters",
        &["", "transitions", "events lost", "CPU", "resident, second quarter", "resident, last quarter"],
    );
    for exporter in exporters {
        let share = 100.0 * exporter.cpu.as_secs_f64() / time.as_secs_f64();
        row(
            &mut page,
            &[
                exporter.what,
                &count(exporter.events),
                &count(exporter.lost),
                &format!("{share:.0} % of a core"),
                &format!("{:.1} MiB", mebibytes(exporter.early as u64)),
                &format!("{:.1} MiB", mebibytes(exporter.late as u64)),
            ],
        );
    }
    page.push_str(
        "\nLost events are counted, and what they told is made up for by asking the kernel. State changes are counted by the kernel \
        programs before they need the ring: those counts are exact all the same.\n",
    );
    table(&mut page, "Counts", &["the load's namespace", "the kernel (/proc/net/snmp)", "tcptrace"]);
    for (name, kernel, ours) in &counted.rows {
        row(&mut page, &[name, &count(*kernel), &count(*ours)]);
    }
    let _ = writeln!(
        page,
        "\nThe kernel skipped {} runs of a program, and said so. Here and there, an event in a million reaches no program, and the \
        kernel does not say so ([kernel.md](kernel.md), function probes).",
        count(counted.missed)
    );
    table(&mut page, "The ledger", &["state", "ss -tan", "tcptrace"]);
    for (state, ss, ours) in &held.rows {
        row(&mut page, &[state, &count(*ss), &count(*ours)]);
    }
    let _ = writeln!(page, "\nThe same {:.1} s after the load had ended.", held.after.as_secs_f64());
    page
}
