//! What sock_diag does not show of a socket but its end depends on: the timeouts a program has set, and when its present
//! trouble began. By cookie, so that it joins events and sights; a socket without a cookie is not shown, and a sock_diag
//! dump gives one to each.
//!
//! Read by a BPF iterator over the TCP sockets of one network namespace (tcptrace-ebpf, hooks/tcp_sockets.rs), loaded by
//! itself when the first [`DetailSource`] is made. There is no other way to learn any of this: where the iterator cannot
//! be had, it stays unknown.

mod convert;

use super::{
    btf::{Btf, KERNEL_BTF},
    iterator::{Iterator, Kind, check, each_record, types},
    live::slept_ns,
    netns::Namespace,
};
use crate::event::TcpState;
use convert::{Convert, tick_hz};
use serde::{Deserialize, Serialize};

use hashbrown::HashMap;
use std::path::Path;
use tcptrace_common::{
    config::Config,
    detail::{CLOCK, CONTEXT_MEMBERS, Detail},
    layout::Offsets,
};

const KIND: Kind = Kind {
    program: "tcp_sockets",
    target: "tcp",
    over: "TCP sockets",
    context: "bpf_iter__tcp",
    context_members: &CONTEXT_MEMBERS,
    required: &["seq"],
};

/// How long a tick of the kernel's clock is, in nanoseconds. `None`: it does not say so.
pub fn tick_ns() -> Option<u64> {
    tick_hz().map(|hz| 1_000_000_000 / hz)
}

/// Which sockets to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// Those that may end by a timer of the kernel: of ESTABLISHED and CLOSE_WAIT only sockets that retransmit or probe
    /// (icsk_retransmits, icsk_probes_out or icsk_backoff is not 0), of all other states each. A hundred thousand healthy
    /// connections are walked over, and not one of them is copied.
    #[default]
    Pressed,
    /// Every one, but for minisockets.
    All,
}

/// What a program set by `TCP_LINGER2`: how long an orphan waits in FIN_WAIT2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Linger2 {
    /// Nothing: net.ipv4.tcp_fin_timeout rules.
    Sysctl,
    /// A negative value: no waiting; close() in FIN_WAIT2, or the ACK of the FIN, ends the connection with an RST.
    Abort,
    /// So many nanoseconds.
    Time(u64),
}

/// What programs may have set on a socket. Children inherit it from their listener. `None`: this kernel does not have the
/// member, or for times, the length of its tick is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// `TCP_USER_TIMEOUT` in milliseconds; 0: not set.
    pub user_timeout_ms: Option<u32>,
    /// `TCP_SYNCNT`; 0: not set, net.ipv4.tcp_syn_retries rules.
    pub syn_retries: Option<u8>,
    /// `TCP_LINGER2`.
    pub linger2: Option<Linger2>,
    /// `SO_KEEPALIVE`.
    pub keepalive: Option<bool>,
    /// `TCP_KEEPIDLE`, set whether keepalive is on or not; 0: not set, net.ipv4.tcp_keepalive_time rules.
    pub keepalive_time_ns: Option<u64>,
    /// `TCP_KEEPINTVL`; 0: not set, net.ipv4.tcp_keepalive_intvl rules.
    pub keepalive_interval_ns: Option<u64>,
    /// `TCP_KEEPCNT`; 0: not set, net.ipv4.tcp_keepalive_probes rules.
    pub keepalive_probes: Option<u8>,
    /// The longest retransmission time-out: `TCP_RTO_MAX_MS` or, when the socket was made, net.ipv4.tcp_rto_max_ms. Since
    /// 6.15; before, 120 s.
    pub rto_max_us: Option<u64>,
}

/// How a socket fares with what it has sent. `None` as in [`Options`], or as said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// Time-outs of the present stall (icsk_retransmits).
    pub retransmits: Option<u8>,
    /// How often the time-out was doubled (icsk_backoff).
    pub backoff: Option<u8>,
    /// Zero-window or keepalive probes without an answer (icsk_probes_out).
    pub probes_out: Option<u8>,
    /// The retransmission time-out now, in microseconds: while it retransmits doublings included; the waits between
    /// zero-window probes are this, doubled `backoff` times.
    pub rto_us: Option<u64>,
    /// When the first retransmission of the present stall was sent, or tried, on the boot-time clock; in SYN_SENT the first
    /// SYN. From here the kernel counts the time of tcp_retries2, tcp_orphan_retries and TCP_USER_TIMEOUT. Exact to a
    /// millisecond. `None` also: no stall.
    pub began_ns: Option<u64>,
    /// When the first timer of the present row of zero-window probes expired, on the boot-time clock, exact to a tick; from
    /// here TCP_USER_TIMEOUT counts. Since 5.11. `None` also: no probes.
    pub probes_began_ns: Option<u64>,
    /// The peer's window in bytes (snd_wnd).
    pub peer_window: Option<u32>,
    /// Segments in flight (packets_out).
    pub packets_out: Option<u32>,
    /// Sent and not acknowledged, in sequence numbers: SYN and FIN count as one byte each.
    pub unacked: Option<u32>,
    /// Written and not yet sent, likewise. 0 after close() or shutdown(): the FIN has been sent.
    pub unsent: Option<u32>,
    /// Segments retransmitted over the connection's life.
    pub total_retrans: Option<u32>,
}

