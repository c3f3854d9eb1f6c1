//! The limit of locked memory, which kernels before 5.11 count maps and programs against (bpf_charge_memlock, per user;
//! since then memory cgroups do: kernel/bpf/syscall.c).

use super::privileges::{Capability, kernel_version, setcap};
use crate::units::Bytes;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use std::sync::Once;

/// In bytes: enough for all maps beside the ring, and [`SMALL_RING`]; the usual 64 KiB are not for the smallest ring.
pub const LEAST: u64 = 8 << 20;
/// A ring that helps where a limit is not unlimited, as `--ring-size` takes it.
const SMALL_RING: (&str, u32) = ("1MiB", 1 << 20);

/// Whether the running kernel counts maps against it.
pub fn counts() -> bool {
    kernel_version().1.is_some_and(|version| version < (5, 11))
}

/// What this process may lock, in bytes; `None`: as much as it likes, or it cannot be read.
pub fn limit() -> Option<u64> {
    getrlimit(Resource::RLIMIT_MEMLOCK).ok().map(|(soft, _)| soft).filter(|soft| *soft != RLIM_INFINITY)
}

/// Raises it as far as this process may, where it counts. Too little is told once: the maps themselves will tell, too.
pub fn raise() {
    static TOLD: Once = Once::new();
    if !counts() || limit().is_none() {
        return;
    }
    let Err(error) = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY) else { return };
    // Up to the hard one everybody may.
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_MEMLOCK)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard);
    }
    if limit().is_some_and(|limit| limit < LEAST) {
        TOLD.call_once(|| log::warn!("the limit of locked memory cannot be raised: {error}"));
    }
}

/// What to type for more of it.
pub fn more() -> String {
    format!(
        "type: sudo prlimit --pid $$ --memlock=unlimited (in a shell of root: ulimit -l unlimited); or once: {}",
        setcap(&[Capability::Bpf, Capability::Perfmon, Capability::SysResource])
    )
}

/// What to do about maps that the kernel refused. `ring_bytes`: the ring among them, if it can be made smaller.
pub fn advice(ring_bytes: Option<u32>) -> String {
    let limit = limit().filter(|_| counts());
    match (limit, smaller(limit, ring_bytes)) {
        (Some(limit), smaller) => format!(
            "before Linux 5.11 maps count against the limit of locked memory, which is {} here{}; {}",
            Bytes(limit),
            smaller.map(|ring| format!(": a smaller ring fits ({ring})")).unwrap_or_default(),
            more()
        ),
        (None, Some(ring)) => format!(
            "where memory is short a smaller ring helps: {ring}; `tcptrace doctor` shows what works here"
        ),
        (None, None) => "`tcptrace doctor` shows what works here".to_owned(),
    }
}

/// The option for a smaller ring, where that can help.
fn smaller(limit: Option<u64>, ring_bytes: Option<u32>) -> Option<String> {
    let (name, bytes) = SMALL_RING;
    let helps = ring_bytes.is_some_and(|ring| ring > bytes) && limit.is_none_or(|limit| limit >= LEAST);
    helps.then(|| format!("--ring-size {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_ring_is_offered_where_it_fits() {
        assert_eq!(smaller(Some(64 << 10), Some(8 << 20)), None, "the other maps do not fit either");
        assert_eq!(smaller(Some(LEAST), Some(8 << 20)).as_deref(), Some("--ring-size 1MiB"));
        assert_eq!(smaller(None, Some(8 << 20)).as_deref(), Some("--ring-size 1MiB"));
        assert_eq!(smaller(None, Some(1 << 20)), None, "it is that small");
        assert_eq!(smaller(None, None), None);
    }

    #[test]
    fn what_is_typed_names_both_ways() {
        let more = more();
        for word in ["--memlock=unlimited", "ulimit -l unlimited", "cap_sys_resource"] {
            assert!(more.contains(word), "{word}: {more}");
        }
    }
}
