//! The snapshot in Prometheus' own protobuf, the only way in which it scrapes native histograms: each family's length,
//! then the family. A subset of `io.prometheus.client` (metrics.proto of prometheus/client_model 0.6).

use super::model::{BUCKETS_NS, Classic, Family, NATIVE_SCALE, Sample, Snapshot, Type, Value};
use crate::hist::{Dwell, dwell::Exponential};
use prost::Message;

/// Times below this, in seconds, are counted as zero: [`Dwell`] tells no shorter ones apart.
const ZERO_THRESHOLD: f64 = 16e-9;
/// A run of so many empty buckets begins a new span: that is shorter than their zeros.
const GAP: usize = 3;

/// `MetricFamily`.
#[derive(Clone, PartialEq, Message)]
pub struct MetricFamily {
    /// With the suffix of its type.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// What it is.
    #[prost(string, optional, tag = "2")]
    pub help: Option<String>,
    /// Its type.
    #[prost(enumeration = "MetricType", optional, tag = "3")]
    pub r#type: Option<i32>,
    /// Its series.
    #[prost(message, repeated, tag = "4")]
    pub metric: Vec<Metric>,
    /// Its unit.
    #[prost(string, optional, tag = "5")]
    pub unit: Option<String>,
}

/// `MetricType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum MetricType {
    /// Only grows.
    Counter = 0,
    /// Goes up and down.
    Gauge = 1,
    /// Classic and native buckets.
    Histogram = 4,
}

/// `LabelPair`.
#[derive(Clone, PartialEq, Message)]
pub struct LabelPair {
    /// The label.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// Its value.
    #[prost(string, optional, tag = "2")]
    pub value: Option<String>,
}

/// `Counter` or `Gauge`.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Number {
    /// The value.
    #[prost(double, optional, tag = "1")]
    pub value: Option<f64>,
}

/// `Metric`.
#[derive(Clone, PartialEq, Message)]
pub struct Metric {
    /// Its labels.
    #[prost(message, repeated, tag = "1")]
    pub label: Vec<LabelPair>,
    /// Of a gauge.
    #[prost(message, optional, tag = "2")]
    pub gauge: Option<Number>,
    /// Of a counter.
    #[prost(message, optional, tag = "3")]
    pub counter: Option<Number>,
    /// Of a histogram.
    #[prost(message, optional, tag = "7")]
    pub histogram: Option<Histogram>,
}

/// `Histogram`.
#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    /// How many.
    #[prost(uint64, optional, tag = "1")]
    pub sample_count: Option<u64>,
    /// All together.
    #[prost(double, optional, tag = "2")]
    pub sample_sum: Option<f64>,
    /// Classic buckets; that of +Inf may be left out.
    #[prost(message, repeated, tag = "3")]
    pub bucket: Vec<Bucket>,
    /// The factor between two limits is 2^(2^-schema).
    #[prost(sint32, optional, tag = "5")]
    pub schema: Option<i32>,
    /// Up to this a value counts as zero.
    #[prost(double, optional, tag = "6")]
    pub zero_threshold: Option<f64>,
    /// How many do.
    #[prost(uint64, optional, tag = "7")]
    pub zero_count: Option<u64>,
    /// Runs of buckets.
    #[prost(message, repeated, tag = "12")]
    pub positive_span: Vec<BucketSpan>,
    /// Each bucket's count less that of the one before it.
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    pub positive_delta: Vec<i64>,
}

/// `Bucket`.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Bucket {
    /// How many are not above the limit.
    #[prost(uint64, optional, tag = "1")]
    pub cumulative_count: Option<u64>,
    /// The limit.
    #[prost(double, optional, tag = "2")]
    pub upper_bound: Option<f64>,
}

/// `BucketSpan`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct BucketSpan {
    /// Buckets left out before it; of the first: its index.
    #[prost(sint32, optional, tag = "1")]
    pub offset: Option<i32>,
    /// Its buckets.
    #[prost(uint32, optional, tag = "2")]
    pub length: Option<u32>,
}

/// All families, each after its length.
pub fn delimited(snapshot: &Snapshot) -> Vec<u8> {
    let families = snapshot.families.iter();
    families.flat_map(|(family, samples)| encode(family, samples).encode_length_delimited_to_vec()).collect()
}

fn encode(family: &Family, samples: &[Sample]) -> MetricFamily {
    let kind = match family.kind {
        Type::Counter => MetricType::Counter,
        Type::Gauge | Type::Info => MetricType::Gauge,
        Type::Histogram => MetricType::Histogram,
    };
    MetricFamily {
        name: Some(family.sample_name()),
        help: Some(family.help.to_owned()),
        r#type: Some(kind.into()),
        metric: samples.iter().map(|sample| metric(kind, sample)).collect(),
        unit: family.unit.map(|unit| unit.name().to_owned()),
    }
}

fn metric(kind: MetricType, sample: &Sample) -> Metric {
    let pair = |name: &str, value: &str| LabelPair { name: Some(name.into()), value: Some(value.into()) };
    let mut metric = Metric {
        label: sample.labels.iter().map(|(name, value)| pair(name, value)).collect(),
        ..Metric::default()
    };
    let mut number = |value| {
        let number = Some(Number { value: Some(value) });
        match kind {
            MetricType::Counter => metric.counter = number,
            MetricType::Gauge | MetricType::Histogram => metric.gauge = number,
        }
    };
    match &sample.value {
        Value::Count(count) => number(*count as f64),
        Value::Number(value) => number(*value),
        Value::Info => number(1.0),
        Value::Times(dwell) => metric.histogram = Some(histogram(dwell)),
        Value::Classic(times) => metric.histogram = Some(classic(times)),
    }
    metric
}

