//! Which members of kernel structures the programs read, and the tracepoint record fields. The lists are
//! here once: the programs use the generated fields, user space resolves the names from the running kernel.
//! Nothing assumes an offset: Rust cannot emit CO-RE relocations (rust-lang/rust#160616).

use zerocopy::{Immutable, IntoBytes};

/// An offset of a member that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// The largest offset a member may have: a load has sixteen bits for it, with a sign.
pub const MOST_OFFSET: u32 = i16::MAX as u32;

/// The mark of a load's offset that stands for a member: no structure the programs read otherwise is that long.
const MARK: i32 = 0x7000;
/// Beside the marker of a member of sixteen bytes: its second half.
pub const SECOND_WORD: i32 = 0x800;

/// The offset that stands for the member at this place in [`Offsets`], until user space replaces it.
pub const fn load_marker(place: usize) -> i32 {
    let index = place / size_of::<u32>();
    assert!(index < SECOND_WORD as usize);
    MARK | index as i32
}

/// A member of a kernel structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The structure, e.g. `sock_common`.
    pub of: &'static str,
    /// The member; dots lead into nested structures, e.g. `ns.inum`.
    pub path: &'static str,
    /// How many bytes the programs read. A member of another size counts as absent.
    pub size: u32,
}

macro_rules! offsets {
    ($( $(#[$doc:meta])* $field:ident: $of:literal . $path:literal, $size:literal; )*) => {
        /// Byte offsets, or [`ABSENT`]; one field a member of [`Offsets::MEMBERS`], in the same order.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, IntoBytes, Immutable)]
        #[repr(C)]
        #[allow(missing_docs)] // the fields are the kernel's own member names
        pub struct Offsets { $( $(#[$doc])* pub $field: u32, )* }

        impl Offsets {
            /// What to look up, in the order of the fields.
            pub const MEMBERS: &[Member] = &[ $( Member { of: $of, path: $path, size: $size }, )* ];
            /// No member known: a kernel without BTF.
            pub const NONE: Self = Self { $( $field: ABSENT, )* };

            /// Fills the fields with what `find` says of each member.
            pub fn resolve(mut find: impl FnMut(&Member) -> Option<u32>) -> Self {
                let mut next = Self::MEMBERS.iter();
                let mut offset = || next.next().and_then(&mut find).unwrap_or(ABSENT);
                Self { $( $field: offset(), )* }
            }

            /// What belongs in place of this offset of a load; `None`: it stands for no member. Where the member is
            /// absent no program gets to its load.
            pub fn of_load(&self, marked: i16) -> Option<i16> {
                let marked = i32::from(marked);
                if marked & MARK != MARK {
                    return None;
                }
                let second = if marked & SECOND_WORD != 0 { 8 } else { 0 };
                let offset = *[ $( self.$field, )* ].get((marked & (SECOND_WORD - 1)) as usize)?;
                Some(if offset > MOST_OFFSET { 0 } else { offset as i16 + second })
            }

            /// Each member with its offset, for `doctor` and tests.
            pub fn each(&self) -> impl Iterator<Item = (&'static Member, u32)> {
                Self::MEMBERS.iter().zip([ $( self.$field, )* ])
            }
        }
    };
}

offsets! {
    skc_family: "sock_common"."skc_family", 2;
    skc_state: "sock_common"."skc_state", 1;
    skc_num: "sock_common"."skc_num", 2;
    skc_dport: "sock_common"."skc_dport", 2;
    skc_daddr: "sock_common"."skc_daddr", 4;
    skc_rcv_saddr: "sock_common"."skc_rcv_saddr", 4;
    skc_v6_daddr: "sock_common"."skc_v6_daddr", 16;
    skc_v6_rcv_saddr: "sock_common"."skc_v6_rcv_saddr", 16;
    skc_net: "sock_common"."skc_net", 8;
    skc_cookie: "sock_common"."skc_cookie", 8;
    skc_flags: "sock_common"."skc_flags", 8;
    net_inum: "net"."ns.inum", 4;
    sk_err: "sock"."sk_err", 4;
    sk_err_soft: "sock"."sk_err_soft", 4;
    sk_shutdown: "sock"."sk_shutdown", 1;
    sk_protocol: "sock"."sk_protocol", 2;
    sk_socket: "sock"."sk_socket", 8;
    sk_uid: "sock"."sk_uid", 4;
    sk_ack_backlog: "sock"."sk_ack_backlog", 4;
    sk_max_ack_backlog: "sock"."sk_max_ack_backlog", 4;
    sk_drops: "sock"."sk_drops", 4;
    /// The socket's cgroup; on 5.10 a tagged number, later a pointer.
    sk_cgroup: "sock"."sk_cgrp_data", 0;
    task_tgid: "task_struct"."tgid", 4;
    task_pid: "task_struct"."pid", 4;
    task_comm: "task_struct"."comm", 16;
    task_cred: "task_struct"."cred", 8;
    task_cgroups: "task_struct"."cgroups", 8;
    cred_uid: "cred"."uid", 4;
    css_set_cgroup: "css_set"."dfl_cgrp", 8;
    cgroup_kn: "cgroup"."kn", 8;
    kn_id: "kernfs_node"."id", 8;
    inet_sport: "inet_sock"."inet_sport", 2;
    /// Bit field of five bits, the low ones of its byte.
    icsk_ca_state: "inet_connection_sock"."icsk_ca_state", 0;
    icsk_pending: "inet_connection_sock"."icsk_pending", 1;
    icsk_retransmits: "inet_connection_sock"."icsk_retransmits", 1;
    icsk_backoff: "inet_connection_sock"."icsk_backoff", 1;
    icsk_probes_out: "inet_connection_sock"."icsk_probes_out", 1;
    icsk_probes_tstamp: "inet_connection_sock"."icsk_probes_tstamp", 4;
    icsk_rto: "inet_connection_sock"."icsk_rto", 4;
    icsk_rto_max: "inet_connection_sock"."icsk_rto_max", 4;
    icsk_syn_retries: "inet_connection_sock"."icsk_syn_retries", 1;
    icsk_user_timeout: "inet_connection_sock"."icsk_user_timeout", 4;
    queue_defer_accept: "inet_connection_sock"."icsk_accept_queue.rskq_defer_accept", 1;
    queue_qlen: "inet_connection_sock"."icsk_accept_queue.qlen", 4;
    queue_young: "inet_connection_sock"."icsk_accept_queue.young", 4;
    bytes_sent: "tcp_sock"."bytes_sent", 8;
    bytes_acked: "tcp_sock"."bytes_acked", 8;
    bytes_received: "tcp_sock"."bytes_received", 8;
    bytes_retrans: "tcp_sock"."bytes_retrans", 8;
    srtt_us: "tcp_sock"."srtt_us", 4;
    rtt_min: "tcp_sock"."rtt_min", 0;
    total_retrans: "tcp_sock"."total_retrans", 4;
    packets_out: "tcp_sock"."packets_out", 4;
    write_seq: "tcp_sock"."write_seq", 4;
    snd_una: "tcp_sock"."snd_una", 4;
    snd_nxt: "tcp_sock"."snd_nxt", 4;
    snd_wnd: "tcp_sock"."snd_wnd", 4;
    rcv_nxt: "tcp_sock"."rcv_nxt", 4;
    copied_seq: "tcp_sock"."copied_seq", 4;
    linger2: "tcp_sock"."linger2", 4;
    retrans_stamp: "tcp_sock"."retrans_stamp", 4;
    /// One bit; the programs hand over the byte that holds it.
    tcp_usec_ts: "tcp_sock"."tcp_usec_ts", 0;
    keepalive_time: "tcp_sock"."keepalive_time", 4;
    keepalive_intvl: "tcp_sock"."keepalive_intvl", 4;
    keepalive_probes: "tcp_sock"."keepalive_probes", 1;
    req_num_retrans: "request_sock"."num_retrans", 1;
    snt_synack: "tcp_request_sock"."snt_synack", 8;
    /// Bit field of seven bits above `syncookie`, in one byte.
    req_num_timeout: "request_sock"."num_timeout", 0;
    /// One bit; the programs hand over the byte that holds it.
    req_acked: "inet_request_sock"."acked", 0;
    tw_substate: "inet_timewait_sock"."tw_substate", 1;
    skb_cb: "sk_buff"."cb", 0;
    skb_dev: "sk_buff"."dev", 8;
    dev_net: "net_device"."nd_net", 8;
    skb_head: "sk_buff"."head", 8;
    skb_network_header: "sk_buff"."network_header", 2;
    skb_transport_header: "sk_buff"."transport_header", 2;
    cb_seq: "tcp_skb_cb"."seq", 4;
    cb_end_seq: "tcp_skb_cb"."end_seq", 4;
    cb_segs: "tcp_skb_cb"."tcp_gso_segs", 2;
    /// One byte up to 6.14, two later; the programs read the low one.
    cb_flags: "tcp_skb_cb"."tcp_flags", 0;
    iter_seq: "bpf_iter_meta"."seq", 8;
    file_inode: "file"."f_inode", 8;
    inode_mode: "inode"."i_mode", 2;
    inode_number: "inode"."i_ino", 8;
    socket_sk: "socket"."sk", 8;
}

/// How many bytes of `sock_common` the raw and classic programs copy in one read. Its members have kept
/// their places from 5.10 to 7.3; user space refuses a kernel where one lies further out.
pub const COMMON_BYTES: usize = 136;

/// A field that this tracepoint's record does not have.
pub const NO_FIELD: u16 = u16::MAX;

/// Where the fields of one classic tracepoint's record are, from its `format` file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoBytes, Immutable)]
#[repr(C)]
pub struct Record {
    /// `skaddr`: the socket.
    pub sk: u16,
    /// `skbaddr`: the packet.
    pub skb: u16,
    /// `req`: the half-open request.
    pub req: u16,
    /// `oldstate`.
    pub old: u16,
    /// `newstate`.
    pub new: u16,
    /// `protocol`, two bytes.
    pub protocol: u16,
    /// `sport`, host order.
    pub sport: u16,
    /// `dport`, host order.
    pub dport: u16,
    /// `saddr_v6`: 16 bytes, IPv4 mapped.
    pub saddr: u16,
    /// `daddr_v6`, likewise.
    pub daddr: u16,
    /// `saddr` where it is a whole socket address (`tcp_send_reset` from 6.10).
    pub saddr_sock: u16,
    /// `daddr`, likewise.
    pub daddr_sock: u16,
    /// `state`.
    pub state: u16,
    /// `reason` or `err`, four bytes.
    pub detail: u16,
}

impl Record {
    /// No field known: the tracepoint is not used.
    pub const NONE: Self = Self {
        sk: NO_FIELD,
        skb: NO_FIELD,
        req: NO_FIELD,
        old: NO_FIELD,
        new: NO_FIELD,
        protocol: NO_FIELD,
        sport: NO_FIELD,
        dport: NO_FIELD,
        saddr: NO_FIELD,
        daddr: NO_FIELD,
        saddr_sock: NO_FIELD,
        daddr_sock: NO_FIELD,
        state: NO_FIELD,
        detail: NO_FIELD,
    };
}
