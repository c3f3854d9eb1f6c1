//! Owners as JSON: few processes have the sockets that there are millions of lines about, so what is written of one is kept.

use super::{
    json::{Value, Word, fields},
    line,
};
use crate::{
    enrich::{Place, Places},
    flow::owner::Owner,
    process::Process,
};
use std::rc::Rc;

/// How many are kept: one for each remainder of their pids. Far more than have connections on most machines.
const KEPT: usize = 256;

/// What was written of processes.
pub struct Owners {
    places: Places,
    /// How often the places had been told something.
    told: u64,
    kept: Vec<Option<Text>>,
}

/// Of one process.
struct Text {
    process: Rc<Process>,
    /// Its object, still open: what every line has that names it.
    begins: Vec<u8>,
    /// Where it runs: the end of the object, where a line tells that. Empty: not asked yet.
    ends: Vec<u8>,
}

impl Owners {
    /// Nothing written yet; places are asked where processes run.
    pub fn new(places: Places) -> Self {
        Self { told: places.told(), kept: (0..KEPT).map(|_| None).collect(), places }
    }

    /// `process` as who made a change.
    pub(super) fn by(&mut self, out: &mut Vec<u8>, process: &Rc<Process>) {
        out.extend_from_slice(&text(&mut self.kept, process).begins);
        out.push(b'}');
    }

    /// An owner and where it runs: as [`line::OwnerJson`] writes it.
    pub(super) fn owner(&mut self, out: &mut Vec<u8>, owner: &Owner) {
        let told = self.places.told();
        if self.told != told {
            self.told = told;
            self.kept.iter_mut().flatten().for_each(|text| text.ends.clear());
        }
        let text = text(&mut self.kept, &owner.process);
        if text.ends.is_empty() {
            let place = self.places.of_owner(&owner.process);
            let part = |part: fn(&Place) -> &Option<Box<str>>| part(place.as_deref()?).as_deref();
            let parts = (part(|place| &place.unit), part(|place| &place.container), part(|place| &place.pod));
            line::end_with_place(&mut text.ends, parts);
        }
        out.extend_from_slice(&text.begins);
        fields!(out, "source": Word(owner.source.name()));
        out.extend_from_slice(&text.ends);
    }
}

/// What is kept of this process.
fn text<'a>(kept: &'a mut [Option<Text>], process: &Rc<Process>) -> &'a mut Text {
    let place = &mut kept[process.pid as usize % KEPT];
    let text = place.get_or_insert_with(|| Text {
        process: Rc::clone(process),
        begins: Vec::new(),
        ends: Vec::new(),
    });
    // There may be several copies of one process.
    if text.begins.is_empty() || text.process != *process {
        text.process = Rc::clone(process);
        text.begins.clear();
        text.ends.clear();
        line::begin_process(&mut text.begins, (process.pid, &process.comm, process.uid));
    }
    text
}

/// A value of a field, or null: an owner.
pub(super) struct MaybeOwner<'a>(pub Option<&'a Owner>, pub &'a mut Owners);

impl Value for MaybeOwner<'_> {
    fn write(self, out: &mut Vec<u8>) {
        match self.0 {
            Some(owner) => self.1.owner(out, owner),
            None => None::<u64>.write(out),
        }
    }
}

/// Likewise, who made a change.
pub(super) struct MaybeBy<'a>(pub Option<&'a Rc<Process>>, pub &'a mut Owners);

impl Value for MaybeBy<'_> {
    fn write(self, out: &mut Vec<u8>) {
        match self.0 {
            Some(process) => self.1.by(out, process),
            None => None::<u64>.write(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::owner::Source;
    use line::OwnerJson;

    fn owner(pid: u32, comm: &str) -> Owner {
        let process = Rc::new(Process { pid, uid: 1000, cgroup: 0, comm: comm.into() });
        Owner { process, source: Source::Accept }
    }

    fn written(owners: &mut Owners, owner: &Owner) -> String {
        let mut out = Vec::new();
        owners.owner(&mut out, owner);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_kept_is_what_would_be_written() {
        let places = Places::recorded();
        let mut owners = Owners::new(places.clone());
        // The second has the place of the first, and the third is another process of the same pid.
        let all = [owner(7, "a \"b\""), owner(7 + KEPT as u32, "other"), owner(7, "later")];
        places.learn_process((*all[2].process).clone(), Some("/system.slice/nginx.service"));
        for one in all.iter().chain(&all) {
            for _ in 0..2 {
                let place = places.of_owner(&one.process);
                let fresh = serde_json::to_string(&OwnerJson::new(one, place.as_deref())).unwrap();
                assert_eq!(written(&mut owners, one), fresh);
                let mut by = Vec::new();
                owners.by(&mut by, &one.process);
                let by: serde_json::Value = serde_json::from_slice(&by).unwrap();
                assert_eq!(by["comm"], *one.process.comm);
            }
        }
    }

    #[test]
    fn what_the_places_are_told_later_is_written() {
        let places = Places::recorded();
        let mut owners = Owners::new(places.clone());
        let one = owner(7, "nginx");
        assert!(!written(&mut owners, &one).contains("unit"));
        places.learn_process((*one.process).clone(), Some("/system.slice/nginx.service"));
        assert!(written(&mut owners, &one).contains("\"unit\":\"nginx.service\""));
    }
}
