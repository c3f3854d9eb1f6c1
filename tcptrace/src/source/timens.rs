//! What this process's time namespace adds to the kernel's clocks (Linux 5.6). The kernel programs read the clocks without
//! it, so it is taken off again: or ages would be wrong by it.

use std::{fs, sync::OnceLock};

/// In nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// To CLOCK_MONOTONIC.
    pub monotonic_ns: i64,
    /// To CLOCK_BOOTTIME.
    pub boot_ns: i64,
}

/// Those of this process. They cannot change: a namespace's are fixed when its first process begins.
pub fn offsets() -> Offsets {
    static OFFSETS: OnceLock<Offsets> = OnceLock::new();
    *OFFSETS.get_or_init(|| {
        let link = |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).ok();
        // The file is about the namespace of children: ours, unless whoever started us changed it halfway.
        let ours = link("time") == link("time_for_children");
        let text = fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
        if ours { parse(&text) } else { Offsets::default() }
    })
}

/// Lines of a clock, seconds and nanoseconds; without them nothing is added.
fn parse(text: &str) -> Offsets {
    let of = |clock: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(clock))?;
        let mut numbers = line.split_whitespace().map(str::parse::<i64>);
        let (seconds, nanoseconds) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
    };
    Offsets { monotonic_ns: of("monotonic").unwrap_or(0), boot_ns: of("boottime").unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_clock_has_its_own() {
        let text = "monotonic           0         0\nboottime        -1000 500000000\n";
        assert_eq!(parse(text), Offsets { monotonic_ns: 0, boot_ns: -999_500_000_000 });
        for nothing in ["", "boottime\n", "boottime x 1", "boottime 9223372036854775807 1"] {
            assert_eq!(parse(nothing), Offsets::default(), "{nothing}");
        }
    }
}
