//! From the running kernel's types to the offsets the programs use.

use super::btf::{Btf, Place};
use tcptrace_common::layout::{ABSENT, COMMON_BYTES, MOST_OFFSET, Member, Offsets};

/// Members that the programs read without asking whether they are there. Every kernel since 5.8 has them.
const REQUIRED: [&str; 18] = [
    "skc_family",
    "skc_state",
    "skc_num",
    "skc_dport",
    "skc_daddr",
    "skc_rcv_saddr",
    "skc_v6_daddr",
    "skc_v6_rcv_saddr",
    "skc_net",
    "skc_cookie",
    "skc_flags",
    "ns.inum",
    "sk_protocol",
    "sk_shutdown",
    "sk_socket",
    "sk_err",
    "sk_err_soft",
    "inet_sport",
];

/// Looks every member up.
///
/// # Errors
/// A required member is missing or lies where the programs do not look; the sentence names it.
pub fn resolve(btf: &Btf) -> Result<Offsets, String> {
    let offsets = Offsets::resolve(|member| usable(member, btf.member(member.of, member.path)?));
    for (member, offset) in offsets.each() {
        if REQUIRED.contains(&member.path) && offset == ABSENT {
            return Err(format!(
                "the kernel's types do not show {}.{} as {} bytes; please report this kernel",
                member.of, member.path, member.size
            ));
        }
    }
    Ok(offsets)
}

/// Members whose absence users notice: what they tell is unknown on this kernel.
pub fn missing(offsets: &Offsets) -> Vec<&'static str> {
    // Where there is no `tcp_usec_ts` (before 6.7) every connection counts in milliseconds: nothing is lost.
    let lost = |(member, offset): &(&Member, u32)| *offset == ABSENT && member.path != "tcp_usec_ts";
    offsets.each().filter(lost).map(|(member, _)| member.path).collect()
}

fn usable(member: &Member, place: Place) -> Option<u32> {
    let size_fits = member.size == 0 || member.size == place.size;
    // The bit fields that the programs take apart start at fixed bits of their byte, as they mask and shift by constants.
    // Of two others they hand over the byte, and user space finds the bit.
    let bits_fit = match (member.path, place.bits) {
        ("icsk_ca_state", bits) => bits == Some((0, 5)),
        ("num_timeout", bits) => bits == Some((1, 7)),
        ("tcp_usec_ts" | "acked", bits) => matches!(bits, Some((0..=7, 1))),
        (_, bits) => bits.is_none(),
    };
    let end = place.offset + place.size;
    let inside = end <= MOST_OFFSET && (member.of != "sock_common" || end as usize <= COMMON_BYTES);
    // The low byte of a wider flags member.
    let last = if cfg!(target_endian = "big") && member.path == "tcp_flags" { place.size - 1 } else { 0 };
    (size_fits && bits_fit && inside).then_some(place.offset + last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::btf::KERNEL_BTF;
    use btfparse::{Offset, Readable, TypeInformation};
    use std::path::Path;

    struct Bytes(Vec<u8>);

    impl Readable for Bytes {
        fn read(&self, offset: u64, buffer: &mut [u8]) -> btfparse::Result<()> {
            let start = offset as usize;
            let source = self.0.get(start..start + buffer.len());
            let source =
                source.ok_or_else(|| btfparse::Error::new(btfparse::ErrorKind::IOError, "out of range"))?;
            buffer.copy_from_slice(source);
            Ok(())
        }
    }

    /// An independent reader agrees on every member that we use.
    #[test]
    fn offsets_equal_those_of_btfparse() {
        let Ok(data) = std::fs::read(KERNEL_BTF) else {
            println!("no BTF on this machine: nothing to compare");
            return;
        };
        let ours = resolve(&Btf::read(Path::new(KERNEL_BTF)).unwrap()).unwrap();
        let theirs = TypeInformation::new(&Bytes(data)).unwrap();
        let mut compared = 0;
        for (member, offset) in ours.each().filter(|(_, offset)| *offset != ABSENT) {
            let id = theirs.id_of(member.of).unwrap();
            let (_, place) = theirs.offset_of(id, member.path).unwrap();
            let expected = match place {
                Offset::ByteOffset(byte) => byte,
                Offset::BitOffsetAndSize(bit, _) => bit / 8,
            };
            assert_eq!(offset, expected, "{}.{}", member.of, member.path);
            compared += 1;
        }
        assert!(compared > 40, "only {compared} members were found");
    }
}
