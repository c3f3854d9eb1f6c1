//! INET_DIAG as bytes. Requests are written, answers are read: any bytes, with no allocation a socket.

mod abi;
mod request;
#[cfg(test)]
mod tests;

use super::query::States;
use crate::{
    event::{Ends, TcpState},
    sight::{Kind, Memory, Sight, TcpInfo, Timer, TimerKind},
};
use abi::{
    ATTRIBUTE_CGROUP, ATTRIBUTE_INFO, ATTRIBUTE_MEMORY, ATTRIBUTE_SHUTDOWN, BOTH_FAMILIES, BY_FAMILY, DONE,
    ERROR, Long, Message, NOOP, OVERRUN, RawInfo, TIMER_MINISOCKET, Word,
};
use netlink_packet_core::{NLM_F_DUMP_INTR, NetlinkBuffer, NlasIterator};
pub(super) use request::Request;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// How the kernel ended its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// That was all.
    Complete,
    /// It could not: an errno.
    Failed(i32),
}

/// What a datagram said beside its sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reply {
    /// The end of the answer, if it is in here.
    pub(super) end: Option<End>,
    /// The table has changed in a way that the kernel could not follow: the list may have holes.
    pub(super) interrupted: bool,
    /// Messages that make no sense. Always 0, unless the kernel and we disagree.
    pub(super) unreadable: u64,
}

/// What is wanted of the sockets in a datagram.
pub(super) struct Reader<'a> {
    /// Of the request: what has another answers an earlier one.
    pub(super) sequence: u32,
    /// Others are left out.
    pub(super) states: States,
    /// Where the sockets are.
    pub(super) netns: u32,
    /// Told of every socket that is bound to an interface.
    pub(super) bound_to: &'a mut dyn FnMut(u32),
}

impl Reader<'_> {
    /// Reads a datagram, and appends its sockets.
    pub(super) fn read(&mut self, mut datagram: &[u8], into: &mut Vec<Sight>) -> Reply {
        let mut reply = Reply::default();
        while !datagram.is_empty() {
            let Ok(message) = NetlinkBuffer::new_checked(datagram) else {
                reply.unreadable += 1;
                break;
            };
            if message.sequence_number() == self.sequence {
                reply.interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
                match message.message_type() {
                    BY_FAMILY | BOTH_FAMILIES => match self.sight(message.payload()) {
                        Some(sight) if self.states.has(sight.state) => into.push(sight),
                        Some(_) => {}
                        None => reply.unreadable += 1,
                    },
                    DONE | ERROR => reply.end = Some(end(message.payload())),
                    OVERRUN => reply.interrupted = true,
                    NOOP => {}
                    _ => reply.unreadable += 1,
                }
            }
            let aligned = (message.length() as usize).next_multiple_of(4);
            datagram = datagram.get(aligned..).unwrap_or_default();
        }
        reply
    }

    /// The socket of one message; `None` if it makes no sense.
    fn sight(&mut self, payload: &[u8]) -> Option<Sight> {
        let (message, attributes) = Message::ref_from_prefix(payload).ok()?;
        let [low, high] = message.id.cookie;
        let cookie = u64::from(low.get()) | u64::from(high.get()) << 32;
        let state = TcpState::from_number(message.state)?;
        let address = match i32::from(message.family) {
            libc::AF_INET => mapped,
            libc::AF_INET6 => |address| address,
            _ => return None,
        };
        if cookie == 0 {
            return None;
        }
        let interface = message.id.interface.get();
        if interface != 0 {
            (self.bound_to)(interface);
        }
        let mut sight = Sight {
            cookie,
            netns: self.netns,
            kind: Kind::Full,
            state,
            ends: Ends {
                local: address(message.id.local),
                remote: address(message.id.remote),
                lport: message.id.lport.get(),
                rport: message.id.rport.get(),
            },
            uid: message.uid.get(),
            inode: message.inode.get(),
            receive_queue: message.receive_queue.get(),
            send_queue: message.send_queue.get(),
            timer: timer(message),
            shutdown: None,
            cgroup: None,
            memory: None,
            info: None,
        };
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute.ok()?;
            match attribute.kind() {
                ATTRIBUTE_SHUTDOWN => sight.shutdown = Some(*attribute.value().first()?),
                ATTRIBUTE_CGROUP => {
                    sight.cgroup = Some(Long::read_from_prefix(attribute.value()).ok()?.0.get())
                }
                ATTRIBUTE_MEMORY => sight.memory = Some(memory(attribute.value())),
                // A listener's has other things in the same places.
                ATTRIBUTE_INFO if state != TcpState::Listen => sight.info = Some(info(attribute.value())),
                _ => {}
            }
        }
        // The kernel tells `sk_shutdown` of every full socket, asked or not, and of nothing else (run on 6.18; the
        // source has been so since 3.x).
        if message.timer == TIMER_MINISOCKET {
            sight.kind = Kind::Minisocket;
        } else if sight.shutdown.is_none() && state == TcpState::SynRecv {
            (sight.kind, sight.state) = (Kind::Request, TcpState::NewSynRecv);
        }
        Some(sight)
    }
}

