//! State transitions as the kernel's own tracepoint reports them, read from a tracefs instance of our own.

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    process,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use tcptrace_lab::{Direction, Family, Lab, PORT, Side};

const TRACEFS: &str = "/sys/kernel/tracing";

/// A trace of `sock:inet_sock_set_state` that is there until it is dropped.
pub struct Trace {
    instance: PathBuf,
}

/// What the sockets of a lab went through; where there are many connections, of the first.
#[derive(Debug)]
pub struct Paths {
    /// The client's socket of the connection.
    pub client: Vec<String>,
    /// The server's.
    pub server: Vec<String>,
    /// The server's listener.
    pub listener: Vec<String>,
}

#[derive(Debug)]
struct Event {
    task_id: i32,
    old: String,
    new: String,
    local_port: u16,
    remote_port: u16,
}

/// Where nobody has mounted it. Only this thread sees the mount, which goes with it.
fn mount_for_this_thread(place: &Path) {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
        .and_then(|()| mount(Some("tracefs"), place, Some("tracefs"), MsFlags::empty(), none))
        .expect("tracefs can be mounted");
}

impl Trace {
    /// Begins to trace connections of that family to or from the lab's port, anywhere on the machine; those of others
    /// are left out later.
    pub fn start(family: Family) -> Self {
        let tracefs = Path::new(TRACEFS);
        if !tracefs.join("events").exists() {
            mount_for_this_thread(tracefs);
        }
        let instance = tracefs.join(format!("instances/tcptrace-lab-{}-{family:?}", process::id()));
        fs::create_dir(&instance).expect("a tracefs instance");
        let trace = Self { instance };
        // A busy machine would soon overwrite what a long scenario began with.
        let number = if family == Family::V4 { libc::AF_INET } else { libc::AF_INET6 };
        let filter = format!("family == {number} && (sport == {PORT} || dport == {PORT})");
        fs::write(trace.event("filter"), filter).expect("the event's filter");
        trace.enable("1");
        trace
    }

    fn enable(&self, value: &str) {
        fs::write(self.event("enable"), value).expect("the event's switch");
    }

    fn event(&self, file: &str) -> PathBuf {
        self.instance.join("events/sock/inet_sock_set_state").join(file)
    }

    /// The paths of the sockets in that lab so far; to be asked before another lab is made.
    ///
    /// A printed event names neither socket nor namespace. But the ports are known, the first event of a socket
    /// happens in a known task, and no two labs are likely to have chosen the same client port at the same time.
    pub fn paths(&self, lab: &Lab) -> Paths {
        let text = fs::read_to_string(self.instance.join("trace")).expect("the trace");
        assert!(!text.contains(" LOST "), "the trace has lost events");
        let client_port = lab.wire().look(|traffic| {
            traffic
                .sightings()
                .find(|seen| seen.direction == Direction::ToServer)
                .expect("a SYN")
                .segment
                .source_port
        });
        let (client_task, server_task) = (lab.thread_id(Side::Client), lab.thread_id(Side::Server));
        let wire_task = lab.wire().thread_id();
        let path = |belongs: &dyn Fn(&Event) -> bool| join(text.lines().filter_map(parse).filter(belongs));
        // Of events that do not tell whose they are, the first belongs to the first connection.
        let (first_connect, first_child) = (Cell::new(true), Cell::new(true));
        Paths {
            client: path(&|event| {
                // The kernel chooses the port after this event.
                let connects =
                    event.new == "SYN_SENT" && event.task_id == client_task && event.remote_port == PORT;
                (connects && first_connect.replace(false))
                    || (event.local_port, event.remote_port) == (client_port, PORT)
            }),
            server: path(&|event| {
                // Older kernels still have the listener's ports here.
                let begins = event.old == "LISTEN" && event.new == "SYN_RECV" && event.task_id == wire_task;
                (begins && first_child.replace(false))
                    || (!begins && (event.local_port, event.remote_port) == (PORT, client_port))
            }),
            listener: path(&|event| {
                event.task_id == server_task && (event.local_port, event.remote_port) == (PORT, 0)
            }),
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.enable("0");
        fs::remove_dir(&self.instance).expect("the tracefs instance can be removed");
    }
}

fn join(events: impl Iterator<Item = Event>) -> Vec<String> {
    let mut path: Vec<String> = Vec::new();
    for event in events {
        match path.last() {
            None => path.push(event.old.clone()),
            Some(here) => assert_eq!(here, &event.old, "a gap after {path:?}: {event:?}"),
        }
        path.push(event.new);
    }
    path
}

/// `lab-client-4711  [001] .....  12.345678: inet_sock_set_state: family=AF_INET ... oldstate=TCP_CLOSE newstate=...`
fn parse(line: &str) -> Option<Event> {
    let (head, record) = line.split_once(": inet_sock_set_state: ")?;
    let (_, task_id) = head.split_once('[')?.0.trim().rsplit_once('-')?;
    let field = |name: &str| record.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    let state = |name| Some(field(name)?.strip_prefix("TCP_")?.to_owned());
    Some(Event {
        task_id: task_id.parse().ok()?,
        old: state("oldstate")?,
        new: state("newstate")?,
        local_port: field("sport")?.parse().ok()?,
        remote_port: field("dport")?.parse().ok()?,
    })
}
