//! Half-open requests, from the SYN on: no tracepoint mentions them before their first SYN-ACK is repeated, or their end.
//! `__inet_csk_reqsk_queue_drop` sees every removal, the one that makes a socket of the request included.

use super::state::make_cookie;
use crate::{emit::count, filter, read::Btf, sock};
use aya_ebpf::{macros::fentry, programs::FEntryContext};
use tcptrace_common::{
    event::{BEGINS, ENDS, Kind, Object},
    state::TcpState,
};

#[fentry(function = "inet_csk_reqsk_queue_hash_add")]
fn request_begin(ctx: FEntryContext) -> i32 {
    on_request(ctx.arg::<*const u8>(0), ctx.arg::<*const u8>(1), BEGINS);
    0
}

#[fentry(function = "__inet_csk_reqsk_queue_drop")]
fn request_end(ctx: FEntryContext) -> i32 {
    on_request(ctx.arg::<*const u8>(0), ctx.arg::<*const u8>(1), ENDS);
    0
}

#[inline(always)]
fn on_request(listener: *const u8, req: *const u8, step: u8) {
    let mut head = sock::header::<Btf>(Kind::Object, req, false);
    head.pre.state = TcpState::NewSynRecv.number();
    head.pre.to = if step == ENDS { TcpState::Close.number() } else { head.pre.state };
    // User and cgroup are the listener's.
    if !filter::wants::<Btf>(&mut head, listener, true, false) {
        return;
    }
    // The child inherits the request's cookie: from here on one identity for the whole life.
    make_cookie::<Btf>(&mut head, req);
    sock::stamp(&mut head);
    let Some(count) = count(Kind::Object) else { return };
    count.send(Kind::Object, Object { head, timeout: 0, step, spare: [0; 3] });
}
