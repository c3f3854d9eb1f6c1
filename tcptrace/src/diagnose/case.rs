//! One socket with all that is known of it: what the kernel shows, what the events told, how its namespace is set.

use super::{
    finding::{Confidence, Deadline, Evidence, Finding, From, Setting, Subject},
    ladder::{RTO_MAX_NS, RTO_MIN_NS, Rule, Stall},
    limits::waiting,
};
use crate::{
    event::{Segment, TcpState},
    flow::{Bound, FlowId, Told, least_age, owner::Source},
    sight::{Kind, Sight, Timer, TimerKind},
    source::{
        details::{Options, Queue, SocketDetail},
        holders::Holder,
        netns::Limits as Settings,
    },
};
use std::sync::Arc;

/// A socket to be judged.
#[derive(Clone, Debug)]
pub struct Case {
    /// What the kernel shows.
    pub sight: Sight,
    /// When it was looked at, on the boot-time clock, in nanoseconds.
    pub taken_ns: u64,
    /// What the ledger knows.
    pub told: Told,
    /// What its age is reckoned from, if it is.
    pub age_from: Option<&'static str>,
    /// Who holds its descriptor.
    pub holder: Option<Holder>,
    /// What the socket itself tells (BPF iterator); `None`: not read, or not to be had.
    pub detail: Option<SocketDetail>,
    /// Its namespace's settings.
    pub settings: Arc<Settings>,
    /// Asked for a route to its peer just now the kernel had none: errno.
    pub no_route: Option<u16>,
    /// TCP_SYNCNT of the listener that it came in on, where that is set and known.
    pub listener_syn_count: Option<u64>,
    /// How long a tick of the kernel's clock is.
    pub tick_ns: Option<u64>,
}

impl Case {
    /// Its state, both kinds of SYN_RECV as one.
    pub fn state(&self) -> TcpState {
        if self.sight.state == TcpState::NewSynRecv { TcpState::SynRecv } else { self.sight.state }
    }

    /// No program has it any more.
    pub fn is_orphan(&self) -> bool {
        self.sight.is_orphan()
            || (self.sight.kind == Kind::Minisocket && self.sight.state == TcpState::FinWait2)
    }

    /// No program has accepted it yet.
    pub fn is_unaccepted(&self) -> bool {
        self.sight.kind == Kind::Full
            && self.sight.inode == 0
            && matches!(self.sight.state, TcpState::Established | TcpState::CloseWait | TcpState::SynRecv)
    }

    /// The timer, if it is this one.
    pub fn timer(&self, kind: TimerKind) -> Option<Timer> {
        self.sight.timer.filter(|timer| timer.kind == kind)
    }

    /// Expiries without an answer of the timer that runs. A back-off alone says nothing: it stays until the next valid
    /// measurement of the round trip, long after what was lost has arrived.
    pub fn tries(&self) -> u32 {
        expiries(&self.sight)
    }

    /// Bytes that came and were not read. The kernel counts a FIN as one.
    pub fn unread(&self) -> u32 {
        let fin = u32::from(self.sight.state == TcpState::CloseWait);
        self.sight.receive_queue.saturating_sub(fin)
    }

    /// Bytes written that were never sent; `None`: not told.
    pub fn unsent(&self) -> Option<u32> {
        self.sight.info.map(|info| info.notsent_bytes)
    }

    /// The peer's window, in bytes; `None`: not told (before 6.2, without iterator).
    pub fn window(&self) -> Option<u32> {
        // Before 6.2 tcp_info has no such field, and it reads as 0: only the socket itself can say so then.
        self.told_window().or_else(|| self.sight.info.map(|info| info.snd_wnd).filter(|window| *window > 0))
    }

    /// The peer's window as the socket itself tells it.
    pub fn told_window(&self) -> Option<u32> {
        self.detail.as_ref()?.stall()?.peer_window
    }

    /// Its kernel probes though the window is open: a segment that the sender's own firewall drops was never sent, says the
    /// kernel (5.10 to 7.3).
    pub fn is_held_back(&self) -> bool {
        self.timer(TimerKind::Probe).is_some()
            && self.window().is_some_and(|window| window > 0 && window >= self.unsent().unwrap_or(0))
    }

    /// What its program has set; unknown where the socket was not read.
    pub fn options(&self) -> Options {
        self.detail.map(|detail| detail.options).unwrap_or_default()
    }

