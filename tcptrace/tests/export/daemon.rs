//! A running `tcptrace export`, and what it serves.

use crate::support::{PATIENCE, command, signal};
use nix::sys::signal::Signal;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

/// Between two looks at a page.
const PAUSE: Duration = Duration::from_millis(50);

pub struct Daemon {
    child: Child,
    errors: Receiver<String>,
    pub address: SocketAddr,
}

impl Daemon {
    /// Starts it at a free port, unless `args` say where, and waits until it is ready.
    pub fn start(args: &[&str]) -> Self {
        Self::with(args, &[])
    }

    /// The same with something in its environment.
    pub fn with(args: &[&str], env: &[(&str, &str)]) -> Self {
        let listen: &[&str] = if args.contains(&"--listen") { &[] } else { &["--listen", "127.0.0.1:0"] };
        let mut command = command(&["export"]);
        command
            .envs(env.iter().copied())
            .args(listen)
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("tcptrace starts");
        let stderr = child.stderr.take().expect("piped");
        let (send, errors) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                if send.send(line.expect("text")).is_err() {
                    return;
                }
            }
        });
        let mut said = Vec::new();
        let address = loop {
            let Ok(line) = errors.recv_timeout(PATIENCE) else { panic!("it does not start: {said:#?}") };
            let found =
                line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).map(str::to_owned);
            said.push(line);
            if let Some(address) = found {
                break address.parse().expect("an address");
            }
        };
        let daemon = Self { child, errors, address };
        daemon.until("/readyz", |status, _| status == 200);
        daemon
    }

    /// Status and body of a page.
    pub fn get(&self, path: &str, accept: &str) -> (u16, Vec<u8>) {
        get(self.address, path, accept)
    }

    /// Waits until a page is as it should be.
    #[track_caller]
    pub fn until(&self, path: &str, is: impl Fn(u16, &str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (status, body) = self.get(path, "*/*");
            let body = String::from_utf8(body).expect("text");
            if is(status, &body) {
                return;
            }
            assert!(Instant::now() < deadline, "{path}: {status} {body}");
            thread::sleep(PAUSE);
        }
    }

    /// The metrics, once they are as they should be.
    #[track_caller]
    pub fn metrics(&self, are: impl Fn(&Metrics) -> bool) -> Metrics {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (_, body) = self.get("/metrics", "*/*");
            let metrics = Metrics::read(&String::from_utf8(body).expect("text"));
            if are(&metrics) {
                return metrics;
            }
            assert!(Instant::now() < deadline, "{:#?}", metrics.0);
            thread::sleep(PAUSE);
        }
    }

    /// Ends it, and what it said after it was ready.
    pub fn end(mut self, how: Signal) -> (ExitStatus, Vec<String>) {
        signal(self.child.id(), how);
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().expect("our own child") {
                Some(status) => break status,
                None => assert!(Instant::now() < deadline, "it does not end"),
            }
            thread::sleep(PAUSE);
        };
        (status, self.errors.iter().collect())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A page by HTTP/1.1, without a library: the status and the body.
pub fn get(address: SocketAddr, path: &str, accept: &str) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n")
        .expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let split = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a header");
    let head = String::from_utf8_lossy(&answer[..split]).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = answer[split + 4..].to_vec();
    (status, if chunked { unchunked(&body) } else { body })
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n").expect("a size");
        let size = std::str::from_utf8(&rest[..end]).expect("text");
        let size = usize::from_str_radix(size, 16).expect("a size");
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
    }
}

/// Samples by name with labels, as they stand there.
#[derive(Debug)]
pub struct Metrics(pub BTreeMap<String, f64>);

impl Metrics {
    fn read(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            (name.to_owned(), value.parse().expect("a number"))
        });
        Self(samples.collect())
    }

    /// One of them; 0 if it is not there.
    pub fn of(&self, sample: &str) -> f64 {
        self.0.get(sample).copied().unwrap_or(0.0)
    }

    /// All of that name whose labels have this.
    pub fn sum(&self, name: &str, with: &str) -> f64 {
        let of = |sample: &str| {
            sample.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') && rest.contains(with))
        };
        self.0.iter().filter(|(sample, _)| of(sample)).map(|(_, value)| value).sum()
    }
}
