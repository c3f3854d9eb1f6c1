//! Network namespaces, as people name them: by `ip netns` name, by a process in it, by file, by inode number. And what
//! can be done in one.

mod limits;
mod search;

use super::privileges::{Capability, setcap};
use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
};
use search::Search;
use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    panic,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};
use thiserror::Error;

pub use limits::{Limits, limits};

/// Where `ip netns` keeps its names.
const NAMED: &str = "/run/netns";
/// The namespace of the calling thread, which need not be that of its process.
const OWN: &str = "/proc/thread-self/ns/net";

/// Why a namespace cannot be had, or not be entered.
#[derive(Debug, Error)]
pub enum NamespaceError {
    /// `net:[...]` without a number in it.
    #[error("{0} is no namespace number; it looks like net:[4026531840]")]
    NoNumber(String),
    /// Nothing by that name.
    #[error("no network namespace {text:?} ({why}); `lsns -t net` and `ip netns` list them")]
    NotFound {
        /// What the user typed.
        text: String,
        /// Where it was looked for, and what was there.
        why: String,
    },
    /// The file is something else.
    #[error("{} is not a network namespace; `lsns -t net` and `ip netns` list them", .0.display())]
    NotNamespace(PathBuf),
    /// Files of other users' processes.
    #[error(
        "{} may not be read: that needs root (CAP_SYS_PTRACE for other users' processes, CAP_DAC_READ_SEARCH for their folders); \
         type the same command behind sudo",
        .0.display()
    )]
    Unreadable(PathBuf),
    /// setns() is not for everybody.
    #[error(
        "entering the network namespace {} needs CAP_SYS_ADMIN, which this process does not have; type the same command behind sudo\n  (or give the file that capability: {})", .0,
        setcap(&[Capability::Bpf, Capability::Perfmon, Capability::SysAdmin, Capability::SysPtrace])
    )]
    Capability(String),
    /// Anything else.
    #[error("cannot {what} the network namespace {name}: {why}")]
    Failed {
        /// A verb.
        what: &'static str,
        /// The namespace.
        name: String,
        /// What came of it.
        why: io::Error,
    },
}

/// A network namespace, held by an open file: it exists as long as this does, even when its last process and its name
/// are gone. So do not keep many for long.
#[derive(Clone, Debug)]
pub struct Namespace {
    inode: u32,
    name: Option<String>,
    path: PathBuf,
    file: Arc<File>,
}

/// The namespaces there are.
#[derive(Debug)]
pub struct Namespaces {
    /// Each once, our own first.
    pub found: Vec<Namespace>,
    /// Processes and names whose namespace we may not see: those of others, for root those with more capabilities than we
    /// have. If not 0, there may be more namespaces.
    pub hidden: u64,
}

