//! A host made by hand: sockets of any kind in any state, and what is known of them.

use crate::{
    diagnose::{Around, Deadline, Diagnosis, Finding, Look, Memory, Scene, diagnose},
    event::{Ends, Segment, TcpState},
    flow::{Role, Span, Told, owner::Process},
    sight::{Kind, Sight, Taken, TcpInfo, Timer, TimerKind},
    source::{
        details::{Options, Part, SocketDetail, Stall},
        holders::Holder,
        netns::Limits,
    },
};
use hashbrown::HashMap;
use std::sync::Arc;

pub const S: u64 = 1_000_000_000;
pub const MS: u64 = 1_000_000;
pub const NOW_NS: u64 = 1_000_000 * S;
/// The namespace of a made socket.
pub const NETNS: u32 = 1;

pub fn v4(last: u8) -> [u8; 16] {
    let mut address = [0; 16];
    address[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, last]);
    address
}

/// The kernel's defaults.
pub fn limits() -> Limits {
    Limits {
        fin_timeout_ns: Some(60 * S),
        max_tw_buckets: Some(65_536),
        synack_retries: Some(5),
        syn_retries: Some(6),
        syn_linear_timeouts: Some(4),
        suspicion_retries: Some(3),
        retries: Some(15),
        orphan_retries: Some(0),
        keepalive_time_ns: Some(7200 * S),
        keepalive_interval_ns: Some(75 * S),
        keepalive_probes: Some(9),
        rto_max_ns: Some(120 * S),
        syncookies: Some(1),
        abort_on_overflow: Some(0),
        max_syn_backlog: Some(512),
        somaxconn: Some(4096),
        tw_reuse: Some(2),
        timestamps: Some(1),
        ports: Some((32_768, 60_999)),
    }
}

/// A full socket that a program has, in order.
pub fn sight(cookie: u64, state: TcpState) -> Sight {
    Sight {
        cookie,
        netns: NETNS,
        kind: Kind::Full,
        state,
        ends: Ends { local: v4(1), remote: v4(9), lport: 40_000 + cookie as u16, rport: 10_000 },
        uid: 0,
        inode: 1000 + cookie as u32,
        receive_queue: 0,
        send_queue: 0,
        timer: None,
        shutdown: Some(0),
        cgroup: None,
        memory: None,
        info: Some(TcpInfo { rto_us: 204_000, snd_wnd: 65_160, ..TcpInfo::default() }),
    }
}

/// A stall of that timer after so many expiries, the first time-out 204 ms, 100 ms after the last of them; `bytes` are
/// not acknowledged, and nothing was heard since.
pub fn stalled(cookie: u64, state: TcpState, kind: TimerKind, tries: u8, bytes: u32) -> Sight {
    let mut sight = sight(cookie, state);
    let rto_ms = 204_u32 << tries;
    sight.send_queue = bytes;
    sight.timer = Some(Timer { kind, expires_ms: rto_ms - 100, retransmits: tries });
    let since_ms = 204 * ((1 << tries) - 1) + 100;
    let mut info = TcpInfo {
        backoff: tries,
        last_ack_recv_ms: since_ms,
        last_data_recv_ms: since_ms,
        ..sight.info.unwrap()
    };
    match kind {
        TimerKind::Probe => (info.probes, info.notsent_bytes, info.snd_wnd) = (tries, bytes, 0),
        _ => (info.retransmits, info.rto_us, info.unacked) = (tries, rto_ms * 1000, 1),
    }
    sight.info = Some(info);
    sight
}

/// Its program has closed it.
pub fn orphan(sight: Sight) -> Sight {
    Sight { inode: 0, ..sight }
}

pub fn request(cookie: u64, from: u8, repeated: u8, expires_ms: u32) -> Sight {
    Sight {
        kind: Kind::Request,
        state: TcpState::NewSynRecv,
        ends: Ends { local: v4(1), remote: v4(from), lport: 80, rport: 20_000 + cookie as u16 },
        inode: 0,
        timer: Some(Timer { kind: TimerKind::Retransmit, expires_ms, retransmits: repeated }),
        shutdown: None,
        info: None,
        ..sight(cookie, TcpState::NewSynRecv)
    }
}

pub fn listener(cookie: u64, port: u16, queued: u32, backlog: u32) -> Sight {
    Sight {
        ends: Ends { lport: port, ..Ends::default() },
        receive_queue: queued,
        send_queue: backlog,
        info: None,
        ..sight(cookie, TcpState::Listen)
    }
}

pub fn minisocket(cookie: u64, state: TcpState, expires_ms: u32) -> Sight {
    Sight {
        kind: Kind::Minisocket,
        inode: 0,
        timer: Some(Timer { kind: TimerKind::TimeWait, expires_ms, retransmits: 0 }),
        shutdown: None,
        info: None,
        ..sight(cookie, state)
    }
}

