//! The snapshot as text: OpenMetrics, and the older format of Prometheus for whoever does not ask for OpenMetrics.

use super::model::{BUCKETS_NS, Classic, Family, Sample, Snapshot, Type, Unit, Value};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::{Registry, Unit as OpenUnit},
};
use std::{
    borrow::Cow,
    fmt::{self, Write},
    sync::Arc,
};

/// OpenMetrics 1.0.
///
/// # Errors
/// Never: it is written to memory.
pub fn text(snapshot: &Arc<Snapshot>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exposition(Arc::clone(snapshot))));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

/// The text format 0.0.4. It has the same lines, but the suffix of the type belongs to the name of the family, and units
/// and infos are unknown to it.
///
/// # Errors
/// Never: it is written to memory.
pub fn classic(snapshot: &Arc<Snapshot>) -> Result<String, fmt::Error> {
    let mut families = snapshot.families.iter().map(|(family, _)| *family).peekable();
    let mut out = String::new();
    for line in text(snapshot)?.lines() {
        if line.starts_with("# HELP ") {
            let Some(family) = families.peek() else { break };
            writeln!(out, "# HELP {} {}", family.sample_name(), family.help)?;
        } else if line.starts_with("# TYPE ") {
            let Some(family) = families.next() else { break };
            let kind = match family.kind {
                Type::Counter => "counter",
                Type::Gauge | Type::Info => "gauge",
                Type::Histogram => "histogram",
            };
            writeln!(out, "# TYPE {} {kind}", family.sample_name())?;
        } else if !line.starts_with("# ") {
            writeln!(out, "{line}")?;
        }
    }
    Ok(out)
}

/// A snapshot for the encoder.
#[derive(Debug)]
struct Exposition(Arc<Snapshot>);

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.families.iter().try_for_each(|(family, samples)| encode(&mut encoder, family, samples))
    }
}

fn encode(encoder: &mut DescriptorEncoder<'_>, family: &Family, samples: &[Sample]) -> fmt::Result {
    let kind = match family.kind {
        Type::Counter => MetricType::Counter,
        Type::Gauge => MetricType::Gauge,
        Type::Histogram => MetricType::Histogram,
        Type::Info => MetricType::Info,
    };
    let unit = family.unit.map(|unit| match unit {
        Unit::Seconds => OpenUnit::Seconds,
        Unit::Bytes => OpenUnit::Bytes,
    });
    let mut metric = encoder.encode_descriptor(family.name, family.help, unit.as_ref(), kind)?;
    for sample in samples {
        let labels: Vec<(&str, Cow<'_, str>)> =
            sample.labels.iter().map(|(name, value)| (*name, Cow::Borrowed(value.as_ref()))).collect();
        if family.kind == Type::Info {
            metric.encode_info(&labels)?;
        } else if labels.is_empty() {
            value(&mut metric, family.kind, &sample.value)?;
        } else {
            value(&mut metric.encode_family(&labels)?, family.kind, &sample.value)?;
        }
    }
    Ok(())
}

fn value(metric: &mut MetricEncoder<'_>, kind: Type, value: &Value) -> fmt::Result {
    match value {
        Value::Count(count) => metric.encode_counter::<NoLabelSet, _, u64>(count, None),
        Value::Number(number) if kind == Type::Counter => {
            metric.encode_counter::<NoLabelSet, _, f64>(number, None)
        }
        Value::Number(number) => metric.encode_gauge(number),
        Value::Times(dwell) => histogram(metric, &Classic::from(&**dwell)),
        Value::Classic(times) => histogram(metric, times),
        Value::Info => Ok(()),
    }
}

fn histogram(metric: &mut MetricEncoder<'_>, times: &Classic) -> fmt::Result {
    let limits = BUCKETS_NS.iter().map(|ns| *ns as f64 / 1e9).chain([f64::INFINITY]);
    let buckets: Vec<_> = limits.zip(times.counts).collect();
    metric.encode_histogram::<NoLabelSet>(times.sum_ns as f64 / 1e9, times.count(), &buckets, None)
}

#[cfg(test)]
mod tests;
