//! Makes real TCP conditions between two network namespaces, with full control of the path between them.
//!
//! A [`Lab`] is two hosts, `client` and `server`, and the network in between, the [`Wire`]. Each host is a thread
//! in a network namespace of its own; its only link is a TUN device whose other end is held by the wire, a third
//! thread that carries packets from one host to the other. The wire can drop, hold and release segments by what is
//! in their TCP header, so every loss and every order of events is exact and repeatable. As the losses happen
//! *between* the hosts, the kernel retransmits as it does on a real network.
//!
//! No external tool, no firewall rule, no change outside the two namespaces: they have no name, so they vanish with
//! the [`Lab`], or with the process, however it ends. (A connection that is being closed when the process is killed
//! keeps its namespace, out of sight and out of reach, until the kernel gives up on it: two minutes at most.)
//!
//! A [`Scenario`] is a script for a lab: it leads one connection through its states and says at each [`Stage`] what
//! has just happened and what `netstat` would show on either side. It checks that against the kernel before it says
//! so.
//!
//! ```no_run
//! # fn main() -> Result<(), tcptrace_lab::LabError> {
//! use tcptrace_lab::{Family, Lab, find};
//!
//! let lab = Lab::new(Family::V4)?;
//! if let Some(scenario) = find("fin-wait1-drop") {
//!     scenario.run(&lab, &mut |stage| println!("{}", stage.text))?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Needs root: network namespaces and TUN devices are the kernel's to give.

mod endpoint;
mod error;
mod host;
mod lab;
mod lesson;
mod packet;
mod scenario;
mod segment;
mod table;
mod tun;
mod wire;

pub use endpoint::{Endpoint, Listening};
pub use error::LabError;
pub use lab::{Family, Lab, PORT, Side};
pub use scenario::{Expected, Findings, Others, Retransmits, SCENARIOS, Scenario, Stage, find};
pub use segment::Segment;
pub use wire::{Direction, Fate, RuleId, Sighting, Traffic, Wire};
