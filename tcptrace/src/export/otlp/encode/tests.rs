use super::*;
use crate::export::model::FAMILIES;
use opentelemetry_proto::tonic::common::v1::any_value;
use proptest::prelude::*;
use prost::Message;
use std::{borrow::Cow, sync::Arc};

/// A value as a receiver has it.
#[derive(Debug, PartialEq)]
enum Got {
    Int(i64),
    Float(f64),
    Times { count: u64, sum: f64, max: Option<f64>, in_buckets: u64 },
}

/// Name, labels, value, from when, at what time.
type Series = (String, Vec<(String, String)>, Got, u64, u64);

fn labels(attributes: &[KeyValue]) -> Vec<(String, String)> {
    let value = |pair: &KeyValue| match pair.value.as_ref().and_then(|value| value.value.clone()) {
        Some(any_value::Value::StringValue(text)) => text,
        other => panic!("{other:?}"),
    };
    // What the conventions call them is said a second time.
    let own = attributes.iter().filter(|pair| !pair.key.contains('.'));
    own.map(|pair| (pair.key.clone(), value(pair))).collect()
}

fn numbers(name: &str, points: &[NumberDataPoint]) -> Vec<Series> {
    let got = |point: &NumberDataPoint| match point.value {
        Some(number_data_point::Value::AsInt(int)) => Got::Int(int),
        Some(number_data_point::Value::AsDouble(float)) => Got::Float(float),
        None => panic!("{name} without a value"),
    };
    let series = |point: &NumberDataPoint| {
        let labels = labels(&point.attributes);
        (name.to_owned(), labels, got(point), point.start_time_unix_nano, point.time_unix_nano)
    };
    points.iter().map(series).collect()
}

/// The bytes as a receiver reads them.
fn received(bytes: &[u8]) -> Vec<Series> {
    let request = ExportMetricsServiceRequest::decode(bytes).unwrap();
    let [resource] = request.resource_metrics.as_slice() else { panic!("one resource") };
    let [scope] = resource.scope_metrics.as_slice() else { panic!("one scope") };
    let mut all = Vec::new();
    for metric in &scope.metrics {
        match metric.data.as_ref().unwrap() {
            metric::Data::Sum(sum) => {
                assert!(
                    sum.is_monotonic && sum.aggregation_temporality() == AggregationTemporality::Cumulative
                );
                all.extend(numbers(&metric.name, &sum.data_points));
            }
            metric::Data::Gauge(gauge) => all.extend(numbers(&metric.name, &gauge.data_points)),
            metric::Data::ExponentialHistogram(histogram) => {
                assert_eq!(histogram.aggregation_temporality(), AggregationTemporality::Cumulative);
                for point in &histogram.data_points {
                    let buckets = point.positive.as_ref().unwrap();
                    assert!(buckets.bucket_counts.len() <= MOST_BUCKETS, "{}", buckets.bucket_counts.len());
                    let got = Got::Times {
                        count: point.count,
                        sum: point.sum.unwrap(),
                        max: point.max,
                        in_buckets: point.zero_count + buckets.bucket_counts.iter().sum::<u64>(),
                    };
                    let (from, at) = (point.start_time_unix_nano, point.time_unix_nano);
                    all.push((metric.name.clone(), labels(&point.attributes), got, from, at));
                }
            }
            metric::Data::Histogram(histogram) => {
                assert_eq!(histogram.aggregation_temporality(), AggregationTemporality::Cumulative);
                for point in &histogram.data_points {
                    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
                    let got = Got::Times {
                        count: point.count,
                        sum: point.sum.unwrap(),
                        max: point.max,
                        in_buckets: point.bucket_counts.iter().sum(),
                    };
                    let (from, at) = (point.start_time_unix_nano, point.time_unix_nano);
                    all.push((metric.name.clone(), labels(&point.attributes), got, from, at));
                }
            }
            other => panic!("{}: {other:?}", metric.name),
        }
    }
    all
}

