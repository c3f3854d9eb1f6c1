//! Hashes of keys that are handed out one after another, as the kernel's cookies are (from 5.10 on a processor takes 4096 at a
//! time). Eight of them stand side by side in a table's index, in a line of the cache or two: connections begin one after another,
//! and where there are a million of them each look-up elsewhere waits for memory. What it costs: where eights are side by side, the
//! table is tidied more often, and one that is nearly half full doubles earlier. An address as a key has no neighbours.

use hashbrown::DefaultHashBuilder;
use std::hash::{BuildHasher, Hasher};

/// So many bits of a key stay together.
const NEAR: u32 = 3;
/// The bits of a hash that a table compares before it compares keys are its highest seven: these of them tell neighbours apart.
const TAG: u32 = u64::BITS - 7;

/// For tables by `u64`.
#[derive(Clone, Debug, Default)]
pub(super) struct Nearby(DefaultHashBuilder);

#[derive(Debug)]
pub(super) struct NearbyHasher<H> {
    far: H,
    near: u64,
}

impl BuildHasher for Nearby {
    type Hasher = NearbyHasher<<DefaultHashBuilder as BuildHasher>::Hasher>;

    fn build_hasher(&self) -> Self::Hasher {
        NearbyHasher { far: self.0.build_hasher(), near: 0 }
    }
}

impl<H: Hasher> Hasher for NearbyHasher<H> {
    fn write_u64(&mut self, key: u64) {
        self.near = key & ((1 << NEAR) - 1);
        self.far.write_u64(key >> NEAR);
    }

    fn write(&mut self, bytes: &[u8]) {
        self.far.write(bytes);
    }

    fn finish(&self) -> u64 {
        // The lowest bits are the place.
        (((self.far.finish() >> NEAR) << NEAR) | self.near) ^ (self.near << TAG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const NEIGHBOURS: usize = 1 << NEAR;

    #[test]
    fn eight_neighbours_are_side_by_side_and_can_be_told_apart() {
        let nearby = Nearby::default();
        let near = NEIGHBOURS as u64;
        let mut begins = HashSet::new();
        for first in (0..64 * near).step_by(NEIGHBOURS) {
            let hashes: Vec<_> = (first..first + near).map(|key: u64| nearby.hash_one(key)).collect();
            let place = |hash: u64| hash & 0xffff;
            assert_eq!(place(hashes[0]) % near, 0);
            assert!(hashes.windows(2).all(|two| place(two[1]) == place(two[0]) + 1), "{hashes:x?}");
            let tags: HashSet<_> = hashes.iter().map(|hash| hash >> TAG).collect();
            assert_eq!(tags.len(), hashes.len());
            begins.insert(place(hashes[0]));
        }
        assert!(begins.len() > 48, "and other eights elsewhere: {} places for 64", begins.len());
    }
}
