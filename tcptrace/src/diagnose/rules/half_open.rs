//! What is the matter with the half-open requests of a listener: one answer for all of them.

use super::{Case, Scene};
use crate::{
    diagnose::{
        limits::{Past, past},
        memory::is_full,
    },
    sight::Kind,
};
use hashbrown::{HashMap, HashSet};

/// From so many half-open requests on a flood is thought of; of a listener with a small backlog, which throws the others
/// away or answers them with cookies, from three quarters of that on.
const MANY: usize = 16;
const LEAST: usize = 4;
/// A connection that waits so long in a full accept queue: the next client repeats its SYN after a second.
const FULL_NS: u64 = 900_000_000;

/// What is the matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The accept queue is full: ACKs arrive and find no room.
    QueueFull,
    /// Many sources, one try each.
    Flood,
    /// SYN-ACKs, or the ACKs of them, do not arrive.
    Unanswered,
}

/// Of each port with requests.
pub fn troubles(scene: &Scene) -> HashMap<(u32, u16), Trouble> {
    let mut stuck: HashMap<_, (usize, HashSet<_>)> = HashMap::new();
    for case in scene.cases.iter().filter(|case| case.sight.kind == Kind::Request) {
        let (count, sources) = stuck.entry((case.sight.netns, case.sight.ends.lport)).or_default();
        if past(case, scene.older_than_ns) == Past::Yes {
            *count += 1;
            sources.insert(case.sight.ends.remote);
        }
    }
    let full: HashSet<_> = scene
        .listeners
        .iter()
        .filter(|case| queue_full(case, scene))
        .map(|case| (case.sight.netns, case.sight.ends.lport))
        .collect();
    let trouble = |port: &(u32, u16), count: usize, sources: usize| {
        if full.contains(port) {
            Trouble::QueueFull
        } else if count >= many(scene, port) && sources * 10 >= count * 9 {
            // A client that tries in vain sends its SYN again; who only wants to fill the table takes another address.
            Trouble::Flood
        } else {
            Trouble::Unanswered
        }
    };
    stuck.into_iter().map(|(port, (count, sources))| (port, trouble(&port, count, sources.len()))).collect()
}

/// From how many on it is a flood, of the listener on this port.
fn many(scene: &Scene, (netns, port): &(u32, u16)) -> usize {
    let backlog =
        scene.listener(*netns, *port).map_or(usize::MAX, |listener| listener.sight.send_queue as usize);
    (backlog / 4).saturating_mul(3).clamp(LEAST, MANY)
}

/// Requests past their limit.
pub fn stuck(scene: &Scene, netns: u32, port: u16) -> impl Iterator<Item = &Case> {
    scene.half_open(netns, port).filter(|case| past(case, scene.older_than_ns) == Past::Yes)
}

/// Full, and not only for a moment: a connection waits in it for long. A program that takes them as they come may be
/// seen with a full queue at every look, if its backlog is small.
pub fn queue_full(listener: &Case, scene: &Scene) -> bool {
    if !is_full(listener) {
        return false;
    }
    let (netns, port) = (listener.sight.netns, listener.sight.ends.lport);
    let least_ns = scene.older_than_ns.unwrap_or(FULL_NS);
    if let Some(Some(oldest_ns)) = scene.unaccepted.get(&(netns, port)) {
        return *oldest_ns >= least_ns;
    }
    // Nothing tells since when: the queue was full at two looks, or long enough for a request to be repeated.
    let since = scene.remembered.full_since_ns(listener);
    since.is_some_and(|since| scene.now_ns.saturating_sub(since) >= least_ns)
        || (scene.older_than_ns.is_none() && scene.half_open(netns, port).any(|case| case.tries() > 0))
}

/// The listeners' ports that have requests, each once.
pub fn ports(scene: &Scene) -> Vec<(u32, u16)> {
    let requests = scene.cases.iter().filter(|case| case.sight.kind == Kind::Request);
    let mut ports: Vec<_> = requests.map(|case| (case.sight.netns, case.sight.ends.lport)).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}
