use super::support::*;
use crate::record::file::{layout::*, *};

/// As docs/recording.md has it, by hand: what was once written stays readable.
fn by_hand() -> Vec<u8> {
    let summed = |mut bytes: Vec<u8>| {
        let sum = crc32fast::hash(&bytes);
        bytes.extend(sum.to_le_bytes());
        bytes
    };
    let mut header = vec![0x89, 0x74, 0x63, 0x70, 0x74, 0x0d, 0x0a, 0x1a, 1, 0, 0, 0];
    header.extend(tcptrace_common::ABI_VERSION.to_le_bytes());
    header.extend(0..16_u8);
    header.extend(0_u32.to_le_bytes());
    header.extend(5_u64.to_le_bytes());
    header.extend(b"0.0.9");
    header.resize(76, 0);
    let block = |kind: u8, packing: u8, number: u64, frames: u32, unpacked: u32, payload: &[u8]| {
        let mut bytes = vec![0x89, 0x74, 0x63, 0x70, 0x62, 0x0d, 0x0a, 0x1a, 1, 0, kind, packing];
        bytes.extend(tcptrace_common::ABI_VERSION.to_le_bytes());
        bytes.extend([0, 1, 2, 3]);
        bytes.extend(frames.to_le_bytes());
        bytes.extend(number.to_le_bytes());
        bytes.extend(1_000_u64.to_le_bytes());
        bytes.extend(2_000_u64.to_le_bytes());
        bytes.extend(unpacked.to_le_bytes());
        bytes.extend((payload.len() as u32).to_le_bytes());
        bytes.extend(crc32fast::hash(payload).to_le_bytes());
        [summed(bytes), payload.to_vec()].concat()
    };
    // LZ4 of kind 7, length 25 and 25 bytes: three literals, the last of them 19 times more, five literals.
    let packed = [0x3f, 7, 25, b'a', 1, 0, 0, 0x50, b'b', b'c', b'd', b'e', b'f'];
    let mut long = vec![8, 0x96, 1]; // 150 bytes, as a varint
    long.extend([b'x'; 150]);
    let mut gap = vec![255, 32];
    gap.extend([7_u64, 70, 1_500, 1_600].map(u64::to_le_bytes).concat());
    let frames = [&long[..], &gap, &[250, 1, 0], &[9, 0]].concat();
    let mut end = vec![0];
    end.extend([3_u64, 7].map(u64::to_le_bytes).concat());
    end.extend(b"signal");
    [
        summed(header),
        block(1, 1, 5, 1, 27, &packed),
        block(0, 0, 6, 4, frames.len() as u32, &frames),
        block(2, 0, 7, 0, end.len() as u32, &end),
    ]
    .concat()
}

#[test]
fn what_is_documented_is_what_is_read() {
    let bytes = by_hand();
    let told = read_bytes(&bytes).unwrap();
    assert_eq!(told.faults, []);
    let opening = [&[b'a'; 20][..], b"bcdef"].concat();
    assert_eq!(told.frames[0], (7, opening));
    assert_eq!(told.frames[1..], [(8, vec![b'x'; 150]), (9, Vec::new())]);
    assert_eq!(told.gaps, [Gap { frames: 7, bytes: 70, first_ns: 1_500, last_ns: 1_600 }]);
    assert_eq!(told.ending, Some(Ending::Finished { why: "signal".into() }));
}

#[test]
fn headers_are_written_as_documented() {
    let bytes = by_hand();
    let header = Header::read(&bytes).unwrap();
    assert_eq!((header.first_block, header.program.as_str()), (5, "0.0.9"));
    assert_eq!(header.bytes(), bytes[..FILE_HEADER]);
    let block = BlockHeader::read(&bytes[FILE_HEADER..]).unwrap();
    assert_eq!((block.number, block.first_ns, block.last_ns, block.set), (5, 1_000, 2_000, header.tag()));
    assert_eq!(block.bytes(), bytes[FILE_HEADER..FILE_HEADER + BLOCK_HEADER]);
    assert_eq!(block.length(), BLOCK_HEADER as u64 + u64::from(block.stored));
}
