//! A snapshot as an export request: counters as cumulative sums, times as histograms.

use super::{
    names::{convention, name, text, unit},
    settings::Buckets,
};
use crate::{
    export::model::{BUCKETS_NS, Classic, Family, NATIVE_SCALE, Sample, Snapshot, Type, Value},
    hist::{Dwell, dwell::Exponential},
};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{InstrumentationScope, KeyValue},
    metrics::v1::{
        AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
        HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
        exponential_histogram_data_point, metric, number_data_point,
    },
    resource::v1::Resource,
};

/// The coarsest that a distribution of times can be had in.
const COARSEST: i8 = -4;
/// As many buckets as the OpenTelemetry SDKs have at most; wider distributions get coarser ones.
const MOST_BUCKETS: usize = 160;

/// Everything in the snapshot, as of this resource.
pub fn request(
    snapshot: &Snapshot,
    resource: &[(String, String)],
    buckets: Buckets,
) -> ExportMetricsServiceRequest {
    let metric =
        |(family, samples): &(&'static Family, Vec<Sample>)| metric(snapshot, family, samples, buckets);
    let metrics = snapshot.families.iter().map(metric).collect();
    let scope = InstrumentationScope {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let attributes = resource.iter().map(|(key, value)| text(key, value)).collect();
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_metrics: vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }],
            ..ResourceMetrics::default()
        }],
    }
}

fn metric(snapshot: &Snapshot, family: &Family, samples: &[Sample], buckets: Buckets) -> Metric {
    let cumulative = AggregationTemporality::Cumulative.into();
    let data = match family.kind {
        Type::Counter => metric::Data::Sum(Sum {
            data_points: samples.iter().filter_map(|sample| number(snapshot, sample, true)).collect(),
            aggregation_temporality: cumulative,
            is_monotonic: true,
        }),
        Type::Gauge | Type::Info => metric::Data::Gauge(Gauge {
            data_points: samples.iter().filter_map(|sample| number(snapshot, sample, false)).collect(),
        }),
        Type::Histogram if buckets == Buckets::Explicit || samples.iter().any(has_limits) => {
            metric::Data::Histogram(Histogram {
                data_points: samples.iter().filter_map(|sample| explicit(snapshot, sample)).collect(),
                aggregation_temporality: cumulative,
            })
        }
        Type::Histogram => metric::Data::ExponentialHistogram(ExponentialHistogram {
            data_points: samples.iter().filter_map(|sample| exponential(snapshot, sample)).collect(),
            aggregation_temporality: cumulative,
        }),
    };
    Metric {
        name: name(family),
        description: family.help.to_owned(),
        unit: unit(family).to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

/// `None`: these are times, which its family is not of.
fn number(snapshot: &Snapshot, sample: &Sample, since_the_start: bool) -> Option<NumberDataPoint> {
    let value = match &sample.value {
        // OTLP has signed integers only.
        Value::Count(count) => number_data_point::Value::AsInt(i64::try_from(*count).unwrap_or(i64::MAX)),
        Value::Number(number) => number_data_point::Value::AsDouble(*number),
        Value::Info => number_data_point::Value::AsInt(1),
        Value::Times(_) | Value::Classic(_) => return None,
    };
    Some(NumberDataPoint {
        attributes: attributes(sample),
        start_time_unix_nano: if since_the_start { began(snapshot, sample) } else { 0 },
        time_unix_nano: snapshot.at_unix_ns,
        value: Some(value),
        ..NumberDataPoint::default()
    })
}

fn exponential(snapshot: &Snapshot, sample: &Sample) -> Option<ExponentialHistogramDataPoint> {
    let Value::Times(dwell) = &sample.value else { return None };
    let (scale, Exponential { zeros, offset, counts }) = buckets(dwell);
    Some(ExponentialHistogramDataPoint {
        attributes: attributes(sample),
        start_time_unix_nano: began(snapshot, sample),
        time_unix_nano: snapshot.at_unix_ns,
        count: dwell.count(),
        sum: Some(seconds(dwell.sum_ns())),
        scale: scale.into(),
        zero_count: zeros,
        positive: Some(exponential_histogram_data_point::Buckets { offset, bucket_counts: counts }),
        max: (dwell.count() > 0).then(|| seconds(dwell.max_ns())),
        ..ExponentialHistogramDataPoint::default()
    })
}

/// It was counted in buckets, and there are no others.
fn has_limits(sample: &Sample) -> bool {
    matches!(sample.value, Value::Classic(_))
}

fn explicit(snapshot: &Snapshot, sample: &Sample) -> Option<HistogramDataPoint> {
    let (times, max_ns) = match &sample.value {
        Value::Times(dwell) => (Classic::from(&**dwell), (dwell.count() > 0).then(|| dwell.max_ns())),
        Value::Classic(times) => (Classic::clone(times), None),
        _ => return None,
    };
    Some(HistogramDataPoint {
        attributes: attributes(sample),
        start_time_unix_nano: began(snapshot, sample),
        time_unix_nano: snapshot.at_unix_ns,
        count: times.count(),
        sum: Some(seconds(times.sum_ns)),
        bucket_counts: times.counts.to_vec(),
        explicit_bounds: BUCKETS_NS.map(seconds).to_vec(),
        max: max_ns.map(seconds),
        ..HistogramDataPoint::default()
    })
}

/// A group that came later began to count later.
fn began(snapshot: &Snapshot, sample: &Sample) -> u64 {
    sample.began_unix_ns.unwrap_or(snapshot.began_unix_ns)
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// As fine as there is room for.
fn buckets(dwell: &Dwell) -> (i8, Exponential) {
    let mut scale = NATIVE_SCALE;
    loop {
        let buckets = dwell.exponential(scale);
        if buckets.counts.len() <= MOST_BUCKETS || scale == COARSEST {
            return (scale, buckets);
        }
        scale -= 1;
    }
}

/// The labels as they are, so that rules and dashboards hold wherever the numbers come from; beside them what the semantic
/// conventions call them. The one follows from the other: there are no more series for it.
fn attributes(sample: &Sample) -> Vec<KeyValue> {
    let labels = sample.labels.iter().map(|(label, value)| text(label, value));
    let conventions = sample.labels.iter().filter_map(|(label, value)| convention(label, value));
    labels.chain(conventions).collect()
}

#[cfg(test)]
mod tests;
