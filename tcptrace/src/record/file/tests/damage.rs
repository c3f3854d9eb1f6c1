use super::support::*;
use crate::record::file::*;
use proptest::prelude::*;

#[test]
fn a_flipped_byte_costs_its_block_and_no_other() {
    let (bytes, written) = recording(3, 4, 30);
    let starts = blocks(&bytes);
    assert_eq!(starts.len(), 1 + 1 + 3 + 1); // preamble, three blocks, why it ended, the end
    for at in 0..bytes.len() {
        let mut broken = bytes.clone();
        broken[at] ^= 0x40;
        let told = read_bytes(&broken).unwrap_or_else(|why| panic!("byte {at}: {why}"));
        let block = starts.iter().rposition(|start| *start <= at);
        let expected: Vec<_> = match block {
            None => written.clone(),
            Some(0) => written[1..].to_vec(),
            Some(4) => written.clone(),
            Some(block) => {
                let lost = 1 + (block - 1) * 4..1 + block * 4;
                let kept = written.iter().enumerate().filter(|(index, _)| !lost.contains(index));
                kept.map(|(_, frame)| frame.clone()).collect()
            }
        };
        assert_eq!(told.frames, expected, "byte {at}");
        let (from, length) = match block {
            None => (0, starts[0]),
            Some(block) => (starts[block], starts[block + 1] - starts[block]),
        };
        let lost = match block {
            None => Some(0),
            Some(4) => None,
            Some(_) => Some(1),
        };
        match &told.faults[..] {
            [Fault::Damaged { from: f, bytes, blocks, until_ns, .. }] => {
                assert_eq!((*f, *bytes, *blocks), (from as u64, length as u64, lost), "byte {at}");
                assert_eq!(until_ns.is_some(), block.is_some_and(|block| block < 4), "byte {at}");
            }
            other => panic!("byte {at}: {other:?}"),
        }
        assert_eq!(told.ending.unwrap().is_complete(), block != Some(4), "byte {at}");
    }
}

#[test]
fn a_shortened_file_tells_what_is_left_of_it() {
    let (bytes, written) = recording(3, 4, 30);
    let starts = blocks(&bytes);
    for length in 0..bytes.len() {
        let told = match read_bytes(&bytes[..length]) {
            Ok(told) => told,
            Err(why) => {
                assert!(length < 80, "byte {length}: {why}");
                continue;
            }
        };
        let whole = starts.iter().filter(|start| **start <= length).count().saturating_sub(1);
        let frames = if whole == 0 { 0 } else { 1 + 4 * (whole - 1).min(3) };
        assert_eq!(told.frames, written[..frames], "byte {length}");
        assert!(told.faults.is_empty(), "byte {length}: {:?}", told.faults);
        match told.ending {
            Some(Ending::Truncated { at, read, .. }) => {
                assert_eq!(Some(at as usize), starts.iter().rfind(|start| **start < length).copied());
                assert_eq!(read.frames as usize, frames);
            }
            Some(Ending::CutOff { at, .. }) => {
                assert_eq!(at as usize, length);
                assert!(length == 80 || starts.contains(&length), "byte {length}");
            }
            other => panic!("byte {length}: {other:?}"),
        }
    }
}

#[test]
fn what_stands_between_blocks_is_skipped_and_costs_none() {
    let (bytes, written) = recording(2, 4, 30);
    let second = blocks(&bytes)[2];
    let mut broken = bytes.clone();
    broken.splice(second..second, *b"between\x89tcpb\r\n\x1a and \x89tcpt\r\n\x1a");
    let told = read_bytes(&broken).unwrap();
    assert_eq!(told.frames, written);
    match &told.faults[..] {
        [fault @ Fault::Damaged { bytes: 28, blocks: Some(0), .. }] => {
            let from = format!("damaged at byte {second}: 28 bytes were skipped, no block is lost");
            assert!(fault.to_string().contains(&from), "{fault}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_block_that_is_not_there_is_missed() {
    let (bytes, written) = recording(3, 4, 30);
    let starts = blocks(&bytes);
    let mut broken = bytes.clone();
    broken.drain(starts[2]..starts[3]);
    let told = read_bytes(&broken).unwrap();
    assert_eq!(told.frames, [&written[..5], &written[9..]].concat());
    match &told.faults[..] {
        [fault @ Fault::Damaged { bytes: 0, blocks: Some(1), until_ns: Some(_), .. }] => {
            assert!(fault.to_string().contains("1 block"), "{fault}");
        }
        other => panic!("{other:?}"),
    }
    // And one that is there twice is told once.
    let mut broken = bytes.clone();
    let again = bytes[starts[2]..starts[3]].to_vec();
    broken.splice(starts[3]..starts[3], again);
    let told = read_bytes(&broken).unwrap();
    assert_eq!((told.frames, told.faults.len()), (written, 1));
}

#[test]
fn a_recording_behind_another_is_not_taken_for_the_same() {
    let both = [recording(1, 1, 10).0, recording(1, 1, 10).0].concat();
    let said = read_bytes(&both).unwrap_err().to_string();
    assert!(said.contains("another recording begins at byte"), "{said}");
}

#[test]
fn a_length_is_no_promise() {
    // A block that claims to unpack to more than any may.
    let (bytes, _) = recording(1, 1, 3000);
    let start = blocks(&bytes)[1];
    let mut broken = bytes.clone();
    broken[start + 48..start + 52].copy_from_slice(&u32::MAX.to_le_bytes());
    mend::checksums(&mut broken);
    let told = read_bytes(&broken).unwrap();
    assert_eq!((told.frames.len(), told.faults.len()), (1, 1));
    // And one that unpacks to less than it claims.
    let mut broken = bytes;
    broken[start + 48..start + 52].copy_from_slice(&200_000_u32.to_le_bytes());
    mend::checksums(&mut broken);
    let told = read_bytes(&broken).unwrap();
    assert_eq!((told.frames.len(), told.faults.len()), (1, 1));
}

proptest! {
    #[test]
    fn any_bytes_are_read_to_their_end(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = read_bytes(&bytes);
    }

    #[test]
    fn any_change_is_survived(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        mended in any::<bool>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let (mut bytes, _) = recording(2, 20, 40);
        for (at, to) in changes {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        if mended {
            mend::checksums(&mut bytes);
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        let _ = read_bytes(&bytes);
    }

    #[test]
    fn frames_come_out_as_they_went_in(
        frames in prop::collection::vec((0..FIRST_RESERVED_KIND, any::<u64>(), prop::collection::vec(any::<u8>(), 0..300)), 0..50),
    ) {
        let memory = Memory::default();
        let name = std::path::Path::new("memory");
        let mut writer = Writer::stream(name, Box::new(memory.clone()), Preamble::default()).unwrap();
        for (kind, time_ns, payload) in &frames {
            writer.write(*kind, *time_ns, payload).unwrap();
        }
        writer.finish("done", PATIENCE).unwrap();
        let told = read_bytes(&memory.0.lock().unwrap()).unwrap();
        let written: Vec<_> = frames.into_iter().map(|(kind, _, payload)| (kind, payload)).collect();
        prop_assert_eq!(told.frames, written);
        prop_assert_eq!(told.ending, Some(Ending::Finished { why: "done".into() }));
    }
}
