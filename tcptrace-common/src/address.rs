//! Addresses as the programs move them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An IP address, IPv4 as `::ffff:a.b.c.d`. Words, not bytes: the bpf target has no unaligned access, and would move
/// an array of bytes one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Address {
    words: [u64; 2],
}

impl Address {
    /// Of the kernel's words, in network order as they lie in memory.
    #[inline(always)]
    pub const fn from_words(words: [u64; 2]) -> Self {
        Self { words }
    }

    /// The sixteen bytes, in network order.
    #[inline(always)]
    pub const fn bytes(self) -> [u8; 16] {
        let [first, second] = [self.words[0].to_ne_bytes(), self.words[1].to_ne_bytes()];
        let mut bytes = [0; 16];
        let mut at = 0;
        while at < 8 {
            bytes[at] = first[at];
            bytes[at + 8] = second[at];
            at += 1;
        }
        bytes
    }

    /// Of sixteen bytes in network order.
    #[inline(always)]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        let (mut first, mut second) = ([0; 8], [0; 8]);
        let mut at = 0;
        while at < 8 {
            first[at] = bytes[at];
            second[at] = bytes[at + 8];
            at += 1;
        }
        Self { words: [u64::from_ne_bytes(first), u64::from_ne_bytes(second)] }
    }

    /// An IPv4 address, in network order as it lies in memory.
    #[inline(always)]
    pub const fn from_v4(v4: u32) -> Self {
        let v4 = v4.to_ne_bytes();
        let mapped = u64::from_ne_bytes([0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3]]);
        Self { words: [0, mapped] }
    }

    /// Is it IPv4 (`::ffff:0:0/96`)?
    #[inline(always)]
    pub const fn is_v4(self) -> bool {
        let mask = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        self.words[0] == 0 && self.words[1] & mask == u64::from_ne_bytes([0, 0, 0xff, 0xff, 0, 0, 0, 0])
    }
}
