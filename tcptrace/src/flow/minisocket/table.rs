//! The minisockets that are known, by number and by ends, and when to look after each.

use super::{
    Limits, Subject, TIME_WAIT_NS, TIMER_SLACK_NS,
    due::{After, Due},
};
use crate::{
    event::{Ends, TcpState},
    flow::{
        Entry, FlowId, Known, Role, Span, What, Who,
        owner::{Owner, Process, Source},
    },
    sight::Sight,
};
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use hashlink::LinkedHashMap;
use std::{collections::VecDeque, hash::BuildHasher, rc::Rc};

/// Minisockets whose socket's close is not traced yet.
const MAX_BEGUN: usize = 4096;
/// Questions that wait; what is beyond goes unasked.
const MAX_QUESTIONS: usize = 4096;

#[derive(Debug)]
pub(in crate::flow) struct Minisocket {
    pub id: FlowId,
    pub ends: Ends,
    pub netns: u32,
    pub role: Role,
    pub state: TcpState,
    /// When it entered its state.
    pub since_ns: u64,
    /// `false`: at least since then.
    pub exact: bool,
    /// When its timer expires.
    pub ends_ns: u64,
    pub opened: Option<Rc<Process>>,
    pub opened_source: Source,
    pub closed: Option<Rc<Process>>,
    pub closed_source: Source,
    /// The state it came from, until its beginning is told.
    pub untold: Option<TcpState>,
    /// By the settings that we know the kernel has no room for it.
    pub doubtful: bool,
    /// Its cookie may be another one than we know: see [`Beginning::nameless`].
    pub nameless: bool,
    /// When to ask for it; other plans are void. 0: there is none.
    pub ask_ns: u64,
    /// Probes tell what becomes of it: nobody needs to be asked, unless its end was lost.
    pub probed: bool,
    pub round: u32,
}

impl Minisocket {
    pub fn who(&self) -> Who {
        let owner = |process: &Option<Rc<Process>>, source| {
            process.as_ref().map(|process| Owner { process: Rc::clone(process), source })
        };
        let opened = owner(&self.opened, self.opened_source);
        let owner = opened.or_else(|| owner(&self.closed, self.closed_source));
        Who { id: self.id, netns: self.netns, ends: self.ends, role: self.role, owner }
    }

    /// When to ask for it at the latest. A probe tells its end, unless that was lost.
    pub fn last_call_ns(&self) -> u64 {
        self.ends_ns.saturating_add(if self.probed { TIMER_SLACK_NS } else { 0 })
    }

    pub fn cookie(&self) -> u64 {
        if let FlowId::Cookie(cookie) = self.id { cookie } else { 0 }
    }

    pub fn enter(&mut self, state: TcpState, now_ns: u64, known: Known) -> Entry {
        let span = Span { ns: now_ns.saturating_sub(self.since_ns), exact: self.exact };
        let entry = Entry {
            time_ns: now_ns,
            who: self.who(),
            what: What::Transition { old: self.state, new: state, in_state: Some(span), by: None, known },
        };
        (self.state, self.since_ns, self.exact) = (state, now_ns, true);
        entry
    }
}

/// What a probe said of a minisocket's beginning, or of its change.
#[derive(Clone, Copy, Debug)]
pub(in crate::flow) struct Begun {
    pub state: TcpState,
    pub time_ns: u64,
    /// 0: not told.
    pub timeout_jiffies: u32,
}

/// All of them.
#[derive(Debug, Default)]
pub(in crate::flow) struct Minisockets {
    /// By number, oldest first.
    pub known: LinkedHashMap<u64, Minisocket>,
    /// Numbers, by ends.
    pub by_ends: HashTable<u64>,
    pub hasher: DefaultHashBuilder,
    /// When to ask, or to believe the timer.
    pub due: Due,
    /// To be asked at once.
    pub questions: VecDeque<Subject>,
    /// Those that a probe saw begin, by cookie, until the close of their socket is traced: within microseconds.
    pub begun: HashMap<u64, Begun>,
    /// The kernel's jiffy, once a probe has told a TIME_WAIT's.
    pub jiffy_ns: Option<u64>,
    pub limits: HashMap<u32, Limits>,
    pub count: HashMap<u32, u64>,
    pub last: u64,
}

impl Minisockets {
    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn set_limits(&mut self, netns: u32, limits: Limits) {
        self.limits.insert(netns, limits);
    }

    pub fn limits(&self, netns: u32) -> Limits {
        self.limits.get(&netns).copied().unwrap_or_default()
    }

    /// Something about this subject is to be looked at then.
    pub fn look_at(&mut self, time_ns: u64, subject: Subject) {
        self.due.push(After::Any, time_ns, subject);
    }

