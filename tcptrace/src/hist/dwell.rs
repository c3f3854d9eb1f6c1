//! The distribution of times: mergeable, of bounded size, read as quantiles, as Prometheus' classic buckets, and as the
//! exponential buckets of its native histograms and of OTLP.

use hdrhistogram::Histogram;

/// Times are multiples of this, in nanoseconds: those from 2 us on are known to within 1 %.
const LEAST_NS: u64 = 1 << 4;
/// Longer times are counted as this: ten days, in nanoseconds.
const MOST_NS: u64 = 864_000_000_000_000;
/// Two digits: a time is known to within 1 %.
const DIGITS: u8 = 2;

/// Times in nanoseconds. Grows with the longest of them, to some 40 KB at most.
#[derive(Clone, Debug)]
pub struct Dwell {
    times: Histogram<u64>,
    sum_ns: u64,
    max_ns: u64,
}

impl Default for Dwell {
    fn default() -> Self {
        let times = Histogram::new_with_bounds(LEAST_NS, 2 * LEAST_NS, DIGITS);
        #[expect(clippy::expect_used, reason = "three constants, which a test makes a histogram of")]
        let mut times = times.expect("valid bounds");
        times.auto(true);
        Self { times, sum_ns: 0, max_ns: 0 }
    }
}

/// Buckets whose limits grow by the factor 2^(2^-scale): bucket `i` holds times in seconds above `base^i`, up to
/// `base^(i + 1)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exponential {
    /// Times of zero.
    pub zeros: u64,
    /// Index of the first bucket in `counts`.
    pub offset: i32,
    /// Buckets without a gap.
    pub counts: Vec<u64>,
}

impl Dwell {
    /// Adds a time.
    pub fn record(&mut self, ns: u64) {
        // It grows by itself; only a table that cannot be allocated fails, and then the sum and the longest are right.
        if let Err(error) = self.times.record(ns.min(MOST_NS)) {
            log::warn!("a time cannot be recorded: {error}");
        }
        self.sum_ns = self.sum_ns.saturating_add(ns);
        self.max_ns = self.max_ns.max(ns);
    }

    /// Adds all times of another.
    pub fn merge(&mut self, other: &Self) {
        // Both have the same digits, and this one grows: there is nothing that does not fit.
        if let Err(error) = self.times.add(&other.times) {
            log::warn!("two distributions of times cannot be added: {error}");
        }
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// How many times.
    pub fn count(&self) -> u64 {
        self.times.len()
    }

    /// All of them together, in nanoseconds; exact.
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// The longest, in nanoseconds; exact. 0: there is none.
    pub fn max_ns(&self) -> u64 {
        self.max_ns
    }

    /// The time in nanoseconds that this part of them (0 to 1) does not exceed; `None`: there is none.
    pub fn quantile_ns(&self, part: f64) -> Option<u64> {
        (self.count() > 0).then(|| self.times.value_at_quantile(part).min(self.max_ns))
    }

    /// How many are not longer than this; a time is known to within 1 %.
    pub fn at_most(&self, ns: u64) -> u64 {
        self.times.count_between(0, ns.min(MOST_NS))
    }

    /// As exponential buckets of this scale, -4 to 8. Each time is taken for the middle of its 1 %.
    pub fn exponential(&self, scale: i8) -> Exponential {
        let factor = 2f64.powi(i32::from(scale));
        let mut buckets = Exponential::default();
        for step in self.times.iter_recorded() {
            let count = step.count_since_last_iteration();
            let seconds = self.times.median_equivalent(step.value_iterated_to()) as f64 / 1e9;
            if step.value_iterated_to() < LEAST_NS {
                buckets.zeros += count;
                continue;
            }
            let index = (seconds.log2() * factor).ceil() as i32 - 1;
            if buckets.counts.is_empty() {
                buckets.offset = index;
            }
            let at = usize::try_from(index.saturating_sub(buckets.offset)).unwrap_or(0);
            if buckets.counts.len() <= at {
                buckets.counts.resize(at + 1, 0);
            }
            buckets.counts[at] += count;
        }
        buckets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(times: impl IntoIterator<Item = u64>) -> Dwell {
        let mut dwell = Dwell::default();
        times.into_iter().for_each(|ns| dwell.record(ns));
        dwell
    }

    #[test]
    fn quantiles_are_within_one_percent() {
        let dwell = of((1..=1000).map(|ms| ms * 1_000_000));
        for (part, ms) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (1.0, 1000.0)] {
            let got = dwell.quantile_ns(part).unwrap() as f64 / 1e6;
            assert!((got / ms - 1.0).abs() < 0.01, "{part}: {got} ms");
        }
        assert_eq!((dwell.count(), dwell.max_ns(), dwell.sum_ns()), (1000, 1_000_000_000, 500_500_000_000));
    }

    #[test]
    fn nothing_has_no_quantile() {
        let none = Dwell::default();
        assert_eq!((none.quantile_ns(0.5), none.count(), none.at_most(u64::MAX)), (None, 0, 0));
        assert_eq!(none.exponential(3), Exponential::default());
    }

    #[test]
    fn the_longest_and_the_shortest_are_counted() {
        let dwell = of([0, u64::MAX, 1]);
        assert_eq!((dwell.count(), dwell.max_ns()), (3, u64::MAX));
        assert_eq!((dwell.at_most(LEAST_NS - 1), dwell.at_most(u64::MAX)), (2, 3));
        assert_eq!(dwell.exponential(3).zeros, 2);
    }

    #[test]
    fn merging_is_counting_together() {
        let (mut one, two) = (of([5_000, 1_000_000_000]), of([7_000_000, 3_600_000_000_000]));
        one.merge(&two);
        let both = of([5_000, 1_000_000_000, 7_000_000, 3_600_000_000_000]);
        assert_eq!(one.times, both.times);
        assert_eq!((one.sum_ns, one.max_ns), (both.sum_ns, both.max_ns));
    }

    #[test]
    fn buckets_hold_every_time_once_and_within_their_limits() {
        let times: Vec<u64> = (0..40).map(|power| 3_000 << power).filter(|ns| *ns < MOST_NS).collect();
        let dwell = of(times.iter().copied());
        for scale in [0, 3] {
            let buckets = dwell.exponential(scale);
            assert_eq!(buckets.zeros + buckets.counts.iter().sum::<u64>(), times.len() as u64);
            let base = 2f64.powf(2f64.powi(-i32::from(scale)));
            let first = base.powi(buckets.offset) * 1e9;
            assert!(first < 3_030.0 && first * base > 2_970.0, "{first}");
        }
    }
}
