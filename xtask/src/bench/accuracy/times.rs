//! How long sockets were in a state, as an exporter shows it: how often, all times together, and the buckets.

use crate::soak::scrape::Metrics;

const FAMILY: &str = "tcptrace_state_duration_seconds";

/// The times in one state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Times {
    /// How many.
    pub count: u64,
    /// All together, in seconds.
    pub sum: f64,
    /// How many are in each bucket, the shortest first.
    pub buckets: Vec<f64>,
}

impl Times {
    /// In the state of this name.
    pub fn of(metrics: &Metrics, state: &str) -> Self {
        let label = format!("state=\"{state}\"");
        let samples = |part: &str| -> Vec<(String, f64)> {
            let name = format!("{FAMILY}_{part}");
            let here = metrics.of(&name).filter(|(labels, _)| labels.contains(&label));
            here.map(|(labels, value)| (labels.to_owned(), value)).collect()
        };
        let sum = |part: &str| samples(part).iter().map(|(_, value)| value).sum::<f64>();
        let mut upto: Vec<(f64, f64)> =
            samples("bucket").iter().filter_map(|(labels, count)| Some((bound(labels)?, *count))).collect();
        upto.sort_by(|one, other| one.0.total_cmp(&other.0));
        // Each sample counts all that is not longer.
        let shorter = std::iter::once(0.0).chain(upto.iter().map(|(_, count)| *count));
        let buckets = upto.iter().zip(shorter).map(|((_, count), shorter)| count - shorter).collect();
        Self { count: sum("count") as u64, sum: sum("sum"), buckets }
    }

    /// Whether every time is in a bucket.
    pub fn are_whole(&self) -> bool {
        self.buckets.iter().sum::<f64>() as u64 == self.count
    }

    /// The mean, in nanoseconds; of no times it is no number.
    pub fn mean_ns(&self) -> f64 {
        self.sum * 1e9 / self.count as f64
    }

    /// The share of times that are in another bucket than in `other`, at least.
    pub fn elsewhere(&self, other: &Self) -> f64 {
        let apart: f64 =
            self.buckets.iter().zip(&other.buckets).map(|(one, other)| (one - other).abs()).sum();
        // Who is in another bucket is missing in one and too much in the other.
        apart / 2.0 / self.count as f64
    }
}

/// The longest time of a bucket, in seconds.
fn bound(labels: &str) -> Option<f64> {
    labels.split_once("le=\"")?.1.split('"').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(upto: [u64; 3], sum: f64) -> Metrics {
        let [short, long, all] = upto;
        Metrics::parse(&format!(
            "{FAMILY}_bucket{{le=\"+Inf\",state=\"ESTABLISHED\"}} {all}\n\
             {FAMILY}_bucket{{le=\"0.001\",state=\"ESTABLISHED\"}} {long}\n\
             {FAMILY}_bucket{{le=\"0.0001\",state=\"ESTABLISHED\"}} {short}\n\
             {FAMILY}_bucket{{le=\"+Inf\",state=\"LISTEN\"}} 99\n\
             {FAMILY}_sum{{state=\"ESTABLISHED\"}} {sum}\n\
             {FAMILY}_count{{state=\"ESTABLISHED\"}} {all}\n"
        ))
    }

    #[test]
    fn buckets_are_in_their_order_and_hold_their_own() {
        let times = Times::of(&metrics([5, 7, 10], 0.002), "ESTABLISHED");
        assert_eq!(times, Times { count: 10, sum: 0.002, buckets: vec![5.0, 2.0, 3.0] });
        assert!(times.are_whole() && !Times { count: 11, ..times.clone() }.are_whole());
        assert_eq!(times.mean_ns().round(), 200_000.0);
    }

    #[test]
    fn a_time_in_another_bucket_is_one() {
        let of = |upto| Times::of(&metrics(upto, 0.0), "ESTABLISHED");
        assert_eq!(of([5, 7, 10]).elsewhere(&of([5, 7, 10])), 0.0);
        assert_eq!(of([5, 7, 10]).elsewhere(&of([4, 7, 10])), 0.1);
    }

    #[test]
    fn a_state_that_nobody_was_in_has_none() {
        assert_eq!(Times::of(&Metrics::default(), "CLOSING"), Times::default());
    }
}
