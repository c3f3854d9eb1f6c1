//! The kernels that are booted: the one list of them, and what someone typed against it.

use anyhow::{Result, bail};

use crate::advice::advice;

/// A line of kernels, of which Debian's newest is taken.
#[derive(Debug, PartialEq, Eq)]
pub struct Kernel {
    /// What its version begins with: `6.12`, or `7` for the newest of all.
    pub series: &'static str,
    /// Where Debian may have it.
    pub suites: &'static [&'static str],
    /// Why it is among them.
    pub why: &'static str,
    /// It is among those that CI boots, each of which takes nine minutes on two processors: the oldest, the newest.
    pub in_ci: bool,
}

/// All of them, oldest first.
pub const KERNELS: [Kernel; 5] = [
    Kernel {
        series: "5.10",
        suites: &["bullseye-security", "bullseye"],
        why: "no socket cookies for tracing programs (5.12), iterators and tp_btf in their first form",
        in_ci: true,
    },
    Kernel {
        series: "6.1",
        suites: &["bookworm-security", "bookworm"],
        why: "RSTs without a socket and their reasons are not told (6.10)",
        in_ci: false,
    },
    Kernel {
        series: "6.12",
        suites: &["trixie-security", "trixie", "bookworm-backports"],
        why: "ports 0 at SYN_RECV for the last time, RSTs with their reason",
        in_ci: false,
    },
    Kernel {
        series: "6.18",
        suites: &["trixie-backports"],
        why: "retransmissions that could not leave (6.17)",
        in_ci: false,
    },
    Kernel {
        series: "7",
        suites: &["trixie-backports", "testing", "unstable"],
        why: "the newest that Debian has",
        in_ci: true,
    },
];

/// A kernel that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What its version must begin with.
    pub series: String,
    /// Its row in the list.
    pub kernel: &'static Kernel,
}

/// What someone typed, or all, of which CI takes some. `7.3` and `6.12.95` are of the rows `7` and `6.12`.
pub fn wanted(typed: &[String], ci: bool) -> Result<Vec<Wanted>> {
    if typed.is_empty() {
        let chosen = KERNELS.iter().filter(|kernel| kernel.in_ci || !ci);
        let all = chosen.map(|kernel| Wanted { series: kernel.series.to_owned(), kernel });
        return Ok(all.collect());
    }
    typed.iter().map(|word| one(word)).collect()
}

fn one(word: &str) -> Result<Wanted> {
    if let Some(kernel) = KERNELS.iter().find(|kernel| is_of(word, kernel.series)) {
        return Ok(Wanted { series: word.to_owned(), kernel });
    }
    let listed: Vec<_> = KERNELS.iter().map(|kernel| kernel.series).collect();
    let why = format!("kernels come from Debian's packages, which are known for {}", listed.join(", "));
    bail!(advice(format!("there is no kernel {word} here"), why, &["cargo xtask vm --list"]))
}

/// Whether a version is of this series: `6.1.0` is of `6.1`, `6.12` is not.
pub fn is_of(version: &str, series: &str) -> bool {
    version.strip_prefix(series).is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(word: &str) -> Result<&'static str> {
        wanted(&[word.to_owned()], true).map(|found| found[0].kernel.series)
    }

    #[test]
    fn a_version_is_of_its_series_only() {
        assert!(is_of("6.1.0-56-amd64", "6.1") && is_of("6.1", "6.1") && is_of("7.3.4+deb13-amd64", "7"));
        assert!(!is_of("6.12.95", "6.1") && !is_of("6.1", "6.1.0") && !is_of("", "6.1"));
    }

    #[test]
    fn what_is_typed_may_be_narrower_than_the_list() {
        assert_eq!(typed("6.1").unwrap(), "6.1");
        assert_eq!(typed("6.12.95").unwrap(), "6.12");
        assert_eq!(typed("7.3").unwrap(), "7");
        let in_ci = wanted(&[], true).unwrap();
        assert!(in_ci.len() < KERNELS.len() && in_ci.iter().any(|it| it.series == "5.10"));
        assert_eq!(wanted(&[], false).unwrap().len(), KERNELS.len());
    }

    #[test]
    fn others_are_refused_with_the_way_out() {
        for word in ["6", "5.15", "newest", ""] {
            let why = typed(word).unwrap_err().to_string();
            assert!(why.contains("cargo xtask vm --list"), "{why}");
        }
    }
}