/// DONE and ERROR begin with 0 or a negative errno; a DONE without it is taken at its word.
fn end(payload: &[u8]) -> End {
    match Word::read_from_prefix(payload).map_or(0, |(code, _)| code.get().cast_signed()) {
        negative @ ..0 => End::Failed(negative.saturating_neg()),
        _ => End::Complete,
    }
}

fn mapped(address: [u8; 16]) -> [u8; 16] {
    let [a, b, c, d, ..] = address;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

fn timer(message: &Message) -> Option<Timer> {
    let kind = match message.timer {
        1 => TimerKind::Retransmit,
        2 => TimerKind::Keepalive,
        TIMER_MINISOCKET => TimerKind::TimeWait,
        4 => TimerKind::Probe,
        _ => return None, // 0: none runs; 5, on newer kernels: a delayed ACK, which nobody waits for
    };
    // A timer that is due and has not run is negative on older kernels.
    let expires_ms = message.expires_ms.get().cast_signed().max(0).cast_unsigned();
    Some(Timer { kind, expires_ms, retransmits: message.retransmits })
}

/// As many words as there are; the rest is 0.
fn memory(value: &[u8]) -> Memory {
    let mut words = [Word::ZERO; 9];
    copy(value, words.as_mut_bytes());
    let [receive, receive_limit, transmit, send_limit, forward, queued, options, backlog, drops] =
        words.map(Word::get);
    Memory {
        receive,
        receive_limit,
        transmit,
        send_limit,
        forward: forward.cast_signed().max(0).cast_unsigned(), // in debt for a moment
        queued,
        options,
        backlog,
        drops,
    }
}

/// Of any length: what this kernel does not have is 0.
fn info(value: &[u8]) -> TcpInfo {
    let mut raw = RawInfo::new_zeroed();
    copy(value, raw.as_mut_bytes());
    TcpInfo {
        retransmits: raw.retransmits,
        probes: raw.probes,
        backoff: raw.backoff,
        rto_us: raw.rto.get(),
        unacked: raw.unacked.get(),
        lost: raw.lost.get(),
        last_data_sent_ms: raw.last_data_sent.get(),
        last_data_recv_ms: raw.last_data_recv.get(),
        last_ack_recv_ms: raw.last_ack_recv.get(),
        rtt_us: raw.rtt.get(),
        // All ones: never measured.
        min_rtt_us: Some(raw.min_rtt.get()).filter(|rtt| *rtt != u32::MAX).unwrap_or(0),
        total_retrans: raw.total_retrans.get(),
        bytes_acked: raw.bytes_acked.get(),
        bytes_received: raw.bytes_received.get(),
        bytes_sent: raw.bytes_sent.get(),
        notsent_bytes: raw.notsent_bytes.get(),
        snd_wnd: raw.snd_wnd.get(),
    }
}

/// The beginning of `from`, as much as there is and fits.
fn copy(from: &[u8], to: &mut [u8]) {
    let length = from.len().min(to.len());
    if let (Some(to), Some(from)) = (to.get_mut(..length), from.get(..length)) {
        to.copy_from_slice(from);
    }
}
