//! What a socket has tried so far and will still try, with times: its whole ladder.

use super::{
    Case, Scene,
    ladder::{self, Ladder},
    rules,
};
use crate::{
    event::TcpState,
    sight::{Kind, TimerKind},
};

/// The first time-out of a SYN-ACK (TCP_TIMEOUT_INIT).
const FIRST_NS: u64 = 1_000_000_000;

/// A try that lies behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The how many-th.
    pub number: u32,
    /// How long ago, in nanoseconds: reckoned back from the time-outs, so at the least.
    pub ago_ns: u64,
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retries {
    /// What is tried: `FIN`, `SYN`, `window probe`.
    pub what: &'static str,
    /// Those that lie behind, the first of them first.
    pub tried: Vec<Tried>,
    /// Those to come, and the end.
    pub ahead: Ladder,
}

/// The ladder of a socket that tries something; `None`: it does not.
pub fn retries(case: &Case, scene: &Scene) -> Option<Retries> {
    let timer = case.sight.timer?;
    let expires_ns = u64::from(timer.expires_ms) * 1_000_000;
    if case.sight.kind == Kind::Request {
        let number = u32::from(timer.retransmits);
        let interval = |number: u32| FIRST_NS << number.min(30);
        let ahead = rules::syn_ack_ladder(case, scene)?;
        return Some(Retries { what: "SYN-ACK", tried: back(number, expires_ns, interval), ahead });
    }
    let stall = case.stall()?;
    let doubled = |tries: u32| move |number: u32| stall.rto_ns >> tries.saturating_sub(number).min(63);
    match timer.kind {
        TimerKind::Retransmit if case.sight.state == TcpState::SynSent => {
            let linear = case.settings.syn_linear_timeouts.unwrap_or(0);
            let interval = |number: u32| ladder::syn_interval(&stall, u64::from(number) + 1, linear);
            let ahead = rules::syn_ladder(case)?;
            Some(Retries { what: "SYN", tried: back(stall.tries, expires_ns, interval), ahead })
        }
        // The timer of healthy data in flight.
        TimerKind::Retransmit if stall.tries == 0 && case.sight.state == TcpState::Established => None,
        TimerKind::Retransmit => {
            let closing =
                matches!(case.sight.state, TcpState::FinWait1 | TcpState::Closing | TcpState::LastAck);
            let what = if closing && case.sight.send_queue <= 1 { "FIN" } else { "data" };
            Some(Retries {
                what,
                tried: back(stall.tries, expires_ns, doubled(stall.tries)),
                ahead: rules::stall_ladder(case)?,
            })
        }
        TimerKind::Probe => {
            let tries = case.sight.info.map_or(0, |info| u32::from(info.backoff));
            let mut ahead = rules::stall_ladder(case)?;
            // The kernel counts those without an answer; here they go on from those behind.
            for (number, rung) in (tries + 1..).zip(&mut ahead.rungs) {
                rung.number = number;
            }
            Some(Retries { what: "window probe", tried: back(tries, expires_ns, doubled(tries)), ahead })
        }
        TimerKind::Keepalive => {
            let unanswered = u32::from(timer.retransmits);
            let (interval_ns, ahead) = rules::keepalive_ladder(case, unanswered, expires_ns);
            (unanswered > 0).then(|| Retries {
                what: "keepalive probe",
                tried: back(unanswered, expires_ns, |_| interval_ns),
                ahead,
            })
        }
        TimerKind::TimeWait => None,
    }
}

/// Reckons back: the last try was when the timer that runs was set; each earlier one an interval before. `interval`: of
/// the timer after try `number`.
fn back(tries: u32, expires_ns: u64, interval: impl Fn(u32) -> u64) -> Vec<Tried> {
    let mut ago_ns = interval(tries).saturating_sub(expires_ns);
    let mut tried = Vec::new();
    for number in (1..=tries).rev() {
        tried.push(Tried { number, ago_ns });
        ago_ns = ago_ns.saturating_add(interval(number - 1));
    }
    tried.reverse();
    tried
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_reckoned_back() {
        let doubled = |number: u32| 100_u64 << number;
        let tried = back(3, 500, doubled);
        // The timer that runs is the 800 after the third try.
        assert_eq!(tried.iter().map(|tried| tried.ago_ns).collect::<Vec<_>>(), [900, 700, 300]);
        assert!(back(0, 1, doubled).is_empty());
    }
}
