//! Lengths of time and sizes in the unit that fits, as people read them.

use std::fmt::{self, Write as _};

/// A text that is padded as a whole, and needs no memory of its own.
#[derive(Default)]
struct Short {
    bytes: [u8; 24],
    length: usize,
}

impl Short {
    fn pad(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(std::str::from_utf8(&self.bytes[..self.length]).map_err(|_| fmt::Error)?)
    }

    /// Three significant digits, cut, not rounded up into the next unit.
    fn significant(&mut self, value: u64, unit: u64, name: &str) -> fmt::Result {
        let (whole, rest) = (value / unit, value % unit);
        match whole {
            0..10 => write!(self, "{whole}.{:02} {name}", rest * 100 / unit),
            10..100 => write!(self, "{whole}.{} {name}", rest * 10 / unit),
            _ => write!(self, "{whole} {name}"),
        }
    }
}

impl fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let place = self.bytes.get_mut(self.length..self.length + text.len()).ok_or(fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.length += text.len();
        Ok(())
    }
}

/// A length of time in the unit that fits: `812 ns`, `1.02 ms`, `59.7 s`, `3m 20s`, `2h 05m`.
pub struct Duration(pub u64);

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0;
        let mut text = Short::default();
        match ns {
            0..1_000 => write!(text, "{ns} ns"),
            1_000..1_000_000 => text.significant(ns, 1_000, "us"),
            1_000_000..1_000_000_000 => text.significant(ns, 1_000_000, "ms"),
            1_000_000_000..100_000_000_000 => text.significant(ns, 1_000_000_000, "s"),
            _ => {
                let seconds = ns / 1_000_000_000;
                let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
                if hours > 0 {
                    write!(text, "{hours}h {minutes:02}m")
                } else {
                    write!(text, "{minutes}m {seconds:02}s")
                }
            }
        }?;
        text.pad(f)
    }
}

/// A size in bytes: `0 B`, `1.5 KiB`, `8 MiB`.
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        let mut text = Short::default();
        if self.0 < 1024 {
            write!(text, "{} B", self.0)?;
            return text.pad(f);
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
        if value.fract() < 0.05 {
            write!(text, "{value:.0} {unit}")
        } else {
            write!(text, "{value:.1} {unit}")
        }?;
        text.pad(f)
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
        assert_eq!(Duration(u64::MAX).to_string(), "5124095h 34m");
        assert_eq!(Bytes(u64::MAX).to_string(), "16384 PiB");
        assert_eq!(format!("{:>8}|{:<8}|", Duration(999), Bytes(0)), "  999 ns|0 B     |");
    }

    #[test]
    fn an_errno_has_its_name() {
        assert_eq!(errno(111), "ECONNREFUSED");
    }
}
