//! The settings of a network namespace.

use super::{Namespace, NamespaceError};
use std::fs;

/// What a namespace's settings say about how long things last (`net.ipv4.tcp_*`). `None`: this kernel does not show it
/// there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
}

/// The settings of a namespace.
///
/// # Errors
/// If it cannot be entered.
pub fn limits(namespace: &Namespace) -> Result<Limits, NamespaceError> {
    // /proc/sys/net shows each thread the values of its own namespace.
    namespace.enter(|| {
        let number = |name: &str| {
            fs::read_to_string(format!("/proc/sys/net/ipv4/tcp_{name}")).ok()?.trim().parse::<u64>().ok()
        };
        let seconds = |number: Option<u64>| number.map(|seconds| seconds.saturating_mul(1_000_000_000));
        Limits {
            fin_timeout_ns: seconds(number("fin_timeout")),
            max_tw_buckets: number("max_tw_buckets"),
            synack_retries: number("synack_retries"),
            syn_retries: number("syn_retries"),
            syn_linear_timeouts: number("syn_linear_timeouts"),
            retries: number("retries2"),
            orphan_retries: number("orphan_retries"),
            keepalive_time_ns: seconds(number("keepalive_time")),
            keepalive_interval_ns: seconds(number("keepalive_intvl")),
            keepalive_probes: number("keepalive_probes"),
        }
    })
}
