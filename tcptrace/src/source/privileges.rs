//! What this process may do, and what the machine's settings forbid.

use super::memlock;
use caps::{CapSet, CapsHashSet};
use std::{fs, io, sync::LazyLock};

/// A capability that something of tcptrace needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// Maps and programs.
    Bpf,
    /// Programs that look into the kernel.
    Perfmon,
    /// Other network namespaces; what the two above allow, too.
    SysAdmin,
    /// Other users' processes.
    SysPtrace,
    /// Folders of other users.
    DacReadSearch,
    /// Ending sockets.
    NetAdmin,
    /// Writing into other users' folders.
    DacOverride,
    /// Handing files over.
    Chown,
    /// Deleting what was handed over.
    Fowner,
    /// Locked memory beyond the limit: what maps are before Linux 5.11.
    SysResource,
}

/// What a capability is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// The capability.
    pub capability: Capability,
    /// What needs it.
    pub needed_for: &'static str,
    /// What is lost without it.
    pub without: &'static str,
}

/// Those that users may give: the first two always, the others for what they want.
pub const USES: [Use; 6] = [
    Use {
        capability: Capability::Bpf,
        needed_for: "loading the kernel programs and their maps",
        without: "nothing is traced: watch, hist, record and export do not start; stat, stuck and explain look at sockets only",
    },
    Use {
        capability: Capability::Perfmon,
        needed_for: "programs that read the kernel's memory, and attaching them",
        without: "nothing is traced: watch, hist, record and export do not start; stat, stuck and explain look at sockets only",
    },
    Use {
        capability: Capability::SysAdmin,
        needed_for: "entering other network namespaces; classic tracepoints and kprobes where kernel.perf_event_paranoid is above 2",
        without: "events of other network namespaces are traced, but sockets older than the trace, minisockets, settings \
                  and counters there stay unknown",
    },
    Use {
        capability: Capability::SysPtrace,
        needed_for: "finding the network namespaces that other users' processes are in",
        without: "only named network namespaces (ip netns) and those of one's own processes are found",
    },
    Use {
        capability: Capability::DacReadSearch,
        needed_for: "reading tracefs (--hooks classic), and /proc/PID/fd where there is no iterator over open files",
        without: "no classic tracepoints; without the iterator, owners of older sockets are known only if they are one's own",
    },
    Use {
        capability: Capability::NetAdmin,
        needed_for: "ending sockets (kill --yes)",
        without: "kill only shows what it would end",
    },
];

impl Capability {
    /// As setcap(8) and capabilities(7) call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bpf => "CAP_BPF",
            Self::Perfmon => "CAP_PERFMON",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::DacOverride => "CAP_DAC_OVERRIDE",
            Self::Chown => "CAP_CHOWN",
            Self::Fowner => "CAP_FOWNER",
            Self::SysResource => "CAP_SYS_RESOURCE",
        }
    }

    /// The same as the library has it that changes them.
    pub const fn caps(self) -> caps::Capability {
        use caps::Capability as Caps;
        match self {
            Self::Bpf => Caps::CAP_BPF,
            Self::Perfmon => Caps::CAP_PERFMON,
            Self::SysAdmin => Caps::CAP_SYS_ADMIN,
            Self::SysPtrace => Caps::CAP_SYS_PTRACE,
            Self::DacReadSearch => Caps::CAP_DAC_READ_SEARCH,
            Self::NetAdmin => Caps::CAP_NET_ADMIN,
            Self::DacOverride => Caps::CAP_DAC_OVERRIDE,
            Self::Chown => Caps::CAP_CHOWN,
            Self::Fowner => Caps::CAP_FOWNER,
            Self::SysResource => Caps::CAP_SYS_RESOURCE,
        }
    }
}

/// What this process was given, before it gave anything up. Root's are no marks on a file.
static GIVEN: LazyLock<CapsHashSet> = LazyLock::new(|| {
    let root = nix::unistd::geteuid().is_root();
    let permitted = if root { None } else { caps::read(None, CapSet::Permitted).ok() };
    permitted.unwrap_or_default()
});

/// What to type so that whoever starts this file has these capabilities, beside those that it gives now: setcap(8) replaces all.
pub fn setcap(capabilities: &[Capability]) -> String {
    let program = std::env::current_exe().map(|path| path.display().to_string()).unwrap_or_default();
    format!("sudo setcap {}=ep {program}", together(capabilities, &GIVEN))
}

/// As setcap(8) takes them: what is wanted, and whatever else was given.
fn together(wanted: &[Capability], given: &CapsHashSet) -> String {
    let mut all: Vec<_> = wanted.iter().map(|capability| capability.caps()).collect();
    let mut others: Vec<_> = given.iter().filter(|given| !all.contains(given)).copied().collect();
    others.sort_by_key(caps::Capability::index);
    all.append(&mut others);
    let names: Vec<_> = all.iter().map(|capability| capability.to_string().to_ascii_lowercase()).collect();
    names.join(",")
}

