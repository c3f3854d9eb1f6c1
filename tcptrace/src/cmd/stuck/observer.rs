//! Takes looks at all sockets, with what events told in between, and hands on what they come to.

use super::tell_untraced;
use crate::{
    diagnose::{Around, Counted, Diagnosis, History, Look, Machine, Memory, Scene, Traced, diagnose},
    flow::Entry,
    run::{Looked, Next, Sink, report::Resync},
    source::{
        details::{DetailSource, tick_ns},
        filter::FilterSpec,
        live::boot_time_ns,
        netns::Namespace,
        surroundings::{Surroundings, machine},
    },
    summary::LostCounts,
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    time::Duration,
};

/// Who shows what a look came to.
pub trait Show {
    /// One look; the last of them, where only one is wanted.
    ///
    /// # Errors
    /// It cannot be written.
    fn show(&mut self, scene: &Scene, diagnosis: Diagnosis, notes: &[String]) -> io::Result<()>;

    /// Something happened.
    fn entry(&mut self, _entry: &Entry) {}
}

/// Looks, and remembers.
pub struct Observer<S> {
    older_than_ns: Option<u64>,
    /// Looks that are still to come; only the last is shown, unless there is no last.
    left: u64,
    surroundings: Surroundings,
    details: Option<DetailSource>,
    look: Look,
    memory: Memory,
    history: History,
    lost: u64,
    traced_since_ns: Option<u64>,
    notes: Vec<String>,
    /// Who shows it.
    pub show: S,
}

impl<S: Show> Observer<S> {
    /// `looks`: how many there will be.
    pub fn new(filter: &FilterSpec, older_than: Option<Duration>, looks: u64, show: S) -> Self {
        Self {
            older_than_ns: older_than.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)),
            left: looks,
            surroundings: Surroundings::new(&filter.netns),
            details: None,
            look: Look::default(),
            memory: Memory::default(),
            history: History::default(),
            lost: 0,
            traced_since_ns: None,
            notes: Vec::new(),
            show,
        }
    }

    /// Events are traced from now on.
    pub fn traced(&mut self) {
        self.traced_since_ns = Some(boot_time_ns());
    }

    /// They are not, for this reason.
    pub fn not_traced(&mut self, why: String) {
        tell_untraced(&why);
        self.notes.push(format!("not traced: {why}"));
    }

    /// Loads the iterator when there is something to ask for.
    fn add_details(&mut self, look: &mut Look) {
        for netns in look.doubtful() {
            let Some(namespace) = self.surroundings.namespace(netns) else { continue };
            match self.details.get_or_insert_with(DetailSource::new).read(namespace) {
                Ok(details) => {
                    look.add_details(netns, &details);
                    look.ask_routes(netns, |peers| routes(namespace, peers));
                }
                Err(why) => log::debug!("no details of the sockets of namespace {netns}: {why}"),
            }
        }
    }

    fn around(&mut self, now_ns: u64) -> Around {
        let (sockstat, settings) = machine();
        let counters = self.surroundings.counters().into_iter();
        Around {
            machine: Machine { sockstat, settings },
            counters: counters.map(|(netns, (now, before))| (netns, Counted { now, before })).collect(),
            traced: self.traced_since_ns.map(|since_ns| Traced {
                watched_ns: now_ns.saturating_sub(since_ns),
                bursts: self.history.bursts(now_ns),
                failed: self.history.all_failed(),
                lost: self.lost,
            }),
        }
    }
}

impl<S: Show> Sink for Observer<S> {
    fn entry(&mut self, entry: &Entry) -> io::Result<Next> {
        self.history.take(entry);
        self.show.entry(entry);
        Ok(Next::Continue)
    }

    fn lost(&mut self, _now_ns: u64, lost: &LostCounts) -> io::Result<()> {
        self.lost = self.lost.saturating_add(lost.total());
        Ok(())
    }

    fn looking(&mut self) {
        self.look = Look::new(self.surroundings.settings()).ticking(tick_ns());
    }

    fn looked_at(&mut self, look: &Looked<'_>) {
        self.look.add(look.sight, look.taken, look.holder, || look.ledger.told(look.sight, look.taken));
    }

    fn resynced(&mut self, now_ns: u64, resync: &Resync) -> io::Result<Next> {
        let mut look = std::mem::take(&mut self.look);
        self.add_details(&mut look);
        let around = self.around(now_ns);
        let scene = look.finish(now_ns, around, self.older_than_ns, &mut self.memory);
        let endless = self.left == u64::MAX;
        self.left = if endless { self.left } else { self.left.saturating_sub(1) };
        if endless || self.left == 0 {
            let mut notes = self.notes.clone();
            if resync.unread > 0 {
                notes.push(format!(
                    "{} namespaces or processes could not be looked into: {}",
                    resync.unread,
                    if nix::unistd::geteuid().is_root() {
                        "they are kept from this process"
                    } else {
                        "that needs root"
                    }
                ));
            }
            self.show.show(&scene, diagnose(&scene), &notes)?;
        }
        Ok(if self.left == 0 { Next::Enough } else { Next::Continue })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether the namespace has a route to each: the errno if not. connect() of a UDP socket looks for one and sends nothing.
fn routes(namespace: &Namespace, peers: &[IpAddr]) -> Vec<Option<u16>> {
    let ask = |peer: &IpAddr| {
        let any: IpAddr =
            if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let error = UdpSocket::bind((any, 0)).ok()?.connect((*peer, DISCARD)).err()?;
        let errno = error.raw_os_error().filter(|errno| NO_ROUTE.contains(errno))?;
        u16::try_from(errno).ok()
    };
    namespace.enter(|| peers.iter().map(ask).collect()).unwrap_or_default()
}

/// Any port will do: nothing is sent.
const DISCARD: u16 = 9;
/// How connect() says that there is no route; EINVAL: a route of type blackhole, EACCES: prohibit.
const NO_ROUTE: [i32; 4] = [libc::EHOSTUNREACH, libc::ENETUNREACH, libc::EINVAL, libc::EACCES];
