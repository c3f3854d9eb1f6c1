//! The kernel's own counters of a network namespace: `snmp`, `netstat`, `sockstat` and `sockstat6` of /proc/net, and the
//! settings that they are measured against.
//!
//! The tables are read here and not by the `procfs` crate: it has `snmp` by position, and a namespace that has never
//! seen ICMP has no `IcmpMsg` lines (6.18), which shifts all that follows; `netstat` and `sockstat` it does not have. Here
//! every value is found by the name that the kernel gives it, so a counter that this kernel lacks is unknown, not 0.

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};
use std::{fs, io, path::Path};

/// The calling thread's: /proc/net is the first thread's, whatever namespace another has entered.
const OWN: &str = "/proc/thread-self/net";
const SYSCTL: &str = "/proc/sys/net/ipv4";

/// Cumulative counters of TCP (`Tcp:` and `TcpExt:`), by the kernel's names. No name is in both tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    values: HashMap<Box<str>, u64>,
}

impl Counters {
    /// Those of the calling thread's namespace. Needs no privileges.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn read() -> io::Result<Self> {
        Ok(Self::parse(&read(OWN, "snmp")?, &read(OWN, "netstat")?))
    }

    /// From the text of both tables; whatever else is in them is passed over.
    pub fn parse(snmp: &str, netstat: &str) -> Self {
        let mut values = HashMap::new();
        for (text, table) in [(snmp, "Tcp"), (netstat, "TcpExt")] {
            for (name, value) in two_line_table(text, table) {
                // MaxConn is -1: no count, so no value.
                if let Ok(value) = value.parse() {
                    values.insert(name.into(), value);
                }
            }
        }
        Self { values }
    }

    /// The counter of this name; `None`: this kernel has none.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.values.get(name).copied()
    }
}

/// Names and values of a table whose names stand in one line and whose values in the next, both after `table:`.
fn two_line_table<'a>(text: &'a str, table: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let mut rows = text.lines().filter_map(move |line| line.strip_prefix(table)?.strip_prefix(':'));
    let mut words = || rows.next().unwrap_or_default().split_whitespace();
    let (names, values) = (words(), words());
    names.zip(values)
}

/// How many sockets there are, as the kernel counts them itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sockstat {
    /// Full sockets in a state, of this namespace, IPv4 and IPv6.
    pub in_use: Option<u64>,
    /// Orphans. Of the whole machine.
    pub orphans: Option<u64>,
    /// Minisockets (TIME_WAIT and FIN_WAIT2) of this namespace.
    pub timewait: Option<u64>,
    /// Full sockets, in a state or in none. Of the whole machine.
    pub allocated: Option<u64>,
    /// Memory in pages. Of the whole machine.
    pub memory_pages: Option<u64>,
}

impl Sockstat {
    /// That of the calling thread's namespace.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn read() -> io::Result<Self> {
        // Without IPv6 there is no such file.
        Ok(Self::parse(&read(OWN, "sockstat")?, &read(OWN, "sockstat6").unwrap_or_default()))
    }

    /// From the text of both files.
    pub fn parse(sockstat: &str, sockstat6: &str) -> Self {
        let tcp = |key| pair(sockstat, "TCP", key);
        let v6 = pair(sockstat6, "TCP6", "inuse").unwrap_or(0);
        Self {
            in_use: tcp("inuse").map(|v4| v4.saturating_add(v6)),
            orphans: tcp("orphan"),
            timewait: tcp("tw"),
            allocated: tcp("alloc"),
            memory_pages: tcp("mem"),
        }
    }
}

/// The word after `key` in the line of `protocol`. Negative counts, which other CPUs' shares may lead to, are none.
fn pair(text: &str, protocol: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(protocol)?.strip_prefix(':'))?;
    let mut words = line.split_whitespace();
    words.find(|word| *word == key)?;
    words.next()?.parse().ok()
}

/// Settings that limit how many sockets there can be; `None` where this namespace does not show them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `tcp_max_tw_buckets`, of this namespace.
    pub max_tw_buckets: Option<u64>,
    /// `tcp_max_orphans`, of the whole machine; only the first namespace shows it.
    pub max_orphans: Option<u64>,
    /// `tcp_mem` in pages: low, pressure, high. Of the whole machine; only the first namespace shows it.
    pub memory: Option<[u64; 3]>,
}

