//! A network namespace with a loopback device and nothing else.

use nix::sched::{CloneFlags, unshare};
use std::{
    process::Command,
    sync::mpsc::{Sender, channel},
    thread::{self, JoinHandle},
};
use tcptrace::source::netns::Namespace;

/// A namespace that lasts as long as this. It has no name: what happens to the test, nothing stays behind.
pub struct Space {
    pub namespace: Namespace,
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Space {
    /// Makes it. A thread stays in it, so that it can be found under /proc.
    pub fn new() -> Self {
        let (tell, told) = channel();
        let (end, ended) = channel::<()>();
        let body = move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a namespace");
            let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("`ip` (iproute2)");
            assert!(up.success(), "{up}");
            tell.send(Namespace::own().expect("/proc")).expect("somebody waits");
            let _ = ended.recv(); // until the other end is dropped
        };
        let thread = thread::Builder::new().name("space".into()).spawn(body).expect("a thread");
        let namespace = told.recv().expect("a namespace");
        Self { namespace, end: Some(end), thread: Some(thread) }
    }

    pub fn inode(&self) -> u32 {
        self.namespace.inode()
    }

    /// Runs it inside.
    pub fn run<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        self.namespace.enter(job).expect("entered")
    }

    /// Sets one of the `net.ipv4.tcp_*`.
    pub fn set(&self, name: &str, value: &str) {
        let path = format!("/proc/sys/net/ipv4/tcp_{name}");
        self.run(|| std::fs::write(&path, value)).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.end = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
