//! A look in progress: takes sockets one by one, keeps those that may be stuck, counts the others.

use super::{
    case::{Case, expiries},
    ladder,
    limits::{Past, past},
    memory::{Memory, holdings, is_full},
    scene::{Around, Readers, Scene, TimeWaits, Toward, Used},
};
use crate::{
    event::{Ends, TcpState},
    flow::{Bound, Role, Span, Told, least_age, minisocket::TIME_WAIT_NS, running_ns},
    sight::{Kind, Sight, Taken},
    source::{details::SocketDetail, holders::Holder, netns::Limits as Settings},
};
use hashbrown::{HashMap, HashSet};
use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};

/// Destinations whose used ports are counted; what is beyond is not looked at.
const MAX_TOWARD: usize = 65_536;
/// Addresses that a route is asked for, of one namespace.
const MAX_ROUTES: usize = 64;
/// Connections with unread bytes that are remembered, to name who does not read.
const MAX_READERS: usize = 16_384;
/// Local addresses that are remembered, to tell our own from others'.
const MAX_LOCALS: usize = 4096;

/// A look in progress: takes sockets one by one.
#[derive(Debug, Default)]
pub struct Look {
    settings: HashMap<u32, Arc<Settings>>,
    tick_ns: Option<u64>,
    cases: Vec<Case>,
    listeners: Vec<Case>,
    readers: Readers,
    locals: HashSet<(u32, [u8; 16])>,
    toward: HashMap<Toward, Used>,
    time_wait: HashMap<u32, TimeWaits>,
    unaccepted: HashMap<(u32, u16), Option<u64>>,
    sockets: u64,
    taken: Taken,
    /// Sockets in order are kept too.
    everything: bool,
}

impl Look {
    /// Nothing looked at yet. `settings`: of each namespace. `everything`: sockets that are in order become cases too.
    pub fn new(settings: HashMap<u32, Arc<Settings>>, everything: bool) -> Self {
        Self { settings, everything, ..Self::default() }
    }

    /// How long a tick of the kernel's clock is: the sharper, the sharper are predictions.
    #[must_use]
    pub fn ticking(self, tick_ns: Option<u64>) -> Self {
        Self { tick_ns, ..self }
    }

    /// Takes a socket. `told` is asked for only where it matters: most sockets are in order.
    pub fn add(&mut self, sight: &Sight, taken: Taken, holder: Option<&Holder>, told: impl FnOnce() -> Told) {
        self.sockets += 1;
        let from_ns =
            if self.taken.from_ns == 0 { taken.from_ns } else { self.taken.from_ns.min(taken.from_ns) };
        self.taken = Taken { from_ns, to_ns: self.taken.to_ns.max(taken.to_ns) };
        let settings = self.settings.get(&sight.netns).cloned().unwrap_or_default();
        self.count_port(sight, &settings);
        if sight.state != TcpState::Listen && self.locals.len() < MAX_LOCALS {
            self.locals.insert((sight.netns, sight.ends.local));
        }
        let unaccepted = sight.kind == Kind::Full && sight.inode == 0;
        match sight.state {
            TcpState::TimeWait => {
                self.time_wait.entry(sight.netns).or_default().add(sight);
                if !self.everything {
                    return;
                }
            }
            TcpState::Established | TcpState::CloseWait if unaccepted || sight.receive_queue > 0 => {
                let told = told();
                self.note(sight, holder, &told, unaccepted);
                return self.keep(sight, taken, holder, settings, || told);
            }
            _ => {}
        }
        self.keep(sight, taken, holder, settings, told);
    }

    /// Notes a connection that nobody has accepted, or read to the end.
    fn note(&mut self, sight: &Sight, holder: Option<&Holder>, told: &Told, unaccepted: bool) {
        if unaccepted {
            let oldest_ns = self.unaccepted.entry((sight.netns, sight.ends.lport)).or_default();
            *oldest_ns = (*oldest_ns).max(told.age.map(|age| age.ns));
        }
        if sight.receive_queue > 0 && self.readers.len() < MAX_READERS {
            let reader = (sight.netns, told.clone(), holder.cloned(), sight.receive_queue);
            let known = self.readers.entry(sight.ends).or_default();
            known.retain(|(netns, ..)| *netns != sight.netns);
            known.push(reader);
        }
    }

