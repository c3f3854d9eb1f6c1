//! For people: lines, tables, units, colour. Reads what the ledger says; decides nothing.

pub mod diff;
pub mod explain;
pub mod finding;
pub mod hist;
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

pub use crate::units::{Bytes, Duration, errno};
pub use line::Lines;

use crate::event::Carrier;
use anstyle::{AnsiColor, Style};
use std::io::IsTerminal;

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
