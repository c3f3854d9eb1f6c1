//! Puts the filter's values into the maps that the programs ask.

use super::{attach::chain, filter::FilterSpec};
use crate::error::StartError;
use aya::{
    Ebpf,
    maps::{Array, HashMap as BpfHashMap, MapData, MapError, lpm_trie},
};

/// Fills every map that a condition of this filter asks.
///
/// # Errors
/// The kernel refused a value.
pub(super) fn fill_filter(ebpf: &mut Ebpf, filter: &FilterSpec) -> Result<(), StartError> {
    let unexpected =
        |what: &str, why: String| StartError::Unexpected { what: format!("filling {what}"), why };
    fn fill<K: aya::Pod>(ebpf: &mut Ebpf, name: &str, keys: impl Iterator<Item = K>) -> Result<(), String> {
        let map = ebpf.map_mut(name).ok_or("no such map")?;
        let mut map: BpfHashMap<&mut MapData, K, u8> = map.try_into().map_err(|e: MapError| chain(&e))?;
        for key in keys {
            map.insert(key, 1, 0).map_err(|e| chain(&e))?;
        }
        Ok(())
    }
    fill(ebpf, "NETNS", filter.netns.iter().copied()).map_err(|why| unexpected("NETNS", why))?;
    fill(ebpf, "CGROUPS", filter.cgroups.iter().copied()).map_err(|why| unexpected("CGROUPS", why))?;
    fill(ebpf, "UIDS", filter.uids.iter().copied()).map_err(|why| unexpected("UIDS", why))?;
    fill_ports(ebpf, filter).map_err(|why| unexpected("PORTS", why))?;
    fill_networks(ebpf, filter).map_err(|why| unexpected("ADDRESSES", why))
}

fn fill_ports(ebpf: &mut Ebpf, filter: &FilterSpec) -> Result<(), String> {
    if filter.switches().ports == 0 {
        return Ok(());
    }
    let map = ebpf.map_mut("PORTS").ok_or("no such map")?;
    let mut map: Array<&mut MapData, u8> = map.try_into().map_err(|e: MapError| chain(&e))?;
    for (port, bits) in (0..).zip(filter.port_table()).filter(|(_, bits)| *bits != 0) {
        map.set(port, bits, 0).map_err(|e| chain(&e))?;
    }
    Ok(())
}

fn fill_networks(ebpf: &mut Ebpf, filter: &FilterSpec) -> Result<(), String> {
    let map = ebpf.map_mut("ADDRESSES").ok_or("no such map")?;
    let mut map: lpm_trie::LpmTrie<&mut MapData, [u8; 16], u8> =
        map.try_into().map_err(|e: MapError| chain(&e))?;
    for (length, address) in filter.networks() {
        map.insert(&lpm_trie::Key::new(length, address), 1, 0).map_err(|e| chain(&e))?;
    }
    Ok(())
}
