//! The settings of a network namespace.

use super::{Namespace, NamespaceError};
use serde::{Deserialize, Serialize};
use std::fs;

/// What a namespace's settings say about how long things last (`net.ipv4.tcp_*`). `None`: this kernel does not show it
/// there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// How long an orphan waits in FIN_WAIT2 for the peer's FIN (`tcp_fin_timeout`).
    pub fin_timeout_ns: Option<u64>,
    /// How many minisockets there may be (`tcp_max_tw_buckets`).
    pub max_tw_buckets: Option<u64>,
    /// Repetitions of a SYN-ACK (`tcp_synack_retries`).
    pub synack_retries: Option<u64>,
    /// Repetitions of a SYN (`tcp_syn_retries`).
    pub syn_retries: Option<u64>,
    /// Repetitions of a SYN a second apart, beside those (`tcp_syn_linear_timeouts`, 6.5).
    pub syn_linear_timeouts: Option<u64>,
    /// Retransmissions before the kernel suspects the path (`tcp_retries1`).
    pub suspicion_retries: Option<u64>,
    /// Retransmissions before a connection is given up (`tcp_retries2`).
    pub retries: Option<u64>,
    /// The same for an orphan (`tcp_orphan_retries`); 0 stands for 8.
    pub orphan_retries: Option<u64>,
    /// Silence before the first keepalive probe (`tcp_keepalive_time`).
    pub keepalive_time_ns: Option<u64>,
    /// Time between keepalive probes (`tcp_keepalive_intvl`).
    pub keepalive_interval_ns: Option<u64>,
    /// Unanswered keepalive probes before a connection is given up (`tcp_keepalive_probes`).
    pub keepalive_probes: Option<u64>,
    /// The longest retransmission time-out (`tcp_rto_max_ms`, 6.15); before that 120 s.
    pub rto_max_ns: Option<u64>,
    /// SYN cookies: 0 never, 1 when the queue is full, 2 always (`tcp_syncookies`).
    pub syncookies: Option<u64>,
    /// A full accept queue answers with RST instead of silence (`tcp_abort_on_overflow`).
    pub abort_on_overflow: Option<u64>,
    /// Half-open requests a listener may have beside its backlog (`tcp_max_syn_backlog`).
    pub max_syn_backlog: Option<u64>,
    /// The largest backlog that listen() grants (`net.core.somaxconn`).
    pub somaxconn: Option<u64>,
    /// Reuse of TIME_WAIT by connect(): 0 never, 1 everywhere, 2 on loopback (`tcp_tw_reuse`).
    pub tw_reuse: Option<u64>,
    /// Timestamps, without which nothing in TIME_WAIT can be taken over: 0 never (`tcp_timestamps`).
    pub timestamps: Option<u64>,
    /// Local ports that connect() picks from (`ip_local_port_range`), first and last.
    pub ports: Option<(u16, u16)>,
}

/// The settings of a namespace.
///
/// # Errors
/// If it cannot be entered.
pub fn limits(namespace: &Namespace) -> Result<Limits, NamespaceError> {
    // /proc/sys/net shows each thread the values of its own namespace.
    namespace.enter(|| Limits::from_files(|name| fs::read_to_string(format!("/proc/sys/net/{name}")).ok()))
}

impl Limits {
    /// Every setting by the name that `sysctl` has for it, with its value in the unit of that name; unknown ones are left out.
    pub fn each(&self) -> Vec<(&'static str, String)> {
        let seconds = |ns: Option<u64>| ns.map(|ns| ns / 1_000_000_000);
        let numbers = [
            ("net.ipv4.tcp_fin_timeout", seconds(self.fin_timeout_ns)),
            ("net.ipv4.tcp_max_tw_buckets", self.max_tw_buckets),
            ("net.ipv4.tcp_synack_retries", self.synack_retries),
            ("net.ipv4.tcp_syn_retries", self.syn_retries),
            ("net.ipv4.tcp_syn_linear_timeouts", self.syn_linear_timeouts),
            ("net.ipv4.tcp_retries1", self.suspicion_retries),
            ("net.ipv4.tcp_retries2", self.retries),
            ("net.ipv4.tcp_orphan_retries", self.orphan_retries),
            ("net.ipv4.tcp_keepalive_time", seconds(self.keepalive_time_ns)),
            ("net.ipv4.tcp_keepalive_intvl", seconds(self.keepalive_interval_ns)),
            ("net.ipv4.tcp_keepalive_probes", self.keepalive_probes),
            ("net.ipv4.tcp_rto_max_ms", self.rto_max_ns.map(|ns| ns / 1_000_000)),
            ("net.ipv4.tcp_syncookies", self.syncookies),
            ("net.ipv4.tcp_abort_on_overflow", self.abort_on_overflow),
            ("net.ipv4.tcp_max_syn_backlog", self.max_syn_backlog),
            ("net.core.somaxconn", self.somaxconn),
            ("net.ipv4.tcp_tw_reuse", self.tw_reuse),
            ("net.ipv4.tcp_timestamps", self.timestamps),
        ];
        let known = numbers.into_iter().filter_map(|(name, number)| Some((name, number?.to_string())));
        let ports =
            self.ports.map(|(first, last)| ("net.ipv4.ip_local_port_range", format!("{first} {last}")));
        known.chain(ports).collect()
    }

    /// From what the files below /proc/sys/net say, each by its name there.
    pub(crate) fn from_files(read: impl Fn(&str) -> Option<String>) -> Self {
        let number = |name: &str| read(&format!("ipv4/tcp_{name}"))?.trim().parse::<u64>().ok();
        let seconds = |number: Option<u64>| number.map(|seconds| seconds.saturating_mul(1_000_000_000));
        Self {
            fin_timeout_ns: seconds(number("fin_timeout")),
            max_tw_buckets: number("max_tw_buckets"),
            synack_retries: number("synack_retries"),
            syn_retries: number("syn_retries"),
            syn_linear_timeouts: number("syn_linear_timeouts"),
            suspicion_retries: number("retries1"),
            retries: number("retries2"),
            orphan_retries: number("orphan_retries"),
            keepalive_time_ns: seconds(number("keepalive_time")),
            keepalive_interval_ns: seconds(number("keepalive_intvl")),
            keepalive_probes: number("keepalive_probes"),
            rto_max_ns: number("rto_max_ms").map(|ms| ms.saturating_mul(1_000_000)),
            syncookies: number("syncookies"),
            abort_on_overflow: number("abort_on_overflow"),
            max_syn_backlog: number("max_syn_backlog"),
            somaxconn: read("core/somaxconn").and_then(|text| text.trim().parse().ok()),
            tw_reuse: number("tw_reuse"),
            timestamps: number("timestamps"),
            ports: read("ipv4/ip_local_port_range").and_then(|text| range(&text)),
        }
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let mut ports = text.split_whitespace().map(str::parse);
    Some((ports.next()?.ok()?, ports.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_namespace_shows_its_settings() {
        let limits = limits(&Namespace::own().unwrap()).unwrap();
        assert!(limits.fin_timeout_ns.is_some() && limits.retries.is_some() && limits.somaxconn.is_some());
        let (first, last) = limits.ports.unwrap();
        assert!(first <= last);
    }

    #[test]
    fn a_range_is_two_ports() {
        assert_eq!(range("32768\t60999\n"), Some((32768, 60999)));
        for bad in ["", "1", "x 2", "1 70000"] {
            assert_eq!(range(bad), None, "{bad}");
        }
    }
}