impl Namespace {
    /// The namespace that `text` names: a name from `ip netns`, a pid, a file, or `net:[4026531840]` as `lsns` prints it;
    /// this last one is searched for.
    ///
    /// # Errors
    /// A sentence that says what was looked for.
    pub fn open(text: &str) -> Result<Self, NamespaceError> {
        match number(text)? {
            Some(inode) => Self::search(inode, text),
            None => Self::at(&path(text), text),
        }
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// Without /proc.
    pub fn own() -> Result<Self, NamespaceError> {
        Self::at(Path::new(OWN), "of this process")
    }

    /// All that can be found: our own, those with a name, those of all processes and their threads. One that is held
    /// only by open files or sockets cannot be found.
    ///
    /// # Errors
    /// Without /proc.
    pub fn all() -> Result<Namespaces, NamespaceError> {
        let mut search = Search::new()?;
        search.names(&mut |_| false);
        search.processes(&mut |_| false);
        Ok(Namespaces { found: search.found, hidden: search.hidden })
    }

    /// Its inode number, by which events and the kernel's tools name it.
    pub fn inode(&self) -> u32 {
        self.inode
    }

    /// Where it was found. A process that it was found by may be gone since.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name in `ip netns`, if it was found by it.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// As people know it: its name, or `net:[4026531840]`.
    pub fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("net:[{}]", self.inode))
    }

    /// Runs `f` inside: on a thread of its own, which ends with it, because a namespace is a thread's and what has once
    /// been entered is not easily left. Inside already, `f` runs right here, for which no privilege is needed.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN, in our own user namespace and in the one that owns this namespace.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
        if fs::metadata(OWN).is_ok_and(|own| own.ino() == u64::from(self.inode)) {
            return Ok(f());
        }
        let inside = || {
            setns(&self.file, CloneFlags::CLONE_NEWNET)?;
            Ok(f())
        };
        let result = thread::scope(|scope| {
            let thread = thread::Builder::new().name("netns".into()).spawn_scoped(scope, inside);
            thread.map(|thread| thread.join())
        });
        match result {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(Errno::EPERM))) => Err(NamespaceError::Capability(self.label())),
            Ok(Ok(Err(errno))) => Err(self.failed("enter", errno.into())),
            Ok(Err(panic)) => panic::resume_unwind(panic), // the caller's own
            Err(error) => Err(self.failed("start a thread in", error)),
        }
    }

    fn failed(&self, what: &'static str, why: io::Error) -> NamespaceError {
        NamespaceError::Failed { what, name: self.label(), why }
    }

    fn at(path: &Path, text: &str) -> Result<Self, NamespaceError> {
        let file = File::open(path).map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => NamespaceError::Unreadable(path.into()),
            _ => NamespaceError::NotFound { text: text.into(), why: format!("{}: {error}", path.display()) },
        })?;
        // SAFETY: the descriptor is open, and the call takes no further argument. Files that are no namespaces refuse it.
        let kind = unsafe { namespace_type(file.as_raw_fd()) };
        let inode = file.metadata().ok().and_then(|metadata| u32::try_from(metadata.ino()).ok());
        match (kind, inode) {
            (Ok(kind), Some(inode)) if kind == CloneFlags::CLONE_NEWNET.bits() => {
                let name = path.parent().filter(|parent| *parent == Path::new(NAMED)).and(path.file_name());
                let name = name.map(|name| name.to_string_lossy().into_owned());
                Ok(Self { inode, name, path: path.into(), file: Arc::new(file) })
            }
            _ => Err(NamespaceError::NotNamespace(path.into())),
        }
    }

    fn search(inode: u32, text: &str) -> Result<Self, NamespaceError> {
        let mut search = Search::new()?;
        let mut is_it = |namespace: &Self| namespace.inode == inode;
        let found = is_it(&search.found[0]) || search.names(&mut is_it) || search.processes(&mut is_it);
        if found && let Some(namespace) = search.found.into_iter().find(is_it) {
            return Ok(namespace);
        }
        let why = match search.hidden {
            0 => "no process is in it, and it has no name".into(),
            hidden => {
                format!(
                    "not among those that may be seen; {hidden} processes need root (CAP_SYS_PTRACE) to be looked at"
                )
            }
        };
        Err(NamespaceError::NotFound { text: text.into(), why })
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The inode number of the namespace that `text` names: a name from `ip netns`, a pid, a file, or `net:[4026531840]`
/// as `lsns` prints it. A number is taken as it is: events may name a namespace that nobody can find any more.
///
/// # Errors
/// A sentence that says what was looked for.
pub fn find(text: &str) -> Result<u32, String> {
    match number(text) {
        Ok(Some(inode)) => Ok(inode),
        Ok(None) => {
            Namespace::at(&path(text), text).map(|namespace| namespace.inode).map_err(|e| e.to_string())
        }
        Err(error) => Err(error.to_string()),
    }
}

fn number(text: &str) -> Result<Option<u32>, NamespaceError> {
    let Some(number) = text.strip_prefix("net:[").and_then(|rest| rest.strip_suffix(']')) else {
        return Ok(None);
    };
    number.parse().map(Some).map_err(|_| NamespaceError::NoNumber(text.into()))
}

fn path(text: &str) -> PathBuf {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
        PathBuf::from(format!("/proc/{text}/ns/net"))
    } else if text.contains('/') {
        PathBuf::from(text)
    } else {
        Path::new(NAMED).join(text)
    }
}

nix::ioctl_none!(
    /// NS_GET_NSTYPE, since 4.11: what kind of namespace a descriptor is, as its CLONE_NEW flag.
    namespace_type,
    0xb7,
    0x3
);
