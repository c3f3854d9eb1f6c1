//! What can go wrong, why, and what to do about it.

use std::{fmt, io, time::Duration};

use crate::Side;

/// Why a lab could not be made or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// The process may not make namespaces or devices.
    #[error(
        "cannot {what}: {source}; the lab needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN): \
         run the same command with sudo"
    )]
    NotPermitted {
        /// What was being done.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel offers no TUN devices, which the hosts of a lab are connected by.
    #[error(
        "cannot open /dev/net/tun: {source}; the kernel's tun driver is not there: type `sudo modprobe tun` \
         (for a container: start it with --device /dev/net/tun)"
    )]
    NoTun {
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel has no IPv6.
    #[error(
        "cannot make an IPv6 lab: IPv6 is switched off in this kernel (ipv6.disable=1 on its command line, or \
         not built in); use IPv4, or boot with IPv6"
    )]
    NoIpv6,
    /// Any other system call that failed while the lab was set up or asked.
    #[error("cannot {what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A sysctl could not be written.
    #[error(
        "cannot set {name} to {value} at the {side}: {source}; see `sysctl {name}` for its present value"
    )]
    Sysctl {
        /// Dotted name of the sysctl.
        name: String,
        /// The value that was refused.
        value: String,
        /// The host it was meant for.
        side: Side,
        /// What the kernel said.
        source: io::Error,
    },
    /// A socket operation failed in a way the script did not ask for.
    #[error("the {side} could not {action}: {source}")]
    Socket {
        /// The host the socket belongs to.
        side: Side,
        /// What was being done.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something that had to happen did not.
    #[error("waited {} s for {what}, in vain; the machine may be overloaded: try again", .waited.as_secs())]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
    },
    /// The kernel's sockets are not in the states that the script leads to.
    #[error(
        "\"{text}\": expected the client in {} and the server in {}, but the kernel shows {} and {}; \
         the machine may be overloaded: try again",
        Shown(&.expected.0), Shown(&.expected.1), Shown(&.seen.0), Shown(&.seen.1)
    )]
    Stage {
        /// The stage that was to be reached.
        text: &'static str,
        /// The states of all connections at client and server there.
        expected: (Vec<&'static str>, Vec<&'static str>),
        /// The states that the kernel's socket tables show.
        seen: (Vec<&'static str>, Vec<&'static str>),
    },
    /// The scenario went on in a way its script does not know.
    #[error("unexpected: {0}; this kernel behaves in a way the lab does not know: please report it")]
    Unexpected(String),
    /// What was to be put on the wire is nothing that the wire carries.
    #[error("cannot inject this packet: it is no whole TCP segment over IPv4 or IPv6; see Wire::inject")]
    NoSegment,
    /// A scenario wants a lab of its own: old packets and sockets would be taken for its own.
    #[error("this lab has already carried packets; make a new one with Lab::new for each scenario")]
    Used,
    /// A host's thread has ended, so nothing can be run there.
    #[error("the thread of the {0} has ended; make a new lab with Lab::new")]
    HostEnded(Side),
    /// The wire has ended, so nothing is carried any more.
    #[error("the network between the hosts has stopped: {0}; make a new lab with Lab::new")]
    WireEnded(String),
}

impl LabError {
    /// Sorts a failed system call: what root could have done is said to be so.
    pub(crate) fn system(what: &'static str, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::NotPermitted { what, source },
            _ => Self::System { what, source },
        }
    }

    /// The same for an error as nix gives it.
    pub(crate) fn errno(what: &'static str, errno: nix::Error) -> Self {
        Self::system(what, errno.into())
    }
}

/// The states of one side as a reader wants them: in order, those of many connections counted.
struct Shown<'a>(&'a [&'static str]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no state (no socket)");
        }
        let mut states = self.0.to_vec();
        states.sort_unstable();
        for (index, alike) in states.chunk_by(|one, other| one == other).enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            match alike {
                [state] => write!(f, "{comma}{state}")?,
                [state, ..] => write!(f, "{comma}{} × {state}", alike.len())?,
                [] => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_type() {
        let refused = LabError::system("make a network namespace", io::Error::from_raw_os_error(libc::EPERM));
        assert!(refused.to_string().contains("sudo"), "{refused}");
    }

    #[test]
    fn a_missed_stage_names_both_views() {
        let missed = LabError::Stage {
            text: "closed",
            expected: (vec!["TIME_WAIT"], vec![]),
            seen: (vec!["FIN_WAIT2", "CLOSING", "FIN_WAIT2"], vec![]),
        };
        let text = missed.to_string();
        assert!(text.contains("TIME_WAIT and the server in no state (no socket)"), "{text}");
        assert!(text.contains("shows CLOSING, 2 × FIN_WAIT2 and no state"), "{text}");
    }
}