/// A connection's own account, with nothing set.
pub fn detail(cookie: u64) -> SocketDetail {
    SocketDetail {
        cookie,
        netns: NETNS,
        state: TcpState::Established,
        orphan: false,
        fin_received: false,
        error: 0,
        soft_error: 0,
        options: Options {
            user_timeout_ms: Some(0),
            syn_retries: Some(0),
            keepalive: Some(false),
            keepalive_interval_ns: Some(0),
            keepalive_probes: Some(0),
            ..Options::default()
        },
        part: Part::Connection(Stall::default()),
    }
}

pub fn window(detail: SocketDetail, bytes: u32) -> SocketDetail {
    SocketDetail { part: Part::Connection(Stall { peer_window: Some(bytes), ..Stall::default() }), ..detail }
}

pub fn user_timeout(detail: SocketDetail, ms: u32) -> SocketDetail {
    SocketDetail { options: Options { user_timeout_ms: Some(ms), ..detail.options }, ..detail }
}

pub fn process(pid: u32, comm: &str) -> Arc<Process> {
    Arc::new(Process { pid, uid: 0, cgroup: 0, comm: comm.into() })
}

pub fn told(age: Option<Span>) -> Told {
    Told {
        role: Role::Unknown,
        age,
        owner: None,
        closed_by: None,
        retransmits: [0; Segment::ALL.len()],
        failed_sends: 0,
    }
}

pub fn exactly(ns: u64) -> Option<Span> {
    Some(Span { ns, exact: true })
}

pub fn at_least(ns: u64) -> Option<Span> {
    Some(Span { ns, exact: false })
}

/// A host, and how it is looked at.
#[derive(Clone, Debug)]
pub struct Host {
    pub limits: Limits,
    pub sights: Vec<(Sight, Told)>,
    pub details: Vec<SocketDetail>,
    pub holders: HashMap<u64, Holder>,
    pub around: Around,
    pub older_than_ns: Option<u64>,
    pub memory: Memory,
    pub now_ns: u64,
}

impl Host {
    pub fn of(sights: impl IntoIterator<Item = Sight>) -> Self {
        Self {
            limits: limits(),
            sights: sights.into_iter().map(|sight| (sight, told(None))).collect(),
            details: Vec::new(),
            holders: HashMap::new(),
            around: Around::default(),
            older_than_ns: None,
            memory: Memory::default(),
            now_ns: NOW_NS,
        }
    }

    /// Every socket has been in its state for so long.
    pub fn aged(mut self, age: Option<Span>) -> Self {
        self.sights.iter_mut().for_each(|(_, told)| told.age = age);
        self
    }

    pub fn with(mut self, detail: SocketDetail) -> Self {
        self.details.push(detail);
        self
    }

    pub fn set(mut self, set: impl FnOnce(&mut Limits)) -> Self {
        set(&mut self.limits);
        self
    }

    pub fn older_than(mut self, ns: u64) -> Self {
        self.older_than_ns = Some(ns);
        self
    }

    pub fn held(mut self, cookie: u64, pid: u32, comm: &str) -> Self {
        self.holders.insert(cookie, Holder::alone(process(pid, comm), 7));
        self
    }

    pub fn scene(&mut self) -> Scene {
        let limits = Arc::new(self.limits.clone());
        let namespaces = self.sights.iter().map(|(sight, _)| sight.netns);
        let mut look =
            Look::new(namespaces.chain([NETNS]).map(|netns| (netns, Arc::clone(&limits))).collect(), false);
        let taken = Taken { from_ns: self.now_ns, to_ns: self.now_ns };
        for (sight, told) in &self.sights {
            look.add(sight, taken, self.holders.get(&sight.cookie), || told.clone());
        }
        let details: HashMap<_, _> = self.details.iter().map(|detail| (detail.cookie, *detail)).collect();
        for netns in look.doubtful(self.older_than_ns) {
            look.add_details(netns, &details);
        }
        look.finish(self.now_ns, self.around.clone(), self.older_than_ns, &mut self.memory)
    }

    pub fn judged(&mut self) -> Diagnosis {
        diagnose(&self.scene())
    }

    /// What is found, if it is one thing.
    pub fn one(mut self) -> Finding {
        let mut diagnosis = self.judged();
        assert_eq!(diagnosis.findings.len(), 1, "{diagnosis:#?}");
        diagnosis.findings.remove(0)
    }

    pub fn none(mut self) -> Diagnosis {
        let diagnosis = self.judged();
        assert!(diagnosis.findings.is_empty(), "{diagnosis:#?}");
        diagnosis
    }
}

/// When it ends at the earliest, in milliseconds.
pub fn ends_ms(finding: &Finding) -> u64 {
    match finding.deadline {
        Deadline::In { earliest_ns, .. } => earliest_ns / MS,
        _ => panic!("{finding:#?}"),
    }
}

pub fn never(finding: &Finding) -> bool {
    matches!(finding.deadline, Deadline::Never(_))
}
