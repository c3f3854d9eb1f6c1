//! Where events come from: the hooks in the kernel. Imports nothing of what is done with them.

pub mod aggregate;
mod attach;
pub mod btf;
pub mod cgroups;
pub mod counters;
pub mod details;
pub mod filter;
mod filter_maps;
mod filter_match;
pub mod holders;
pub mod hooks;
mod iterator;
mod layout;
pub mod live;
pub mod load;
pub mod machine;
mod memlock;
pub mod netns;
mod object;
pub mod privileges;
mod ring;
pub mod sockdiag;
pub mod sockets;
pub mod surroundings;
pub mod timens;
mod tracefs;
