//! The settings of the kernel that lessons speak of.

use std::fs;

/// A setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sysctl {
    /// As `sysctl` names it.
    pub(super) name: &'static str,
    /// What it is if nobody sets it.
    pub(super) default: &'static str,
    /// What is counted.
    pub(super) unit: &'static str,
    /// What it governs.
    pub(super) governs: &'static str,
}

impl Sysctl {
    /// Its value in the calling thread's network namespace; `None`: this kernel does not have it, or shows it in the
    /// first namespace only.
    pub(super) fn here(&self) -> Option<String> {
        let text = fs::read_to_string(format!("/proc/sys/{}", self.name.replace('.', "/"))).ok()?;
        Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

const fn sysctl(
    name: &'static str,
    default: &'static str,
    unit: &'static str,
    governs: &'static str,
) -> Sysctl {
    Sysctl { name, default, unit, governs }
}

pub(super) const SYN_RETRIES: Sysctl = sysctl(
    "net.ipv4.tcp_syn_retries",
    "6",
    "repeats",
    "How often a SYN is sent again, each time after twice as long: 1, 2, 4 ... s. A program can set TCP_SYNCNT.",
);
pub(super) const SYN_LINEAR_TIMEOUTS: Sysctl = sysctl(
    "net.ipv4.tcp_syn_linear_timeouts",
    "4",
    "repeats",
    "Repeats one second apart that come before those, since Linux 6.5: with both defaults a connect fails after 131 s, \
     and after 127 s on older kernels.",
);
pub(super) const SYNACK_RETRIES: Sysctl = sysctl(
    "net.ipv4.tcp_synack_retries",
    "5",
    "repeats",
    "How often a SYN-ACK is sent again before the half-open request is forgotten, after 63 s by default; sooner when \
     the listener's queue is more than half full.",
);
pub(super) const SYNCOOKIES: Sysctl = sysctl(
    "net.ipv4.tcp_syncookies",
    "1",
    "0 never, 1 when the queue is full, 2 always",
    "A SYN that finds the queue full is answered without being remembered: all that has to be known comes back in the \
     third segment.",
);
pub(super) const MAX_SYN_BACKLOG: Sysctl = sysctl(
    "net.ipv4.tcp_max_syn_backlog",
    "by memory, at least 128",
    "requests",
    "Limits half-open requests only where cookies are off; otherwise the backlog of the listener does.",
);
pub(super) const SOMAXCONN: Sysctl = sysctl(
    "net.core.somaxconn",
    "4096 (128 before Linux 5.4)",
    "connections",
    "The most that a program's listen(backlog) can ask for; the kernel lets one more wait than that.",
);
pub(super) const ABORT_ON_OVERFLOW: Sysctl = sysctl(
    "net.ipv4.tcp_abort_on_overflow",
    "0",
    "0 or 1",
    "1: a client that finds the accept queue full gets a RST, instead of silence and a second chance.",
);
pub(super) const FIN_TIMEOUT: Sysctl = sysctl(
    "net.ipv4.tcp_fin_timeout",
    "60",
    "seconds",
    "How long an end that no program holds any more waits in FIN_WAIT2 for the peer's FIN. While a program holds it \
     there is no limit. A program can set TCP_LINGER2.",
);
pub(super) const ORPHAN_RETRIES: Sysctl = sysctl(
    "net.ipv4.tcp_orphan_retries",
    "0, which means 8",
    "repeats, counted as time",
    "How long an end that no program holds any more goes on sending what was not acknowledged: some 105 s by default \
     on a fast path.",
);
pub(super) const MAX_ORPHANS: Sysctl = sysctl(
    "net.ipv4.tcp_max_orphans",
    "by memory",
    "sockets, of the whole machine",
    "Above so many ends without a program the kernel ends those whose timer expires next, most with a RST.",
);
pub(super) const RETRIES2: Sysctl = sysctl(
    "net.ipv4.tcp_retries2",
    "15",
    "repeats, counted as time",
    "How long data may stay unacknowledged while a program holds the connection: 924 s by default, or the program's \
     TCP_USER_TIMEOUT.",
);
pub(super) const MAX_TW_BUCKETS: Sysctl = sysctl(
    "net.ipv4.tcp_max_tw_buckets",
    "by memory",
    "connections",
    "How many ends may be in TIME_WAIT, or in FIN_WAIT2 without a program. Where there is no place the end is gone at \
     once.",
);
pub(super) const TW_REUSE: Sysctl = sysctl(
    "net.ipv4.tcp_tw_reuse",
    "2",
    "0 never, 1 always, 2 on loopback only",
    "Whether connect() may take the port of an end that has been in TIME_WAIT for a second. It needs TCP timestamps, \
     and does nothing for a server's ports.",
);
pub(super) const PORT_RANGE: Sysctl = sysctl(
    "net.ipv4.ip_local_port_range",
    "32768 60999",
    "ports",
    "Where connect() takes its ports from. Each TIME_WAIT keeps one of them from being used toward the same \
     destination.",
);
pub(super) const RMEM: Sysctl = sysctl(
    "net.ipv4.tcp_rmem",
    "4096 131072 and a limit by memory",
    "bytes: least, at first, most",
    "The receive buffer of a connection, from which the window is made. A program can set SO_RCVBUF.",
);
pub(super) const KEEPALIVE_TIME: Sysctl = sysctl(
    "net.ipv4.tcp_keepalive_time",
    "7200",
    "seconds",
    "After so much silence the first probe is sent, if the program has set SO_KEEPALIVE. It can set TCP_KEEPIDLE.",
);
pub(super) const KEEPALIVE_INTVL: Sysctl = sysctl(
    "net.ipv4.tcp_keepalive_intvl",
    "75",
    "seconds",
    "How long after a probe the next one follows. A program can set TCP_KEEPINTVL.",
);
pub(super) const KEEPALIVE_PROBES: Sysctl = sysctl(
    "net.ipv4.tcp_keepalive_probes",
    "9",
    "probes",
    "After so many in vain the connection is ended. A program can set TCP_KEEPCNT.",
);
pub(super) const SACK: Sysctl = sysctl(
    "net.ipv4.tcp_sack",
    "1",
    "0 or 1",
    "Whether the receiver says which segments it has, so that only the lost ones are sent again.",
);
