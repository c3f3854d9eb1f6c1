//! How kernel memory is read: by direct loads from BTF-typed pointers (`tp_btf`: cheapest, works under
//! lockdown), or by `bpf_probe_read_kernel` (raw and classic tracepoints, probes).

use crate::config::constant;
use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_skc_to_tcp_request_sock, bpf_skc_to_tcp_sock};
use core::mem::MaybeUninit;
use tcptrace_common::layout::{COMMON_BYTES, SECOND_WORD};

/// Something with members at offsets.
pub trait Read: Copy {
    /// The `T` at this offset; zero where it cannot be read.
    ///
    /// # Safety
    /// The offset is a member's, of at least `T`'s size, and every bit pattern is a `T`.
    unsafe fn get<T: Copy>(&self, offset: usize) -> T;

    /// A member, by the markers of its offset in a load ([`load_marker`]) and in a constant ([`marker`]).
    ///
    /// # Safety
    /// The member has at least `T`'s size, and every bit pattern is a `T`.
    ///
    /// [`load_marker`]: tcptrace_common::layout::load_marker
    /// [`marker`]: tcptrace_common::config::marker
    unsafe fn member<T: Copy, const LOAD: i32, const OFFSET: i32>(&self) -> T;
}

/// A load whose offset is a marker.
#[cfg(target_arch = "bpf")]
macro_rules! load {
    ($type:literal, $base:expr, $at:expr) => {{
        let value: u64;
        core::arch::asm!(concat!("{value} = *(", $type, " *)({base} + {at})"), value = out(reg) value,
            base = in(reg) $base, at = const $at, options(readonly, nostack, preserves_flags));
        value
    }};
}

/// A BTF-typed pointer, where the verifier checks each load against the kernel's types and a fault reads zero;
/// or our own stack.
#[derive(Clone, Copy)]
pub struct Direct(pub *const u8);

impl Read for Direct {
    #[inline(always)]
    unsafe fn get<T: Copy>(&self, offset: usize) -> T {
        // SAFETY: verified at load against the kernel's BTF.
        unsafe { self.0.add(offset).cast::<T>().read_volatile() }
    }

    /// One instruction, whose offset user space fills in: computing the address takes three more.
    #[cfg(target_arch = "bpf")]
    #[inline(always)]
    unsafe fn member<T: Copy, const LOAD: i32, const OFFSET: i32>(&self) -> T {
        let mut value = MaybeUninit::<T>::uninit();
        let to = value.as_mut_ptr();
        // SAFETY: verified at load; the sizes are the same.
        unsafe {
            match size_of::<T>() {
                1 => to.cast::<u8>().write(load!("u8", self.0, LOAD) as u8),
                2 => to.cast::<u16>().write(load!("u16", self.0, LOAD) as u16),
                4 => to.cast::<u32>().write(load!("u32", self.0, LOAD) as u32),
                8 => to.cast::<u64>().write(load!("u64", self.0, LOAD)),
                16 => {
                    let words = [load!("u64", self.0, LOAD), load!("u64", self.0, LOAD | SECOND_WORD)];
                    to.cast::<[u64; 2]>().write(words);
                }
                _ => to.write(self.get(constant::<OFFSET>() as usize)),
            }
            value.assume_init()
        }
    }

    #[cfg(not(target_arch = "bpf"))]
    unsafe fn member<T: Copy, const LOAD: i32, const OFFSET: i32>(&self) -> T {
        // SAFETY: the caller's; never called on the host.
        unsafe { self.get(constant::<OFFSET>() as usize) }
    }
}

/// Any kernel address.
#[derive(Clone, Copy)]
pub struct Probed(pub *const u8);

impl Read for Probed {
    #[inline(always)]
    unsafe fn get<T: Copy>(&self, offset: usize) -> T {
        let mut value = MaybeUninit::<T>::zeroed();
        // SAFETY: the destination is ours and `T` large; the helper checks the source and zeroes on a fault.
        unsafe {
            bpf_probe_read_kernel(
                value.as_mut_ptr().cast(),
                size_of::<T>() as u32,
                self.0.add(offset).cast(),
            );
            value.assume_init()
        }
    }

    #[inline(always)]
    unsafe fn member<T: Copy, const LOAD: i32, const OFFSET: i32>(&self) -> T {
        // SAFETY: the caller's.
        unsafe { self.get(constant::<OFFSET>() as usize) }
    }
}

/// Room for a copy of `sock_common`: one helper call for many members.
pub type CommonCopy = MaybeUninit<[u64; COMMON_BYTES / 8]>;

