//! How a trace began: what is attached, and what that can tell. A recording begins with it.

use crate::{
    flow::Capabilities,
    source::{hooks::Way, live::wall_offset_ns, load::Loaded, netns::Namespace, privileges::kernel_version},
};
use serde::{Deserialize, Serialize};

/// A hook, and how it is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The tracepoint or function.
    pub target: String,
    /// How; `None`: it is not.
    pub way: Option<String>,
    /// What is missing without it, if it is a tracepoint that is not attached: what it tells, and what is lost.
    pub missing: Option<(String, String)>,
}

/// How a trace began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Version of tcptrace.
    pub version: String,
    /// Release of the kernel.
    pub kernel: String,
    /// When, on the boot-time clock, in nanoseconds.
    pub began_ns: u64,
    /// What to add to boot time to get the time of day, in nanoseconds since 1970.
    pub wall_offset_ns: i64,
    /// Every hook.
    pub hooks: Vec<Attached>,
    /// How state changes are seen.
    pub state_way: String,
    /// What the hooks can tell.
    pub capabilities: Capabilities,
    /// The function probe of retransmissions is attached.
    pub calls: bool,
    /// Number and name of the kernel's reset reasons.
    pub reset_reasons: Vec<(u32, String)>,
    /// The filter was this, where there was one.
    pub filter: Option<String>,
    /// Flows kept at once.
    pub max_flows: usize,
    /// The network namespace that it was made from; 0: unknown, or not among those that were traced.
    pub netns: u32,
}

impl Started {
    /// Nothing is attached: sockets are only looked at.
    pub fn without_trace(began_ns: u64, max_flows: usize) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: kernel_version().0,
            began_ns,
            wall_offset_ns: wall_offset_ns(),
            netns: Namespace::own().map_or(0, |own| own.inode()),
            capabilities: Capabilities { cookies: true, all_states: true, ..Capabilities::default() },
            max_flows,
            ..Self::default()
        }
    }

    /// `all_states`: no `--state`.
    pub fn new(loaded: Option<&Loaded>, all_states: bool, began_ns: u64, max_flows: usize) -> Self {
        let way = |stem| loaded.and_then(|loaded| loaded.way_of(stem));
        let hooks = loaded.iter().flat_map(|loaded| &loaded.outcomes).map(|outcome| {
            let hook = outcome.hook;
            let missing = outcome.way.is_none() && !hook.is_probe();
            Attached {
                target: hook.target.to_owned(),
                way: outcome.way.map(|way| way.to_string()),
                missing: missing.then(|| (hook.tells.to_owned(), hook.without.to_owned())),
            }
        });
        Self {
            hooks: hooks.collect(),
            state_way: way("state").map(|way| way.to_string()).unwrap_or_default(),
            capabilities: capabilities(loaded, all_states),
            calls: way("retransmit_call") == Some(Way::Kprobe),
            reset_reasons: loaded.map(|loaded| loaded.reset_reasons.clone()).unwrap_or_default(),
            ..Self::without_trace(began_ns, max_flows)
        }
    }

    /// Something is traced, and not only looked at.
    pub fn is_traced(&self) -> bool {
        !self.hooks.is_empty()
    }
}

/// What the attached hooks can tell. `all_states`: no `--state`.
pub fn capabilities(loaded: Option<&Loaded>, all_states: bool) -> Capabilities {
    let attached = |stem| loaded.is_some_and(|loaded| loaded.way_of(stem).is_some());
    Capabilities {
        cookies: loaded.is_some_and(|loaded| loaded.cookies),
        resets: attached("send_reset") && attached("receive_reset"),
        all_states,
        minisockets: attached("minisocket_timer") && attached("minisocket_end"),
        requests: attached("request_begin") && attached("request_end"),
    }
}
