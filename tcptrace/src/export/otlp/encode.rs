//! A snapshot as an export request: counters as cumulative sums, times as exponential histograms.

use super::names::{convention, name, text, unit};
use crate::{
    export::model::{Family, Sample, Snapshot, Type, Value},
    hist::{Dwell, dwell::Exponential},
};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{InstrumentationScope, KeyValue},
    metrics::v1::{
        AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Metric,
        NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, exponential_histogram_data_point::Buckets,
        metric, number_data_point,
    },
    resource::v1::Resource,
};

/// Buckets grow by 2^(2^-3), 9 %, as those of our own native histograms do.
const FINEST: i8 = 3;
/// The coarsest that a distribution of times can be had in.
const COARSEST: i8 = -4;
/// As many buckets as the OpenTelemetry SDKs have at most; wider distributions get coarser ones.
const MOST_BUCKETS: usize = 160;

/// Everything in the snapshot, as of this resource.
pub fn request(snapshot: &Snapshot, resource: &[(String, String)]) -> ExportMetricsServiceRequest {
    let metrics =
        snapshot.families.iter().map(|(family, samples)| metric(snapshot, family, samples)).collect();
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

fn metric(snapshot: &Snapshot, family: &Family, samples: &[Sample]) -> Metric {
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
        Type::Histogram => metric::Data::ExponentialHistogram(ExponentialHistogram {
            data_points: samples.iter().filter_map(|sample| times(snapshot, sample)).collect(),
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
        Value::Times(_) => return None,
    };
    Some(NumberDataPoint {
        attributes: attributes(sample),
        start_time_unix_nano: if since_the_start { snapshot.began_unix_ns } else { 0 },
        time_unix_nano: snapshot.at_unix_ns,
        value: Some(value),
        ..NumberDataPoint::default()
    })
}

fn times(snapshot: &Snapshot, sample: &Sample) -> Option<ExponentialHistogramDataPoint> {
    let Value::Times(dwell) = &sample.value else { return None };
    let (scale, Exponential { zeros, offset, counts }) = buckets(dwell);
    Some(ExponentialHistogramDataPoint {
        attributes: attributes(sample),
        start_time_unix_nano: snapshot.began_unix_ns,
        time_unix_nano: snapshot.at_unix_ns,
        count: dwell.count(),
        sum: Some(dwell.sum_ns() as f64 / 1e9),
        scale: scale.into(),
        zero_count: zeros,
        positive: Some(Buckets { offset, bucket_counts: counts }),
        max: (dwell.count() > 0).then(|| dwell.max_ns() as f64 / 1e9),
        ..ExponentialHistogramDataPoint::default()
    })
}

/// As fine as there is room for.
fn buckets(dwell: &Dwell) -> (i8, Exponential) {
    let mut scale = FINEST;
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