/// Which way a program reads.
pub trait Access {
    /// There is type information for certain: the members that user space requires need no check (a third of the
    /// instructions on the path that every event takes).
    const TYPED: bool;
    /// Any structure.
    type At: Read;
    /// A view of the members that every kind of socket has (`sock_common`). `room` is for those who copy.
    fn common(sk: *const u8, room: &mut CommonCopy) -> Direct;
    /// A view of the structure at this address.
    fn at(address: *const u8) -> Self::At;
    /// A view of a full TCP socket beyond `struct sock`; `None` if it is not one.
    fn tcp(sk: *const u8) -> Option<Self::At>;
    /// A view of a half-open request beyond `struct request_sock`; `None` if it is not one of TCP.
    fn request(req: *const u8) -> Option<Self::At>;
    /// Makes the socket's cookie if it has none. 0 where that is impossible.
    fn cookie(sk: *const u8) -> u64;
}

/// `tp_btf` programs.
pub struct Btf;

impl Access for Btf {
    const TYPED: bool = true;
    type At = Direct;

    #[inline(always)]
    fn common(sk: *const u8, _: &mut CommonCopy) -> Direct {
        Direct(sk)
    }

    #[inline(always)]
    fn at(address: *const u8) -> Direct {
        Direct(address)
    }

    #[inline(always)]
    fn tcp(sk: *const u8) -> Option<Direct> {
        if crate::config!(tcp_sock_helper) == 0 {
            return None;
        }
        // SAFETY: the verifier accepts only a socket pointer here.
        let tcp = unsafe { bpf_skc_to_tcp_sock(sk.cast_mut().cast()) };
        if tcp.is_null() { None } else { Some(Direct(tcp.cast_const().cast())) }
    }

    #[inline(always)]
    fn request(req: *const u8) -> Option<Direct> {
        if crate::config!(tcp_sock_helper) == 0 {
            return None;
        }
        // SAFETY: the verifier accepts only a socket pointer here.
        let request = unsafe { bpf_skc_to_tcp_request_sock(req.cast_mut().cast()) };
        if request.is_null() { None } else { Some(Direct(request.cast_const().cast())) }
    }

    #[inline(always)]
    fn cookie(sk: *const u8) -> u64 {
        if crate::config!(cookie_helper) == 0 {
            return 0;
        }
        // SAFETY: the verifier accepts only a socket pointer here.
        unsafe { aya_ebpf::helpers::generated::bpf_get_socket_cookie(sk.cast_mut().cast()) }
    }
}

/// Raw and classic tracepoints, and probes.
pub struct Raw;

impl Access for Raw {
    const TYPED: bool = false;
    type At = Probed;

    #[inline(always)]
    fn common(sk: *const u8, room: &mut CommonCopy) -> Direct {
        // SAFETY: the destination is ours and that large; the helper zeroes it on a fault.
        unsafe { bpf_probe_read_kernel(room.as_mut_ptr().cast(), COMMON_BYTES as u32, sk.cast()) };
        Direct(room.as_ptr().cast())
    }

    #[inline(always)]
    fn at(address: *const u8) -> Probed {
        Probed(address)
    }

    #[inline(always)]
    fn tcp(sk: *const u8) -> Option<Probed> {
        Some(Probed(sk))
    }

    #[inline(always)]
    fn request(req: *const u8) -> Option<Probed> {
        Some(Probed(req))
    }

    #[inline(always)]
    fn cookie(_: *const u8) -> u64 {
        0
    }
}

/// Reads a member that every kernel with type information has (`required` in user space's layout.rs).
#[macro_export]
macro_rules! required {
    ($access:ident, $view:expr, $member:ident, $t:ty) => {
        if $access::TYPED {
            $crate::load_member!($view, $member, $t)
        } else {
            $crate::member!($view, $member, $t)
        }
    };
}

/// Reads a member, or gives zero where this kernel does not have it.
#[macro_export]
macro_rules! member {
    ($view:expr, $member:ident, $t:ty) => {
        if $crate::offset!($member).is_some() {
            $crate::load_member!($view, $member, $t)
        } else {
            #[allow(unused_unsafe)] // also used inside unsafe blocks
            // SAFETY: only used with integers and pointers: zero is a value.
            let zero = unsafe { core::mem::zeroed::<$t>() };
            zero
        }
    };
}

/// Reads a member that is there.
#[macro_export]
macro_rules! load_member {
    ($view:expr, $member:ident, $t:ty) => {{
        const LOAD: i32 = tcptrace_common::layout::load_marker(core::mem::offset_of!(
            tcptrace_common::layout::Offsets,
            $member
        ));
        const OFFSET: i32 = $crate::marker!(offsets.$member);
        let view = &$view;
        #[allow(unused_unsafe)] // also used inside unsafe blocks
        // SAFETY: the offset is this member's own and its size was checked by user space.
        let value = unsafe { $crate::read::Read::member::<$t, LOAD, OFFSET>(view) };
        value
    }};
}
