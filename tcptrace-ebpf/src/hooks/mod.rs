//! One file a hook. Each has up to three programs (`tp_btf`, raw and classic tracepoint) around one function.

pub mod destroy;
pub mod empty;
pub mod receive_reset;
pub mod retransmit;
pub mod retransmit_call;
pub mod send_reset;
pub mod state;
pub mod synack;
pub mod task_file;
