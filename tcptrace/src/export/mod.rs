//! Numbers for machines: what is exported ([`model`]), and the ways in which it leaves.

pub mod collect;
#[cfg(test)]
mod document;
pub mod model;
pub mod negotiate;
pub mod openmetrics;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod protobuf;
pub mod serve;
#[cfg(test)]
mod strict;
