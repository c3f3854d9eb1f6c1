//! The distribution of times: mergeable, of bounded size, read as quantiles, as Prometheus' classic buckets, and as the
//! exponential buckets of its native histograms and of OTLP.

use hdrhistogram::Histogram;
use std::borrow::Cow;

/// Times are multiples of this, in nanoseconds: those from 2 us on are known to within 1 %.
const LEAST_NS: u64 = 1 << 4;
/// Longer times are counted as this: ten days, in nanoseconds.
const MOST_NS: u64 = 864_000_000_000_000;
/// Two digits: a time is known to within 1 %.
const DIGITS: u8 = 2;

/// So few times are kept as they are: most groups never have more in most states, and a table takes 10 KB and more.
const FEW: usize = 32;

/// Times in nanoseconds. Grows with the longest of them, to some 40 KB at most.
#[derive(Clone, Debug, Default)]
pub struct Dwell {
    times: Times,
    sum_ns: u64,
    max_ns: u64,
}

#[derive(Clone, Debug)]
enum Times {
    /// In the order in which they came.
    Few(Vec<u64>),
    Many(Box<Histogram<u64>>),
}

impl Default for Times {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Times {
    fn table(&self) -> Cow<'_, Histogram<u64>> {
        match self {
            Self::Few(times) => Cow::Owned(table(times)),
            Self::Many(table) => Cow::Borrowed(table),
        }
    }
}

fn table(times: &[u64]) -> Histogram<u64> {
    let table = Histogram::new_with_bounds(LEAST_NS, 2 * LEAST_NS, DIGITS);
    #[expect(clippy::expect_used, reason = "three constants, which a test makes a histogram of")]
    let mut table = table.expect("valid bounds");
    table.auto(true);
    times.iter().for_each(|ns| add(&mut table, *ns));
    table
}

fn add(table: &mut Histogram<u64>, ns: u64) {
    // It grows by itself; only a table that cannot be allocated fails, and then the sum and the longest are right.
    if let Err(error) = table.record(ns.min(MOST_NS)) {
        log::warn!("a time cannot be recorded: {error}");
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
        match &mut self.times {
            Times::Few(times) if times.len() < FEW => times.push(ns),
            Times::Few(times) => {
                let mut table = table(times);
                add(&mut table, ns);
                self.times = Times::Many(Box::new(table));
            }
            Times::Many(table) => add(table, ns),
        }
        self.sum_ns = self.sum_ns.saturating_add(ns);
        self.max_ns = self.max_ns.max(ns);
    }

    /// Adds all times of another.
    pub fn merge(&mut self, other: &Self) {
        match (&mut self.times, &other.times) {
            (Times::Few(times), Times::Few(more)) if times.len() + more.len() <= FEW => times.extend(more),
            (Times::Few(times), _) => {
                let mut table = other.times.table().into_owned();
                times.iter().for_each(|ns| add(&mut table, *ns));
                self.times = Times::Many(Box::new(table));
            }
            (Times::Many(table), Times::Few(more)) => more.iter().for_each(|ns| add(table, *ns)),
            (Times::Many(table), Times::Many(more)) => {
                // Both have the same digits, and this one grows: there is nothing that does not fit.
                if let Err(error) = table.add(&**more) {
                    log::warn!("two distributions of times cannot be added: {error}");
                }
            }
        }
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    /// How many times.
    pub fn count(&self) -> u64 {
        match &self.times {
            Times::Few(times) => times.len() as u64,
            Times::Many(table) => table.len(),
        }
    }

    /// Memory that it has beside itself, in bytes.
    pub fn bytes(&self) -> usize {
        match &self.times {
            Times::Few(times) => times.capacity() * size_of::<u64>(),
            Times::Many(table) => size_of::<Histogram<u64>>() + table.distinct_values() * size_of::<u64>(),
        }
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
        (self.count() > 0).then(|| self.times.table().value_at_quantile(part).min(self.max_ns))
    }

    /// How many are not longer than this; a time is known to within 1 %.
    pub fn at_most(&self, ns: u64) -> u64 {
        self.times.table().count_between(0, ns.min(MOST_NS))
    }

    /// How many are longer than the limit before and not longer than this limit, in nanoseconds, for each limit at which
    /// there are any; the limits are the same in every distribution, some 1 % apart.
    pub fn buckets(&self) -> Vec<(u64, u64)> {
        let table = self.times.table();
        table
            .iter_recorded()
            .map(|step| {
                (table.highest_equivalent(step.value_iterated_to()), step.count_since_last_iteration())
            })
            .collect()
    }

    /// As exponential buckets of this scale, -4 to 8. Each time is taken for the middle of its 1 %.
    pub fn exponential(&self, scale: i8) -> Exponential {
        let factor = 2f64.powi(i32::from(scale));
        let mut buckets = Exponential::default();
        let table = self.times.table();
        for step in table.iter_recorded() {
            let count = step.count_since_last_iteration();
            let seconds = table.median_equivalent(step.value_iterated_to()) as f64 / 1e9;
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
        assert_eq!(one.times.table(), both.times.table());
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

    #[test]
    fn few_and_many_say_the_same() {
        let mut dwell = Dwell::default();
        let mut all = Vec::new();
        for number in 0..3 * FEW as u64 {
            dwell.record(number * 1_000_000);
            all.push(number * 1_000_000);
            let buckets = dwell.buckets();
            assert_eq!(dwell.times.table().as_ref(), &table(&all));
            assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), dwell.count());
            assert!(buckets.is_sorted());
        }
        for parts in [(5, 5), (FEW as u64, 1), (FEW as u64 * 2, 3), (3, FEW as u64 * 2)] {
            let mut one = of(0..parts.0);
            one.merge(&of(0..parts.1));
            assert_eq!(one.times.table(), of((0..parts.0).chain(0..parts.1)).times.table());
        }
    }

    #[test]
    fn few_are_small() {
        assert!(of((0..FEW as u64).map(|n| n * 1_000_000_000)).bytes() <= FEW * 8);
        assert!(of([MOST_NS; FEW + 1]).bytes() < 50_000);
        assert!(size_of::<Dwell>() <= 48);
    }
}
