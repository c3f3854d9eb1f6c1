//! Where network namespaces show.

use super::{NAMED, Namespace, NamespaceError, number};
use std::{
    collections::HashSet,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

/// A walk over all places where namespaces show.
pub(super) struct Search {
    /// Each once, our own first.
    pub(super) found: Vec<Namespace>,
    known: HashSet<u32>,
    /// Processes and names that may not be looked at.
    pub(super) hidden: u64,
}

impl Search {
    pub(super) fn new() -> Result<Self, NamespaceError> {
        let own = Namespace::own()?;
        Ok(Self { known: HashSet::from([own.inode]), found: vec![own], hidden: 0 })
    }

    /// Those with a name. True: `enough` said so of one.
    pub(super) fn names(&mut self, enough: &mut impl FnMut(&Namespace) -> bool) -> bool {
        entries(Path::new(NAMED)).any(|path| match Namespace::at(&path, "") {
            // Our own was found first, without its name.
            Ok(named) if self.known.contains(&named.inode) => {
                let unnamed = |it: &&mut Namespace| it.inode == named.inode && it.name.is_none();
                if let Some(unnamed) = self.found.iter_mut().find(unnamed) {
                    unnamed.name = named.name;
                }
                false
            }
            Ok(named) => {
                let stop = enough(&named);
                self.known.insert(named.inode);
                self.found.push(named);
                stop
            }
            Err(error) => self.hide(&error),
        })
    }

    /// Those of processes, and of threads that live apart from their process. True: `enough` said so of one.
    pub(super) fn processes(&mut self, enough: &mut impl FnMut(&Namespace) -> bool) -> bool {
        let numbered = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit))
        };
        entries(Path::new("/proc")).filter(numbered).any(|process| {
            // One entry for a single-threaded process, whose main thread is the process.
            let before = self.hidden;
            let stop = entries(&process.join("task")).any(|task| self.task(&task.join("ns/net"), enough));
            self.hidden = self.hidden.min(before + 1); // counted in processes
            stop
        })
    }

    fn task(&mut self, path: &Path, enough: &mut impl FnMut(&Namespace) -> bool) -> bool {
        // Reading the link is much cheaper than opening the file, and nearly all are known already.
        let known = match fs::read_link(path) {
            Ok(link) => {
                number(&link.to_string_lossy()).ok().flatten().is_some_and(|n| self.known.contains(&n))
            }
            Err(error) => {
                self.hidden += u64::from(error.kind() == ErrorKind::PermissionDenied);
                true
            }
        };
        if known {
            return false;
        }
        match Namespace::at(path, "") {
            Ok(namespace) if self.known.insert(namespace.inode) => {
                let stop = enough(&namespace);
                self.found.push(namespace);
                stop
            }
            Ok(_) => false,
            Err(error) => self.hide(&error),
        }
    }

    /// A process that has ended meanwhile, or a name left behind by one, hides nothing.
    fn hide(&mut self, error: &NamespaceError) -> bool {
        self.hidden += u64::from(matches!(error, NamespaceError::Unreadable(_)));
        false
    }
}

/// What is in a folder; nothing if it cannot be read.
fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}
