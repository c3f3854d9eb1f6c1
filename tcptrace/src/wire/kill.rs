//! The lines of `kill`: a socket that was ended or would be (`kill`), the sum (`kill-summary`), and what goes into the
//! audit (`kill-audit`).

use super::{
    line::{begin, both, end_with, join},
    plain, sight,
};
use crate::{
    enrich::Places,
    event::TcpState,
    flow::{
        FlowId, Role, Who,
        owner::{Owner, Source},
    },
    kill::{LeftOut, Outcome, Tally, Target},
    process::Process,
    sight::Kind,
    view::kill::told,
    wall::Wall,
};
use serde::Serialize;
use serde_json::{Value, json};
use std::rc::Rc;

#[derive(Serialize)]
struct KillBody {
    fd: Option<u32>,
    holders: Option<u32>,
    result: &'static str,
    now_state: Option<&'static str>,
    errno: Option<i32>,
    text: String,
}

#[derive(Serialize)]
struct AuditBody<'a> {
    /// `intent`: before anything is done; `result`: what came of it.
    phase: &'static str,
    by: &'a Value,
    fd: Option<u32>,
    state: &'static str,
    socket: &'static str,
    in_state_ns: Option<u64>,
    bound: Option<&'static str>,
    result: Option<&'static str>,
    text: Option<String>,
}

/// Writes what came of a socket as one line.
///
/// # Errors
/// None: memory is all it writes to.
pub fn socket(
    out: &mut Vec<u8>,
    wall: &mut Wall,
    places: &Places,
    time_ns: u64,
    target: &Target,
    outcome: &Outcome,
) -> serde_json::Result<()> {
    let who = who(target);
    let place = who.owner.as_ref().and_then(|owner| places.of_owner(&owner.process));
    begin(out, wall, "kill", (time_ns, &who), both(&who.ends), place.as_deref());
    join(out, sight::body(&target.seen))?;
    end_with(
        out,
        KillBody {
            fd: target.held.as_ref().map(|held| held.fd),
            holders: target.held.as_ref().map(|held| held.processes),
            result: outcome.name(),
            now_state: now_state(outcome).map(TcpState::name),
            errno: if let Outcome::Refused(errno) = outcome { Some(*errno) } else { None },
            text: told(outcome, target),
        },
    )
}

/// Writes what goes into the audit as one line: without an outcome, that it will be tried.
///
/// # Errors
/// None: memory is all it writes to.
pub fn audit(
    out: &mut Vec<u8>,
    wall: &mut Wall,
    time_ns: u64,
    by: &Value,
    target: &Target,
    outcome: Option<&Outcome>,
) -> serde_json::Result<()> {
    let seen = &target.seen;
    let body = AuditBody {
        phase: if outcome.is_some() { "result" } else { "intent" },
        by,
        fd: target.held.as_ref().map(|held| held.fd),
        state: seen.sight.state.name(),
        socket: seen.sight.kind.name(),
        in_state_ns: seen.age.map(|span| span.ns),
        bound: seen.age.map(|_| seen.bound.name()),
        result: outcome.map(Outcome::name),
        text: outcome.map(|outcome| told(outcome, target)),
    };
    let who = who(target);
    begin(out, wall, "kill-audit", (time_ns, &who), both(&who.ends), None);
    end_with(out, body)
}

/// Writes the sum as one line.
///
/// # Errors
/// None: memory is all it writes to.
pub fn summary(
    out: &mut Vec<u8>,
    wall: &mut Wall,
    now_ns: u64,
    found: (bool, u64, LeftOut),
    tally: Tally,
    notes: &[String],
) -> serde_json::Result<()> {
    let (dry_run, matched, left_out) = found;
    let body = json!({
        "dry_run": dry_run,
        "matched": matched,
        "killed": tally.killed,
        "gone": tally.gone,
        "changed": tally.changed,
        "failed": tally.failed,
        "left_out": {
            "no_age": left_out.no_age,
            "younger": left_out.younger,
            "listeners": left_out.listeners,
            "nobodys": left_out.nobodys,
        },
        "notes": notes,
    });
    plain(out, wall, "kill-summary", now_ns, body)
}

const fn now_state(outcome: &Outcome) -> Option<TcpState> {
    match outcome {
        Outcome::Changed(state, _) | Outcome::Stayed(state) => Some(*state),
        _ => None,
    }
}

fn who(target: &Target) -> Who {
    let sight = &target.seen.sight;
    let role = match (sight.state, sight.kind) {
        (TcpState::Listen, _) => Role::Listen,
        (_, Kind::Request) => Role::Passive,
        _ => Role::Unknown,
    };
    let owner = target
        .held
        .as_ref()
        .map(|held| Owner { process: Rc::new(Process::clone(&held.process)), source: Source::Descriptor });
    Who { id: FlowId::Cookie(sight.cookie), netns: sight.netns, ends: sight.ends, role, owner }
}
