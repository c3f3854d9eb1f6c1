//! `tcptrace doctor`: what this kernel and these privileges allow, what is lost without the rest, and what to type.

use super::trace::Format;
use crate::{
    error::StartError,
    source::{
        hooks::{Outcome, PROBES, RETRANSMIT_CALL, TRACEPOINTS, Way},
        load::{LoadOptions, load},
        machine::{Check, Status, checks},
        privileges::{Privileges, USES, Use},
    },
    view::{ColorChoice, Palette},
};
use serde_json::{Value, json};
use std::io::{self, Write};

/// Arguments of `doctor`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Colours; auto: on a terminal, unless NO_COLOR is set
    #[arg(long, value_enum, default_value_t)]
    color: ColorChoice,
}

/// What attaching every hook came to.
enum Hooks {
    /// Tried: each hook's outcome.
    Tried(Vec<Outcome>),
    /// Not tried, and why.
    Unchecked(String),
}

/// Prints what works.
///
/// # Errors
/// Standard output's; a broken pipe is none.
pub fn run(args: Args) -> anyhow::Result<()> {
    let checks = checks();
    let hooks = try_hooks();
    let mut out = io::stdout().lock();
    let written = match args.format {
        Format::Text => text(&mut out, &Palette::new(args.color), &checks, &hooks),
        Format::Json => writeln!(out, "{}", machine_readable(&checks, &hooks)),
    };
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Attaches everything for a moment.
fn try_hooks() -> Hooks {
    let missing = Privileges::read().missing();
    if !missing.is_empty() {
        return Hooks::Unchecked(format!("needs {}; type: sudo tcptrace doctor", missing.join(" and ")));
    }
    // The outcome is what counts here: the programs are detached again at once.
    match load(&LoadOptions::default()) {
        Ok(loaded) => Hooks::Tried(loaded.outcomes),
        Err(error @ StartError::NoStateHook { .. }) => Hooks::Unchecked(error.to_string()),
        Err(error) => Hooks::Unchecked(error.to_string()),
    }
}

fn text(out: &mut impl Write, palette: &Palette, checks: &[Check], hooks: &Hooks) -> io::Result<()> {
    let strong = palette.strong;
    let verdict = match hooks {
        Hooks::Tried(outcomes) if outcomes.iter().all(|outcome| outcome.way == Some(Way::Btf)) => {
            "tcptrace can trace here, with everything it has".to_owned()
        }
        Hooks::Tried(outcomes) => {
            let lost = outcomes.iter().filter(|outcome| outcome.way.is_none()).count();
            match lost {
                0 => "tcptrace can trace here; every hook attaches".to_owned(),
                _ => format!("tcptrace can trace here; {lost} of {} hooks do not attach", outcomes.len()),
            }
        }
        Hooks::Unchecked(_) if checks.iter().any(|check| check.status == Status::Bad) => {
            "tcptrace cannot trace here as things are".to_owned()
        }
        Hooks::Unchecked(_) => {
            "nothing speaks against tracing here, but the hooks could not be tried".to_owned()
        }
    };
    writeln!(out, "{strong}{verdict}{strong:#}\n")?;
    for check in checks {
        let style = match check.status {
            Status::Good => palette.good,
            Status::Note => palette.warn,
            Status::Bad => palette.bad,
            Status::Unknown => palette.dim,
        };
        writeln!(out, "{:<16} {style}{:<7}{style:#} {}", check.name, check.status.name(), check.value)?;
        if let Some(advice) = &check.advice {
            writeln!(out, "{:<24} {advice}", "")?;
        }
    }
    capabilities(out, palette)?;
    writeln!(out, "\n{strong}{:<31} {:<9} {:<38} NOTE{strong:#}", "HOOK", "ATTACHED", "TELLS")?;
    match hooks {
        Hooks::Tried(outcomes) => outcomes.iter().try_for_each(|outcome| row(out, palette, outcome)),
        Hooks::Unchecked(why) => {
            for hook in TRACEPOINTS.iter().chain([&RETRANSMIT_CALL]).chain(&PROBES) {
                writeln!(
                    out,
                    "{:<31} {:<9} {:<38} without it: {}",
                    hook.target, "?", hook.tells, hook.without
                )?;
            }
            writeln!(out, "\nnot tried: {why}")
        }
    }
}

/// Each capability that something needs: whether we have it, and what is lost without it.
fn capabilities(out: &mut impl Write, palette: &Palette) -> io::Result<()> {
    let (strong, privileges) = (palette.strong, Privileges::read());
    writeln!(out, "\n{strong}{:<20} {:<5} NEEDED FOR{strong:#}", "CAPABILITY", "HERE")?;
    for Use { capability, needed_for, without } in USES {
        let has = privileges.has(capability);
        let (word, style) = if has { ("yes", palette.good) } else { ("no", palette.warn) };
        writeln!(out, "{:<20} {style}{word:<5}{style:#} {needed_for}", capability.name())?;
        if !has {
            writeln!(out, "{:<26} without it: {without}", "")?;
        }
    }
    Ok(())
}

fn row(out: &mut impl Write, palette: &Palette, outcome: &Outcome) -> io::Result<()> {
    let hook = outcome.hook;
    let (way, style, note) = match outcome.way {
        Some(way) => {
            let fell_back = outcome.refused.first().map(|(better, why)| format!("not {better}: {why}"));
            (way.to_string(), palette.good, fell_back.unwrap_or_default())
        }
        None => {
            let why: Vec<_> = outcome.refused.iter().map(|(way, why)| format!("{way}: {why}")).collect();
            ("no".to_owned(), palette.warn, format!("{}; without it: {}", why.join("; "), hook.without))
        }
    };
    let line = format!("{:<31} {style}{way:<9}{style:#} {:<38} {note}", hook.target, hook.tells);
    writeln!(out, "{}", line.trim_end())
}

fn machine_readable(checks: &[Check], hooks: &Hooks) -> Value {
    let checks: Vec<_> = checks
        .iter()
        .map(|check| {
            json!({ "name": check.name, "status": check.status.name(), "value": check.value, "advice": check.advice })
        })
        .collect();
    let privileges = Privileges::read();
    let capabilities = USES.iter().map(|Use { capability, needed_for, without }| {
        let has = privileges.has(*capability);
        json!({ "name": capability.name(), "has": has, "needed_for": needed_for, "without": without })
    });
    let capabilities: Vec<_> = capabilities.collect();
    let (tried, why) = match hooks {
        Hooks::Tried(outcomes) => (outcomes.as_slice(), None),
        Hooks::Unchecked(why) => (&[][..], Some(why)),
    };
    let hooks: Vec<_> = tried
        .iter()
        .map(|outcome| {
            let refused =
                outcome.refused.iter().map(|(way, why)| json!({ "way": way.to_string(), "why": why }));
            json!({
                "hook": outcome.hook.target,
                "attached": outcome.way.map(|way| way.to_string()),
                "tells": outcome.hook.tells,
                "without": outcome.hook.without,
                "refused": refused.collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({ "v": crate::wire::VERSION, "type": "doctor", "checks": checks, "capabilities": capabilities, "hooks": hooks, "not_tried": why })
}
