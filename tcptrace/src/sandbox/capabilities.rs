//! Gives capabilities up.

use crate::source::privileges::Capability;
use caps::{CapSet, CapsHashSet, errors::CapsError};
use std::collections::BTreeSet;

/// Of the calling thread: keeps these, as far as it has them. What is given up cannot be had again.
///
/// # Errors
/// What could not be given up.
pub fn keep_only(kept: &BTreeSet<Capability>) -> Result<(), String> {
    let failed = |error: CapsError| format!("capabilities are kept: {error}");
    let effective = caps::read(None, CapSet::Effective).map_err(failed)?;
    let wanted: CapsHashSet = kept.iter().map(|capability| capability.caps()).collect();
    let kept: CapsHashSet = effective.intersection(&wanted).copied().collect();
    // No program is ever started; but what is not there cannot be used by mistake either.
    if effective.contains(&caps::Capability::CAP_SETPCAP) {
        for capability in caps::runtime::thread_all_supported().difference(&kept) {
            caps::drop(None, CapSet::Bounding, *capability).map_err(failed)?;
        }
    }
    // Before 4.3 there were no ambient ones.
    let _ = caps::clear(None, CapSet::Ambient);
    caps::clear(None, CapSet::Inheritable).map_err(failed)?;
    // What is effective must be permitted: so in this order.
    caps::set(None, CapSet::Effective, &kept).map_err(failed)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(failed)
}
