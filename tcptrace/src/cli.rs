//! The command line: one variant a command, and how values are written.

use crate::{
    cmd::{
        completions, convert, diff, doctor, explain, export, hist, kill, manual, record, snapshot, stat,
        stuck, watch,
    },
    source::{filter::Ports, load::MIN_RING_BYTES},
};
use clap::{
    CommandFactory as _, Parser, Subcommand,
    builder::{PossibleValue, TypedValueParser},
};
use ipnet::IpNet;
use std::{ffi::OsStr, net::IpAddr, str::FromStr, time::Duration};
use tcptrace_common::state::TcpState;

/// Shows what every TCP connection is doing, what it waits for, whose it is, and why it ended.
#[derive(Debug, Parser)]
#[command(
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done (also: interrupted, output closed), 1 `stuck` has found something, 2 it could not be done.\n\
                  Set TCPTRACE_LOG=debug to see more of what tcptrace itself does."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// One line for each state change, retransmission, RST and close, as it happens
    Watch(Box<watch::Args>),
    /// Sockets by state, use against limits, accept queues; with an interval also what happens by the second
    Stat(Box<stat::Args>),
    /// Transitions by pair of states, and how long connections stay in each: quantiles and bars
    Hist(Box<hist::Args>),
    /// Which connections do not move: why, whose they are, until when, what to do
    Stuck(Box<stuck::Args>),
    /// The whole story of a connection: what happened, how it stands, what it means, what is still tried
    Explain(explain::Args),
    /// Keep what happens in a file that every view reads with --from, without root and anywhere
    Record(Box<record::Args>),
    /// What changed between two recordings: how often, how long, what was stuck
    Diff(diff::Args),
    /// Make a recording into a table for query engines (Parquet)
    Convert(convert::Args),
    /// End chosen sockets: shows them first, looks at each again before it is ended, and records what it does
    Kill(Box<kill::Args>),
    /// Count for Prometheus: a daemon that serves everything as metrics
    Export(Box<export::Args>),
    /// Make a TCP condition happen in two private network namespaces, and watch it
    #[cfg(feature = "lab")]
    Lab(crate::cmd::lab::Args),
    /// What this kernel and these privileges allow, and what to do about the rest
    Doctor(doctor::Args),
    /// What a shell needs to complete commands and flags
    Completions(completions::Args),
    /// The manual pages, one for each command: what `cargo xtask dist` packs
    #[command(hide = true)]
    Manual(manual::Args),
    /// Attach a program that does nothing, until interrupted: the baseline of `cargo xtask bench overhead`
    #[command(hide = true)]
    AttachEmpty,
    /// Every socket into a ledger, once, timed: what `cargo xtask bench snapshot` measures
    #[command(hide = true)]
    Snapshot(snapshot::Args),
}

/// The definition without the commands that are nobody's but the developers'.
pub fn shown() -> clap::Command {
    let whole = Cli::command();
    let commands = whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let commands: Vec<_> = commands.collect();
    // Commands can be added, not taken away: the head again, and those.
    let mut shown = clap::Command::new("tcptrace").subcommands(commands).propagate_version(true);
    for (set, text) in [
        (clap::Command::about as fn(_, clap::builder::StyledStr) -> _, whole.get_about()),
        (clap::Command::after_help, whole.get_after_help()),
    ] {
        shown = text.cloned().into_iter().fold(shown, set);
    }
    shown.version(env!("CARGO_PKG_VERSION"))
}

/// `80`, `80,443`, `8000-8100`, or several of them.
pub fn ports(text: &str) -> Result<Ports, String> {
    const VALID: &str = "ports are 1 to 65535, lists (80,443) and ranges (8000-8100)";
    let port = |text: &str| match text.trim().parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("{text:?} is not a port; {VALID}")),
    };
    let ranges: Ports = text
        .split(',')
        .map(|part| match part.split_once('-') {
            Some((first, last)) => {
                let range = port(first)?..=port(last)?;
                if range.is_empty() { Err(format!("the range {part} is empty; {VALID}")) } else { Ok(range) }
            }
            None => port(part).map(|port| port..=port),
        })
        .collect::<Result<_, _>>()?;
    Ok(ranges)
}

/// `10.0.0.9`, `10.0.0.0/8`, `fd00::/16`. An IPv4-mapped IPv6 address is the IPv4 one.
pub fn network(text: &str) -> Result<IpNet, String> {
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    match net {
        Ok(IpNet::V6(net)) if net.prefix_len() >= 96 => Ok(match net.addr().to_ipv4_mapped() {
            Some(v4) => ipnet::Ipv4Net::new(v4, net.prefix_len() - 96).map_or(IpNet::V6(net), IpNet::V4),
            None => IpNet::V6(net),
        }),
        Ok(net) => Ok(net),
        Err(_) => {
            Err(format!("{text:?} is not an address or network; valid are 10.0.0.9, 10.0.0.0/8, fd00::/16"))
        }
    }
}

/// A state in any common spelling; to a shell, those of `netstat`.
#[derive(Clone)]
pub struct State;

impl State {
    fn names() -> impl Iterator<Item = &'static str> {
        TcpState::ALL.iter().filter(|state| **state != TcpState::NewSynRecv).map(|state| state.name())
    }

    fn parse(text: &str) -> Result<TcpState, String> {
        TcpState::parse(text).ok_or_else(|| {
            let names: Vec<_> = Self::names().collect();
            format!(
                "{text:?} is not a TCP state; valid are {} (fin-wait-1 and FIN_WAIT_1 work too)",
                names.join(" ")
            )
        })
    }
}

