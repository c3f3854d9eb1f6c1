//! Whether a program is linked statically: what it names as its interpreter, the loader of shared libraries.

/// What is read of an ELF file of 64 bits, by the offsets of its format (elf(5)).
const MAGIC: &[u8] = b"\x7fELF\x02";
const PROGRAM_HEADERS_AT: usize = 32;
const HEADER_SIZE_AT: usize = 54;
const HEADERS_AT: usize = 56;
/// `p_type` of the header that names the interpreter.
const PT_INTERP: u32 = 3;

/// The interpreter that this program of this machine's byte order names, if any. `None`: it is no such program.
pub fn interpreter(file: &[u8]) -> Option<Option<String>> {
    if !file.starts_with(MAGIC) {
        return None;
    }
    let start = number(file, PROGRAM_HEADERS_AT)?;
    let half = |at: usize| Some(u16::from_ne_bytes(file.get(at..at + 2)?.try_into().ok()?) as usize);
    let (size, count) = (half(HEADER_SIZE_AT)?, half(HEADERS_AT)?);
    for index in 0..count {
        let header = file.get(start.checked_add(index * size)?..)?;
        if u32::from_ne_bytes(header.get(..4)?.try_into().ok()?) != PT_INTERP {
            continue;
        }
        let (offset, length) = (number(header, 8)?, number(header, 32)?);
        let name = file.get(offset..offset.checked_add(length)?)?;
        return Some(Some(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned()));
    }
    Some(None)
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_names_its_loader() {
        // Of this test, which is one, unless it was built static.
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let expected = cfg!(not(target_feature = "crt-static"));
        assert_eq!(interpreter(&own).unwrap().is_some_and(|name| name.contains("ld-")), expected);
    }

    #[test]
    fn what_is_no_program_is_none() {
        assert_eq!(interpreter(b""), None);
        assert_eq!(interpreter(b"#!/bin/sh\n"), None);
        assert_eq!(interpreter(b"\x7fELF\x02"), None);
        let mut headers = [0; 64];
        headers[..5].copy_from_slice(MAGIC);
        assert_eq!(interpreter(&headers), Some(None));
        headers[HEADERS_AT] = 200;
        headers[PROGRAM_HEADERS_AT..PROGRAM_HEADERS_AT + 8].fill(0xff);
        assert_eq!(interpreter(&headers), None);
    }
}
