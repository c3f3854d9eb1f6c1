//! nft, which a machine may have without its firewall being used: that of this machine, or of its distribution.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::link;
use crate::{setup::apt, tools::Tools};

/// Makes `bin/nft`.
pub fn install(tools: &Tools, folder: &Path) -> Result<()> {
    let there = || tools.find("nft");
    if there().is_none() {
        apt::install(tools, "nftables")?;
    }
    link(&there().context("there is none on PATH")?, folder, "nft")
}
