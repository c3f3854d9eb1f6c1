//! The daemon, started inside a file system as a unit or a container would, in a network of its own.

use crate::{
    daemon::get,
    root::Root,
    support::{PATIENCE, signal},
};
use nix::sys::signal::Signal;
use std::{
    io::Read as _,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tcptrace_lab::{Lab, Side};

/// Where it listens.
const ADDRESS: ([u8; 4], u16) = ([127, 0, 0, 1], 9947);
/// In the range of systemd's dynamic users.
const USER: u32 = 61184;

/// Capabilities by the names of the kernel, as setpriv takes them: its own list may be older than these.
fn numbered(names: &[&str]) -> String {
    let number = |name: &&str| match name.trim_start_matches("CAP_") {
        "DAC_READ_SEARCH" => 2,
        "SYS_CHROOT" => 18,
        "SYS_PTRACE" => 19,
        "SYS_ADMIN" => 21,
        "PERFMON" => 38,
        "BPF" => 39,
        other => panic!("a new capability: {other}"),
    };
    names.iter().map(|name| format!(",+cap_{}", number(name))).collect()
}

/// A command in a Debian, as a unit without a user runs it: nobody in particular, with these capabilities.
pub fn as_nobody(root: &Root, capabilities: &[&str], words: &[String]) -> Command {
    let mut command = root.command("setpriv");
    command
        .args(["--no-new-privs", "--clear-groups"])
        .arg(format!("--reuid={USER}"))
        .arg(format!("--regid={USER}"));
    for set in ["inh-caps", "ambient-caps", "bounding-set"] {
        command.arg(format!("--{set}=-all{}", numbered(capabilities)));
    }
    command.args(words);
    command
}

/// A command where there is nothing else, as a container runs it: root, with no capabilities but these, and that to change
/// into the container's root.
pub fn as_root(root: &Root, capabilities: &[&str], words: &[String]) -> Command {
    let mut command = root.mounted();
    command.args(["setpriv", "--no-new-privs", "--clear-groups", "--inh-caps=-all"]);
    command.arg(format!("--bounding-set=-all{}{}", numbered(capabilities), numbered(&["SYS_CHROOT"])));
    command.arg("chroot").arg(root.top()).args(words);
    command
}

/// A running daemon; killed when a test gives up on it.
pub struct Service<'a> {
    child: Child,
    lab: &'a Lab,
}

impl<'a> Service<'a> {
    /// Starts it, and waits until it is ready.
    pub fn start(lab: &'a Lab, mut command: Command) -> Self {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let child =
            lab.run_in(Side::Client, move || command.spawn()).expect("the host runs it").expect("it starts");
        let mut service = Self { child, lab };
        service.until_ready();
        service
    }

    fn until_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ready = self.lab.run_in(Side::Client, || {
                let address = SocketAddr::from(ADDRESS);
                std::net::TcpStream::connect(address).is_ok() && get(address, "/readyz", "*/*").0 == 200
            });
            if ready.expect("the host runs it") {
                return;
            }
            let ended = self.child.try_wait().expect("our own child");
            if ended.is_some() || Instant::now() > deadline {
                let _ = self.child.kill();
                panic!("not ready ({ended:?}): {}", self.complaints());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// A page.
    pub fn page(&self, path: &'static str) -> String {
        let (status, body) = self
            .lab
            .run_in(Side::Client, move || get(ADDRESS.into(), path, "*/*"))
            .expect("the host runs it");
        let text = String::from_utf8(body).expect("text");
        assert_eq!(status, 200, "{path}: {text}");
        text
    }

    /// The metrics, once they have this.
    pub fn metrics(&self, wanted: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let metrics = self.page("/metrics");
            if metrics.contains(wanted) {
                return metrics;
            }
            assert!(Instant::now() < deadline, "no {wanted}: {metrics}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it as systemd does; what it said.
    pub fn end(mut self) -> String {
        signal(self.child.id(), Signal::SIGTERM);
        let status = self.child.wait().expect("our own child");
        let said = self.complaints();
        assert!(status.success(), "{status}: {said}");
        said
    }

    fn complaints(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut text).expect("text");
        }
        text
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