    /// TCP_SYNCNT, where it is set.
    pub fn syn_count(&self) -> Option<u64> {
        self.options().syn_retries.filter(|count| *count > 0).map(u64::from)
    }

    /// TCP_USER_TIMEOUT in milliseconds, where it is set.
    pub fn user_timeout_ms(&self) -> Option<u32> {
        self.options().user_timeout_ms.filter(|ms| *ms > 0)
    }

    /// Half-open requests of a listener, and those of them without a time-out yet.
    pub fn half_open(&self) -> Option<(u32, u32)> {
        let Queue { half_open, young, .. } = self.detail.as_ref()?.queue()?;
        Some(((*half_open)?, (*young)?))
    }

    /// How the retransmission or probe timer stands.
    pub fn stall(&self) -> Option<Stall> {
        let timer = self.sight.timer?;
        let info = self.sight.info?;
        let expires_ns = u64::from(timer.expires_ms) * 1_000_000;
        let rto_max_ns = self
            .options()
            .rto_max_us
            .map(|us| us.saturating_mul(1000))
            .or(self.settings.rto_max_ns)
            .map_or(RTO_MAX_NS, |longest| longest.min(RTO_MAX_NS));
        let told = self.detail.as_ref().and_then(SocketDetail::stall);
        let since = |began: Option<u64>| began.map(|began| self.taken_ns.saturating_sub(began));
        Some(match timer.kind {
            TimerKind::Probe => Stall {
                tries: u32::from(info.probes),
                // tcp_info shows the time-out without the probes' back-off (tcp_probe0_when).
                rto_ns: (u64::from(info.rto_us) * 1000)
                    .max(RTO_MIN_NS)
                    .saturating_mul(1 << info.backoff.min(40))
                    .min(rto_max_ns),
                expires_ns,
                elapsed_ns: since(told.and_then(|stall| stall.probes_began_ns)),
                rto_max_ns,
                tick_ns: self.tick_ns,
            },
            _ => Stall {
                tries: u32::from(info.retransmits),
                rto_ns: u64::from(info.rto_us) * 1000,
                expires_ns,
                elapsed_ns: since(told.and_then(|stall| stall.began_ns)),
                rto_max_ns,
                tick_ns: self.tick_ns,
            },
        })
    }

    /// TCP_USER_TIMEOUT, where it is set: in nanoseconds, and as a setting.
    pub fn user_timeout(&self) -> Option<(u64, Setting)> {
        let ms = self.user_timeout_ms()?;
        let setting = Setting { name: "TCP_USER_TIMEOUT", value: Some(format!("{ms} ms")), meaning: None };
        Some((u64::from(ms) * 1_000_000, setting))
    }

    /// How many retries this socket has, and the setting that says so.
    pub fn retries(&self) -> (Rule, Setting) {
        if !self.is_orphan() {
            return (
                Rule::Retries(self.settings.retries.unwrap_or(15)),
                number("net.ipv4.tcp_retries2", self.settings.retries),
            );
        }
        let mut setting = number("net.ipv4.tcp_orphan_retries", self.settings.orphan_retries);
        let retries = self.settings.orphan_retries.unwrap_or(0);
        setting.meaning = (retries == 0).then_some("0 means 8");
        (Rule::Orphan { retries, soft_error: self.soft_error() != 0 }, setting)
    }

    /// What the last ICMP message, or a missing route, left on the socket, as errno; 0: nothing, or not told.
    pub fn soft_error(&self) -> u32 {
        self.detail.map_or(0, |detail| detail.soft_error)
    }

    /// Nothing was heard for so long; `None`: not told.
    pub fn silent_ns(&self) -> Option<u64> {
        let info = self.sight.info?;
        Some(u64::from(info.last_ack_recv_ms.min(info.last_data_recv_ms)) * 1_000_000)
    }

    /// The peer was heard after the stall began: it lives.
    pub fn heard_since_stall(&self) -> bool {
        match (self.silent_ns(), waiting(self)) {
            (Some(silent_ns), Some(stalled)) => silent_ns < stalled.ns / 10 * 9,
            _ => false,
        }
    }

