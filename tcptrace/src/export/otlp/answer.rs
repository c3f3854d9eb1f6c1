//! What a receiver's answer means: taken, taken in part, to be sent again and when, or never to be sent again.

use hyper::{HeaderMap, StatusCode, header};
use jiff::{Timestamp, fmt::rfc2822};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message;
use std::time::Duration;

/// Receivers that want to be left alone for longer are asked again after this.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// As much of a receiver's words as goes into a message.
const WORDS: usize = 200;

/// What came of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Everything was taken.
    Taken,
    /// It was taken, but for some.
    Partly {
        /// Data points that were not.
        rejected: i64,
        /// The receiver's words.
        why: String,
    },
    /// Not now.
    Again {
        /// Why not.
        why: String,
        /// When, if the receiver says it.
        wait: Option<Duration>,
    },
    /// Not this, not ever.
    Refused {
        /// Why not.
        why: String,
    },
}

impl Answer {
    /// Nothing came of it, and nobody said when to try again.
    pub fn failed(why: impl Into<String>) -> Self {
        Self::Again { why: why.into(), wait: None }
    }
}

/// The answer to a request by HTTP.
pub fn http(status: StatusCode, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Answer {
    if status.is_success() {
        return taken(body);
    }
    let why = match said(headers, body) {
        words if words.is_empty() => format!("HTTP {status}"),
        words => format!("HTTP {status}: {words}"),
    };
    match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Answer::Again { why, wait: retry_after(headers, now) },
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Answer::Refused {
            why: format!("{why}; does it take metrics by HTTP there? --otlp names the URL"),
        },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Answer::Refused { why: format!("{why}; --otlp-header gives it what it wants to see") }
        }
        _ => Answer::Refused { why },
    }
}

/// The answer to a request by gRPC. `trailers`: what came after the body, if anything did.
pub fn grpc(
    status: StatusCode,
    headers: &HeaderMap,
    trailers: Option<&HeaderMap>,
    body: &[u8],
    now: Timestamp,
) -> Answer {
    // An answer without a body has its status among the headers.
    let has_status = |map: &&HeaderMap| map.contains_key("grpc-status");
    let Some(map) = trailers.filter(has_status).or(Some(headers).filter(has_status)) else {
        return match http(status, headers, &[], now) {
            Answer::Refused { why } => {
                Answer::Refused { why: format!("{why}; does it speak gRPC at this port?") }
            }
            Answer::Again { why, wait } => Answer::Again { why, wait },
            Answer::Taken | Answer::Partly { .. } => Answer::failed("the answer has no grpc-status"),
        };
    };
    let text = |name: &str| map.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let code = text("grpc-status").parse().unwrap_or(UNKNOWN);
    if code == 0 {
        return match body {
            [] => Answer::Taken,
            // One message, not compressed: its length stands before it.
            [0, _, _, _, _, message @ ..] => taken(message),
            _ => Answer::failed("the answer is no gRPC message"),
        };
    }
    let name = CODES.get(code).copied().unwrap_or("UNKNOWN");
    let why = match words(&percent_decoded(text("grpc-message"))) {
        words if words.is_empty() => name.to_owned(),
        words => format!("{name}: {words}"),
    };
    let wait = map.get("grpc-status-details-bin").and_then(|value| retry_info(value.as_bytes()));
    match name {
        "CANCELLED" | "DEADLINE_EXCEEDED" | "ABORTED" | "OUT_OF_RANGE" | "UNAVAILABLE" | "DATA_LOSS" => {
            Answer::Again { why, wait }
        }
        // Only with a time is it said that it passes.
        "RESOURCE_EXHAUSTED" if wait.is_some() => Answer::Again { why, wait },
        "UNIMPLEMENTED" => Answer::Refused { why: format!("{why}; does it take metrics?") },
        "UNAUTHENTICATED" | "PERMISSION_DENIED" => {
            Answer::Refused { why: format!("{why}; --otlp-header gives it what it wants to see") }
        }
        _ => Answer::Refused { why },
    }
}

const UNKNOWN: usize = 2;
/// gRPC's codes, by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

fn taken(message: &[u8]) -> Answer {
    let partial = match ExportMetricsServiceResponse::decode(message) {
        Ok(response) => response.partial_success,
        // The status says that it was taken; what else is said is not for us.
        Err(error) => {
            log::debug!("the receiver's answer cannot be read: {error}");
            None
        }
    };
    match partial {
        // With nothing rejected, words are a warning.
        Some(partial) if partial.rejected_data_points != 0 || !partial.error_message.is_empty() => {
            Answer::Partly { rejected: partial.rejected_data_points, why: words(&partial.error_message) }
        }
        _ => Answer::Taken,
    }
}

/// Seconds, or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let then = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            Duration::try_from(then.duration_since(now)).unwrap_or(Duration::ZERO)
        }
    };
    Some(wait.min(LONGEST_WAIT))
}

/// google.rpc.Status.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Detail>,
}

/// google.protobuf.Any.
#[derive(Clone, PartialEq, Message)]
struct Detail {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// google.rpc.RetryInfo.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    delay: Option<Delay>,
}

/// google.protobuf.Duration.
#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// When to come again, from the details of a gRPC status.
fn retry_info(encoded: &[u8]) -> Option<Duration> {
    let status = Status::decode(base64(encoded)?.as_slice()).ok()?;
    let detail = status.details.iter().find(|detail| detail.kind.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(detail.value.as_slice()).ok()?.delay?;
    let seconds = Duration::from_secs(u64::try_from(delay.seconds).ok()?);
    let nanos = Duration::from_nanos(u64::try_from(delay.nanos).ok()?);
    Some(seconds.saturating_add(nanos).min(LONGEST_WAIT))
}

/// As gRPC writes binary headers, with padding or without.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut have) = (Vec::new(), 0u32, 0);
    for byte in text.iter().take_while(|byte| **byte != b'=') {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        have += 6;
        if have >= 8 {
            have -= 8;
            bytes.push((bits >> have & 0xff) as u8);
        }
    }
    Some(bytes)
}

/// As gRPC writes messages; what is not encoded is itself.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => break,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap_or(0) as u8;
                bytes.push(digit(high) << 4 | digit(low));
                rest
            }
            [byte, rest @ ..] => {
                bytes.push(*byte);
                rest
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What a receiver says by HTTP about an error: google.rpc.Status, or text.
fn said(headers: &HeaderMap, body: &[u8]) -> String {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.starts_with("application/x-protobuf") {
        return Status::decode(body).map(|status| words(&status.message)).unwrap_or_default();
    }
    if kind.starts_with("text/plain") || kind.starts_with("application/json") {
        return words(&String::from_utf8_lossy(body));
    }
    String::new()
}

/// One line, without anything that a terminal obeys.
fn words(text: &str) -> String {
    let plain = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(WORDS).collect()
}

#[cfg(test)]
mod tests;