    fn keep(
        &mut self,
        sight: &Sight,
        taken: Taken,
        holder: Option<&Holder>,
        settings: Arc<Settings>,
        told: impl FnOnce() -> Told,
    ) {
        if sight.state == TcpState::Established && !stalls(sight) && !self.everything {
            return;
        }
        let mut told = told();
        let reckoned = reckoned_age(sight, &settings).filter(|(least_ns, _)| is_longer(*least_ns, &told));
        if let Some((ns, _)) = reckoned {
            told.age = Some(Span { ns, exact: false });
        }
        let case = Case {
            sight: *sight,
            taken_ns: taken.from_ns,
            told,
            age_from: reckoned.map(|(_, from)| from),
            holder: holder.cloned(),
            detail: None,
            settings,
            listener_syn_count: None,
            no_route: None,
            tick_ns: self.tick_ns,
        };
        if sight.state == TcpState::Listen { self.listeners.push(case) } else { self.cases.push(case) }
    }

    fn count_port(&mut self, sight: &Sight, settings: &Settings) {
        let Some((first, last)) = settings.ports else { return };
        if sight.state == TcpState::Listen || !(first..=last).contains(&sight.ends.lport) {
            return;
        }
        let Ends { local, remote, rport, .. } = sight.ends;
        let toward = Toward { netns: sight.netns, local, remote, rport };
        if self.toward.len() >= MAX_TOWARD && !self.toward.contains_key(&toward) {
            return;
        }
        let used = self.toward.entry(toward).or_default();
        used.ports += 1;
        if sight.state == TcpState::TimeWait {
            used.time_wait.add(sight);
        }
    }

    /// Namespaces with a socket that is stuck, or would be if its program has set so, so that its details matter: to
    /// read them the kernel walks all sockets once more.
    pub fn doubtful(&self, older_than_ns: Option<u64>) -> Vec<u32> {
        let matters = |case: &&Case| {
            // TCP_SYNCNT, TCP_KEEPCNT and TCP_LINGER2 make limits smaller; the iterator knows more of an age.
            self.everything
                || case.tries() > 0
                || (case.sight.state == TcpState::FinWait2 && case.sight.kind == Kind::Full)
                || match past(case, older_than_ns) {
                    Past::Yes => true,
                    Past::Unknown => older_than_ns.is_some(),
                    Past::NotYet => false,
                }
        };
        let full = self.listeners.iter().filter(|listener| is_full(listener));
        let cases = self.cases.iter().filter(matters).chain(full);
        let mut namespaces: Vec<_> = cases.map(|case| case.sight.netns).collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        namespaces
    }

    /// Adds what the sockets of a namespace tell themselves, by cookie.
    pub fn add_details(&mut self, netns: u32, details: &HashMap<u64, SocketDetail>) {
        for case in self.cases.iter_mut().chain(&mut self.listeners).filter(|case| case.sight.netns == netns)
        {
            case.detail = details.get(&case.sight.cookie).copied();
            let began_ns = case.detail.and_then(|detail| detail.stall()?.began_ns);
            let (least_ns, bound) = least_age(&case.sight);
            if bound == Bound::Retransmits && case.options().user_timeout_ms == Some(0) {
                let ns = least_ns.saturating_add(running_ns(&case.sight));
                if is_longer(ns, &case.told) {
                    case.told.age = Some(Span { ns, exact: false });
                }
            }
            // In SYN_SENT the first SYN is the beginning of the state; everywhere else the stall may be older than it.
            if let Some(began_ns) = began_ns.filter(|_| case.sight.state == TcpState::SynSent) {
                let ns = case.taken_ns.saturating_sub(began_ns);
                if is_longer(ns, &case.told) {
                    case.told.age = Some(Span { ns, exact: false });
                    case.age_from = Some("the first SYN was sent then");
                }
            }
        }
    }

    /// All of it together.
    pub fn finish(
        mut self,
        now_ns: u64,
        around: Around,
        older_than_ns: Option<u64>,
        memory: &mut Memory,
    ) -> Scene {
        self.cases.sort_by_key(|case| (case.sight.netns, case.sight.cookie));
        // A socket that changes its kind while the kernel lists them comes twice.
        self.cases.dedup_by_key(|case| (case.sight.netns, case.sight.cookie));
        self.tell_requests();
        self.tell_roles();
        memory.remember(now_ns, &self.cases, &self.listeners);
        let mut by_ends: HashMap<Ends, Vec<usize>> = HashMap::new();
        for (index, case) in self.cases.iter().enumerate() {
            by_ends.entry(case.sight.ends).or_default().push(index);
        }
        let holdings = holdings(&self.cases);
        Scene {
            now_ns,
            sockets: self.sockets,
            // Without a socket there is no other time.
            taken: if self.taken.from_ns == 0 {
                Taken { from_ns: now_ns, to_ns: now_ns }
            } else {
                self.taken
            },
            cases: self.cases,
            listeners: self.listeners,
            settings: self.settings,
            by_ends,
            readers: self.readers,
            locals: self.locals,
            holdings,
            troubles: OnceLock::new(),
            toward: self.toward,
            time_wait: self.time_wait,
            unaccepted: self.unaccepted,
            older_than_ns,
            around,
            remembered: memory.clone(),
        }
    }
}

