//! For people: lines, tables, units, colour. Reads what the ledger says; decides nothing.

pub mod kill;
mod line;
pub mod resync;
pub mod stat;
pub mod summary;

/// Says something on standard error. Where nobody reads that any more there is nobody to tell: no panic, as
/// `eprintln!` would make of it.
#[macro_export]
macro_rules! tell {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "tcptrace: {}", format_args!($($text)*));
    }};
}

pub use line::Lines;

use crate::event::Carrier;
use anstyle::{AnsiColor, Style};
use std::{fmt, io::IsTerminal};

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The few styles there are; all plain where colour is off.
#[derive(Clone, Copy, Debug, Default)]
pub struct Palette {
    /// Context: times, units.
    pub dim: Style,
    /// A connection that came to be.
    pub good: Style,
    /// Something sent again, or waiting.
    pub warn: Style,
    /// An RST, a failure, a loss.
    pub bad: Style,
    /// What the eye should find first.
    pub strong: Style,
}

impl Palette {
    /// The styles for standard output.
    pub fn new(choice: ColorChoice) -> Self {
        let on = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                std::io::stdout().is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        };
        if !on {
            return Self::default();
        }
        let color = |color: AnsiColor| Style::new().fg_color(Some(color.into()));
        Self {
            dim: Style::new().dimmed(),
            good: color(AnsiColor::Green),
            warn: color(AnsiColor::Yellow),
            bad: color(AnsiColor::Red),
            strong: Style::new().bold(),
        }
    }
}

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

/// The word for what an RST belongs to.
pub fn carrier(carrier: Carrier) -> &'static str {
    match carrier {
        Carrier::None => "none",
        Carrier::Full => "connection",
        Carrier::Listener => "listener",
        Carrier::Request => "half-open",
        Carrier::TimeWait => "timewait",
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
        assert_eq!(errno(111), "ECONNREFUSED");
    }
}
