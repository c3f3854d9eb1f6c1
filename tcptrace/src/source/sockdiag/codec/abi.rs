//! The kernel's structures (include/uapi/linux/netlink.h, inet_diag.h, tcp.h).

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    byteorder::{BE, NativeEndian, U16, U32, U64},
};

pub(super) type Word = U32<NativeEndian>;
pub(super) type Long = U64<NativeEndian>;

/// A request for one family; the kernel answers with the same type.
pub(super) const BY_FAMILY: u16 = 20;
/// The older request, which alone lists both families in one walk.
pub(super) const BOTH_FAMILIES: u16 = 18;
/// SOCK_DESTROY (4.5): a request for one family that ends the socket it names.
pub(super) const DESTROY: u16 = 21;
pub(super) const NOOP: u16 = 1;
pub(super) const ERROR: u16 = 2;
pub(super) const DONE: u16 = 3;
pub(super) const OVERRUN: u16 = 4;

pub(super) const ATTRIBUTE_INFO: u16 = 2;
pub(super) const ATTRIBUTE_MEMORY: u16 = 7;
pub(super) const ATTRIBUTE_SHUTDOWN: u16 = 8;
pub(super) const ATTRIBUTE_CGROUP: u16 = 21;

pub(super) const TIMER_MINISOCKET: u8 = 3;

/// `struct nlmsghdr`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct Header {
    pub(super) length: Word,
    pub(super) kind: U16<NativeEndian>,
    pub(super) flags: U16<NativeEndian>,
    pub(super) sequence: Word,
    pub(super) port: Word,
}

/// `struct inet_diag_sockid`.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct SocketId {
    pub(super) lport: U16<BE>,
    pub(super) rport: U16<BE>,
    pub(super) local: [u8; 16],
    pub(super) remote: [u8; 16],
    pub(super) interface: Word,
    pub(super) cookie: [Word; 2],
}

/// `struct inet_diag_req_v2`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct ByFamily {
    pub(super) family: u8,
    pub(super) protocol: u8,
    pub(super) extensions: u8,
    pub(super) pad: u8,
    pub(super) states: Word,
    pub(super) id: SocketId,
}

/// `struct inet_diag_req`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct BothFamilies {
    pub(super) family: u8,
    pub(super) lengths: [u8; 2],
    pub(super) extensions: u8,
    pub(super) id: SocketId,
    pub(super) states: Word,
    pub(super) tables: Word,
}

/// `struct inet_diag_msg`.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Message {
    pub(super) family: u8,
    pub(super) state: u8,
    pub(super) timer: u8,
    pub(super) retransmits: u8,
    pub(super) id: SocketId,
    pub(super) expires_ms: Word,
    pub(super) receive_queue: Word,
    pub(super) send_queue: Word,
    pub(super) uid: Word,
    pub(super) inode: Word,
}

/// `struct tcp_info` as far as we use it.
#[derive(FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub(super) struct RawInfo {
    pub(super) states: [u8; 2],
    pub(super) retransmits: u8,
    pub(super) probes: u8,
    pub(super) backoff: u8,
    pub(super) options: [u8; 3],
    pub(super) rto: Word,
    pub(super) unused_ato_and_mss: [Word; 3],
    pub(super) unacked: Word,
    pub(super) sacked: Word,
    pub(super) lost: Word,
    pub(super) unused_retrans_and_fackets: [Word; 2],
    pub(super) last_data_sent: Word,
    pub(super) last_ack_sent: Word,
    pub(super) last_data_recv: Word,
    pub(super) last_ack_recv: Word,
    pub(super) unused_mtu_and_threshold: [Word; 2],
    pub(super) rtt: Word,
    pub(super) unused_variance_to_receive_space: [Word; 7],
    pub(super) total_retrans: Word,
    pub(super) pacing: [Long; 2],
    pub(super) bytes_acked: Long,
    pub(super) bytes_received: Long,
    pub(super) segments: [Word; 2],
    pub(super) notsent_bytes: Word,
    pub(super) min_rtt: Word,
    pub(super) data_segments: [Word; 2],
    pub(super) rate_and_limits: [Long; 4],
    pub(super) delivered: [Word; 2],
    pub(super) bytes_sent: Long,
    pub(super) bytes_retrans: Long,
    pub(super) unused_dsack_to_out_of_order: [Word; 3],
    pub(super) snd_wnd: Word,
}

const _: () = {
    assert!(size_of::<Header>() == 16);
    assert!(size_of::<ByFamily>() == 56 && size_of::<BothFamilies>() == 60 && size_of::<Message>() == 72);
    assert!(std::mem::offset_of!(RawInfo, total_retrans) == 100);
    assert!(std::mem::offset_of!(RawInfo, bytes_sent) == 200 && size_of::<RawInfo>() == 232);
};
