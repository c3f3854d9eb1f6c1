//! Facts about the machine that decide what can be traced, each with what to do about it.

use super::{
    aggregate::{Aggregate, Beginnings, TABLE_ENTRIES},
    btf::{Btf, KERNEL_BTF},
    details::DetailSource,
    holders::HolderSource,
    iterator, layout,
    load::LoadOptions,
    memlock,
    netns::Namespace,
    privileges::{Privileges, kernel_version, setcap, tracing},
    sockdiag::{DiagError, SockDiag},
    tracefs,
};
use crate::{error::StartError, units::Bytes};
use std::path::Path;
use tcptrace_common::layout::ABSENT;

/// How a fact bears on tracing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// As it should be.
    Good,
    /// Something is lost or falls back.
    Note,
    /// Tracing is impossible.
    Bad,
    /// Could not be read.
    Unknown,
}

impl Status {
    /// The word users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Bad => "bad",
            Self::Unknown => "unknown",
        }
    }
}

/// One fact.
#[derive(Clone, Debug)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it bears on tracing.
    pub status: Status,
    /// What was found.
    pub value: String,
    /// What to type, or what it means; `None` where nothing needs doing.
    pub advice: Option<String>,
}

impl Check {
    fn new(name: &'static str, status: Status, value: impl Into<String>) -> Self {
        Self { name, status, value: value.into(), advice: None }
    }

    fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// Looks at everything. Needs no privileges; what cannot be read without them says so.
pub fn checks() -> Vec<Check> {
    let privileges = Privileges::read();
    let mut all = vec![
        kernel(),
        types(),
        capabilities(&privileges),
        sandbox(),
        lockdown(&privileges),
        tracefs_mount(),
        paranoid(&privileges),
        cgroups(),
        sockets(&privileges),
        holders(&privileges),
        details(),
        aggregation(),
        tun(),
    ];
    if memlock::counts() {
        all.insert(3, locked_memory());
    }
    all
}

fn kernel() -> Check {
    let (release, version) = kernel_version();
    match version {
        Some(version) if version < (5, 8) => Check::new("kernel", Status::Bad, release)
            .advise("Linux 5.8 or later is needed (BPF ring buffers)"),
        Some(version) if version < (5, 12) => Check::new("kernel", Status::Note, release)
            .advise("before 5.12 sockets get no cookie from us: flows are told apart by address and order"),
        Some(_) => Check::new("kernel", Status::Good, release),
        None => Check::new("kernel", Status::Unknown, release),
    }
}

fn types() -> Check {
    const NAME: &str = "type info (BTF)";
    if !Path::new(KERNEL_BTF).exists() {
        return Check::new(NAME, Status::Note, format!("{KERNEL_BTF} is missing")).advise(
            "only classic tracepoints work, and most causes stay unknown; a kernel built with CONFIG_DEBUG_INFO_BTF=y \
             has it, or give a file with --btf",
        );
    }
    let resolved = Btf::read(Path::new(KERNEL_BTF)).map_err(|error| error.to_string());
    match resolved.and_then(|btf| layout::resolve(&btf)) {
        Ok(offsets) => {
            let missing = layout::missing(&offsets);
            let found = offsets.each().filter(|(_, offset)| *offset != ABSENT).count();
            let value = format!("{found} of {} members found", found + missing.len());
            match missing.as_slice() {
                [] => Check::new(NAME, Status::Good, value),
                missing => Check::new(NAME, Status::Note, value)
                    .advise(format!("not on this kernel, shown as unknown: {}", missing.join(", "))),
            }
        }
        Err(why) => Check::new(NAME, Status::Note, why).advise("only classic tracepoints work"),
    }
}

fn capabilities(privileges: &Privileges) -> Check {
    let missing = privileges.missing();
    if missing.is_empty() {
        return Check::new("capabilities", Status::Good, "enough to load and attach");
    }
    let setcap = setcap(&tracing());
    Check::new("capabilities", Status::Bad, format!("missing {}", missing.join(" and ")))
        .advise(format!("type: sudo tcptrace ...; or once: {setcap}"))
}

/// Only where kernels count maps against it.
fn locked_memory() -> Check {
    const NAME: &str = "locked memory";
    memlock::raise();
    match memlock::limit() {
        None => Check::new(NAME, Status::Good, "not limited"),
        Some(limit) if limit < memlock::LEAST => {
            let value = format!("limited to {}: too little for the maps, whatever --ring-size", Bytes(limit));
            Check::new(NAME, Status::Bad, value).advise(memlock::more())
        }
        Some(limit) => {
            let value = format!("limited to {}, and this kernel counts maps against it", Bytes(limit));
            let advice = format!("if maps are refused: --ring-size 1MiB; or {}", memlock::more());
            Check::new(NAME, Status::Note, value).advise(advice)
        }
    }
}

/// What is given up after attaching, as far as this kernel can.
fn sandbox() -> Check {
    const NAME: &str = "sandbox";
    let (has, lacks) = crate::sandbox::available();
    let value = format!("after attaching, less of: {}", has.join(", "));
    match lacks.as_slice() {
        [] => Check::new(NAME, Status::Good, value),
        lacks => Check::new(NAME, Status::Note, value).advise(lacks.join("; ")),
    }
}

fn lockdown(privileges: &Privileges) -> Check {
    match privileges.lockdown.as_deref() {
        None => Check::new("lockdown", Status::Good, "not in this kernel, or its state cannot be read"),
        Some("confidentiality") => Check::new("lockdown", Status::Note, "confidentiality").advise(
            "only tp_btf works; socketless resets lack their addresses, and --cgroup cannot match: kernel memory may \
             not be read by address",
        ),
        Some(mode) => Check::new("lockdown", Status::Good, mode),
    }
}

fn tracefs_mount() -> Check {
    match tracefs::find() {
        Some(place) => Check::new("tracefs", Status::Good, place.display().to_string()),
        None => match tracefs::readable() {
            Err(why) => Check::new("tracefs", Status::Note, "there, and not for this user")
                .advise(format!("only classic tracepoints need it: {why}")),
            Ok(()) => Check::new("tracefs", Status::Note, "not mounted").advise(
                "only classic tracepoints need it, and tcptrace then mounts it for itself (CAP_SYS_ADMIN)",
            ),
        },
    }
}

fn paranoid(privileges: &Privileges) -> Check {
    const NAME: &str = "perf paranoid";
    match privileges.perf_event_paranoid {
        Some(level) if level > 2 => Check::new(NAME, Status::Note, level.to_string())
            .advise("classic tracepoints and kprobes then need CAP_SYS_ADMIN; tp_btf and raw_tp do not"),
        Some(level) => Check::new(NAME, Status::Good, level.to_string()),
        None => Check::new(NAME, Status::Unknown, "kernel.perf_event_paranoid cannot be read"),
    }
}

fn cgroups() -> Check {
    match super::cgroups::mount() {
        Some(place) => Check::new("cgroup v2", Status::Good, place.display().to_string()),
        None => Check::new("cgroup v2", Status::Note, "not mounted").advise("--cgroup cannot be used"),
    }
}

/// Whether the kernel lists its sockets, and where we may ask.
fn sockets(privileges: &Privileges) -> Check {
    const NAME: &str = "socket list";
    match Namespace::own().map_err(DiagError::from).and_then(|own| SockDiag::open(&own)) {
        Ok(_) if privileges.enters_namespaces() => {
            Check::new(NAME, Status::Good, "sock_diag, in every network namespace that can be found")
        }
        Ok(_) => Check::new(NAME, Status::Note, "sock_diag, in this network namespace only")
            .advise("others need CAP_SYS_ADMIN: there, sockets older than the trace stay unknown"),
        Err(error) => Check::new(NAME, Status::Note, "the kernel's sockets cannot be listed")
            .advise(format!("older sockets, TIME_WAIT and half-open connections stay unseen: {error}")),
    }
}

/// Loads the iterator for a moment: there is no other way to know.
fn holders(privileges: &Privileges) -> Check {
    const NAME: &str = "socket holders";
    let source = HolderSource::new();
    match source.refused() {
        None => {
            Check::new(NAME, Status::Good, "owners of older sockets come from the iterator over open files")
        }
        Some(why) => {
            let check =
                Check::new(NAME, Status::Note, "owners of older sockets come from /proc, which is slower");
            let others = "; /proc shows other users' processes only with CAP_SYS_PTRACE";
            let others = if privileges.reads_all_processes() { "" } else { others };
            check.advise(format!("not from the iterator over open files: {why}{others}"))
        }
    }
}

/// Likewise.
fn details() -> Check {
    const NAME: &str = "socket details";
    match DetailSource::new().refused() {
        None => Check::new(NAME, Status::Good, "timeouts that programs set come from the iterator over TCP sockets"),
        Some(why) => Check::new(NAME, Status::Note, "timeouts that programs set stay unknown").advise(format!(
            "when the kernel gives a socket up is then computed from sysctls alone; no iterator over TCP sockets: {why}"
        )),
    }
}

/// Loads the programs that add up for a moment: likewise.
fn aggregation() -> Check {
    const NAME: &str = "aggregation";
    let loaded = iterator::check().and_then(|()| {
        let loaded = Aggregate::load(&LoadOptions::default(), None);
        loaded.map_err(|error| match error {
            StartError::Aggregate(why) => why,
            error => error.to_string(),
        })
    });
    match loaded.map(|aggregate| aggregate.beginnings) {
        Ok(Beginnings::Socket) => Check::new(
            NAME,
            Status::Good,
            "in the kernel, too (export --aggregate kernel); beginnings are kept in sockets",
        ),
        Ok(Beginnings::Table(why)) => Check::new(
            NAME,
            Status::Note,
            "in the kernel, too (export --aggregate kernel); beginnings are kept in a table",
        )
        .advise(format!(
            "beyond {TABLE_ENTRIES} sockets the oldest beginnings are forgotten; not in sockets: {why}"
        )),
        Err(why) => Check::new(NAME, Status::Note, "not in the kernel")
            .advise(format!("export --aggregate kernel: {why}")),
    }
}

fn tun() -> Check {
    if Path::new("/dev/net/tun").exists() {
        Check::new("tun device", Status::Good, "/dev/net/tun")
    } else {
        Check::new("tun device", Status::Note, "/dev/net/tun is missing")
            .advise("only `tcptrace lab` needs it; type: sudo modprobe tun")
    }
}
