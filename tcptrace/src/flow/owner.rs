//! Who did something to a socket, and how we know.

pub use crate::process::Process;

use crate::{
    event::Task,
    process::{comm, comm_words},
};
use hashbrown::HashMap;
use std::rc::Rc;

/// How an owner is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// It called connect().
    Connect,
    /// It called listen().
    Listen,
    /// It called accept().
    Accept,
    /// It called close(), or it exited.
    Close,
    /// It called shutdown().
    Shutdown,
    /// It holds the descriptor: found by the socket's inode.
    Descriptor,
    /// A guess: it listens on the port that the connection came in on.
    Listener,
}

impl Source {
    /// The word users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Listen => "listen",
            Self::Accept => "accept",
            Self::Close => "close",
            Self::Shutdown => "shutdown",
            Self::Descriptor => "descriptor",
            Self::Listener => "listener",
        }
    }
}

/// A process and how it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Who.
    pub process: Rc<Process>,
    /// How we know.
    pub source: Source,
}

/// One copy of each process, however many flows name it. The ledger is one thread's: to count who holds a copy takes no atomic
/// instruction, which would wait for every write before it.
#[derive(Debug, Default)]
pub struct Processes {
    /// By pid and command name.
    known: HashMap<(u32, [u64; 2]), Rc<Process>>,
}

/// How many processes are remembered before the memory is started afresh. Flows keep what they hold.
const MAX_PROCESSES: usize = 16_384;

impl Processes {
    /// The process this task belongs to.
    pub fn of(&mut self, task: &Task) -> Rc<Process> {
        let key = (task.pid, task.comm);
        match self.known.get(&key) {
            // A pid that was reused by the same command under another user or in another container is another.
            Some(known) if known.uid == task.uid && known.cgroup == task.cgroup => Rc::clone(known),
            _ => {
                let comm = comm(&task.comm);
                self.remember(key, Process { pid: task.pid, uid: task.uid, cgroup: task.cgroup, comm })
            }
        }
    }

    /// Our copy of a process that something else has found.
    pub fn copy_of(&mut self, process: &Process) -> Rc<Process> {
        let key = (process.pid, comm_words(&process.comm));
        match self.known.get(&key) {
            Some(known) if **known == *process => Rc::clone(known),
            _ => self.remember(key, process.clone()),
        }
    }

    fn remember(&mut self, key: (u32, [u64; 2]), process: Process) -> Rc<Process> {
        if self.known.len() >= MAX_PROCESSES {
            self.known.clear();
        }
        let process = Rc::new(process);
        self.known.insert(key, Rc::clone(&process));
        process
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros as _;

    fn process(comm: &str, cgroup: u64) -> Process {
        Process { pid: 7, uid: 1000, cgroup, comm: comm.into() }
    }

    #[test]
    fn whoever_finds_a_process_there_is_one_copy_of_it() {
        let mut processes = Processes::default();
        let comm = comm_words("nginx");
        let task = Task { pid: 7, uid: 1000, cgroup: 9, comm, ..Task::new_zeroed() };
        let of_task = processes.of(&task);
        assert_eq!(*of_task, process("nginx", 9));
        assert!(Rc::ptr_eq(&of_task, &processes.copy_of(&process("nginx", 9))));
        let moved = processes.copy_of(&process("nginx", 10));
        assert_eq!((moved.cgroup, of_task.cgroup), (10, 9), "a pid that is used again is another process");
    }

    /// /proc may have longer names, and such as are made readable.
    #[test]
    fn long_names_stay_as_they_are() {
        let mut processes = Processes::default();
        for name in ["a name of more than sixteen", "fifteen bytes \u{fffd}\u{fffd}", ""] {
            let known = processes.copy_of(&process(name, 1));
            assert_eq!(&*known.comm, name);
            assert!(Rc::ptr_eq(&known, &processes.copy_of(&process(name, 1))));
        }
        let (one, other) =
            (process("a name of more than sixteen", 1), process("a name of more than seventeen", 1));
        assert_eq!((&*processes.copy_of(&one), &*processes.copy_of(&other)), (&one, &other));
    }
}
