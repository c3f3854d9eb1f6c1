//! Boot time to the time of day, as people and machines write it.

use jiff::{Timestamp, tz::TimeZone};
use std::fmt::{self, Write as _};

/// Formats event times. Remembers the last second, because thousands of events share one.
#[derive(Debug)]
pub struct Wall {
    offset_ns: i64,
    zone: TimeZone,
    utc: Cached,
    local: Cached,
}

#[derive(Debug, Default)]
struct Cached {
    second: Option<i64>,
    text: String,
    /// Where the fraction starts in `text`.
    fraction: usize,
}

impl Wall {
    /// `offset_ns`: what to add to boot time to get nanoseconds since 1970.
    pub fn new(offset_ns: i64) -> Self {
        Self { offset_ns, zone: TimeZone::system(), utc: Cached::default(), local: Cached::default() }
    }

    /// RFC 3339 in UTC with nanoseconds: `2026-01-31T12:00:00.123456789Z`.
    pub fn rfc3339(&mut self, boot_ns: u64) -> &str {
        let (second, nanosecond) = self.split(boot_ns);
        if self.utc.second != Some(second) {
            let time = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
            self.utc.begin(second, format_args!("{}", time.strftime("%Y-%m-%dT%H:%M:%S.")));
        }
        self.utc.finish(nanosecond, 9, "Z")
    }

    /// The local time of day with milliseconds: `12:00:00.123`.
    pub fn clock(&mut self, boot_ns: u64) -> &str {
        let (second, nanosecond) = self.split(boot_ns);
        if self.local.second != Some(second) {
            let time = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
            let time = time.to_zoned(self.zone.clone());
            self.local.begin(second, format_args!("{}", time.strftime("%H:%M:%S.")));
        }
        self.local.finish(nanosecond / 1_000_000, 3, "")
    }

    /// The local time as syslog has it (RFC 3164): `Jan  2 15:04:05`.
    pub fn syslog(&self, boot_ns: u64) -> String {
        let time = Timestamp::from_second(self.split(boot_ns).0).unwrap_or(Timestamp::UNIX_EPOCH);
        time.to_zoned(self.zone.clone()).strftime("%b %e %H:%M:%S").to_string()
    }

    fn split(&self, boot_ns: u64) -> (i64, u64) {
        let ns = boot_ns.cast_signed().saturating_add(self.offset_ns);
        (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000).cast_unsigned())
    }
}

impl Cached {
    fn begin(&mut self, second: i64, text: fmt::Arguments<'_>) {
        self.second = Some(second);
        self.text.clear();
        // A String takes anything.
        let _ = self.text.write_fmt(text);
        self.fraction = self.text.len();
    }

    fn finish(&mut self, mut fraction: u64, digits: usize, end: &str) -> &str {
        let mut written = [b'0'; 9];
        for digit in written[..digits].iter_mut().rev() {
            *digit = b'0' + (fraction % 10) as u8;
            fraction /= 10;
        }
        self.text.truncate(self.fraction);
        self.text.push_str(std::str::from_utf8(&written[..digits]).unwrap_or_default());
        self.text.push_str(end);
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_and_seconds_are_kept_apart() {
        let mut wall = Wall::new(1_700_000_000_000_000_000);
        assert_eq!(wall.rfc3339(5), "2023-11-14T22:13:20.000000005Z");
        assert_eq!(wall.rfc3339(999_999_999), "2023-11-14T22:13:20.999999999Z");
        assert_eq!(wall.rfc3339(1_000_000_000), "2023-11-14T22:13:21.000000000Z");
        assert_eq!(wall.clock(1_250_000_000).split('.').nth(1), Some("250"));
    }
}
