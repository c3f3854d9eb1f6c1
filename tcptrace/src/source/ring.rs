//! The reader's side of the ring: our own (tcptrace-common/src/ring.rs), which is read where the programs wrote it, or
//! the kernel's where that cannot be.

use super::{attach::take_map, load::MIN_RING_BYTES};
use crate::error::StartError;
use aya::{
    Ebpf,
    maps::{Map, MapData, RingBuf},
    util::nr_cpus,
};
use memmap2::{MmapOptions, MmapRaw};
use std::{
    io,
    mem::offset_of,
    os::fd::{AsFd, AsRawFd},
    slice,
    sync::atomic::{AtomicU64, Ordering},
};
use tcptrace_common::{
    config::Config,
    ring::{MOST_BYTES, Positions, SEGMENT_BYTES, Segment, WORD_BYTES, spare_bytes},
};
use tokio::io::{Interest, unix::AsyncFd};

/// Room is given back after so many segments at the latest.
const RELEASE_BYTES: u64 = 16 * SEGMENT_BYTES as u64;

/// How large the ring's two maps are, and what programs are told of it.
pub(super) struct Sizes {
    /// Entries of `SEGMENTS`.
    pub segments: u32,
    /// Bytes of `EVENTS`.
    pub kernel_bytes: u32,
}

impl Sizes {
    /// For a ring of so many bytes, a power of two. Our own needs [`spare_bytes`] more than records take: on machines with
    /// so many CPUs that a small ring would have no room for anything else, it is larger.
    pub fn new(own: bool, bytes: u32, config: &mut Config) -> Self {
        // A quarter full is soon enough: the timer empties it fifty times a second. A small ring fills between
        // two looks of a few dozen records, so it is looked at every time.
        config.wake_bytes = bytes / 4;
        config.wake_mask = if bytes >= 1 << 20 { 31 } else { 0 };
        config.own_ring = u8::from(own);
        config.ordered_stores = u8::from(cfg!(target_arch = "x86_64"));
        if !own {
            return Self { segments: 1, kernel_bytes: bytes };
        }
        let spare = spare_bytes(nr_cpus().unwrap_or(1)) as u32;
        let bytes = bytes.max((2 * spare).next_power_of_two());
        let segments = bytes / SEGMENT_BYTES as u32;
        config.ring_limit = bytes - spare - MOST_BYTES as u32;
        config.ring_mask = segments - 1;
        Self { segments, kernel_bytes: MIN_RING_BYTES }
    }
}

/// What the programs write into.
pub(super) struct Ring {
    kernel: AsyncFd<RingBuf<MapData>>,
    shared: Shared,
    own: Option<Own>,
}

/// What both sides have mapped.
struct Shared {
    positions: MmapRaw,
    segments: MmapRaw,
}

impl Ring {
    /// The rings of a loaded object; `own`: as its [`Config`] says. Needs a tokio runtime.
    ///
    /// # Errors
    /// The maps are not what they should be, or cannot be mapped.
    pub fn new(ebpf: &mut Ebpf, own: bool) -> Result<Self, StartError> {
        let unexpected = |what: &str, why: String| StartError::Unexpected { what: what.into(), why };
        let mut mapped = |name: &str| {
            let Map::Array(map) = take_map(ebpf, name)? else {
                return Err(unexpected(name, "it is no array".into()));
            };
            let info = map.info().map_err(|error| unexpected(name, error.to_string()))?;
            let bytes = info.value_size() as usize * info.max_entries() as usize;
            let map = MmapOptions::new().len(bytes).map_raw(map.fd().as_fd().as_raw_fd());
            map.map_err(|error| unexpected(name, format!("it cannot be mapped: {error}")))
        };
        let shared = Shared { positions: mapped("POSITIONS")?, segments: mapped("SEGMENTS")? };
        let kernel = take_map(ebpf, "EVENTS")?;
        // SAFETY: the ring buffer owns its descriptor and always reports the same one.
        let kernel = unsafe { AsyncFd::register_with_interest(kernel, Interest::READABLE) }
            .map_err(|error| unexpected("waiting for the ring buffer", error.to_string()))?;
        let own = own.then(|| Own::new(&shared));
        Ok(Self { kernel, shared, own })
    }

    /// Waits until the kernel says that the ring fills up. In between nothing wakes us: drain on a timer too.
    ///
    /// # Errors
    /// The reactor is gone.
    pub async fn filling_up(&mut self) -> io::Result<()> {
        self.kernel.readable_mut().await?.clear_ready();
        Ok(())
    }

    /// Asks the programs to wake us at the next record, as if the ring filled up.
    pub fn wake_at_next(&mut self) {
        word(&self.shared.positions, offset_of!(Positions, idle)).store(1, Ordering::SeqCst);
    }

