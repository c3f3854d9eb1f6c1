//! Lessons: what a scenario teaches, for reading without playing it.

mod diagram;
mod render;
mod states;
mod sysctl;

pub(crate) mod close;
pub(crate) mod crowd;
pub(crate) mod open;
pub(crate) mod reset;
pub(crate) mod silence;
pub(crate) mod stuck;

pub(crate) use render::render;
use sysctl::Sysctl;

/// What there is to know about a scenario, but for what the scenario itself says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lesson {
    /// What happens, and why.
    story: &'static str,
    /// The states of the client's end in order, as `netstat` shows them: with `TIME_WAIT`, of which the kernel tells
    /// no event. Empty: there is no client.
    client: &'static [&'static str],
    /// The same at the server, from its listener on.
    server: &'static [&'static str],
    /// The settings that govern it.
    sysctls: &'static [Sysctl],
    /// What is often believed, and what is true.
    beliefs: &'static [Belief],
    /// What people typed before, and what shows it now.
    instead: &'static [Instead],
}

/// A belief and the truth about it.
#[derive(Debug, PartialEq, Eq)]
struct Belief {
    believed: &'static str,
    truth: &'static str,
}

/// A command of old and what takes its place.
#[derive(Debug, PartialEq, Eq)]
struct Instead {
    command: &'static str,
    shows: &'static str,
}

/// The ways through the states that most connections take, shared by the lessons.
const CLIENT_CLOSES_FIRST: &[&str] =
    &["CLOSE", "SYN_SENT", "ESTABLISHED", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE"];
const SERVER_CLOSES_LAST: &[&str] =
    &["CLOSE", "LISTEN", "SYN_RECV", "ESTABLISHED", "CLOSE_WAIT", "LAST_ACK", "CLOSE"];
const CLIENT_ENDS_AT_ONCE: &[&str] = &["CLOSE", "SYN_SENT", "ESTABLISHED", "CLOSE"];
const SERVER_ENDS_AT_ONCE: &[&str] = &["CLOSE", "LISTEN", "SYN_RECV", "ESTABLISHED", "CLOSE"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SCENARIOS;

    #[test]
    fn every_lesson_tells_all_there_is() {
        for scenario in SCENARIOS {
            let (name, lesson) = (scenario.name, scenario.lesson);
            assert!(lesson.story.len() > 100, "{name}: hardly a story");
            assert!(!lesson.beliefs.is_empty(), "{name}: nothing is believed of it");
            assert!(!lesson.instead.is_empty(), "{name}: replaces nothing");
            assert!(!lesson.server.is_empty(), "{name}: no server");
        }
    }

    #[test]
    fn lessons_are_told_once() {
        for (index, scenario) in SCENARIOS.iter().enumerate() {
            for other in &SCENARIOS[index + 1..] {
                assert_ne!(scenario.lesson.story, other.lesson.story, "{}, {}", scenario.name, other.name);
            }
        }
    }

    #[test]
    fn every_path_lies_on_the_edges_of_the_diagram() {
        for scenario in SCENARIOS {
            for path in [scenario.lesson.client, scenario.lesson.server] {
                for step in path.windows(2) {
                    assert!(diagram::leads(step[0], step[1]), "{}: {step:?}", scenario.name);
                }
            }
        }
    }

    /// The kernel's events name no TIME_WAIT and, for a listener's children, no CLOSE before LISTEN.
    #[test]
    fn lessons_go_the_ways_of_their_scenarios() {
        for scenario in SCENARIOS {
            let told = |path: &'static [&str]| -> Vec<_> {
                path.iter().copied().filter(|state| *state != "TIME_WAIT").collect()
            };
            let (client, server) = (told(scenario.lesson.client), told(scenario.lesson.server));
            assert_eq!(client, scenario.client.path, "{}: client", scenario.name);
            if !scenario.server.path.is_empty() {
                assert_eq!(server.get(1..), Some(scenario.server.path), "{}: server", scenario.name);
            }
        }
    }

    #[test]
    fn what_a_scenario_replaces_is_in_its_lesson() {
        for scenario in SCENARIOS {
            for command in scenario.replaces.split("; ") {
                let named = scenario.lesson.instead.iter().any(|instead| instead.command == command);
                assert!(named, "{}: {command}", scenario.name);
            }
        }
    }
}