/// What [`setcap`] is asked for, that anything is traced: before Linux 5.11 also more locked memory, if there is too little.
pub fn tracing() -> Vec<Capability> {
    let short = memlock::counts() && memlock::limit().is_some_and(|limit| limit < memlock::LEAST);
    let memory = short.then_some(Capability::SysResource);
    [Capability::Bpf, Capability::Perfmon].into_iter().chain(memory).collect()
}

/// Does it as the user could who started this: with files that are not his the program's marks do not help. Only for what he names.
///
/// # Errors
/// Those of `work`; capabilities cannot be lowered.
pub fn as_the_user<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    if nix::unistd::geteuid().is_root() {
        return work();
    }
    let before = caps::read(None, CapSet::Effective).map_err(io::Error::other)?;
    let own = [Capability::DacReadSearch, Capability::DacOverride].map(Capability::caps);
    let less: CapsHashSet = before.iter().filter(|capability| !own.contains(capability)).copied().collect();
    caps::set(None, CapSet::Effective, &less).map_err(io::Error::other)?;
    let done = work();
    caps::set(None, CapSet::Effective, &before).map_err(io::Error::other)?;
    done
}

/// Facts about this process and machine; `None` or empty where they cannot be read.
#[derive(Clone, Debug)]
pub struct Privileges {
    effective: u64,
    /// The kernel's lockdown mode: `none`, `integrity`, `confidentiality`; `None` without that security module
    /// or where it cannot be read.
    pub lockdown: Option<String>,
    /// `kernel.perf_event_paranoid`.
    pub perf_event_paranoid: Option<i32>,
}

impl Privileges {
    /// Reads them.
    pub fn read() -> Self {
        // Who asks first has not given anything up yet.
        LazyLock::force(&GIVEN);
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let effective = status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .unwrap_or(0);
        let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").ok();
        Self {
            effective,
            // `none [integrity] confidentiality`: the brackets mark the mode in force.
            lockdown: lockdown.and_then(|text| Some(text.split('[').nth(1)?.split(']').next()?.to_owned())),
            perf_event_paranoid: fs::read_to_string("/proc/sys/kernel/perf_event_paranoid")
                .ok()
                .and_then(|text| text.trim().parse().ok()),
        }
    }

    /// The capabilities that are missing for tracing, by name.
    pub fn missing(&self) -> Vec<&'static str> {
        // Enough by itself.
        if self.has(Capability::SysAdmin) {
            return Vec::new();
        }
        let needed = [Capability::Bpf, Capability::Perfmon].into_iter();
        needed.filter(|capability| !self.has(*capability)).map(Capability::name).collect()
    }

    /// Programs may read kernel memory by address.
    pub fn probe_read(&self) -> bool {
        self.lockdown.as_deref() != Some("confidentiality")
    }

    /// /proc shows the descriptors of other users' processes.
    pub fn reads_all_processes(&self) -> bool {
        self.has(Capability::SysPtrace)
    }

    /// Network namespaces that are not ours can be entered.
    pub fn enters_namespaces(&self) -> bool {
        self.has(Capability::SysAdmin)
    }

    /// The kernel ends sockets for us, if this user namespace owns their network namespace.
    pub fn destroys_sockets(&self) -> bool {
        self.has(Capability::NetAdmin)
    }

    /// Whether this process has it, now.
    pub fn has(&self, capability: Capability) -> bool {
        self.effective & capability.caps().bitmask() != 0
    }
}

/// The running kernel's version, as far as it is numbers: `6.18.44-fc` is (6, 18).
pub fn kernel_version() -> (String, Option<(u32, u32)>) {
    let release = nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let version = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
        _ => None,
    };
    (release, version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_the_table() {
        let document = include_str!("../../../docs/privileges.md");
        for Use { capability, needed_for, without } in USES {
            let row = format!("| {} | {needed_for} | {without} |\n", capability.name());
            assert!(document.contains(&row), "docs/privileges.md must have this row:\n{row}");
        }
    }

    #[test]
    fn what_is_typed_names_them_as_setcap_does() {
        let typed = setcap(&[Capability::Bpf, Capability::DacReadSearch]);
        assert!(typed.starts_with("sudo setcap cap_bpf,cap_dac_read_search"), "{typed}");
        assert!(typed.contains("=ep /"), "{typed}");
    }

    #[test]
    fn what_the_file_gives_now_is_not_taken_away() {
        use caps::Capability::{CAP_BPF, CAP_NET_BIND_SERVICE, CAP_PERFMON};
        let given = CapsHashSet::from([CAP_PERFMON, CAP_BPF, CAP_NET_BIND_SERVICE]);
        let wanted = [Capability::NetAdmin, Capability::Bpf];
        assert_eq!(together(&wanted, &given), "cap_net_admin,cap_bpf,cap_net_bind_service,cap_perfmon");
        assert_eq!(together(&wanted, &CapsHashSet::new()), "cap_net_admin,cap_bpf");
    }

    #[test]
    fn root_reads_as_before_and_keeps_what_it_has() {
        let before = Privileges::read().effective;
        assert_eq!(as_the_user(|| Ok(7)).unwrap(), 7);
        assert_eq!(Privileges::read().effective, before);
    }
}
