//! What `export` refuses, and says before it traces; what it does is in tests/export.

use crate::{
    refused::{HELP, PORTS, assert_refused},
    run::*,
};
use std::net::TcpListener;

const ADDRESSES: &str = "valid are 127.0.0.1:9947, [::1]:9947, 0.0.0.0:9947";
const GROUPS: &str = "valid are 1 to 1000";

/// Arguments that are refused, and words that the message has.
pub const REFUSED: &[(&[&str], &[&str])] = &[
    (&["export", "--nonsense"], &["'--nonsense'", HELP]),
    (&["export", "eth0"], &["'eth0'", HELP]),
    (&["export", "--listen", "9947"], &["--listen", "\"9947\"", ADDRESSES]),
    (&["export", "--listen", "localhost:9947"], &["--listen", "\"localhost:9947\"", ADDRESSES]),
    (&["export", "--listen", "127.0.0.1"], &["--listen", "\"127.0.0.1\"", ADDRESSES]),
    (&["export", "--listen", "127.0.0.1:65536"], &["--listen", "\"127.0.0.1:65536\"", ADDRESSES]),
    (&["export", "--listen", "::1:x"], &["--listen", "\"::1:x\"", ADDRESSES]),
    (&["export", "--listen", ""], &["--listen", "''"]),
    (&["export", "--listen", "192.0.2.1:9947"], &["--listen 192.0.2.1:9947", "no such address", "127.0.0.1"]),
    (
        &["export", "--label", "cookie"],
        &["--label", "'cookie'", "port, process, container, peer, netns, role"],
    ),
    (&["export", "--label", "port,"], &["--label", "port, process, container, peer, netns, role"]),
    (&["export", "--label", "port", "--label-top", "0"], &["--label-top", "\"0\"", GROUPS]),
    (&["export", "--label", "port", "--label-top", "1001"], &["--label-top", "\"1001\"", GROUPS]),
    (&["export", "--label", "port", "--label-top", "-1"], &["--label-top", "\"-1\"", GROUPS]),
    (&["export", "--label-top", "5"], &["--label"]),
    (&["export", "--aggregate", "nowhere"], &["--aggregate", "'nowhere'", "events, kernel"]),
    (
        &["export", "--aggregate", "kernel", "--hooks", "raw"],
        &["leave out --hooks raw", "--aggregate events"],
    ),
    (
        &["export", "--aggregate", "kernel", "--hooks", "classic"],
        &["leave out --hooks classic", "--aggregate events"],
    ),
    (&["export", "--aggregate", "kernel", "--btf", "none"], &["leave out --btf none", "--aggregate events"]),
    (
        &["export", "--aggregate", "kernel", "--retransmit-hook", "kprobe"],
        &["leave out --retransmit-hook kprobe", "--aggregate events"],
    ),
    (
        &["export", "--aggregate", "kernel", "--label", "port,peer"],
        &["--label port only, not by peer", "--aggregate events"],
    ),
    (
        &["export", "--aggregate", "kernel", "--label", "port", "--label-top", "256"],
        &["--label-top 256", "at most 255 ports"],
    ),
    (&["export", "--aggregate", "kernel", "--state", "listen"], &["--state", "every state"]),
    (&["export", "--port", "0"], &["--port", "\"0\"", PORTS]),
    (&["export", "--netns", "no-such"], &["--netns", "\"no-such\"", "`ip netns`"]),
    (&["export", "--resync", "0"], &["--resync", "\"0\"", "or off"]),
    (&["export", "--state", "listen"], &["--state", "every state", "the label `state`"]),
    (&["export", "--format", "json"], &["'--format'", HELP]),
    (&["export", "--color", "never"], &["'--color'", HELP]),
];

#[test]
fn bad_input_is_refused_with_a_message_that_helps() {
    REFUSED.iter().for_each(|(args, said)| assert_refused(args, said));
}

#[test]
fn a_port_in_use_is_said_in_one_line() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let taken = TcpListener::bind(address).expect("a free port");
        let listen = taken.local_addr().expect("bound").to_string();
        let ran = run(&["export", "--listen", &listen]).expect(2);
        assert_eq!((ran.out.len(), ran.err.len()), (0, 1), "{ran:#?}");
        let said = format!("--listen {listen}: somebody listens there already; choose another port");
        assert!(ran.stderr().contains(&said), "{ran:#?}");
    }
}

/// Without privileges nothing is traced, but by then it is said who could have read it.
#[test]
fn who_listens_for_everybody_is_warned() {
    let unprivileged = Unprivileged::new();
    let warned = |listen: &str| {
        let ran = unprivileged.run(&["export", "--listen", listen]).expect(2);
        assert!(ran.stderr().contains("tracing needs"), "{ran:#?}");
        ran.stderr().contains("can be reached from other hosts")
    };
    assert!(warned("0.0.0.0:0") && warned("[::]:0"));
    assert!(!warned("127.0.0.1:0") && !warned("[::1]:0") && !warned("127.1.2.3:0"));
}
