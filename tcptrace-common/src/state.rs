//! TCP states: the kernel's numbers (include/net/tcp_states.h, unchanged since 4.1) and netstat's names.

/// A TCP state. The discriminant is the kernel's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "user", derive(serde::Serialize, serde::Deserialize))]
#[repr(u8)]
#[allow(missing_docs)] // the names are RFC 9293's own
pub enum TcpState {
    Established = 1,
    SynSent = 2,
    SynRecv = 3,
    FinWait1 = 4,
    FinWait2 = 5,
    TimeWait = 6,
    Close = 7,
    CloseWait = 8,
    LastAck = 9,
    Listen = 10,
    Closing = 11,
    /// A half-open request: SYN_RECV to people, a request socket to the kernel.
    NewSynRecv = 12,
}

/// The side of the transition matrix: above the largest state number, and a power of two, so that a mask keeps an
/// index inside where a verifier has to be convinced.
pub const STATES: usize = 16;

impl TcpState {
    /// Every state, in the kernel's order.
    pub const ALL: [Self; 12] = [
        Self::Established,
        Self::SynSent,
        Self::SynRecv,
        Self::FinWait1,
        Self::FinWait2,
        Self::TimeWait,
        Self::Close,
        Self::CloseWait,
        Self::LastAck,
        Self::Listen,
        Self::Closing,
        Self::NewSynRecv,
    ];

    /// The state with this kernel number, if there is one (1..=12).
    pub const fn from_number(number: u8) -> Option<Self> {
        if number >= 1 && number as usize <= Self::ALL.len() {
            Some(Self::ALL[number as usize - 1])
        } else {
            None
        }
    }

    /// The kernel's number, 1..=12.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The name `netstat` prints. Half-open requests are `SYN_RECV`, as in every tool.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv | Self::NewSynRecv => "SYN_RECV",
            Self::FinWait1 => "FIN_WAIT1",
            Self::FinWait2 => "FIN_WAIT2",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Listen => "LISTEN",
            Self::Closing => "CLOSING",
        }
    }

    /// Reads any common spelling: `fin-wait-1`, `FIN_WAIT_1`, `FINWAIT1`, `estab`, `time-wait`.
    pub fn parse(text: &str) -> Option<Self> {
        fn letters(s: &str) -> impl Iterator<Item = u8> {
            s.bytes().filter(u8::is_ascii_alphanumeric).map(|b| b.to_ascii_uppercase())
        }
        let same = |name: &str| letters(name).eq(letters(text));
        match text {
            t if t.eq_ignore_ascii_case("estab") => Some(Self::Established),
            t if t.eq_ignore_ascii_case("closed") => Some(Self::Close),
            _ => Self::ALL.into_iter().find(|s| *s != Self::NewSynRecv && same(s.name())),
        }
        .or_else(|| (same("SYN_RECEIVED") || same("SYN_RCVD")).then_some(Self::SynRecv))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip() {
        for state in TcpState::ALL {
            assert_eq!(TcpState::from_number(state.number()), Some(state));
        }
        assert_eq!(TcpState::from_number(0), None);
        assert_eq!(TcpState::from_number(13), None);
        assert_eq!(TcpState::from_number(255), None);
    }

    #[test]
    fn any_common_spelling_is_read() {
        for (text, state) in [
            ("fin-wait-1", TcpState::FinWait1),
            ("FIN_WAIT_1", TcpState::FinWait1),
            ("finwait1", TcpState::FinWait1),
            ("estab", TcpState::Established),
            ("ESTABLISHED", TcpState::Established),
            ("syn-recv", TcpState::SynRecv),
            ("SYN_RECEIVED", TcpState::SynRecv),
            ("closed", TcpState::Close),
            ("time-wait", TcpState::TimeWait),
        ] {
            assert_eq!(TcpState::parse(text), Some(state), "{text}");
        }
        assert_eq!(TcpState::parse("FIN_WAIT3"), None);
        assert_eq!(TcpState::parse(""), None);
    }
}
