//! Connection states as `ss` prints them.

use std::process::Command;

use tcptrace_lab::{Family, Lab, PORT, Side};

/// What `ss` calls the states that `netstat` calls by the names on the left.
const NAMES: [(&str, &str); 10] = [
    ("SYN_SENT", "SYN-SENT"),
    ("SYN_RECV", "SYN-RECV"),
    ("ESTABLISHED", "ESTAB"),
    ("FIN_WAIT1", "FIN-WAIT-1"),
    ("FIN_WAIT2", "FIN-WAIT-2"),
    ("CLOSE_WAIT", "CLOSE-WAIT"),
    ("CLOSING", "CLOSING"),
    ("LAST_ACK", "LAST-ACK"),
    ("TIME_WAIT", "TIME-WAIT"),
    ("CLOSE", "UNCONN"),
];

/// The states of that host's connections to or from the lab's port, spelt as `netstat` does; listeners are left out.
pub fn states(lab: &Lab, side: Side) -> Vec<&'static str> {
    let mut ss = Command::new("ss");
    ss.arg("-tanH");
    ss.arg(if lab.family() == Family::V4 { "-4" } else { "-6" });
    let output = lab.command(side, ss).expect("ss runs");
    assert!(output.status.success(), "ss failed: {}", String::from_utf8_lossy(&output.stderr));
    let port = format!(":{PORT}");
    String::from_utf8(output.stdout)
        .expect("ss prints text")
        .lines()
        .filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let (state, local, remote) = (fields[0], fields[3], fields[4]);
            let end = if side == Side::Server { local } else { remote };
            assert!(end.ends_with(&port), "a socket that is not the lab's: {line}");
            (state != "LISTEN").then(|| netstat_name(state))
        })
        .collect()
}

fn netstat_name(state: &str) -> &'static str {
    NAMES.iter().find(|(_, ss)| *ss == state).unwrap_or_else(|| panic!("ss calls a state {state}")).0
}
