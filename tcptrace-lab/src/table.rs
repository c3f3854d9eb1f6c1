//! The kernel's own table of TCP sockets, as `netstat` reads it.

use std::{fs, io};

use crate::Family;

/// State names by the kernel's numbers, spelt as `netstat` prints them. 0 is never used; 12 is a half-open request,
/// which every tool calls SYN_RECV.
const NAMES: [&str; 13] = [
    "UNKNOWN",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "SYN_RECV",
];

/// A connection as the table shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// Its state.
    pub(crate) state: &'static str,
    /// How often its retransmission timer has expired in a row; of a half-open request, the SYN-ACK timer.
    pub(crate) expiries: u32,
    /// How many keepalive or window probes in a row nobody has answered.
    pub(crate) probes: u32,
}

/// All TCP connections in the calling thread's namespace; listeners are no connections.
pub(crate) fn rows(family: Family) -> io::Result<Vec<Row>> {
    // Not /proc/self: that is the namespace of the process's first thread.
    let path = match family {
        Family::V4 => "/proc/thread-self/net/tcp",
        Family::V6 => "/proc/thread-self/net/tcp6",
    };
    Ok(connections(&fs::read_to_string(path)?))
}

fn connections(table: &str) -> Vec<Row> {
    table.lines().skip(1).filter_map(row).filter(|row| row.state != "LISTEN").collect()
}

/// `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout ...`; the kernel prints the
/// probes under `timeout` (tcp_ipv4.c, get_tcp4_sock).
fn row(line: &str) -> Option<Row> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let number = u8::from_str_radix(fields.get(3)?, 16).ok()?;
    Some(Row {
        state: NAMES.get(usize::from(number))?,
        expiries: u32::from_str_radix(fields.get(6)?, 16).ok()?,
        probes: fields.get(8)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_connections_and_leaves_listeners_out() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
             0: 0900000A:2710 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 9 1 0 100 0 0 10 0\n   \
             1: 0900000A:2710 0100000A:8F2E 08 00000000:00000000 02:0000000A 00000000     0        3 9 1 0 20 4 0 10 -1\n   \
             2: 0900000A:2710 0100000A:8F30 06 00000000:00000000 03:000016D3 00000000     0        0 0 3 0\n   \
             3: 0900000A:2710 0100000A:8F32 04 00000000:00000001 01:000016D3 0000000A     0        0 0 3 0\n\
             cut off";
        let row = |state, expiries, probes| Row { state, expiries, probes };
        let shown = [row("CLOSE_WAIT", 0, 3), row("TIME_WAIT", 0, 0), row("FIN_WAIT1", 10, 0)];
        assert_eq!(connections(table), shown);
    }
}