    /// Hands the next record over; `false`: there is none that is complete.
    pub fn next(&mut self, take: impl FnOnce(&[u8])) -> bool {
        match &mut self.own {
            Some(own) => own.next(&self.shared, take),
            None => self.kernel.get_mut().next().map(|record| take(&record)).is_some(),
        }
    }

    /// Everything has been read that shall be for now: the room is given back.
    pub fn release(&mut self) {
        if let Some(own) = &mut self.own {
            own.release(&self.shared);
            // What is in the kernel's ring has woken us, and says nothing else.
            while self.kernel.get_mut().next().is_some() {}
        }
    }
}

/// A word of a mapping.
fn word(map: &MmapRaw, at: usize) -> &AtomicU64 {
    debug_assert!(at.is_multiple_of(WORD_BYTES) && at + WORD_BYTES <= map.len());
    // SAFETY: inside the mapping, which begins on a page; programs change it at any time, so it is only read and written at
    // once.
    unsafe { AtomicU64::from_ptr(map.as_mut_ptr().add(at).cast()) }
}

/// How far our own ring has been read.
struct Own {
    /// Segments less one.
    mask: u64,
    /// Where the next record will be.
    at: u64,
    /// Up to here the room is given back.
    released: u64,
}

impl Own {
    /// There is a power of two of segments.
    fn new(shared: &Shared) -> Self {
        let segments = shared.segments.len() / size_of::<Segment>();
        Self { mask: segments as u64 - 1, at: 0, released: 0 }
    }

    fn next(&mut self, shared: &Shared, take: impl FnOnce(&[u8])) -> bool {
        let segment = ((self.at / SEGMENT_BYTES as u64) & self.mask) as usize;
        let place = segment * size_of::<Segment>() + self.at as usize % SEGMENT_BYTES;
        let bytes = word(&shared.segments, place).load(Ordering::Acquire) as usize;
        // The length of a record is a constant of the program that wrote it: a longer one cannot be.
        if bytes == 0 || bytes > MOST_BYTES - WORD_BYTES {
            return false;
        }
        let start = shared.segments.as_mut_ptr().wrapping_add(place);
        // SAFETY: whoever wrote the length has written the record, and nobody changes it before its room is given back. It
        // lies in its segment: checked above.
        unsafe {
            take(slice::from_raw_parts(start.add(WORD_BYTES), bytes));
            start.write_bytes(0, WORD_BYTES + bytes);
        }
        self.at += (WORD_BYTES + bytes) as u64;
        if self.at - self.released >= RELEASE_BYTES {
            self.release(shared);
        }
        true
    }

    fn release(&mut self, shared: &Shared) {
        // Whoever sees this sees that all of it is zero.
        word(&shared.positions, offset_of!(Positions, released)).store(self.at, Ordering::Release);
        self.released = self.at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memmap2::MmapMut;
    use std::thread;
    use tcptrace_common::event::{Close, Transition};

    /// Enough that every place has been used several times.
    const RECORDS: u64 = 20_000;

    fn shared(count: usize) -> Shared {
        let mapped = |bytes| MmapRaw::from(MmapMut::map_anon(bytes).unwrap());
        let (positions, segments) = (mapped(size_of::<Positions>()), mapped(count * size_of::<Segment>()));
        Shared { positions, segments }
    }

    /// What the programs do (tcptrace-ebpf/src/ring.rs), with the standard library's atomics.
    struct Writer<'a> {
        shared: &'a Shared,
        config: Config,
    }

    impl Writer<'_> {
        fn reserve(&self, bytes: usize) -> Option<usize> {
            let reserved = word(&self.shared.positions, offset_of!(Positions, reserved));
            let released = word(&self.shared.positions, offset_of!(Positions, released));
            let reserved_before = reserved.load(Ordering::Relaxed);
            let waiting = reserved_before.wrapping_sub(released.load(Ordering::Acquire)).cast_signed();
            if waiting > i64::from(self.config.ring_limit) {
                return None;
            }
            let at = reserved.fetch_add((WORD_BYTES + bytes) as u64, Ordering::SeqCst);
            let segment = (at / SEGMENT_BYTES as u64) as usize & self.config.ring_mask as usize;
            Some(segment * size_of::<Segment>() + at as usize % SEGMENT_BYTES)
        }

