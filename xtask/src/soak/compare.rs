//! What the exporter says beside what the kernel and `ss` say.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{scrape::Metrics, space::Space, subject::Subject};

/// Between two comparisons.
const AGAIN: Duration = Duration::from_millis(500);
/// What `ss` calls the states.
const STATES: [(&str, &str); 10] = [
    ("LISTEN", "LISTEN"),
    ("SYN-SENT", "SYN_SENT"),
    ("SYN-RECV", "SYN_RECV"),
    ("ESTAB", "ESTABLISHED"),
    ("FIN-WAIT-1", "FIN_WAIT1"),
    ("FIN-WAIT-2", "FIN_WAIT2"),
    ("TIME-WAIT", "TIME_WAIT"),
    ("CLOSE-WAIT", "CLOSE_WAIT"),
    ("LAST-ACK", "LAST_ACK"),
    ("CLOSING", "CLOSING"),
];
/// The kernel's own counters (`/proc/net/snmp`), and the state changes at which it counts (tcp_set_state, tcp_done, tcp_connect;
/// read in 5.10 to 7.3).
const COUNTERS: [(&str, &[(&str, &str)]); 4] = [
    ("ActiveOpens", &[("CLOSE", "SYN_SENT")]),
    ("PassiveOpens", &[("LISTEN", "SYN_RECV")]),
    ("AttemptFails", &[("SYN_SENT", "CLOSE"), ("SYN_RECV", "CLOSE")]),
    ("EstabResets", &[("ESTABLISHED", "CLOSE"), ("CLOSE_WAIT", "CLOSE")]),
];

/// Events in a million that may reach no program without the kernel saying so: seen on a virtual machine with 6.18, where
/// tracefs showed them (docs/kernel.md, function probes).
const UNTOLD: u64 = 5;

/// Counters.
pub struct Counted {
    /// Name, the kernel's count, ours.
    pub rows: Vec<(&'static str, u64, u64)>,
    /// Times that the kernel skipped a program, and said so: those events nobody counted.
    pub missed: u64,
}

impl Counted {
    fn compare(snmp: &str, metrics: &Metrics) -> Result<Self> {
        let mut tcp =
            snmp.lines().filter(|line| line.starts_with("Tcp:")).map(|line| line.split_whitespace());
        let (names, values) = tcp.next().zip(tcp.next()).context("/proc/net/snmp has no counters of TCP")?;
        let kernel: BTreeMap<_, _> = names.zip(values).collect();
        let rows = COUNTERS.iter().map(|(name, changes)| {
            let kernel = kernel
                .get(name)
                .and_then(|value| value.parse().ok())
                .with_context(|| format!("no {name}"))?;
            Ok((*name, kernel, changes.iter().map(|(from, to)| metrics.transition(from, to)).sum()))
        });
        Ok(Self {
            rows: rows.collect::<Result<_>>()?,
            missed: metrics.count("tcptrace_lost_events_total{kind=\"missed\"}"),
        })
    }

    /// What differs by more than the kernel says that it skipped, and [`UNTOLD`].
    pub fn wrong(&self) -> Vec<String> {
        let differ = |(_, kernel, ours): &&(&str, u64, u64)| {
            kernel.abs_diff(*ours) > self.missed + (kernel * UNTOLD).div_ceil(1_000_000)
        };
        let say = |(name, kernel, ours): &(&str, u64, u64)| {
            format!("{name} is {kernel} by the kernel and {ours} by tcptrace, with {} skipped", self.missed)
        };
        self.rows.iter().filter(differ).map(say).collect()
    }
}

/// Sockets by state.
pub struct Held {
    /// State, `ss`'s count, ours.
    pub rows: Vec<(&'static str, u64, u64)>,
    /// How long it took to be the same.
    pub after: Duration,
}

impl Held {
    fn compare(ss: &str, metrics: &Metrics, after: Duration) -> Self {
        let count = |shown: &str| {
            ss.lines().filter(|line| line.split_whitespace().next() == Some(shown)).count() as u64
        };
        let rows = STATES.iter().map(|(shown, state)| (*state, count(shown), metrics.sockets(state)));
        Self { rows: rows.collect(), after }
    }

    /// What differs.
    pub fn wrong(&self) -> Vec<String> {
        let differ = |(_, ss, ours): &&(&str, u64, u64)| ss != ours;
        let say =
            |(state, ss, ours): &(&str, u64, u64)| format!("{state}: ss shows {ss}, tcptrace says {ours}");
        self.rows.iter().filter(differ).map(say).collect()
    }
}

/// Compares until nothing differs, but no longer than `patience`.
pub fn settle(space: &Space, exporter: &mut Subject, patience: Duration) -> Result<(Counted, Held)> {
    let start = Instant::now();
    loop {
        let ss = space.ask("ss", &["-Htan"])?;
        exporter.look()?;
        let held = Held::compare(&ss, &exporter.metrics, start.elapsed());
        let counted = Counted::compare(&space.ask("cat", &["/proc/net/snmp"])?, &exporter.metrics)?;
        if (held.wrong().is_empty() && counted.wrong().is_empty()) || start.elapsed() > patience {
            return Ok((counted, held));
        }
        thread::sleep(AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNMP: &str = "Tcp: ActiveOpens PassiveOpens AttemptFails EstabResets\nTcp: 50 4 2 3\n";

    #[test]
    fn what_differs_is_said() {
        let counted = Counted::compare(SNMP, &Metrics::default()).unwrap();
        assert_eq!(counted.rows[0], ("ActiveOpens", 50, 0));
        assert_eq!(counted.wrong().len(), 4);
        let skipped = Counted { missed: 4, ..counted };
        assert_eq!(skipped.wrong(), ["ActiveOpens is 50 by the kernel and 0 by tcptrace, with 4 skipped"]);
        assert!(Counted::compare("Udp: 1\n", &Metrics::default()).is_err());
        let held = Held::compare("ESTAB 0 0 127.0.0.1:1 127.0.0.1:2\n", &Metrics::default(), Duration::ZERO);
        assert_eq!(held.wrong(), ["ESTABLISHED: ss shows 1, tcptrace says 0"]);
    }
}
