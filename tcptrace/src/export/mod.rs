//! Numbers for machines: what is exported ([`model`]), and the ways in which it leaves.

pub mod model;
