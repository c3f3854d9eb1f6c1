//! The hook table: what each hook is for, whether tcptrace can do without it, and what is lost then.

use serde::Serialize;
use std::fmt;

/// How a program is attached, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// `tp_btf`: typed arguments, direct loads, needs BTF but no tracefs; can make socket cookies.
    Btf,
    /// Raw tracepoint: needs BTF for the offsets.
    Raw,
    /// Classic tracepoint: needs tracefs; works without BTF.
    Classic,
    /// kprobe and kretprobe on the function.
    Kprobe,
    /// fentry on the function: typed arguments, direct loads.
    Fentry,
    /// fexit on the function: its result, too.
    Fexit,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Btf => "tp_btf",
            Self::Raw => "raw_tp",
            Self::Classic => "classic",
            Self::Kprobe => "kprobe",
            Self::Fentry => "fentry",
            Self::Fexit => "fexit",
        })
    }
}

/// A row of the table.
#[derive(Debug)]
pub struct Hook {
    /// The stem of its programs' names: `state` gives `state_btf`, `state_raw`, `state_classic`.
    pub stem: &'static str,
    /// Its category under tracefs.
    pub category: &'static str,
    /// The tracepoint or function.
    pub target: &'static str,
    /// What it tells.
    pub tells: &'static str,
    /// tcptrace refuses to start without it.
    pub required: bool,
    /// What is missing in the output without it.
    pub without: &'static str,
}

impl Hook {
    /// Not a tracepoint but a function: many kernels have no such hooks.
    pub const fn is_probe(&self) -> bool {
        self.category.is_empty()
    }
}

/// Every tracepoint hook, in the order in which they are attached. State changes come last: once they flow,
/// everything that explains them flows too.
pub const TRACEPOINTS: [Hook; 6] = [
    Hook {
        stem: "destroy",
        category: "tcp",
        target: "tcp_destroy_sock",
        tells: "end of a socket",
        required: false,
        without: "a flow whose close was lost stays listed until it is evicted",
    },
    Hook {
        stem: "receive_reset",
        category: "tcp",
        target: "tcp_receive_reset",
        tells: "RST received",
        required: false,
        without: "resets received are told from the socket's error only",
    },
    Hook {
        stem: "send_reset",
        category: "tcp",
        target: "tcp_send_reset",
        tells: "RST sent",
        required: false,
        without: "aborts by this side end with cause unknown",
    },
    Hook {
        stem: "retransmit",
        category: "tcp",
        target: "tcp_retransmit_skb",
        tells: "segments sent again",
        required: false,
        without: "only the total at the close",
    },
    Hook {
        stem: "synack",
        category: "tcp",
        target: "tcp_retransmit_synack",
        tells: "SYN-ACKs sent again",
        required: false,
        without: "half-open connections stay invisible",
    },
    Hook {
        stem: "state",
        category: "sock",
        target: "inet_sock_set_state",
        tells: "state changes",
        required: true,
        without: "nothing can be traced",
    },
];

/// The function probe beside the retransmit tracepoint.
pub const RETRANSMIT_CALL: Hook = Hook {
    stem: "retransmit_call",
    category: "",
    target: "tcp_retransmit_skb()",
    tells: "retransmit attempts and failed sends",
    required: false,
    without: "attempts are not counted; failed sends are seen from Linux 6.17 on only",
};

/// Function probes for what no tracepoint tells, in the order in which they are attached: ends before beginnings, so that
/// nothing begins whose end would not be seen. Each is optional.
pub const PROBES: [Hook; 5] = [
    Hook {
        stem: "minisocket_end",
        category: "",
        target: "inet_twsk_kill()",
        tells: "end of TIME_WAIT",
        required: false,
        without: "sock_diag is asked when its timer should have expired",
    },
    Hook {
        stem: "minisocket_timer",
        category: "",
        target: "__inet_twsk_schedule()",
        tells: "beginning of TIME_WAIT",
        required: false,
        without: "inferred from the close, and sock_diag is asked",
    },
    Hook {
        stem: "request_end",
        category: "",
        target: "__inet_csk_reqsk_queue_drop()",
        tells: "end of a half-open connection",
        required: false,
        without: "sock_diag is asked now and then",
    },
    Hook {
        stem: "request_begin",
        category: "",
        target: "inet_csk_reqsk_queue_hash_add()",
        tells: "half-open connections, from the SYN",
        required: false,
        without: "seen from the first repeated SYN-ACK on, or in sock_diag",
    },
    Hook {
        stem: "accept_return",
        category: "",
        target: "inet_csk_accept()",
        tells: "who accepts",
        required: false,
        without: "who listens is taken for the owner",
    },
];

/// What became of one hook.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its row.
    pub hook: &'static Hook,
    /// How it is attached; `None`: it is not.
    pub way: Option<Way>,
    /// Why the better ways were not taken, one sentence each.
    pub refused: Vec<(Way, String)>,
}