/// Without native buckets.
fn classic(times: &Classic) -> Histogram {
    let bucket = |(count, ns): (u64, &u64)| Bucket {
        cumulative_count: Some(count),
        upper_bound: Some(*ns as f64 / 1e9),
    };
    Histogram {
        sample_count: Some(times.count()),
        sample_sum: Some(times.sum_ns as f64 / 1e9),
        bucket: times.cumulative().into_iter().zip(&BUCKETS_NS).map(bucket).collect(),
        ..Histogram::default()
    }
}

fn histogram(dwell: &Dwell) -> Histogram {
    let native = dwell.exponential(NATIVE_SCALE);
    let (positive_span, positive_delta) = spans(&native);
    Histogram {
        schema: Some(NATIVE_SCALE.into()),
        zero_threshold: Some(ZERO_THRESHOLD),
        zero_count: Some(native.zeros),
        positive_span,
        positive_delta,
        ..classic(&Classic::from(dwell))
    }
}

/// Our bucket `i` ends where Prometheus' bucket `i + 1` does.
fn spans(native: &Exponential) -> (Vec<BucketSpan>, Vec<i64>) {
    let (mut spans, mut deltas): (Vec<BucketSpan>, Vec<i64>) = Default::default();
    let (mut before, mut skipped) = (0, native.offset.saturating_add(1));
    let mut at = 0;
    while let Some(count) = native.counts.get(at) {
        let empty = native.counts[at..].iter().take_while(|count| **count == 0).count();
        if empty >= GAP || (empty > 0 && spans.is_empty()) {
            at += empty;
            skipped = skipped.saturating_add(empty as i32);
            continue;
        }
        match spans.last_mut() {
            Some(span) if skipped == 0 => span.length = Some(span.length() + 1),
            _ => spans.push(BucketSpan { offset: Some(skipped), length: Some(1) }),
        }
        skipped = 0;
        let count = count.cast_signed();
        deltas.push(count - before);
        before = count;
        at += 1;
    }
    (spans, deltas)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a reader of the format adds it up: index and count of each bucket that is not empty.
    fn read(histogram: &Histogram) -> Vec<(i32, i64)> {
        let (mut index, mut count) = (0, 0);
        let mut deltas = histogram.positive_delta.iter();
        let mut buckets = Vec::new();
        for span in &histogram.positive_span {
            index += span.offset();
            for _ in 0..span.length() {
                count += deltas.next().unwrap();
                buckets.push((index, count));
                index += 1;
            }
        }
        assert_eq!(deltas.next(), None);
        buckets.retain(|(_, count)| *count > 0);
        buckets
    }

    #[test]
    fn every_time_is_within_its_bucket() {
        let mut dwell = Dwell::default();
        let times = [0, 20_000, 21_000, 1_010_000_000, 1_020_000_000, 1_030_000_000, 61_000_000_000];
        times.iter().for_each(|ns| dwell.record(*ns));
        let histogram = histogram(&dwell);
        assert_eq!((histogram.zero_count(), histogram.sample_count()), (1, 7));
        let buckets = read(&histogram);
        assert_eq!(buckets.iter().map(|(_, count)| count).sum::<i64>(), 6);
        let base = 2f64.powf(0.125);
        for ns in &times[1..] {
            let seconds = *ns as f64 / 1e9;
            let holds =
                |index: i32| seconds > base.powi(index - 1) * 0.99 && seconds <= base.powi(index) * 1.01;
            assert!(buckets.iter().any(|(index, _)| holds(*index)), "{ns}: {buckets:?}");
        }
        // 1.01 to 1.03 s are all above 1 s: bucket 1 is (1, 1.09].
        assert!(buckets.contains(&(1, 3)), "{buckets:?}");
    }

    #[test]
    fn spans_skip_what_is_empty() {
        let native = |offset, counts: &[u64]| Exponential { zeros: 0, offset, counts: counts.to_vec() };
        let (spans, deltas) = spans(&native(-5, &[2, 0, 0, 3, 0, 0, 0, 1]));
        let expected = [(-4, 4), (3, 1)];
        let spans: Vec<_> = spans.iter().map(|span| (span.offset(), span.length())).collect();
        assert_eq!((spans.as_slice(), deltas.as_slice()), (&expected[..], &[2, -2, 0, 3, -2][..]));
        assert_eq!(super::spans(&native(0, &[])), (vec![], vec![]));
    }

    #[test]
    fn what_was_counted_in_classic_buckets_has_no_native_ones() {
        let mut times = Classic { sum_ns: 2_500_000_000, ..Classic::default() };
        (times.counts[1], times.counts[6], times.counts[13]) = (3, 1, 2);
        let histogram = classic(&times);
        assert_eq!((histogram.sample_count(), histogram.sample_sum()), (6, 2.5));
        let counts: Vec<_> = histogram.bucket.iter().map(Bucket::cumulative_count).collect();
        assert_eq!(counts, [0, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4]);
        assert_eq!((histogram.schema, histogram.zero_count, histogram.positive_span.len()), (None, None, 0));
    }

    #[test]
    fn counts_and_classic_buckets_are_beside_the_native_ones() {
        let mut dwell = Dwell::default();
        [2_000_000, 2_000_000_000].iter().for_each(|ns| dwell.record(*ns));
        let histogram = histogram(&dwell);
        let at = |limit: f64| {
            histogram.bucket.iter().find(|bucket| bucket.upper_bound() == limit).unwrap().cumulative_count()
        };
        assert_eq!((at(0.001), at(0.01), at(1.0), at(3.0), at(86400.0)), (0, 1, 1, 2, 2));
    }
}