    /// TCP_USER_TIMEOUT is not in sock_diag: without the iterator a deadline holds only if there is none.
    pub fn note_user_timeout(&self, missing: &mut Vec<String>) {
        if self.options().user_timeout_ms.is_none() {
            missing.push(
                "TCP_USER_TIMEOUT, which would shorten the deadline: only the BPF iterator shows it"
                    .to_owned(),
            );
        }
    }

    /// Facts about the owner and the age that every finding has.
    pub fn finding(&self, name: &'static str, verdict: String) -> Finding {
        let mut missing = Vec::new();
        let guessed = self.told.owner.as_ref().is_none_or(|owner| owner.source == Source::Listener);
        if guessed && self.told.closed_by.is_none() && self.is_orphan() {
            missing.push(
                "who closed it: that was before this trace; `tcptrace stuck --watch` remembers".to_owned(),
            );
        } else if self.told.owner.is_none() && self.sight.kind == Kind::Full && self.sight.inode != 0 {
            missing.push("whose it is: the descriptors of other users' processes need root".to_owned());
        }
        let (_, bound) = least_age(&self.sight);
        let waiting = waiting(self).filter(|_| self.state() != TcpState::Established);
        let stalled = waiting.filter(|it| self.told.age.is_none_or(|age| it.ns > age.ns));
        let age_from = match self.told.age {
            _ if stalled.is_some() => "its timer has been in vain that long, perhaps from before this state",
            Some(age) if age.exact => "events",
            _ => self.age_from.unwrap_or_else(|| bound_words(bound)),
        };
        let mut evidence = Vec::new();
        if let Some(holder) = &self.holder {
            let others = if holder.processes > 1 {
                format!(" (and {} more)", holder.processes - 1)
            } else {
                String::new()
            };
            evidence.push(Evidence {
                from: From::Descriptors,
                fact: format!(
                    "{}/{} has it as descriptor {}{others}",
                    holder.process.comm, holder.process.pid, holder.fd
                ),
            });
        }
        let repeated = self.told.retransmits.iter().sum::<u32>();
        if repeated > 0 {
            let kinds = Segment::ALL.iter().zip(self.told.retransmits).filter(|(_, count)| *count > 0);
            let kinds: Vec<_> = kinds.map(|(kind, count)| format!("{count} {}", kind.name())).collect();
            evidence.push(Evidence {
                from: From::Events,
                fact: format!("sent again since we watch: {}", kinds.join(", ")),
            });
        }
        Finding {
            name,
            subject: self.subject(),
            count: 1,
            age: stalled.or(self.told.age),
            age_from,
            verdict,
            evidence,
            missing,
            confidence: Confidence::Certain,
            settings: Vec::new(),
            deadline: Deadline::Unknown("nothing tells"),
            next_step: String::new(),
        }
    }

    /// Who it is.
    pub fn subject(&self) -> Subject {
        Subject {
            id: FlowId::Cookie(self.sight.cookie),
            netns: self.sight.netns,
            ends: self.sight.ends,
            role: self.told.role,
            state: self.state(),
            kind: self.sight.kind,
            owner: self.told.owner.clone(),
            fd: self.holder.as_ref().map(|holder| holder.fd),
            closed_by: self.told.closed_by.clone(),
            cgroup: self.sight.cgroup,
        }
    }
}

fn bound_words(bound: Bound) -> &'static str {
    match bound {
        Bound::Watched => "watched that long",
        Bound::LastAck => "the last ACK came then",
        Bound::Retransmits => "the retransmissions took that long",
        Bound::Timer => "its timer has run that long",
    }
}

/// Expiries without an answer of the timer that runs.
pub fn expiries(sight: &Sight) -> u32 {
    let Some(timer) = sight.timer else { return 0 };
    let info = sight.info.unwrap_or_default();
    u32::from(timer.retransmits.max(match timer.kind {
        TimerKind::Retransmit => info.retransmits,
        // Answers set the count of probes back, not the back-off.
        TimerKind::Probe => info.probes.max(info.backoff),
        TimerKind::Keepalive => info.probes,
        TimerKind::TimeWait => 0,
    }))
}

/// A setting that is a number.
pub fn number(name: &'static str, value: Option<u64>) -> Setting {
    Setting { name, value: value.map(|value| value.to_string()), meaning: None }
}

/// A setting in seconds.
pub fn seconds(name: &'static str, ns: Option<u64>) -> Setting {
    number(name, ns.map(|ns| ns / 1_000_000_000))
}