    pub fn plan(&mut self, number: u64, time_ns: u64) {
        if let Some(minisocket) = self.known.get_mut(&number) {
            self.due.plan(After::Any, number, minisocket, time_ns);
        }
    }

    /// To be asked for when it should have ended.
    pub fn plan_end(&mut self, number: u64) {
        if let Some(minisocket) = self.known.get_mut(&number) {
            self.due.plan(After::Life, number, minisocket, minisocket.last_call_ns());
        }
    }

    /// A probe saw it begin.
    pub fn begin(&mut self, cookie: u64, begun: Begun) {
        if self.begun.len() >= MAX_BEGUN {
            self.begun.clear(); // the closes of their sockets were filtered out or lost
        }
        self.begun.insert(cookie, begun);
    }

    pub fn has_begun(&self, cookie: u64) -> bool {
        self.begun.contains_key(&cookie)
    }

    pub fn take_begun(&mut self, cookie: u64) -> Option<Begun> {
        self.begun.remove(&cookie)
    }

    /// When its timer expires. The kernel says it in jiffies, whose length only a TIME_WAIT tells: that is always 60 s.
    pub fn expiry(&mut self, begun: &Begun, limits: Limits) -> u64 {
        let jiffies = u64::from(begun.timeout_jiffies);
        if begun.state == TcpState::TimeWait && jiffies != 0 {
            self.jiffy_ns = Some(TIME_WAIT_NS / jiffies);
        }
        let left_ns = match self.jiffy_ns {
            Some(jiffy_ns) if jiffies != 0 => jiffies * jiffy_ns,
            _ => limits.life(begun.state),
        };
        begun.time_ns.saturating_add(left_ns)
    }

    /// The minisocket with these ends and this cookie.
    pub fn of_cookie(&self, ends: &Ends, cookie: u64) -> Option<(u64, TcpState)> {
        let found = self.with_ends(ends).find(|(_, minisocket)| minisocket.cookie() == cookie);
        found.map(|(number, minisocket)| (number, minisocket.state))
    }

    /// Its timer was started again.
    pub fn restart(&mut self, number: u64, ends_ns: u64) {
        if let Some(minisocket) = self.known.get_mut(&number) {
            minisocket.ends_ns = ends_ns;
            self.plan_end(number);
        }
    }

    /// `true`: it is asked for soon. `false`: there are too many.
    pub fn ask_now(&mut self, number: u64) -> bool {
        let room = self.questions.len() < MAX_QUESTIONS;
        if room {
            self.questions.push_back(Subject::Minisocket(number));
        }
        room
    }

    pub fn insert(&mut self, minisocket: Minisocket) -> u64 {
        self.last += 1;
        let number = self.last;
        *self.count.entry(minisocket.netns).or_default() += 1;
        let hash = self.hasher.hash_one(minisocket.ends);
        self.known.insert(number, minisocket);
        let (known, hasher) = (&self.known, &self.hasher);
        let rehash = |number: &u64| known.get(number).map_or(0, |other| hasher.hash_one(other.ends));
        self.by_ends.insert_unique(hash, number, rehash);
        number
    }

    pub fn remove(&mut self, number: u64) -> Option<Minisocket> {
        let minisocket = self.known.remove(&number)?;
        let hash = self.hasher.hash_one(minisocket.ends);
        if let Ok(entry) = self.by_ends.find_entry(hash, |other| *other == number) {
            entry.remove();
        }
        if let Some(count) = self.count.get_mut(&minisocket.netns) {
            *count = count.saturating_sub(1);
        }
        Some(minisocket)
    }

    /// Makes room. `true`: one was forgotten.
    pub fn evict(&mut self) -> bool {
        let Some(oldest) = self.known.front().map(|(number, _)| *number) else { return false };
        self.remove(oldest).is_some()
    }

    pub fn with_ends(&self, ends: &Ends) -> impl Iterator<Item = (u64, &Minisocket)> {
        let hash = self.hasher.hash_one(ends);
        let found =
            self.by_ends.iter_hash(hash).filter_map(|number| Some((*number, self.known.get(number)?)));
        found.filter(move |(_, minisocket)| minisocket.ends == *ends)
    }

    pub fn at(&self, netns: u32, ends: &Ends) -> Option<u64> {
        self.with_ends(ends).find(|(_, minisocket)| minisocket.netns == netns).map(|(number, _)| number)
    }

    pub fn find(&self, sight: &Sight) -> Option<u64> {
        let same = |minisocket: &Minisocket| {
            let cookies = minisocket.nameless || [0, sight.cookie].contains(&minisocket.cookie());
            minisocket.netns == sight.netns && cookies
        };
        self.with_ends(&sight.ends).find(|(_, minisocket)| same(minisocket)).map(|(number, _)| number)
    }
}