fn sent(snapshot: &Snapshot) -> Vec<Series> {
    let mut all = Vec::new();
    for (family, samples) in &snapshot.families {
        for sample in samples {
            let labels =
                sample.labels.iter().map(|(key, value)| ((*key).to_owned(), value.to_string())).collect();
            let value = match &sample.value {
                Value::Count(count) => Got::Int(i64::try_from(*count).unwrap_or(i64::MAX)),
                Value::Number(number) => Got::Float(*number),
                Value::Info => Got::Int(1),
                Value::Times(dwell) => Got::Times {
                    count: dwell.count(),
                    sum: dwell.sum_ns() as f64 / 1e9,
                    max: (dwell.count() > 0).then(|| dwell.max_ns() as f64 / 1e9),
                    in_buckets: dwell.count(),
                },
                Value::Classic(times) => Got::Times {
                    count: times.count(),
                    sum: times.sum_ns as f64 / 1e9,
                    max: None,
                    in_buckets: times.counts.iter().sum(),
                },
            };
            let from = match family.kind {
                Type::Gauge | Type::Info => 0,
                _ => sample.began_unix_ns.unwrap_or(snapshot.began_unix_ns),
            };
            all.push((name(family), labels, value, from, snapshot.at_unix_ns));
        }
    }
    all
}

fn times(ns: impl IntoIterator<Item = u64>) -> Arc<Dwell> {
    let mut dwell = Dwell::default();
    ns.into_iter().for_each(|ns| dwell.record(ns));
    Arc::new(dwell)
}

fn value(kind: Type) -> BoxedStrategy<Value> {
    match kind {
        Type::Counter => {
            prop_oneof![any::<u64>().prop_map(Value::Count), (0.0..1e12).prop_map(Value::Number)].boxed()
        }
        Type::Gauge => prop_oneof![
            any::<u64>().prop_map(Value::Count),
            any::<f32>().prop_map(|n| Value::Number(n.into()))
        ]
        .prop_filter("NaN equals nothing", |value| !matches!(value, Value::Number(n) if n.is_nan()))
        .boxed(),
        // Any length of time: shifted numbers cover the short ones as well as the long.
        Type::Histogram => proptest::collection::vec((any::<u64>(), 0u32..64), 0..50)
            .prop_map(|ns| Value::Times(times(ns.into_iter().map(|(ns, shift)| ns >> shift))))
            .boxed(),
        Type::Info => Just(Value::Info).boxed(),
    }
}

fn family() -> impl Strategy<Value = (&'static Family, Vec<Sample>)> {
    (0..FAMILIES.len()).prop_flat_map(|at| {
        let family = FAMILIES[at];
        let words = proptest::collection::vec(".{0,12}", family.labels.len());
        let sample =
            (words, value(family.kind), any::<Option<u64>>()).prop_map(|(words, value, began_unix_ns)| {
                Sample {
                    labels: family
                        .labels
                        .iter()
                        .map(|(label, _)| *label)
                        .zip(words.into_iter().map(Cow::Owned))
                        .collect(),
                    value,
                    began_unix_ns,
                }
            });
        proptest::collection::vec(sample, 0..5).prop_map(move |samples| (family, samples))
    })
}

proptest! {
    #[test]
    fn a_receiver_reads_what_was_sent(
        buckets in prop_oneof![Just(Buckets::Exponential), Just(Buckets::Explicit)],
        families in proptest::collection::vec(family(), 0..12),
        began: u64,
        at: u64,
    ) {
        let snapshot = Snapshot { began_unix_ns: began, at_unix_ns: at, made: None, families };
        let bytes = request(&snapshot, &[], buckets).encode_to_vec();
        prop_assert_eq!(received(&bytes), sent(&snapshot));
    }
}

