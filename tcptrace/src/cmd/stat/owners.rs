//! Whose sockets are, looked up once for a whole report.

use crate::{
    enrich::Places,
    flow::owner::Processes,
    process::Process,
    sight::Sight,
    source::holders::{Holder, HolderSource, Holders, Way},
    stat::by::{By, Owners},
};
use hashbrown::HashMap;
use std::{cell::RefCell, rc::Rc, sync::Arc};

/// Finds owners again and again.
#[derive(Default)]
pub struct Finder {
    holders: Option<HolderSource>,
    places: Places,
}

/// What was found, and what was not.
pub struct Known {
    holders: Option<Holders>,
    places: Places,
    /// Those that were asked for.
    processes: RefCell<Processes>,
    /// Names by cgroup and by pid: a service has many sockets.
    names: RefCell<HashMap<Of, Option<Arc<str>>>>,
    /// Why something is missing.
    pub notes: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Of {
    Cgroup(u64),
    Process(u32),
}

impl Finder {
    /// With this, if it is there already.
    pub fn with(holders: Option<HolderSource>) -> Self {
        Self { holders, ..Self::default() }
    }

    /// Whether grouping like this needs to know who holds what.
    pub const fn asks(by: Option<By>) -> bool {
        matches!(by, Some(By::Process | By::Container))
    }

    /// Looks up what grouping needs.
    pub fn look(&mut self, by: Option<By>) -> Known {
        let mut notes = Vec::new();
        let holders = Self::asks(by).then(|| {
            let holders = self.holders.get_or_insert_with(HolderSource::new).read(None);
            if holders.unread > 0 {
                notes.push(format!(
                    "needs root: whose the sockets of {} processes are; they are among (unknown)",
                    holders.unread
                ));
            } else if holders.way == Way::Proc {
                notes.push(
                    "read from /proc: a descriptor that only a later thread has is not seen".to_owned(),
                );
            }
            holders
        });
        let (processes, names) = Default::default();
        Known { holders, places: self.places.clone(), processes, names, notes }
    }
}

impl Known {
    /// As a recording has them: holders by inode of the socket.
    pub fn recorded(holders: impl IntoIterator<Item = (u32, Holder)>, places: Places) -> Self {
        let holders = Some(Holders::known(holders));
        let (processes, names, notes) = Default::default();
        Self { holders, places, processes, names, notes }
    }

    fn holder(&self, sight: &Sight) -> Option<&Holder> {
        self.holders.as_ref()?.get(sight.inode)
    }

    /// Asks once for each.
    fn name(&self, of: Of, look: impl FnOnce(&Places) -> Option<Arc<str>>) -> Option<Arc<str>> {
        if let Some(name) = self.names.borrow().get(&of) {
            return name.clone();
        }
        let name = look(&self.places);
        self.names.borrow_mut().insert(of, name.clone());
        name
    }
}

impl Owners for Known {
    fn process(&self, sight: &Sight) -> Option<Rc<Process>> {
        Some(self.processes.borrow_mut().copy_of(&self.holder(sight)?.process))
    }

    /// By the cgroup it was made in. Where that is the root, as with cgroup v1 it always is, by that of its process.
    fn container(&self, sight: &Sight) -> Option<Arc<str>> {
        let by_cgroup = sight.cgroup.and_then(|id| {
            self.name(Of::Cgroup(id), |places| {
                places.of(id).filter(|place| !place.is_root()).map(|place| place.name().into())
            })
        });
        by_cgroup.or_else(|| {
            let process = &self.holder(sight)?.process;
            self.name(Of::Process(process.pid), |places| {
                places.find(process).map(|place| place.name().into())
            })
        })
    }
}
