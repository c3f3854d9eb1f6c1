//! Every map, its size, and why that size.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::SkStorage,
    macros::{btf_map, map},
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
};
use tcptrace_common::{
    aggregate::{Cell, Since},
    counters::Counters,
    ring::{Positions, Segment},
};

/// All records of all CPUs, where [`config!(own_ring)`](tcptrace_common::config::Config::own_ring) says so. User space sets
/// how many segments it has (8 MiB unless told: about 80,000 records, 80 ms of a million transitions a second), and maps it.
#[map]
pub static SEGMENTS: Array<Segment> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// How far both sides are, and what they tell each other. One entry, mapped by user space.
#[map]
pub static POSITIONS: Array<Positions> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The kernel's ring: all records where there is no ring of our own; where there is, only what wakes user space.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// One entry: the counters of each CPU.
#[map]
pub static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

/// A byte a port, so that lists and ranges of any length cost one look. User space shrinks it to one entry where
/// no port is asked for.
#[map]
pub static PORTS: Array<u8> = Array::with_max_entries(65536, 0);

/// Networks given with `--addr`, IPv4 as `::ffff:a.b.c.d/96+n`.
#[map]
pub static ADDRESSES: LpmTrie<[u8; 16], u8> = LpmTrie::with_max_entries(1024, 1);

/// Namespace inode numbers given with `--netns`.
#[map]
pub static NETNS: HashMap<u32, u8> = HashMap::with_max_entries(4096, 0);

/// Ids of the cgroup given with `--cgroup` and of those below it.
#[map]
pub static CGROUPS: HashMap<u64, u8> = HashMap::with_max_entries(16384, 0);

/// User ids given with `--uid`.
#[map]
pub static UIDS: HashMap<u32, u8> = HashMap::with_max_entries(1024, 0);

/// Calls of `tcp_retransmit_skb` that have not returned, by task: at most one in process context and one in
/// the softirq that interrupted it. 4096 tasks in that function at once is far beyond any machine.
#[map]
pub static CALLS: HashMap<u64, crate::hooks::retransmit_call::Pending> = HashMap::with_max_entries(4096, 0);

/// Of each port class what was added up (`hooks/aggregate.rs`): 4.4 KB a class and CPU. User space makes it as large as there are classes; one
/// where nothing is added up.
#[map]
pub static CELLS: PerCpuArray<Cell> = PerCpuArray::with_max_entries(1, 0);

/// The class of each port. User space makes it as large as there are ports where classes are asked for.
#[map]
pub static PORT_CLASSES: Array<u8> = Array::with_max_entries(1, 0);

/// Since when each socket is in its state, in the sockets' own storage: made with a socket's first event, gone with the socket.
#[btf_map]
pub static SOCKET_BEGINNINGS: SkStorage<Since> = SkStorage::new();

/// The same by address, for kernels whose tracing programs have no such storage (before 5.11). User space sets the size.
#[map]
pub static BEGINNINGS: LruHashMap<u64, Since> = LruHashMap::with_max_entries(1, 0);