#[test]
fn units_types_and_attributes_are_as_the_conventions_say() {
    let sample = |labels: &[(&'static str, &'static str)], value| Sample {
        labels: labels.iter().map(|(label, value)| (*label, Cow::Borrowed(*value))).collect(),
        value,
        began_unix_ns: None,
    };
    let snapshot = Snapshot {
        began_unix_ns: 1,
        at_unix_ns: 2,
        made: None,
        families: vec![
            (&crate::export::model::SOCKETS, vec![sample(&[("state", "FIN_WAIT1")], Value::Count(3))]),
            (&crate::export::model::RESETS, vec![sample(&[("direction", "sent")], Value::Count(4))]),
        ],
    };
    let request =
        request(&snapshot, &[("service.name".to_owned(), "tcptrace".to_owned())], Buckets::Exponential);
    let [resource] = request.resource_metrics.as_slice() else { panic!("{request:?}") };
    assert_eq!(resource.resource.as_ref().unwrap().attributes, [text("service.name", "tcptrace")]);
    let scope = &resource.scope_metrics[0];
    assert_eq!(scope.scope.as_ref().unwrap().name, "tcptrace");
    let [sockets, resets] = scope.metrics.as_slice() else { panic!("{scope:?}") };
    assert_eq!((sockets.name.as_str(), sockets.unit.as_str()), ("tcptrace.sockets", "{socket}"));
    let Some(metric::Data::Gauge(gauge)) = &sockets.data else { panic!("{sockets:?}") };
    let both = [text("state", "FIN_WAIT1"), text("network.connection.state", "fin_wait_1")];
    assert_eq!(gauge.data_points[0].attributes, both);
    let Some(metric::Data::Sum(sum)) = &resets.data else { panic!("{resets:?}") };
    let both = [text("direction", "sent"), text("network.io.direction", "transmit")];
    assert_eq!(sum.data_points[0].attributes, both);
}

#[test]
fn wide_distributions_get_coarser_buckets() {
    let narrow = times((0..100).map(|ms| ms * 1_000_000));
    assert_eq!(buckets(&narrow).0, NATIVE_SCALE);
    let wide = times((5..50).map(|power| 1 << power));
    let (scale, got) = buckets(&wide);
    assert!(
        scale < NATIVE_SCALE && got.counts.len() <= MOST_BUCKETS && got.counts.len() > MOST_BUCKETS / 4,
        "{scale} {got:?}"
    );
}

#[test]
fn explicit_buckets_are_those_of_the_endpoint() {
    let dwell = times([50_000, 2_000_000, 400_000_000_000, 1 << 62]);
    let sample = Sample { labels: Vec::new(), value: Value::Times(dwell.clone()), began_unix_ns: Some(7) };
    let point = explicit(&Snapshot::default(), &sample).unwrap();
    assert_eq!((point.count, point.start_time_unix_nano), (4, 7));
    let mut up_to = 0;
    for (bound, count) in point.explicit_bounds.iter().zip(&point.bucket_counts) {
        up_to += count;
        assert_eq!(up_to, dwell.at_most((bound * 1e9) as u64), "{bound}");
    }
    assert_eq!(point.bucket_counts.last(), Some(&1));
}

/// What was counted in the limits of the endpoint cannot be had in others.
#[test]
fn classic_buckets_stay_what_they_are() {
    let mut times = Classic { sum_ns: 5_000_000_000, ..Classic::default() };
    (times.counts[0], times.counts[13]) = (2, 1);
    let value = Value::Classic(Box::new(times));
    let sample = Sample { labels: Vec::new(), value, began_unix_ns: None };
    let family = FAMILIES.iter().find(|family| family.kind == Type::Histogram).unwrap();
    let snapshot = Snapshot { families: vec![(family, vec![sample])], ..Snapshot::default() };
    let request = request(&snapshot, &[], Buckets::Exponential);
    assert_eq!(received(&request.encode_to_vec()), sent(&snapshot));
    let metric = &request.resource_metrics[0].scope_metrics[0].metrics[0];
    let Some(metric::Data::Histogram(histogram)) = &metric.data else { panic!("{metric:?}") };
    let point = &histogram.data_points[0];
    assert_eq!((point.bucket_counts[0], point.bucket_counts[13], point.count), (2, 1, 3));
}
