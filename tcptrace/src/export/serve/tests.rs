//! A real client on loopback: pages, methods, and clients that are slow on purpose.

use super::*;
use crate::export::model::{FLOWS, Sample, Value};
use std::{
    io::{Read, Write},
    net::TcpStream,
};

const PATIENCE: Duration = Duration::from_secs(20);

fn server() -> Server {
    Server::start("127.0.0.1:0".parse().unwrap(), Sandbox::On).unwrap()
}

fn publishing(server: &Server, made: Option<Instant>, text: &str) -> watch::Sender<Arc<Snapshot>> {
    let labels = vec![("l", text.to_owned().into())];
    let samples = vec![Sample { labels, value: Value::Number(1.0), began_unix_ns: None }];
    let at_unix_ns = u64::from(made.is_some());
    let snapshot = Snapshot { at_unix_ns, made, families: vec![(&FLOWS, samples)], ..Snapshot::default() };
    let (out, snapshots) = watch::channel(Arc::new(snapshot));
    server.enter(Stage::Publishing(snapshots));
    out
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn ask(server: &Server, head: &str) -> String {
    let mut stream = connect(server);
    write!(stream, "{head} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[track_caller]
fn expect(server: &Server, head: &str, status: u16, said: &str) {
    let answer = ask(server, head);
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {answer}");
    assert!(answer.contains(said), "{head}: {answer}");
}

#[test]
fn pages_and_methods() {
    let server = server();
    let _out = publishing(&server, Some(Instant::now()), "");
    expect(&server, "GET /metrics", 200, "tcptrace_tracked_flows");
    expect(&server, "GET /metrics?a=b", 200, "version=0.0.4");
    expect(&server, "GET /healthz", 200, "alive");
    expect(&server, "GET /readyz", 200, "ready");
    expect(&server, "GET /", 200, "/metrics");
    for path in ["/metric", "/metrics/", "//", "/favicon.ico", "/%2e%2e/metrics"] {
        expect(&server, &format!("GET {path}"), 404, "no such page");
        expect(&server, &format!("POST {path}"), 404, "no such page");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
        expect(&server, &format!("{method} /metrics"), 405, "allow: GET, HEAD");
        expect(&server, &format!("{method} /healthz"), 405, "allow: GET, HEAD");
    }
    let head = ask(&server, "HEAD /metrics");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(ask(&server, "\0\0").starts_with("HTTP/1.1 400 "));
}

#[test]
fn it_is_not_ready_before_it_is() {
    let server = server();
    expect(&server, "GET /readyz", 503, "the kernel programs are being attached");
    expect(&server, "GET /metrics", 503, "the kernel programs are being attached");
    expect(&server, "GET /healthz", 200, "alive");
    let out = publishing(&server, None, "");
    expect(&server, "GET /readyz", 503, "the sockets are being looked at");
    expect(&server, "GET /healthz", 200, "alive");
    out.send_modify(|snapshot| {
        *snapshot = Arc::new(Snapshot { at_unix_ns: 1, made: Some(Instant::now()), ..Snapshot::default() });
    });
    expect(&server, "GET /readyz", 200, "ready");
    expect(&server, "GET /metrics", 200, "");
}

#[test]
fn a_trace_that_counts_no_more_is_not_alive() {
    let server = server();
    let Some(long_ago) = Instant::now().checked_sub(SILENT_AFTER + Duration::from_secs(1)) else {
        return; // a machine that was started a minute ago
    };
    let _out = publishing(&server, Some(long_ago), "");
    expect(&server, "GET /healthz", 503, "not alive");
}

/// One client reads a byte and stops, others never finish their request, or never begin it: nobody else waits.
#[test]
fn slow_clients_hold_up_nobody() {
    let server = server();
    // More than the buffers of a connection hold.
    let long = "x".repeat(32 << 20);
    let _out = publishing(&server, Some(Instant::now()), &long);
    let mut stalled = connect(&server);
    stalled.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stalled.read_exact(&mut [0]).unwrap();
    let mut half = connect(&server);
    half.write_all(b"GET /metr").unwrap();
    let silent = connect(&server);
    for _ in 0..5 {
        expect(&server, "GET /healthz", 200, "alive");
        let whole = ask(&server, "GET /metrics");
        assert!(whole.len() > long.len());
    }
    drop((half, silent));
    // It can still go on.
    let mut rest = vec![0; long.len()];
    stalled.read_exact(&mut rest).unwrap();
}

/// Those that are there do not keep others out; the oldest goes.
#[test]
fn connections_are_bounded() {
    let server = server();
    let mut oldest = connect(&server);
    let others: Vec<_> = (1..MOST_CONNECTIONS).map(|_| connect(&server)).collect();
    expect(&server, "GET /healthz", 200, "alive");
    assert_eq!(oldest.read(&mut [0]).unwrap_or(0), 0, "it was closed");
    let mut next = &others[1];
    next.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    next.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("alive"), "{answer}");
}

#[test]
fn both_families_and_what_cannot_be_listened_on() {
    let six = Server::start("[::1]:0".parse().unwrap(), Sandbox::On).unwrap();
    assert!(six.address.is_ipv6());
    expect(&six, "GET /healthz", 200, "alive");
    let taken = Server::start(six.address, Sandbox::On).err().unwrap();
    assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    let foreign = Server::start("192.0.2.1:0".parse().unwrap(), Sandbox::On).err().unwrap();
    assert_eq!(foreign.kind(), io::ErrorKind::AddrNotAvailable);
    let address = six.address;
    drop(six);
    assert!(TcpStream::connect(address).is_err(), "it ends with its server");
}
