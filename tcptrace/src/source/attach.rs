//! Attaches one hook in one way, and says in a sentence why it cannot be done.

use super::hooks::{Hook, Outcome, PROBES, RETRANSMIT_CALL, Way};
use crate::error::StartError;
use aya::{
    Ebpf,
    maps::Map,
    programs::{BtfTracePoint, FEntry, FExit, KProbe, Program, ProgramError, RawTracePoint, TracePoint},
};
use std::{io, path::Path};
use tcptrace_common::layout::{NO_FIELD, Offsets, Record};

/// Why nothing but typed loads works there.
pub(super) const LOCKED: &str = "under lockdown=confidentiality kernel memory may not be read by address";

/// Loads and attaches the hook's program for this way. `probe_read`: programs may read kernel memory by address.
///
/// # Errors
/// Why this way cannot be taken.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    hook: &Hook,
    way: Way,
    offsets: &Result<Offsets, String>,
    record: &Result<Record, String>,
    types: Result<&aya::Btf, &String>,
    probe_read: bool,
) -> Result<(), String> {
    // The verifier would say so in words of its own.
    if way != Way::Btf && !probe_read {
        return Err(LOCKED.to_owned());
    }
    let needs_offsets = || offsets.as_ref().map(|_| ()).map_err(|why| format!("no offsets: {why}"));
    let refused = |error: ProgramError| explain(&error);
    match way {
        Way::Btf => {
            needs_offsets()?;
            let types = types.map_err(Clone::clone)?;
            let program: &mut BtfTracePoint = program(ebpf, &format!("{}_btf", hook.stem))?;
            program.load(hook.target, types).map_err(refused)?;
            program.attach().map_err(refused)?;
        }
        Way::Raw => {
            needs_offsets()?;
            let program: &mut RawTracePoint = program(ebpf, &format!("{}_raw", hook.stem))?;
            program.load().map_err(refused)?;
            program.attach(hook.target).map_err(refused)?;
        }
        Way::Classic => {
            check_record(hook, record.as_ref().map_err(Clone::clone)?)?;
            let program: &mut TracePoint = program(ebpf, &format!("{}_classic", hook.stem))?;
            program.load().map_err(refused)?;
            program.attach(hook.category, hook.target).map_err(refused)?;
        }
        Way::Kprobe | Way::Fentry | Way::Fexit => return Err("not a tracepoint".to_owned()),
    }
    Ok(())
}

/// A record without the fields its program reads cannot be used.
fn check_record(hook: &Hook, record: &Record) -> Result<(), String> {
    let needed: &[u16] = match hook.stem {
        "state" => &[record.sk, record.old, record.new, record.protocol, record.sport, record.saddr],
        "retransmit" => &[record.sk, record.skb, record.state, record.sport, record.saddr],
        "send_reset" => &[record.sk, record.skb, record.state],
        "synack" => &[record.req, record.sport, record.saddr],
        _ => &[record.sk, record.sport, record.saddr],
    };
    if needed.contains(&NO_FIELD) {
        return Err(format!("the record of {} lacks a field that tcptrace reads", hook.target));
    }
    Ok(())
}

/// Attaches the function probe, if this kernel has such probes.
pub(super) fn attach_calls(ebpf: &mut Ebpf, offsets: &Result<Offsets, String>, probe_read: bool) -> Outcome {
    let mut outcome = Outcome { hook: &RETRANSMIT_CALL, way: None, refused: Vec::new() };
    let locked = if probe_read { Ok(()) } else { Err(LOCKED.to_owned()) };
    let attached = kprobes().and(locked).and_then(|()| {
        offsets.as_ref().map_err(|why| format!("no offsets: {why}"))?;
        // The return first: a call that began before both were there is then ignored, not left pending.
        for name in ["retransmit_return", "retransmit_call"] {
            let probe: &mut KProbe = program(ebpf, name)?;
            probe.load().map_err(|error| explain(&error))?;
            probe.attach("tcp_retransmit_skb", 0).map_err(|error| explain(&error))?;
        }
        Ok(())
    });
    match attached {
        Ok(()) => outcome.way = Some(Way::Kprobe),
        Err(why) => outcome.refused.push((Way::Kprobe, why)),
    }
    outcome
}

