//! What strangers may ask of the endpoint, and what it does not do for them.

use crate::{
    daemon::Daemon,
    support::{PATIENCE, netns},
};
use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
};
use tcptrace_lab::{Family, Lab, Side};

/// Sends bytes; the status of the answer and all of it. An answer that does not come is 0.
fn ask(address: SocketAddr, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    stream.write_all(request).expect("sent");
    let mut answer = Vec::new();
    // Who is refused may be reset, too: what came before counts.
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (status, text)
}

#[test]
#[ignore = "needs root: loads BPF programs and makes network namespaces"]
fn it_reads_no_files_and_reaches_no_hosts() {
    let lab = Lab::new(Family::V4).expect("a lab");
    let daemon = Daemon::start(&["--netns", &netns(lab.netns(Side::Client))]);
    let elsewhere = TcpListener::bind("127.0.0.1:0").expect("a free port");
    elsewhere.set_nonblocking(true).expect("a setting");
    let host = elsewhere.local_addr().expect("bound");
    let secret = fs::read_to_string("/etc/passwd").expect("there");
    let secret = secret.lines().next().expect("a line");
    let requests = [
        "GET /../../../../etc/passwd".to_owned(),
        "GET /metrics/../../etc/passwd".into(),
        "GET /%2e%2e/%2e%2e/etc/passwd".into(),
        "GET /..%2f..%2f..%2fetc%2fpasswd".into(),
        "GET //etc/passwd".into(),
        "GET /proc/self/environ".into(),
        "GET file:///etc/passwd".into(),
        format!("GET http://{host}/"),
        format!("GET http://{host}/metrics"),
        format!("POST http://{host}/"),
        format!("CONNECT {host}"),
        format!("GET /?url=http://{host}/"),
        format!("GET /metrics?target={host}&module=../../etc/passwd"),
        "OPTIONS *".into(),
        "TRACE /metrics".into(),
        "PUT /etc/passwd".into(),
    ];
    for request in requests {
        let full = format!(
            "{request} HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-Host: {host}\r\nConnection: close\r\n\r\n"
        );
        let (status, answer) = ask(daemon.address, full.as_bytes());
        // A question mark ends the path: what comes after it is not looked at.
        let own_page = request.starts_with("GET /?") || request.starts_with("GET /metrics?");
        let expected: &[u16] = if own_page { &[200] } else { &[400, 404, 405] };
        assert!(expected.contains(&status), "{request}: {answer}");
        assert!(!answer.contains(secret), "{request}: {answer}");
    }
    // Neither what is no HTTP at all.
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
    ] {
        let (status, answer) = ask(daemon.address, bytes);
        assert!([0, 400].contains(&status) && !answer.contains(secret), "{bytes:?}: {answer}");
    }
    let reached = elsewhere.accept().map(|(_, from)| from);
    assert!(reached.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "{reached:?}");
    assert_eq!(daemon.get("/readyz", "*/*").0, 200, "it goes on");
}
