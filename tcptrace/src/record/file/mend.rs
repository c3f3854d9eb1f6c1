//! Makes the checksums of a file right again after its bytes were changed: for tests and fuzzing, which get past them so.

use super::layout::{BLOCK_HEADER, BLOCK_MARK, FILE_HEADER, FILE_MARK};

/// Where a block's header has the length of its payload.
const STORED: usize = 52;
/// Where it has the payload's checksum.
const PAYLOAD_SUM: usize = 56;

/// Writes the right checksum into every header that is found.
pub fn checksums(bytes: &mut [u8]) {
    let mut at = 0;
    while at < bytes.len() {
        let rest = &mut bytes[at..];
        let length = if rest.starts_with(&FILE_MARK) && rest.len() >= FILE_HEADER {
            seal(rest, FILE_HEADER)
        } else if rest.starts_with(&BLOCK_MARK) && rest.len() >= BLOCK_HEADER {
            let mut stored = [0; 4];
            stored.copy_from_slice(&rest[STORED..STORED + 4]);
            let end = (u32::from_le_bytes(stored) as usize).saturating_add(BLOCK_HEADER).min(rest.len());
            let sum = crc32fast::hash(&rest[BLOCK_HEADER..end]);
            rest[PAYLOAD_SUM..PAYLOAD_SUM + 4].copy_from_slice(&sum.to_le_bytes());
            seal(rest, BLOCK_HEADER);
            end
        } else {
            1
        };
        at += length;
    }
}

fn seal(bytes: &mut [u8], length: usize) -> usize {
    let sum = crc32fast::hash(&bytes[..length - 4]);
    bytes[length - 4..length].copy_from_slice(&sum.to_le_bytes());
    length
}
