//! One file a hook. Each has up to three programs (`tp_btf`, raw and classic tracepoint) around one function. What no
//! tracepoint tells (`minisocket`, `request`, `accept`) is told by probes of the kernel's functions, where there are any.

pub mod accept;
pub mod aggregate;
pub mod destroy;
pub mod empty;
pub mod minisocket;
pub mod receive_reset;
pub mod request;
pub mod retransmit;
pub mod retransmit_call;
pub mod send_reset;
pub mod state;
pub mod synack;
pub mod task_file;
pub mod tcp_sockets;
