//! `ss`: the tests compare what tcptrace says with it. A missing `ss` stops nobody from building.

use crate::{setup::apt, tools::Tools};

/// Installs iproute2 where it can, and says so where it cannot.
pub fn ensure(tools: &Tools) {
    if tools.find("ss").is_some() {
        return;
    }
    if let Err(error) = apt::install(tools, "iproute2") {
        eprintln!("warning: `ss` is missing, and tests that compare with it will fail");
        eprintln!("    {error:#}");
    }
}