impl Look {
    /// Of sockets on which the kernel noted an error, those of this namespace, which may mean that there is no route: asks
    /// `route` for the errno, if any, of a route to an address. Once an address.
    pub fn ask_routes(&mut self, netns: u32, route: impl FnOnce(&[IpAddr]) -> Vec<Option<u16>>) {
        let noted = |case: &Case| case.sight.netns == netns && case.soft_error() != 0;
        let mut peers: Vec<_> = self.cases.iter().filter(|case| noted(case)).map(peer).collect();
        peers.sort_unstable();
        peers.dedup();
        peers.truncate(MAX_ROUTES);
        if peers.is_empty() {
            return;
        }
        let errors: HashMap<_, _> = peers.iter().copied().zip(route(&peers)).collect();
        for case in self.cases.iter_mut().filter(|case| noted(case)) {
            case.no_route = errors.get(&peer(case)).copied().flatten();
        }
    }

    /// Who is older than the trace and has a listener's port came in by it.
    fn tell_roles(&mut self) {
        let place = |case: &Case| (case.sight.netns, case.sight.ends.lport);
        let ports: HashSet<_> = self.listeners.iter().map(place).collect();
        let unknown = self.cases.iter_mut().filter(|case| case.told.role == Role::Unknown);
        for case in unknown.filter(|case| ports.contains(&place(case))) {
            case.told.role = Role::Passive;
        }
    }

    /// What listeners have set for their requests.
    fn tell_requests(&mut self) {
        let port = |case: &Case| (case.sight.netns, case.sight.ends.lport);
        let counts = self.listeners.iter().filter_map(|case| Some((port(case), case.syn_count()?)));
        let counts: HashMap<_, _> = counts.collect();
        for case in self.cases.iter_mut().filter(|case| case.sight.kind == Kind::Request) {
            case.listener_syn_count = counts.get(&port(case)).copied();
        }
    }
}

fn peer(case: &Case) -> IpAddr {
    case.sight.ends.remote().ip()
}

/// Established and not in order: something is sent again, or a window is probed.
fn stalls(sight: &Sight) -> bool {
    expiries(sight) > 0
}

/// A bound that tells more than what is known.
fn is_longer(least_ns: u64, told: &Told) -> bool {
    told.age.is_none_or(|age| !age.exact && age.ns < least_ns)
}

/// How long an orphan is in FIN_WAIT2 under this tcp_fin_timeout: so long, up to a minute; above it what is above it as a
/// full socket, and as long again as a minisocket (tcp_rcv_state_process, tcp_keepalive_timer; 5.10 to 7.3).
pub fn fin_wait2_ns(fin_timeout_ns: u64) -> u64 {
    match fin_timeout_ns.saturating_sub(TIME_WAIT_NS) {
        0 => fin_timeout_ns,
        above => above.saturating_mul(2),
    }
}

/// The least age in nanoseconds that a timer and the settings tell, and how.
fn reckoned_age(sight: &Sight, settings: &Settings) -> Option<(u64, &'static str)> {
    let left_ns = u64::from(sight.timer?.expires_ms) * 1_000_000;
    match (sight.kind, sight.state) {
        // It was given tcp_fin_timeout, unless its program had set TCP_LINGER2, which nothing shows any more: so long its
        // timer has run, and above a minute a full socket's before it.
        (Kind::Minisocket, TcpState::FinWait2) => {
            let whole_ns = fin_wait2_ns(settings.fin_timeout_ns?);
            Some((whole_ns.checked_sub(left_ns)?, "by tcp_fin_timeout; TCP_LINGER2 would change it"))
        }
        (Kind::Request, _) => {
            let rto_max_ns = settings.rto_max_ns.unwrap_or(ladder::RTO_MAX_NS);
            Some((ladder::syn_ack_age(left_ns, rto_max_ns), "its SYN-ACKs took that long"))
        }
        _ => None,
    }
}
