//! Who accepts: the return of `inet_csk_accept`. No tracepoint names the program that takes a connection.

use super::state::make_cookie;
use crate::{
    emit::count,
    filter,
    read::{Access, Btf},
    required, sock,
};
use aya_ebpf::{macros::fexit, programs::FExitContext};
use tcptrace_common::event::{Accept, Kind};

const IPPROTO_TCP: u16 = 6;

/// Linux 6.10 and later: the returned value stands behind two arguments.
#[fexit(function = "inet_csk_accept")]
fn accept_return(ctx: FExitContext) -> i32 {
    on_accept(ctx.arg::<*const u8>(2));
    0
}

/// Before 6.10: behind four. A program of its own, because the verifier wants constant offsets and the compiler would
/// merge the two.
#[fexit(function = "inet_csk_accept")]
fn accept_return_four(ctx: FExitContext) -> i32 {
    on_accept(ctx.arg::<*const u8>(4));
    0
}

#[inline(always)]
fn on_accept(child: *const u8) {
    if child.is_null() || required!(Btf, Btf::at(child), sk_protocol, u16) != IPPROTO_TCP {
        return;
    }
    let mut head = sock::header::<Btf>(Kind::Accept, child, true);
    if !filter::wants::<Btf>(&mut head, child, true, false) {
        return;
    }
    make_cookie::<Btf>(&mut head, child);
    sock::stamp(&mut head);
    let Some(count) = count(Kind::Accept) else { return };
    count.send_with::<Accept>(Kind::Accept, |slot| {
        // SAFETY: room for one record; every field is written.
        unsafe {
            (&raw mut (*slot).head).write(head);
            sock::task::<Btf>(&mut (*slot).task);
        }
    });
}
