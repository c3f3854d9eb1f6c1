//! `stuck` and `explain`: what they refuse, what their flags do, and their exit codes.

use crate::{
    refused::{HELP, PORTS, TIMES, assert_refused},
    run::{Ran, run},
    support::PATIENCE,
    works::plain,
};
use serde_json::Value;
use std::{
    io::Write,
    net::{TcpListener, TcpStream},
    process::id,
    thread,
    time::{Duration, Instant},
};

/// Arguments that are refused, and words that the message has.
pub const REFUSED: &[(&[&str], &[&str])] = &[
    (&["stuck", "eth0"], &["'eth0'", HELP]),
    (&["stuck", "--port", "0"], &["--port", "\"0\"", PORTS]),
    (&["stuck", "--state", "OPEN"], &["--state", "\"OPEN\"", "is not a TCP state"]),
    (&["stuck", "--older-than", "0"], &["--older-than", "\"0\"", TIMES]),
    (&["stuck", "--older-than", "-5m"], &["--older-than", "\"-5m\"", TIMES]),
    (&["stuck", "--watch", "1ms"], &["--watch", "\"1ms\"", "too often"]),
    (&["stuck", "--watch", "soon"], &["--watch", "\"soon\"", TIMES]),
    (&["stuck", "--for", "1ms"], &["--for", "\"1ms\"", "too often"]),
    (&["stuck", "--for", "2s", "--watch"], &["--for", "cannot be used with"]),
    (&["stuck", "--netns", "no-such"], &["--netns", "\"no-such\"", "`ip netns`"]),
    (&["stuck", "--netns", "net:[1]"], &["--netns", "net:[1]"]),
    (&["stuck", "--format", "xml"], &["--format", "'xml'", "text, json"]),
    (&["stuck", "--uid", "no-such"], &["--uid", "no-such", "/etc/passwd"]),
    (&["explain"], &["<WHAT>", HELP]),
    (&["explain", "nginx"], &["\"nginx\"", "a port (10000)", "flow:4711"]),
    (&["explain", "0"], &["0 is no port"]),
    (&["explain", "flow:x"], &["is not a cookie"]),
    (&["explain", "10.0.0.1:70000"], &["is none of"]),
    (&["explain", "80", "--max", "0"], &["--max", "\"0\"", "valid are 1 and more"]),
    (&["explain", "80", "--for", "0"], &["--for", "\"0\"", TIMES]),
    (&["explain", "80", "--netns", "no-such"], &["--netns", "\"no-such\"", "`ip netns`"]),
    (&["explain", "80", "--format", "xml"], &["--format", "'xml'", "text, json"]),
];

#[test]
fn bad_input_is_refused_with_a_message_that_helps() {
    REFUSED.iter().for_each(|(args, said)| assert_refused(args, said));
}

/// Connections whose client has closed, and whose server has not.
struct Leak {
    port: String,
    held: Vec<TcpStream>,
    /// Tells which side is the service: of two ports that the kernel has picked neither is the lower for a reason.
    _listener: TcpListener,
}

impl Leak {
    fn new(count: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("bound");
        let held = (0..count)
            .map(|_| {
                let mut client = TcpStream::connect(address).expect("connected");
                let (server, _) = listener.accept().expect("accepted");
                client.write_all(b"hello").expect("sent");
                server
            })
            .collect();
        Self { port: address.port().to_string(), held, _listener: listener }
    }

    fn stuck(&self, args: &[&str]) -> Ran {
        run(&[&["stuck", "--no-trace", "--for", "100ms", "--lport", &self.port], args].concat())
    }

    /// Until the last ACK of the clients is so old: what the age of CLOSE_WAIT is known by.
    fn until_old(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.stuck(&["--older-than", "500ms"]).status.code() != Some(1) {
            assert!(Instant::now() < deadline, "a leak that grows old is found");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Without root: the exit code is for monitoring, the answer comes first, and whose it is is told.
#[test]
fn a_leak_of_our_own_is_found_without_privileges() {
    let leak = Leak::new(3);
    leak.stuck(&[]).expect(0); // younger than a quarter of tcp_fin_timeout
    leak.until_old();
    let found = leak.stuck(&["--older-than", "500ms"]).expect(1);
    assert!(found.out[0].starts_with("1 finding, 3 connections"), "{found:#?}");
    let title = found.out.iter().find(|line| line.starts_with("close-wait-leak")).expect("a title");
    assert!(title.contains(&format!("3 × CLOSE_WAIT on 127.0.0.1:{}", leak.port)), "{title}");
    assert!(title.contains(&format!("/{}, descriptor", id())), "{title}");
    assert!(found.stdout().contains("(5 B unread)"), "{found:#?}");
    assert!(found.stdout().contains("never by itself"), "{found:#?}");

    let each = leak.stuck(&["--older-than", "500ms", "-v", "--color", "always"]).expect(1);
    let lines: Vec<_> = each.out.iter().map(|line| plain(line)).collect();
    assert_eq!(lines.iter().filter(|line| line.trim_start().starts_with("ends  ")).count(), 3, "{lines:#?}");

    let json = leak.stuck(&["--older-than", "500ms", "--format", "json"]).expect(1).json();
    let (end, findings) = json.split_last().expect("lines");
    assert_eq!((end["type"].as_str(), end["stuck"].as_u64()), (Some("stuck"), Some(3)));
    assert_eq!(findings.len(), 3);
    for finding in findings {
        assert_eq!(finding["name"], "close-wait-leak");
        assert_eq!(finding["owner"]["pid"], id());
        assert_eq!((&finding["deadline"], &finding["deadline_ns"]), (&Value::from("never"), &Value::Null));
        assert!(finding["age_ns"].as_u64() >= Some(500_000_000), "{finding}");
    }
    // Somebody else's state, somebody else's command.
    leak.stuck(&["--older-than", "500ms", "--state", "fin-wait-1"]).expect(0);
    leak.stuck(&["--older-than", "500ms", "--state", "close-wait"]).expect(1);
    leak.stuck(&["--older-than", "500ms", "--comm", "no-such"]).expect(0);
    leak.stuck(&["--older-than", "1h"]).expect(0);
    drop(leak.held);
}

#[test]
fn the_story_of_a_connection_is_told() {
    let leak = Leak::new(2);
    leak.until_old();
    let ran = run(&["explain", &leak.port, "--no-trace", "--for", "100ms", "--max", "1"]).expect(0);
    for words in ["what happened:", "what it means:", "flow ", "connections more"] {
        assert!(ran.stdout().contains(words), "{words}: {ran:#?}");
    }
    let lines =
        run(&["explain", &leak.port, "--no-trace", "--for", "100ms", "--format", "json"]).expect(0).json();
    let waits = |line: &&Value| line["type"] == "explain" && line["shown"]["state"] == "CLOSE_WAIT";
    let flow = lines.iter().find(waits).expect("one in CLOSE_WAIT");
    assert_eq!(flow["owner"]["pid"], id());
    let asked = format!("flow:{}", flow["flow"].as_str().expect("a cookie"));
    let one = run(&["explain", &asked, "--no-trace", "--for", "100ms", "--format", "json"]).expect(0).json();
    let explained: Vec<_> = one.iter().filter(|line| line["type"] == "explain").collect();
    assert_eq!((explained.len(), &explained[0]["flow"]), (1, &flow["flow"]));
    drop(leak.held);
}

#[test]
fn nothing_to_explain_is_an_error() {
    let ran = run(&["explain", "flow:18446744073709551614", "--no-trace", "--for", "100ms"]).expect(2);
    assert!(ran.stderr().contains("no connection with the cookie"), "{ran:#?}");
}
