//! Boot time to the time of day, as people and machines write it.

use jiff::{Timestamp, tz::TimeZone};
use std::{fmt, io::Write as _};

/// Of two readings of the clocks: a smaller difference comes of reading one after the other, a larger one of a step.
const STEP_NS: u64 = 1_000_000;

/// Formats event times. Remembers the last second, because thousands of events share one.
#[derive(Debug)]
pub struct Wall {
    offset_ns: i64,
    /// Where the clock of the time of day may be set meanwhile.
    clock: Option<Clock>,
    zone: TimeZone,
    utc: Cached,
    local: Cached,
}

/// What is asked whether somebody has set the time of day.
#[derive(Debug)]
struct Clock {
    /// What to add now to boot time, in nanoseconds.
    offset_ns: fn() -> i64,
    /// The second of boot time that was formatted when it was asked last.
    asked: Option<u64>,
}

#[derive(Debug, Default)]
struct Cached {
    second: Option<i64>,
    text: Vec<u8>,
    /// Where the fraction starts in `text`.
    fraction: usize,
}

impl Wall {
    /// `offset_ns`: what to add to boot time to get nanoseconds since 1970.
    pub fn new(offset_ns: i64) -> Self {
        let (utc, local) = (Cached::default(), Cached::default());
        Self { offset_ns, clock: None, zone: TimeZone::system(), utc, local }
    }

    /// Of a machine whose clock may be set: `now` says what to add, and is asked whenever another second is to be formatted. Small
    /// differences to `offset_ns` are none, so that times are those that a recording has.
    pub fn following(offset_ns: i64, now: fn() -> i64) -> Self {
        Self { clock: Some(Clock { offset_ns: now, asked: None }), ..Self::new(offset_ns) }
    }

    /// RFC 3339 in UTC with nanoseconds: `2026-01-31T12:00:00.123456789Z`.
    pub fn rfc3339(&mut self, boot_ns: u64) -> &str {
        text(self.rfc3339_bytes(boot_ns))
    }

    /// The same, for whom bytes will do.
    pub fn rfc3339_bytes(&mut self, boot_ns: u64) -> &[u8] {
        let (second, nanosecond) = self.split(boot_ns);
        if self.utc.second != Some(second) {
            let time = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
            self.utc.begin(second, format_args!("{}", time.strftime("%Y-%m-%dT%H:%M:%S.")));
        }
        self.utc.finish::<9>(nanosecond, b"Z")
    }

    /// The local time of day with milliseconds: `12:00:00.123`.
    pub fn clock(&mut self, boot_ns: u64) -> &str {
        let (second, nanosecond) = self.split(boot_ns);
        if self.local.second != Some(second) {
            let time = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
            let time = time.to_zoned(self.zone.clone());
            self.local.begin(second, format_args!("{}", time.strftime("%H:%M:%S.")));
        }
        text(self.local.finish::<3>(nanosecond / 1_000_000, b""))
    }

    /// The local time as syslog has it (RFC 3164): `Jan  2 15:04:05`.
    pub fn syslog(&mut self, boot_ns: u64) -> String {
        let time = Timestamp::from_second(self.split(boot_ns).0).unwrap_or(Timestamp::UNIX_EPOCH);
        time.to_zoned(self.zone.clone()).strftime("%b %e %H:%M:%S").to_string()
    }

    fn split(&mut self, boot_ns: u64) -> (i64, u32) {
        let second = boot_ns / 1_000_000_000;
        if let Some(clock) = self.clock.as_mut().filter(|clock| clock.asked != Some(second)) {
            clock.asked = Some(second);
            let now_ns = (clock.offset_ns)();
            if now_ns.abs_diff(self.offset_ns) > STEP_NS {
                self.offset_ns = now_ns;
            }
        }
        let ns = boot_ns.cast_signed().saturating_add(self.offset_ns);
        (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000) as u32)
    }
}

impl Cached {
    fn begin(&mut self, second: i64, text: fmt::Arguments<'_>) {
        self.second = Some(second);
        self.text.clear();
        // Memory takes anything.
        let _ = self.text.write_fmt(text);
        self.fraction = self.text.len();
    }

    fn finish<const DIGITS: usize>(&mut self, mut fraction: u32, end: &[u8]) -> &[u8] {
        let mut digits = [b'0'; DIGITS];
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (fraction % 10) as u8;
            fraction /= 10;
        }
        self.text.truncate(self.fraction);
        self.text.extend_from_slice(&digits);
        self.text.extend_from_slice(end);
        &self.text
    }
}

/// What jiff and we write is ASCII.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn fractions_and_seconds_are_kept_apart() {
        let mut wall = Wall::new(1_700_000_000_000_000_000);
        assert_eq!(wall.rfc3339(5), "2023-11-14T22:13:20.000000005Z");
        assert_eq!(wall.rfc3339(999_999_999), "2023-11-14T22:13:20.999999999Z");
        assert_eq!(wall.rfc3339(1_000_000_000), "2023-11-14T22:13:21.000000000Z");
        assert_eq!(wall.clock(1_250_000_000).split('.').nth(1), Some("250"));
    }

    #[test]
    fn a_step_of_the_clock_is_followed_with_the_next_second() {
        const SECOND: u64 = 1_000_000_000;
        const BEGAN: i64 = 1_700_000_000_000_000_000;
        thread_local!(static NOW: Cell<i64> = const { Cell::new(BEGAN) });
        let mut wall = Wall::following(BEGAN, || NOW.get());
        assert_eq!(wall.rfc3339(5), "2023-11-14T22:13:20.000000005Z");
        // As far apart as two readings are: what a recording says, to the nanosecond.
        NOW.set(BEGAN + 900_000);
        assert_eq!(wall.rfc3339(SECOND), "2023-11-14T22:13:21.000000000Z");
        // An hour back.
        NOW.set(BEGAN - 3_600_000_000_000);
        assert_eq!(wall.rfc3339(SECOND + 7), "2023-11-14T22:13:21.000000007Z", "once a second");
        assert_eq!(wall.rfc3339(2 * SECOND), "2023-11-14T21:13:22.000000000Z");
        assert_eq!(wall.rfc3339(SECOND), "2023-11-14T21:13:21.000000000Z", "older events, too");
        // And half of one on.
        NOW.set(BEGAN - 1_800_000_000_000);
        assert_eq!(wall.rfc3339(3 * SECOND), "2023-11-14T21:43:23.000000000Z");

        let mut recorded = Wall::new(BEGAN);
        assert_eq!(recorded.rfc3339(3 * SECOND), "2023-11-14T22:13:23.000000000Z");
    }
}
