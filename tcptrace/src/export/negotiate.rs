//! In which format a client wants the metrics, by what it accepts (RFC 9110, section 12.5.1).

use super::{model::Snapshot, openmetrics, protobuf};
use std::{fmt, sync::Arc};

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' protobuf, with native histograms.
    Protobuf,
    /// OpenMetrics text.
    OpenMetrics,
    /// Prometheus' older text format: what everybody reads who does not ask for another.
    Text,
}

impl Format {
    /// The one that the client prefers; of equal ones the one named first. [`Format::Text`] if it accepts none of them.
    pub fn wanted(accept: &str) -> Self {
        let mut best = (0.0, Self::Text);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut proto, mut delimited) = (1.0, false, false);
            for part in parts {
                match part.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
                    Some(("q", value)) => quality = value.parse::<f64>().unwrap_or(0.0),
                    Some(("proto", "io.prometheus.client.MetricFamily")) => proto = true,
                    Some(("encoding", "delimited")) => delimited = true,
                    _ => {}
                }
            }
            let format = match kind.as_str() {
                "application/vnd.google.protobuf" if proto && delimited => Self::Protobuf,
                "application/openmetrics-text" => Self::OpenMetrics,
                "text/plain" | "text/*" | "*/*" => Self::Text,
                _ => continue,
            };
            if quality > best.0 {
                best = (quality, format);
            }
        }
        best.1
    }

    /// What it is called.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// The snapshot in it.
    ///
    /// # Errors
    /// Never: it is written to memory.
    pub fn encode(self, snapshot: &Arc<Snapshot>) -> Result<Vec<u8>, fmt::Error> {
        match self {
            Self::Protobuf => Ok(protobuf::delimited(snapshot)),
            Self::OpenMetrics => openmetrics::text(snapshot).map(String::into_bytes),
            Self::Text => openmetrics::classic(snapshot).map(String::into_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_gets_what_it_prefers() {
        // As Prometheus asks: 2.42 without and with native histograms, and 3.
        let cases = [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Format::Text),
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::Protobuf,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=1.0.0;q=0.4,*/*;q=0.2",
                Format::OpenMetrics,
            ),
            ("text/plain;q=0.5, Application/OpenMetrics-Text; q=0.9", Format::OpenMetrics),
            ("application/openmetrics-text;q=0, text/plain;q=0.1", Format::Text),
            ("application/vnd.google.protobuf;proto=another;encoding=delimited", Format::Text),
            ("application/json", Format::Text),
            ("application/openmetrics-text;q=x,;;=,", Format::Text),
        ];
        for (accept, format) in cases {
            assert_eq!(Format::wanted(accept), format, "{accept}");
        }
    }
}