impl Settings {
    /// Those that the calling thread's namespace shows.
    pub fn read() -> Self {
        let of = |name| read(SYSCTL, name).ok();
        let number = |name| of(name)?.trim().parse().ok();
        Self {
            max_tw_buckets: number("tcp_max_tw_buckets"),
            max_orphans: number("tcp_max_orphans"),
            memory: of("tcp_mem").and_then(|text| three(&text)),
        }
    }
}

fn three(text: &str) -> Option<[u64; 3]> {
    let numbers: Result<Vec<_>, _> = text.split_whitespace().map(str::parse).collect();
    numbers.ok()?.try_into().ok()
}

fn read(folder: &str, name: &str) -> io::Result<String> {
    let bytes = fs::read(Path::new(folder).join(name))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SNMP: &str = "Ip: Forwarding DefaultTTL\nIp: 2 64\n\
        Tcp: RtoAlgorithm MaxConn ActiveOpens PassiveOpens\nTcp: 1 -1 23 2\n\
        Udp: InDatagrams\nUdp: 7\n";
    const NETSTAT: &str = "TcpExt: SyncookiesSent ListenDrops\nTcpExt: 0 18446744073709551615\n\
        IpExt: InNoRoutes\nIpExt: 5\n";

    #[test]
    fn counters_are_found_by_name() {
        let counters = Counters::parse(SNMP, NETSTAT);
        assert_eq!(counters.get("ActiveOpens"), Some(23));
        assert_eq!(counters.get("PassiveOpens"), Some(2));
        assert_eq!(counters.get("SyncookiesSent"), Some(0));
        assert_eq!(counters.get("ListenDrops"), Some(u64::MAX));
        for absent in ["MaxConn", "InDatagrams", "InNoRoutes", "TCPNewerThanThisKernel", ""] {
            assert_eq!(counters.get(absent), None, "{absent}");
        }
    }

    #[test]
    fn a_table_that_is_cut_short_gives_what_is_there() {
        assert_eq!(Counters::parse("Tcp: ActiveOpens PassiveOpens\nTcp: 5", "").get("ActiveOpens"), Some(5));
        let cut = Counters::parse("Tcp: ActiveOpens PassiveOpens\nTcp: 5", "");
        assert_eq!(cut.get("PassiveOpens"), None);
        assert_eq!(Counters::parse("Tcp: ActiveOpens\n", "TcpExt:"), Counters::default());
    }

    #[test]
    fn sockstat_adds_both_families() {
        let v4 = "sockets: used 12\nTCP: inuse 3 orphan 1 tw 4 alloc 7 mem 259\nUDP: inuse 0 mem 0\n";
        let stat = Sockstat::parse(v4, "TCP6: inuse 2\nUDP6: inuse 9\n");
        let expected = Sockstat {
            in_use: Some(5),
            orphans: Some(1),
            timewait: Some(4),
            allocated: Some(7),
            memory_pages: Some(259),
        };
        assert_eq!(stat, expected);
        assert_eq!(Sockstat::parse(v4, "").in_use, Some(3));
        assert_eq!(Sockstat::parse("TCP: inuse -1 orphan", "").in_use, None);
        assert_eq!(Sockstat::parse("", "TCP6: inuse 2"), Sockstat::default());
        assert_eq!(three("1\t2\t3\n"), Some([1, 2, 3]));
        assert_eq!((three("1 2"), three("1 2 x"), three("")), (None, None, None));
    }

    #[test]
    fn this_machine_has_them() {
        let counters = Counters::read().unwrap();
        assert!(counters.get("ActiveOpens").is_some() && counters.get("ListenOverflows").is_some());
        assert!(Sockstat::read().unwrap().timewait.is_some());
        assert!(Settings::read().max_tw_buckets.is_some());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(one in "(?s).{0,200}", two in "(Tcp|TcpExt|TCP6?|[a-z: 0-9\n-])*") {
            for (one, two) in [(&one, &two), (&two, &one)] {
                let _ = (Counters::parse(one, two), Sockstat::parse(one, two), three(one));
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let text = String::from_utf8_lossy(&bytes);
            let _ = (Counters::parse(&text, &text), Sockstat::parse(&text, &text));
        }
    }
}