/// The queues of a listener. `None` as in [`Options`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Connections that wait for accept(): `Recv-Q` of `ss -l`.
    pub length: Option<u32>,
    /// The backlog; the queue is full when it is longer than this: `Send-Q` of `ss -l`.
    pub limit: Option<u32>,
    /// Half-open requests.
    pub half_open: Option<u32>,
    /// Those of them whose SYN-ACK has not been repeated.
    pub young: Option<u32>,
    /// `TCP_DEFER_ACCEPT` as a number of SYN-ACKs; 0: off.
    pub defer_accept: Option<u8>,
    /// SYNs and connections refused since the listener began, for a full queue or for other reasons (sk_drops).
    pub drops: Option<u32>,
}

/// How a half-open request fares. `None` as in [`Options`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// SYN-ACKs repeated.
    pub retransmits: Option<u8>,
    /// Time-outs: more than repetitions where a SYN-ACK was held back (TCP_DEFER_ACCEPT, or `acked`).
    pub timeouts: Option<u8>,
    /// The last ACK of the handshake came, and made no connection: there was no room in the accept queue, or
    /// TCP_DEFER_ACCEPT waits for data.
    pub acked: Option<bool>,
}

/// What kind of object it is, and what only that kind has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// A connection, or an attempt at one.
    Connection(Stall),
    /// A listener.
    Listener(Queue),
    /// A half-open request; its [`Options`] are its listener's, and not shown here.
    Request(Request),
}

/// One socket at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketDetail {
    /// Its cookie; never 0.
    pub cookie: u64,
    /// Inode number of its network namespace.
    pub netns: u32,
    /// Its state; [`TcpState::NewSynRecv`] for requests.
    pub state: TcpState,
    /// close() was called, nobody has it any more (SOCK_DEAD). Of subflows of MPTCP it says nothing.
    pub orphan: bool,
    /// The peer's FIN has come (SOCK_DONE).
    pub fin_received: bool,
    /// An error that the program has not fetched yet (sk_err), as errno; 0: none.
    pub error: u32,
    /// The last hint at what is wrong (sk_err_soft), mostly from ICMP; with it the kernel gives up earlier, and this is the
    /// error the program then gets. An errno; 0: none.
    pub soft_error: u32,
    /// What the program has set.
    pub options: Options,
    /// What only this kind of object has.
    pub part: Part,
}

impl SocketDetail {
    /// How it fares; `None`: no connection.
    pub fn stall(&self) -> Option<&Stall> {
        if let Part::Connection(stall) = &self.part { Some(stall) } else { None }
    }

    /// Its queues; `None`: no listener.
    pub fn queue(&self) -> Option<&Queue> {
        if let Part::Listener(queue) = &self.part { Some(queue) } else { None }
    }

    /// How it fares; `None`: no request.
    pub fn request(&self) -> Option<&Request> {
        if let Part::Request(request) = &self.part { Some(request) } else { None }
    }
}

/// Reads details again and again. Making one loads the iterator, which takes some 50 ms, nearly all of it in reading the
/// kernel's types; keep it.
pub struct DetailSource {
    loaded: Result<Loaded, String>,
}

struct Loaded {
    iterator: Iterator,
    convert: Convert,
}

impl Default for DetailSource {
    fn default() -> Self {
        Self::new()
    }
}

impl DetailSource {
    /// For sockets that a timer may end.
    pub fn new() -> Self {
        Self::of(Wanted::default())
    }

    /// For these sockets. Where the iterator cannot be loaded, [`Self::refused`] says why.
    pub fn of(wanted: Wanted) -> Self {
        Self { loaded: Loaded::load(wanted) }
    }

    /// Why there are no details; `None`: there are.
    pub fn refused(&self) -> Option<&str> {
        self.loaded.as_ref().err().map(String::as_str)
    }

