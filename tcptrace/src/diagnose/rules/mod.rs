//! The rules, in the order in which they are asked. docs/diagnoses.md has a section for each.

mod accept_queue_full;
mod close_wait_busy;
mod close_wait_leak;
mod connect_refused;
mod dead_peer;
mod fin_behind_data;
mod fin_behind_zero_window;
mod fin_cannot_leave;
mod fin_unanswered;
pub(super) mod half_open;
mod last_ack_unanswered;
mod orphan_pressure;
mod peer_never_closed;
mod retransmitting;
mod rst_storm;
mod syn_ack_unanswered;
mod syn_flood;
mod syn_unanswered;
mod time_wait_pressure;
mod words;
mod zero_window_stall;

pub use dead_peer::ladder as keepalive_ladder;
pub use syn_ack_unanswered::ladder as syn_ack_ladder;
pub use words::{answers_probes, ladder as stall_ladder};

use super::{Case, Deadline, Evidence, Finding, From, Judge, Rule, Scene, Setting};

/// The SYNs that are left.
pub fn syn_ladder(case: &Case) -> Option<super::ladder::Ladder> {
    syn_unanswered::ladder(case).map(|(ladder, _)| ladder)
}

/// All of them.
pub const RULES: &[Rule] = &[
    fin_cannot_leave::RULE,
    fin_behind_zero_window::RULE,
    fin_behind_data::RULE,
    fin_unanswered::RULE,
    last_ack_unanswered::RULE,
    peer_never_closed::RULE,
    close_wait_busy::RULE,
    close_wait_leak::RULE,
    syn_unanswered::RULE,
    syn_ack_unanswered::RULE,
    zero_window_stall::RULE,
    dead_peer::RULE,
    retransmitting::RULE,
    accept_queue_full::RULE,
    syn_flood::RULE,
    time_wait_pressure::RULE,
    orphan_pressure::RULE,
    connect_refused::RULE,
    rst_storm::RULE,
];
