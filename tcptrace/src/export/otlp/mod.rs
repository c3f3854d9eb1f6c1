//! Pushing snapshots to an OpenTelemetry receiver, by gRPC or HTTP, from a thread of its own: a slow or dead receiver costs snapshots,
//! never the trace.

mod answer;
mod client;
pub mod encode;
mod names;
mod push;
mod resource;
pub mod settings;

pub use push::Pusher;
pub use settings::Settings;