/// Attaches the optional function probes, each alone. `types`: or why they cannot be used here. `accept_arguments`: how
/// many `inet_csk_accept` has.
pub(super) fn attach_probes(
    ebpf: &mut Ebpf,
    types: Result<&aya::Btf, &str>,
    accept_arguments: usize,
) -> Vec<Outcome> {
    let mut closed = types.err().map(str::to_owned);
    let attach = |hook: &'static Hook| {
        let way = if hook.stem == "accept_return" { Way::Fexit } else { Way::Fentry };
        let attached = match (&closed, types) {
            (None, Ok(types)) => attach_probe(ebpf, hook, types, accept_arguments),
            (why, _) => Err(Refused::Here(why.clone().unwrap_or_default())),
        };
        match attached {
            Ok(()) => Outcome { hook, way: Some(way), refused: Vec::new() },
            Err(refused) => {
                let (Refused::Here(why) | Refused::Everywhere(why)) = &refused;
                let outcome = Outcome { hook, way: None, refused: vec![(way, why.clone())] };
                // What is refused as a kind need not be tried again: start-up is not to wait for it.
                if let Refused::Everywhere(why) = refused {
                    closed = Some(why);
                }
                outcome
            }
        }
    };
    PROBES.iter().map(attach).collect()
}

/// Why a probe cannot be attached.
enum Refused {
    /// This one.
    Here(String),
    /// No such program is allowed.
    Everywhere(String),
}

fn attach_probe(
    ebpf: &mut Ebpf,
    hook: &Hook,
    types: &aya::Btf,
    accept_arguments: usize,
) -> Result<(), Refused> {
    let function = hook.target.trim_end_matches("()");
    match hook.stem {
        "minisocket_timer" => match fentry(ebpf, "minisocket_begin", "inet_twsk_hashdance_schedule", types) {
            Err(Refused::Here(_)) => fentry(ebpf, "minisocket_timer", function, types),
            begin => begin.and_then(|()| fentry(ebpf, "minisocket_change", function, types)),
        },
        "accept_return" => {
            let name = if accept_arguments == 4 { "accept_return_four" } else { hook.stem };
            let probe: &mut FExit = program(ebpf, name).map_err(Refused::Here)?;
            let attached = probe.load(function, types).and_then(|()| probe.attach());
            attached.map(|_| ()).map_err(|error| refused(&error, function))
        }
        name => fentry(ebpf, name, function, types),
    }
}

fn fentry(ebpf: &mut Ebpf, name: &str, function: &str, types: &aya::Btf) -> Result<(), Refused> {
    let probe: &mut FEntry = program(ebpf, name).map_err(Refused::Here)?;
    let attached = probe.load(function, types).and_then(|()| probe.attach());
    attached.map(|_| ()).map_err(|error| refused(&error, function))
}

fn refused(error: &ProgramError, function: &str) -> Refused {
    match error {
        // Not even looked at.
        ProgramError::LoadError { io_error, verifier_log }
            if io_error.kind() == io::ErrorKind::PermissionDenied
                && verifier_log.to_string().trim().is_empty() =>
        {
            Refused::Everywhere(explain(error))
        }
        ProgramError::Btf(_) => Refused::Here(format!("this kernel has no function {function} to probe")),
        _ => Refused::Here(explain(error)),
    }
}

fn kprobes() -> Result<(), String> {
    if Path::new("/sys/bus/event_source/devices/kprobe").exists() {
        Ok(())
    } else {
        Err("this kernel has no kprobes (CONFIG_KPROBE_EVENTS), or hides them".to_owned())
    }
}

/// The program of this name.
pub(super) fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, String>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or_else(|| format!("the object has no program {name}"))?;
    program.try_into().map_err(|error: ProgramError| chain(&error))
}

/// Takes the map of this name out of what was loaded.
pub(super) fn take_map<M>(ebpf: &mut Ebpf, name: &str) -> Result<M, StartError>
where
    M: TryFrom<Map, Error: std::error::Error>,
{
    let unexpected = |why| StartError::Unexpected { what: name.to_owned(), why };
    let map = ebpf.take_map(name).ok_or_else(|| unexpected("the object has no such map".to_owned()))?;
    map.try_into().map_err(|error| unexpected(chain(&error)))
}

/// An error with all its causes, on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// What the kernel said to a program; of the verifier's log only the end, which has the reason.
pub(super) fn explain(error: &ProgramError) -> String {
    let ProgramError::LoadError { io_error, verifier_log } = error else { return chain(error) };
    let log = verifier_log.to_string();
    let lines: Vec<_> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    // The last lines are statistics; what went wrong stands right before them.
    let statistics = ["processed ", "verification time", "stack depth", "subprog "];
    let said = |line: &&str| !statistics.iter().any(|start| line.starts_with(start));
    let end = lines.iter().rposition(said).map_or(0, |at| at + 1);
    let tail = lines.get(end.saturating_sub(3)..end).unwrap_or_default().join(" | ");
    match (tail.is_empty(), io_error.kind()) {
        (true, io::ErrorKind::PermissionDenied) => {
            format!("the kernel refuses such programs here ({io_error})")
        }
        (true, _) => io_error.to_string(),
        (false, _) => {
            format!("the verifier refused the program ({io_error}): {tail}; please report this kernel")
        }
    }
}