        /// Fills a record with one word, and completes it.
        fn write(&self, place: usize, bytes: usize, what: u64) {
            for at in (0..bytes).step_by(WORD_BYTES) {
                let word = word(&self.shared.segments, place + WORD_BYTES + at);
                assert_eq!(word.swap(what, Ordering::Relaxed), 0, "what was read before is zero");
            }
            word(&self.shared.segments, place).store(bytes as u64, Ordering::Release);
        }
    }

    fn ring(bytes: u32) -> (Shared, Config, Own) {
        let mut config = Config::EMPTY;
        let sizes = Sizes::new(true, bytes, &mut config);
        let shared = shared(sizes.segments as usize);
        let own = Own::new(&shared);
        (shared, config, own)
    }

    fn words(record: &[u8]) -> Vec<u64> {
        let (words, rest) = record.as_chunks();
        assert!(rest.is_empty());
        words.iter().map(|word| u64::from_ne_bytes(*word)).collect()
    }

    #[test]
    fn nothing_is_read_before_it_is_complete_or_after_what_is_not() {
        let (shared, config, mut own) = ring(64 << 10);
        let writer = Writer { shared: &shared, config };
        assert!(!own.next(&shared, |_| panic!("there is nothing")));
        let (first, second) = (writer.reserve(72).unwrap(), writer.reserve(184).unwrap());
        writer.write(second, 184, 2);
        assert!(!own.next(&shared, |_| panic!("the first is not complete")));
        writer.write(first, 72, 1);
        assert!(own.next(&shared, |record| assert_eq!(words(record), [1; 9])));
        assert!(own.next(&shared, |record| assert_eq!(words(record), [2; 23])));
        assert!(!own.next(&shared, |_| panic!("there is nothing left")));
    }

    #[test]
    fn a_full_ring_refuses_until_it_is_read_and_goes_on() {
        let (shared, config, mut own) = ring(MIN_RING_BYTES);
        let writer = Writer { shared: &shared, config };
        let bytes = size_of::<Transition>();
        for round in 1..100 {
            let mut written = 0_u64;
            while let Some(place) = writer.reserve(bytes) {
                writer.write(place, bytes, round);
                written += 1;
            }
            let took = written * (bytes + WORD_BYTES) as u64;
            assert!(took > u64::from(config.ring_limit), "{took} bytes are less than was promised");
            for _ in 0..written {
                assert!(own.next(&shared, |record| assert_eq!(words(record), [round; 9])));
            }
            assert!(!own.next(&shared, |_| panic!("more was read than was written")));
            own.release(&shared);
        }
    }

    /// Every CPU's contexts at once, in the smallest ring that has room for them: each finds the room that it was promised.
    #[test]
    fn writers_at_once_neither_mix_nor_lose_records_nor_change_their_order() {
        let writers = nr_cpus().unwrap() * 4;
        let (shared, config, mut own) = ring(MIN_RING_BYTES);
        let sizes = [32, size_of::<Transition>(), 112, size_of::<Close>()];
        let mut seen = vec![0; writers];
        thread::scope(|scope| {
            for writer in 0..writers as u64 {
                let shared = &shared;
                scope.spawn(move || {
                    let ring = Writer { shared, config };
                    for number in 1..=RECORDS {
                        let bytes = sizes[(number as usize * 7 + writer as usize) % sizes.len()];
                        let place = loop {
                            match ring.reserve(bytes) {
                                Some(place) => break place,
                                None => thread::yield_now(),
                            }
                        };
                        ring.write(place, bytes, writer << 32 | number);
                    }
                });
            }
            while seen.iter().any(|seen| *seen < RECORDS) {
                let took = own.next(&shared, |record| {
                    let words = words(record);
                    let (writer, number) = ((words[0] >> 32) as usize, words[0] & u64::from(u32::MAX));
                    assert!(words.iter().all(|word| *word == words[0]), "{words:x?}");
                    assert_eq!(number, seen[writer] + 1, "of writer {writer}");
                    seen[writer] = number;
                });
                if !took {
                    own.release(&shared);
                    thread::yield_now();
                }
            }
        });
        assert!(!own.next(&shared, |_| panic!("more was read than was written")));
    }

    #[test]
    fn a_ring_has_room_for_every_cpu() {
        let mut config = Config::EMPTY;
        let spare = spare_bytes(nr_cpus().unwrap());
        let sizes = Sizes::new(true, 8 << 20, &mut config);
        assert_eq!((sizes.segments, config.ring_mask), (2048, 2047));
        assert!(config.ring_limit as usize + MOST_BYTES + spare <= 8 << 20);
        let small = Sizes::new(true, MIN_RING_BYTES, &mut config);
        assert!(config.ring_limit as usize + MOST_BYTES + spare <= small.segments as usize * SEGMENT_BYTES);
        assert!(config.ring_limit as usize > MOST_BYTES);
        let kernel = Sizes::new(false, 8 << 20, &mut config);
        assert_eq!((kernel.segments, kernel.kernel_bytes, config.own_ring), (1, 8 << 20, 0));
    }
}
