//! Scenarios: scripts that lead one connection through its states, and what a tracer must see of them.

mod close;
mod crowd;
mod open;
mod play;
mod reset;
mod silence;
mod stuck;

use crate::{
    Lab, LabError, Side,
    lesson::{self, Lesson},
};

/// A moment in a scenario at which the connection stands still, so that it can be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// What has just happened, for people.
    pub text: &'static str,
    /// The state of the connection at the client as `netstat` prints it; `None`: there is no socket. Where there are
    /// many connections: of the first.
    pub client: Option<&'static str>,
    /// The same at the server, its listener apart.
    pub server: Option<&'static str>,
    /// The other connections at the client: how many are in which state.
    pub client_others: Others,
    /// The same at the server.
    pub server_others: Others,
    /// What a diagnosis of the two hosts must say of them now, by name and by the host it is about; empty: nothing.
    /// `None`: in transit, so that it is not to be judged.
    ///
    /// What is to be judged stays as it is for three seconds, so that it can be looked at.
    pub findings: Option<Findings>,
}

/// How many connections are in which state.
pub type Others = &'static [(usize, &'static str)];

/// Names of findings, each with the host it is about.
pub type Findings = &'static [(Side, &'static str)];

impl Stage {
    /// A stage without sockets, in transit; scripts write down what is different.
    const NOTHING: Self =
        Self { text: "", client: None, server: None, client_others: &[], server_others: &[], findings: None };

    /// The states of all connections at that host, sorted.
    pub fn states(&self, side: Side) -> Vec<&'static str> {
        let (first, others) = match side {
            Side::Client => (self.client, self.client_others),
            Side::Server => (self.server, self.server_others),
        };
        let others = others.iter().flat_map(|&(count, state)| std::iter::repeat_n(state, count));
        let mut states: Vec<_> = first.into_iter().chain(others).collect();
        states.sort_unstable();
        states
    }
}

/// What a tracer must see of one end of a scenario's connection; where there are many, of the first, and all others
/// go the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Every state that the kernel's `inet_sock_set_state` event names for this socket, in order. Empty: the end
    /// never has a socket but the listener, whose own `CLOSE`, `LISTEN`, `CLOSE` are not listed.
    ///
    /// A passive socket begins in `LISTEN`, of which it is a copy. A last `CLOSE` after `FIN_WAIT2` or `CLOSING` is
    /// the point where the kernel goes on with a smaller object without events, which `netstat` shows as `FIN_WAIT2`
    /// and then `TIME_WAIT`.
    pub path: &'static [&'static str],
    /// Segments that this host sends again: at least so many, as a loaded machine may cause more.
    pub retransmits: Retransmits,
    /// Segments with RST that this host sends: exactly so many, those without a socket included.
    pub resets: u32,
    /// How many of those answer a segment for which there is no socket. Before Linux 6.10 no tracepoint shows them.
    pub socketless_resets: u32,
}

impl Expected {
    const fn path(path: &'static [&'static str]) -> Self {
        Self { path, retransmits: Retransmits::NONE, resets: 0, socketless_resets: 0 }
    }
}

/// Numbers of retransmitted segments by what they carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retransmits {
    /// SYN.
    pub syn: u32,
    /// SYN and ACK, the answer to a SYN.
    pub syn_ack: u32,
    /// Data, without FIN.
    pub data: u32,
    /// FIN, with data or without.
    pub fin: u32,
}

impl Retransmits {
    const NONE: Self = Self { syn: 0, syn_ack: 0, data: 0, fin: 0 };
}

/// The script of a scenario: plays it and calls the observer at each stage.
type Script = fn(&mut play::Play<'_>) -> Result<(), LabError>;

/// A condition of TCP that a lab can make.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// What to type.
    pub name: &'static str,
    /// What it shows, in one line.
    pub title: &'static str,
    /// The commands that people made and watched this with before.
    pub replaces: &'static str,
    /// What a tracer must see of the client's socket.
    pub client: Expected,
    /// What a tracer must see of the server's socket of the connection.
    pub server: Expected,
    /// The findings that a diagnosis must come to while it is played, those of all its stages; empty: none at all.
    pub findings: Findings,
    pub(crate) lesson: &'static Lesson,
    script: Script,
}

impl Scenario {
    /// What the scenario teaches, as text of at most a hundred columns: what happens, the way of both ends on the state
    /// diagram, what governs it here, what is often believed, and what took the place of which command. Plays nothing
    /// and needs no root.
    pub fn explain(&self) -> String {
        lesson::render(self)
    }

    /// Plays the scenario in a new lab and calls the observer at each stage, while both ends are in the states that
    /// the stage names: the kernel's tables have been read to make sure. At the end no socket is left but what the
    /// kernel keeps for a while by itself, in `TIME_WAIT`.
    ///
    /// An observer that takes longer than a fifth of a second while a segment is under way adds retransmissions, and
    /// one that takes seconds may find that the kernel's timers have led on what it was to look at.
    pub fn run(&self, lab: &Lab, observer: &mut dyn FnMut(&Stage)) -> Result<(), LabError> {
        (self.script)(&mut play::Play::new(lab, observer)?)
    }
}

/// All scenarios, from the ordinary to the troubled.
pub const SCENARIOS: &[Scenario] = &[
    open::HANDSHAKE,
    open::REFUSED,
    open::SYN_DROP,
    open::SYNACK_DROP,
    close::CLOSE_CLIENT_FIRST,
    close::CLOSE_SERVER_FIRST,
    close::HALF_CLOSE,
    close::SIMULTANEOUS_CLOSE,
    stuck::CLOSE_WAIT_LEAK,
    stuck::FIN_WAIT2_ORPHAN,
    stuck::FIN_WAIT1_DROP,
    stuck::FIN_WAIT1_ZERO_WINDOW,
    crowd::SYN_FLOOD,
    crowd::BACKLOG_FULL,
    crowd::TIME_WAIT_BURST,
    reset::RST_UNREAD,
    reset::RST_LINGER,
    silence::KEEPALIVE_TIMEOUT,
    silence::USER_TIMEOUT_ENDS,
    silence::LOSSY,
];

/// The scenario of that name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_found_by_its_own_name() {
        for scenario in SCENARIOS {
            let found = find(scenario.name).expect("listed");
            assert_eq!(found.title, scenario.title);
        }
        assert!(find("no-such-thing").is_none());
    }

    #[test]
    fn a_stage_counts_the_others() {
        let stage = Stage {
            client: Some("TIME_WAIT"),
            client_others: &[(2, "ESTABLISHED"), (1, "TIME_WAIT")],
            server_others: &[(1, "SYN_RECV")],
            ..Stage::NOTHING
        };
        assert_eq!(stage.states(Side::Client), ["ESTABLISHED", "ESTABLISHED", "TIME_WAIT", "TIME_WAIT"]);
        assert_eq!(stage.states(Side::Server), ["SYN_RECV"]);
    }

    #[test]
    fn every_path_ends_closed() {
        for scenario in SCENARIOS {
            for end in [scenario.client, scenario.server] {
                assert!(
                    matches!(end.path.last(), None | Some(&"CLOSE")),
                    "{}: {:?}",
                    scenario.name,
                    end.path
                );
            }
        }
    }
}