impl TypedValueParser for State {
    type Value = TcpState;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<TcpState, clap::Error> {
        TypedValueParser::parse_ref(&Self::parse, command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(Self::names().map(PossibleValue::new)))
    }
}

/// 4 or 6.
pub fn family(text: &str) -> Result<u8, String> {
    match text {
        "4" => Ok(4),
        "6" => Ok(6),
        _ => Err(format!("{text:?} is not an IP version; valid are 4 and 6")),
    }
}

/// A command's name, as long as the kernel keeps it.
pub fn comm(text: &str) -> Result<String, String> {
    const MAX: usize = 15; // TASK_COMM_LEN, less the zero at its end
    if (1..=MAX).contains(&text.len()) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} matches nothing: the kernel keeps 1 to {MAX} bytes of a command's name; valid is its start"
    ))
}

/// A number of `what`, at least one of them.
pub fn some<T: FromStr + PartialOrd + From<u8>>(text: &str, what: &str) -> Result<T, String> {
    match text.parse() {
        Ok(number) if number > T::from(0) => Ok(number),
        _ => Err(format!("{text:?} is not a number of {what}; valid are 1 and more")),
    }
}

/// `10s`, `1h 30m`, `500ms`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || {
        format!("{text:?} is not a duration; valid are 10s, 500ms, 1h 30m (no days), or seconds as a number")
    };
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok().filter(|d| !d.is_zero()).ok_or_else(invalid);
    }
    let duration: jiff::SignedDuration = text.parse().map_err(|_| invalid())?;
    Duration::try_from(duration).ok().filter(|d| !d.is_zero()).ok_or_else(invalid)
}

/// To list all sockets takes the kernel's locks, one after the other.
const LEAST_RESYNC: Duration = Duration::from_millis(100);

/// How often to ask the kernel for all its sockets; `None`: never.
pub type Resync = Option<Duration>;

/// A duration, or `off`.
pub fn resync(text: &str) -> Result<Resync, String> {
    match text {
        "off" => Ok(None),
        _ => interval(text).map(Some).map_err(|why| format!("{why}, or off")),
    }
}

/// A duration between two looks at all sockets.
pub fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        every if every < LEAST_RESYNC => {
            Err(format!("{text:?} is too often; valid are {LEAST_RESYNC:?} and more"))
        }
        every => Ok(every),
    }
}

/// A cookie as tcptrace prints it, or as `ss -e` does.
pub fn cookie(text: &str) -> Result<u64, String> {
    let hexadecimal = text.strip_prefix("sk:").or_else(|| text.strip_prefix("0x"));
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = match hexadecimal {
        Some(digits) if plain(digits) => u64::from_str_radix(digits, 16).ok(),
        None if plain(text) => text.parse().ok(),
        _ => None,
    };
    // All ones is how a request says that it has none.
    number.filter(|cookie| ![0, u64::MAX].contains(cookie)).ok_or_else(|| {
        format!("{text:?} is not a cookie; valid are 4711 (as in `watch`) and sk:1267 (hexadecimal, as in `ss -e`)")
    })
}

/// A size in bytes, with a unit or without: `1GiB`, `512M`, `65536`.
pub fn size(text: &str) -> Result<u64, String> {
    bytes(text).ok_or_else(|| format!("{text:?} is not a size; valid are 16MiB, 1GiB, or bytes as a number"))
}

/// A ring size in bytes, with a unit or without: `8MiB`, `512k`, `65536`.
pub fn ring_size(text: &str) -> Result<u32, String> {
    const MAX: u64 = 1 << 30;
    let invalid = || {
        format!(
            "{text:?} is not a ring size; valid are {MIN_RING_BYTES} bytes to 1GiB, written as 65536, 512KiB or 8MiB"
        )
    };
    let bytes = bytes(text).ok_or_else(invalid)?;
    if (1..=MAX).contains(&bytes) { u32::try_from(bytes).map_err(|_| invalid()) } else { Err(invalid()) }
}

fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn ports_are_lists_and_ranges() {
        assert_eq!(ports("80"), Ok(vec![80..=80]));
        assert_eq!(ports("80,8000-8100"), Ok(vec![80..=80, 8000..=8100]));
        for bad in ["", "0", "65536", "80-", "90-80", "http", "80,,81", "-1", "80-90-100"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mapped_networks_are_ipv4() {
        assert_eq!(network("::ffff:10.0.0.0/104").unwrap(), "10.0.0.0/8".parse().unwrap());
        assert_eq!(network("10.0.0.9").unwrap(), "10.0.0.9/32".parse().unwrap());
        assert_eq!(network("fd00::/16").unwrap(), "fd00::/16".parse().unwrap());
        for bad in ["", "10.0.0", "10.0.0.0/33", "host.example", "fd00::/129"] {
            assert!(network(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_and_sizes() {
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5400)));
        for bad in ["", "0", "-5s", "soon", "1e400", "nan"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(ring_size("8MiB"), Ok(8 << 20));
        assert_eq!(ring_size("4096"), Ok(4096));
        for bad in ["", "0", "2GiB", "-1", "8MB/s", "99999999999999999999"] {
            assert!(ring_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cookies_are_read_as_both_tools_print_them() {
        assert_eq!(cookie("4711"), Ok(4711));
        assert_eq!(cookie("sk:1a2b"), Ok(0x1a2b));
        assert_eq!(cookie("0x1A2B"), Ok(0x1a2b));
        for bad in
            ["", "0", "sk:0", "sk:", "0x", "1a2b", "-1", "+1", "sk:+1", "18446744073709551615", "sk:xyz"]
        {
            assert!(cookie(bad).is_err(), "{bad}");
        }
    }
}
