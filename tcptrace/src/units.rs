//! Lengths of time and sizes in the unit that fits, as people read them.

use std::fmt;

/// A length of time in the unit that fits: `812 ns`, `1.02 ms`, `59.7 s`, `3m 20s`, `2h 05m`.
pub struct Duration(pub u64);

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0;
        let text = match ns {
            0..1_000 => format!("{ns} ns"),
            1_000..1_000_000 => format!("{} us", significant(ns, 1_000)),
            1_000_000..1_000_000_000 => format!("{} ms", significant(ns, 1_000_000)),
            1_000_000_000..100_000_000_000 => format!("{} s", significant(ns, 1_000_000_000)),
            _ => {
                let seconds = ns / 1_000_000_000;
                let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
                if hours > 0 {
                    format!("{hours}h {minutes:02}m")
                } else {
                    format!("{minutes}m {seconds:02}s")
                }
            }
        };
        f.pad(&text)
    }
}

/// Three significant digits, cut, not rounded up into the next unit.
fn significant(value: u64, unit: u64) -> String {
    let (whole, rest) = (value / unit, value % unit);
    match whole {
        0..10 => format!("{whole}.{:02}", rest * 100 / unit),
        10..100 => format!("{whole}.{}", rest * 10 / unit),
        _ => whole.to_string(),
    }
}

/// A size in bytes: `0 B`, `1.5 KiB`, `8 MiB`.
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        if self.0 < 1024 {
            return f.pad(&format!("{} B", self.0));
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut units = UNITS.iter();
        let mut unit = units.next().unwrap_or(&"KiB");
        while value >= 1024.0
            && let Some(next) = units.next()
        {
            value /= 1024.0;
            unit = next;
        }
        let text =
            if value.fract() < 0.05 { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") };
        f.pad(&text)
    }
}

/// The name of an errno without a table of our own: `ECONNREFUSED`.
pub fn errno(number: u16) -> String {
    format!("{:?}", nix::errno::Errno::from_raw(i32::from(number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_fit() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 us"),
            (1_020_000, "1.02 ms"),
            (59_700_000_000, "59.7 s"),
            (99_999_999_999, "99.9 s"),
            (200_000_000_000, "3m 20s"),
            (7_500_000_000_000, "2h 05m"),
        ] {
            assert_eq!(Duration(ns).to_string(), text);
        }
        for (bytes, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (8 << 20, "8 MiB")] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn an_errno_has_its_name() {
        assert_eq!(errno(111), "ECONNREFUSED");
    }
}
