//! What this process may do, and what the machine's settings forbid.

use std::fs;

/// The capabilities that tracing needs, by their number (include/uapi/linux/capability.h) and name.
const NEEDED: [(u32, &str); 2] = [(39, "CAP_BPF"), (38, "CAP_PERFMON")];
/// Enough by itself.
const SYS_ADMIN: u32 = 21;
/// Ending other programs' sockets, among much else.
const NET_ADMIN: u32 = 12;
/// Looking into other users' processes.
const SYS_PTRACE: u32 = 19;

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
        if self.has(SYS_ADMIN) {
            return Vec::new();
        }
        NEEDED.iter().filter(|(number, _)| !self.has(*number)).map(|(_, name)| *name).collect()
    }

    /// Programs may read kernel memory by address.
    pub fn probe_read(&self) -> bool {
        self.lockdown.as_deref() != Some("confidentiality")
    }

    /// /proc shows the descriptors of other users' processes.
    pub fn reads_all_processes(&self) -> bool {
        self.has(SYS_PTRACE)
    }

    /// Network namespaces that are not ours can be entered.
    pub fn enters_namespaces(&self) -> bool {
        self.has(SYS_ADMIN)
    }

    /// The kernel ends sockets for us, if this user namespace owns their network namespace.
    pub fn destroys_sockets(&self) -> bool {
        self.has(NET_ADMIN)
    }

    fn has(&self, number: u32) -> bool {
        self.effective >> number & 1 == 1
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
