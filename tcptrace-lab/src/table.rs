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

/// The states of all TCP connections in the calling thread's namespace; listeners are no connections.
pub(crate) fn states(family: Family) -> io::Result<Vec<&'static str>> {
    // Not /proc/self: that is the namespace of the process's first thread.
    let path = match family {
        Family::V4 => "/proc/thread-self/net/tcp",
        Family::V6 => "/proc/thread-self/net/tcp6",
    };
    Ok(connections(&fs::read_to_string(path)?))
}

fn connections(table: &str) -> Vec<&'static str> {
    let state = |line: &str| {
        let number = u8::from_str_radix(line.split_whitespace().nth(3)?, 16).ok()?;
        NAMES.get(usize::from(number)).copied()
    };
    table.lines().skip(1).filter_map(state).filter(|&name| name != "LISTEN").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_connections_and_leaves_listeners_out() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n   \
                     0: 0900000A:2710 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n   \
                     1: 0900000A:2710 0100000A:8F2E 08 00000000:00000000 00:00000000 00000000     0\n   \
                     2: 0900000A:2710 0100000A:8F30 06 00000000:00000000 03:000016D3 00000000     0\n\
                     cut off";
        assert_eq!(connections(table), ["CLOSE_WAIT", "TIME_WAIT"]);
    }
}