    /// The sockets of this namespace now, by cookie. Blocks: about as long as a sock_diag dump of the same sockets. The
    /// namespace is held open meanwhile.
    ///
    /// # Errors
    /// Why there are no details, or why the namespace may not be entered.
    pub fn read(&mut self, namespace: &Namespace) -> Result<HashMap<u64, SocketDetail>, String> {
        let loaded = self.loaded.as_mut().map_err(|why| why.clone())?;
        let (records, clock) = loaded.walk(namespace)?;
        let convert = loaded.convert.at(&clock, slept_ns());
        let details = records.iter().filter_map(|record| convert.detail(record, namespace.inode()));
        Ok(details.map(|detail| (detail.cookie, detail)).collect())
    }
}

impl Loaded {
    fn load(wanted: Wanted) -> Result<Self, String> {
        check()?;
        let btf = Btf::read(Path::new(KERNEL_BTF)).map_err(|error| error.to_string())?;
        Self::load_with(&btf, KIND.offsets(&btf)?, wanted)
    }

    fn load_with(btf: &Btf, offsets: Offsets, wanted: Wanted) -> Result<Self, String> {
        let bits = |states: &[TcpState]| states.iter().fold(0, |bits, state| bits | 1 << state.number());
        let mut config = Config::EMPTY;
        config.offsets = offsets;
        config.tcp_sock_helper = 1;
        config.detail_states = bits(&TcpState::ALL) & !bits(&[TcpState::TimeWait, TcpState::Close]);
        if wanted == Wanted::Pressed {
            config.detail_stalled = bits(&[TcpState::Established, TcpState::CloseWait]);
            config.detail_states &= !config.detail_stalled;
        }
        let iterator = Iterator::load(&KIND, &config, &types()?)?;
        Ok(Self { iterator, convert: Convert::new(btf, &offsets, tick_hz()) })
    }

    /// The sockets, and the time after the last of them.
    fn walk(&mut self, namespace: &Namespace) -> Result<(Vec<Detail>, Detail), String> {
        let file = namespace.enter(|| self.iterator.open()).map_err(|error| error.to_string())??;
        let (mut records, mut clock) = (Vec::new(), None);
        each_record(&file, |record: Detail| match record.kind {
            CLOCK => clock = Some(record),
            _ => records.push(record),
        })?;
        // Always there: the kernel calls the program once more at the end.
        let clock = clock.ok_or("the iterator over TCP sockets ended without telling the time")?;
        Ok((records, clock))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use tcptrace_common::layout::Member;

    /// The frequency that user space is told, beside what the kernel counts. Jiffies begin five minutes before they wrap at
    /// 32 bits; neither they nor this clock count sleep.
    #[test]
    #[ignore = "needs root: loads BPF programs"]
    fn jiffies_pass_as_often_as_the_tick_says() {
        let (_, clock) = Loaded::load(Wanted::Pressed).unwrap().walk(&Namespace::own().unwrap()).unwrap();
        let hz = tick_hz().unwrap();
        let since_boot = clock.flags - u64::from((300 * hz as u32).wrapping_neg());
        let difference = (since_boot * 1000 / hz).abs_diff(clock.cookie / 1_000_000);
        assert!(difference < 3000, "{difference} ms at {hz} Hz: {clock:?}");
    }

    /// Kernels lack some members; take all away that are not in every one since 5.8.
    #[test]
    #[ignore = "needs root: loads BPF programs"]
    fn members_that_are_missing_cost_only_what_they_tell() {
        let btf = Btf::read(Path::new(KERNEL_BTF)).unwrap();
        let offsets = KIND.offsets(&btf).unwrap();
        let kept = |member: &Member| ["sock_common", "bpf_iter_meta"].contains(&member.of);
        let offset =
            |wanted: &Member| offsets.each().find(|(member, _)| *member == wanted).map(|(_, offset)| offset);
        let few = Offsets::resolve(|member| if kept(member) { offset(member) } else { None });
        let listener = socket2::Socket::from(TcpListener::bind("127.0.0.1:0").unwrap());
        let cookie = listener.cookie().unwrap();
        let mut source = DetailSource { loaded: Loaded::load_with(&btf, few, Wanted::All) };
        assert_eq!(source.refused(), None);
        let details = source.read(&Namespace::own().unwrap()).unwrap();
        let detail = details[&cookie];
        assert_eq!((detail.state, detail.part), (TcpState::Listen, Part::Listener(Queue::default())));
        assert_eq!(detail.options, Options { keepalive: Some(false), ..Options::default() });
    }
}
