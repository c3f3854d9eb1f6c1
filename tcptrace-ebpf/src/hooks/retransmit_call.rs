//! The function `tcp_retransmit_skb` itself, by kprobe and kretprobe: attempts, segments asked for, failures.
//! It sees the failed sends that the tracepoint hides before 6.17, and misses tail loss probes.

use super::retransmit::{Segment, describe, segment};
use crate::{config, emit::count, filter, maps, read::Raw, sock};
use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_get_smp_processor_id},
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use tcptrace_common::{
    config::{CALLS_ALL, CALLS_FAILED},
    event::Kind,
};

/// Calls of one task that have not returned: a softirq may interrupt one in process context.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Pending {
    depth: u64,
    calls: [Call; 2],
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Call {
    sk: u64,
    segments: u64,
    segment: Segment,
}

const NOBODY: Pending = Pending {
    depth: 0,
    calls: [Call {
        sk: 0,
        segments: 0,
        segment: Segment { seq: 0, end_seq: 0, segments: 0, tcp_flags: 0, known: 0 },
    }; 2],
};

/// The task; the idle tasks of all CPUs share id 0, so they are told apart by CPU.
#[inline(always)]
fn caller() -> u64 {
    match bpf_get_current_pid_tgid() {
        // SAFETY: no arguments.
        0 => 1 << 63 | u64::from(unsafe { bpf_get_smp_processor_id() }),
        task => task,
    }
}

#[kprobe]
fn retransmit_call(ctx: ProbeContext) -> u32 {
    let (Some(sk), Some(skb), Some(segments)) = (ctx.arg::<u64>(0), ctx.arg::<u64>(1), ctx.arg::<i32>(2))
    else {
        return 0;
    };
    let key = caller();
    let mut pending = maps::CALLS.get_ptr(key).map_or(NOBODY, |p| {
        // SAFETY: an element of the map; only this task writes it.
        unsafe { *p }
    });
    let call = Call { sk, segments: u64::from(segments as u32), segment: segment::<Raw>(skb as *const u8) };
    match pending.depth {
        0 => pending.calls[0] = call,
        1 => pending.calls[1] = call,
        _ => {}
    }
    pending.depth += 1;
    let _ = maps::CALLS.insert(key, pending, 0);
    0
}

#[kretprobe]
fn retransmit_return(ctx: RetProbeContext) -> u32 {
    let key = caller();
    let Some(pending) = maps::CALLS.get_ptr_mut(key) else { return 0 };
    // SAFETY: an element of the map; only this task writes it.
    let (depth, calls) = unsafe { ((*pending).depth, (*pending).calls) };
    let call = match depth {
        1 => calls[0],
        2 => calls[1],
        _ => Call { sk: 0, ..NOBODY.calls[0] },
    };
    if depth <= 1 {
        let _ = maps::CALLS.remove(key);
    } else {
        // SAFETY: as above.
        unsafe { (*pending).depth = depth - 1 };
    }
    if call.sk != 0 {
        on_return(call, ctx.ret::<u64>() as i32);
    }
    0
}

#[inline(always)]
fn on_return(call: Call, result: i32) {
    let sk = call.sk as *const u8;
    let mut head = sock::header::<Raw>(Kind::RetransmitCall, sk, true);
    if !filter::wants::<Raw>(&mut head, sk, true, false) {
        return;
    }
    // Positive results are "nothing to send": no failure to put on the wire (net/ipv4/tcp_output.c).
    let report = match config!(calls) as u8 {
        CALLS_ALL => true,
        CALLS_FAILED => result < 0,
        _ => false,
    };
    if !report {
        if let Some(count) = crate::emit::counters() {
            count.call(call.segments, result < 0);
        }
        return;
    }
    sock::stamp(&mut head);
    let Some(count) = count(Kind::RetransmitCall) else { return };
    count.call(call.segments, result < 0);
    count.send(Kind::RetransmitCall, describe::<Raw>(head, sk, call.segment, result));
}
