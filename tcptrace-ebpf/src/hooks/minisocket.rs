//! Timewait minisockets, which no tracepoint mentions: `__inet_twsk_schedule` starts their timer when they begin (see
//! below) and when they go from FIN_WAIT2 to TIME_WAIT; every removal goes through `inet_twsk_kill`.

use super::state::make_cookie;
use crate::{
    emit::count,
    filter, member,
    read::{Access, Btf},
    sock,
};
use aya_ebpf::{macros::fentry, programs::FEntryContext};
use tcptrace_common::{
    event::{BEGINS, CHANGES, ENDS, Kind, Object},
    state::TcpState,
};

/// Linux 6.12 and later: `__inet_twsk_schedule` lies in the same file, and compilers inline that call (seen on 7.3).
#[fentry(function = "inet_twsk_hashdance_schedule")]
fn minisocket_begin(ctx: FEntryContext) -> i32 {
    on_minisocket(ctx.arg::<*const u8>(0), BEGINS, ctx.arg::<u64>(3) as u32);
    0
}

/// Beside [`minisocket_begin`]: only the changes.
#[fentry(function = "__inet_twsk_schedule")]
fn minisocket_change(ctx: FEntryContext) -> i32 {
    if ctx.arg::<u64>(2) as u8 != 0 {
        on_minisocket(ctx.arg::<*const u8>(0), CHANGES, ctx.arg::<u64>(1) as u32);
    }
    0
}

/// Without [`minisocket_begin`]: both.
#[fentry(function = "__inet_twsk_schedule")]
fn minisocket_timer(ctx: FEntryContext) -> i32 {
    let rearmed = ctx.arg::<u64>(2) as u8 != 0;
    let step = if rearmed { CHANGES } else { BEGINS };
    on_minisocket(ctx.arg::<*const u8>(0), step, ctx.arg::<u64>(1) as u32);
    0
}

#[fentry(function = "inet_twsk_kill")]
fn minisocket_end(ctx: FEntryContext) -> i32 {
    on_minisocket(ctx.arg::<*const u8>(0), ENDS, 0);
    0
}

#[inline(always)]
fn on_minisocket(tw: *const u8, step: u8, timeout: u32) {
    let mut head = sock::header::<Btf>(Kind::Object, tw, false);
    // The socket's state is TIME_WAIT for both flavours.
    head.pre.state = member!(Btf::at(tw), tw_substate, u8);
    head.pre.to = if step == ENDS { TcpState::Close.number() } else { head.pre.state };
    if !filter::wants::<Btf>(&mut head, tw, false, false) {
        return;
    }
    make_cookie::<Btf>(&mut head, tw);
    sock::stamp(&mut head);
    let Some(count) = count(Kind::Object) else { return };
    count.send(Kind::Object, Object { head, timeout, step, spare: [0; 3] });
}
