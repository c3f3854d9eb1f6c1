//! Where to push, how, and how often: from the command line and from the standard environment variables.

use super::resource;
use hyper::{
    Uri,
    header::{HeaderName, HeaderValue},
};
use std::{fmt, time::Duration};

/// How long the receiver may take, unless `OTEL_EXPORTER_OTLP_TIMEOUT` says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two pushes, unless somebody says otherwise.
const INTERVAL: Duration = Duration::from_secs(10);
/// Numbers are gathered once a second.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);
/// Where receivers expect metrics by HTTP.
const METRICS_PATH: &str = "/v1/metrics";
/// The usual port for HTTP; 4317 is that for gRPC.
const HTTP_PORT: u16 = 4318;
/// What a push sets by itself.
const OWN_HEADERS: [&str; 8] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "te",
    "transfer-encoding",
    "user-agent",
];

/// How requests travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// gRPC over HTTP/2
    Grpc,
    /// Protobuf over HTTP/1.1
    Http,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grpc => "gRPC",
            Self::Http => "HTTP",
        })
    }
}

/// Which buckets times are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buckets {
    /// Limits that grow by a factor, as those of Prometheus' native histograms do.
    Exponential,
    /// The limits of the classic histograms at /metrics.
    Explicit,
}

/// `http://host:port/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Begins with a slash.
    pub path: String,
}

impl Url {
    /// `host:port`, as it stands in a URL.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path == "/" { "" } else { &self.path };
        write!(f, "http://{}{path}", self.authority())
    }
}

/// A header of every request. Its value may be a secret, and is never shown.
pub type Header = (HeaderName, HeaderValue);

/// What was asked for on the command line; what is not there is taken from the environment.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// `--otlp`.
    pub url: Option<Url>,
    /// `--otlp-protocol`.
    pub protocol: Option<Protocol>,
    /// `--otlp-interval`.
    pub interval: Option<Duration>,
    /// `--otlp-header`.
    pub headers: Vec<Header>,
}

/// Everything that pushing needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The receiver.
    pub url: Url,
    /// How requests travel.
    pub protocol: Protocol,
    /// Time between two pushes.
    pub interval: Duration,
    /// How long the receiver may take.
    pub timeout: Duration,
    /// Headers of every request.
    pub headers: Vec<Header>,
    /// Resource attributes.
    pub resource: Vec<(String, String)>,
    /// Which buckets times are counted in.
    pub buckets: Buckets,
}

impl Settings {
    /// The command line first, then the environment. `None`: neither names a receiver.
    ///
    /// # Errors
    /// What is wrong, where it stands, what to write instead.
    pub fn new(asked: Asked, env: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, String> {
        let env = Environment(&env);
        let (url, exact) = match asked.url {
            Some(url) => (url, false),
            None => match env.read_with_scope("ENDPOINT", url)? {
                Some((url, exact)) => (url, exact),
                None => return none_named(&asked),
            },
        };
        let protocol = match asked.protocol {
            Some(protocol) => Some(protocol),
            None => env.read("PROTOCOL", protocol_by_name)?,
        };
        let by_url = if url.port == HTTP_PORT || url.path != "/" { Protocol::Http } else { Protocol::Grpc };
        let protocol = protocol.unwrap_or(by_url);
        let interval = match asked.interval {
            Some(interval) => interval,
            None => env
                .read_as("OTEL_METRIC_EXPORT_INTERVAL", milliseconds)?
                .map_or(INTERVAL, |i| i.max(LEAST_INTERVAL)),
        };
        let listed = |text: &str| pairs(text)?.iter().map(header_of).collect::<Result<Vec<_>, _>>();
        let mut headers = env.read("HEADERS", listed)?.unwrap_or_default();
        for (name, value) in asked.headers {
            headers.retain(|(known, _)| *known != name);
            headers.push((name, value));
        }
        let mut resource = resource::detected();
        for (key, value) in env.read_as("OTEL_RESOURCE_ATTRIBUTES", pairs)?.unwrap_or_default() {
            resource::set(&mut resource, &key, value);
        }
        if let Some(name) = env.read_as("OTEL_SERVICE_NAME", |name| Ok(name.to_owned()))? {
            resource::set(&mut resource, "service.name", name);
        }
        Ok(Some(Self {
            url: at(url, protocol, exact)?,
            protocol,
            interval,
            timeout: env.read("TIMEOUT", milliseconds)?.unwrap_or(TIMEOUT),
            headers,
            resource,
            buckets: env
                .read_as("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", buckets)?
                .unwrap_or(Buckets::Exponential),
        }))
    }
}

fn none_named(asked: &Asked) -> Result<Option<Settings>, String> {
    let flag = match asked {
        Asked { protocol: Some(_), .. } => "--otlp-protocol",
        Asked { interval: Some(_), .. } => "--otlp-interval",
        Asked { headers, .. } if !headers.is_empty() => "--otlp-header",
        _ => return Ok(None),
    };
    Err(format!("{flag} does nothing without a receiver; add --otlp http://127.0.0.1:4317"))
}

/// The URL with the path that requests go to. `exact`: it is that of metrics, not of all signals.
fn at(mut url: Url, protocol: Protocol, exact: bool) -> Result<Url, String> {
    match protocol {
        Protocol::Grpc if url.path != "/" => {
            let authority = url.authority();
            return Err(format!(
                "gRPC knows no path, but the receiver is {url}; valid are http://{authority}, or --otlp-protocol http"
            ));
        }
        Protocol::Http if !exact && !url.path.ends_with(METRICS_PATH) => {
            url.path = url.path.trim_end_matches('/').to_owned() + METRICS_PATH;
        }
        Protocol::Grpc | Protocol::Http => {}
    }
    Ok(url)
}

struct Environment<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Environment<'_> {
    /// An empty variable is one that is not set, says OpenTelemetry.
    fn read_as<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, String> {
        let text = (self.0)(name).filter(|text| !text.trim().is_empty());
        text.map(|text| parse(text.trim()).map_err(|why| format!("{name}: {why}"))).transpose()
    }

    /// `OTEL_EXPORTER_OTLP_METRICS_…`, or else `OTEL_EXPORTER_OTLP_…`.
    fn read<T>(&self, what: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
        Ok(self.read_with_scope(what, parse)?.map(|(value, _)| value))
    }

    /// True: it is for metrics only.
    fn read_with_scope<T>(
        &self,
        what: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<(T, bool)>, String> {
        if let Some(value) = self.read_as(&format!("OTEL_EXPORTER_OTLP_METRICS_{what}"), &parse)? {
            return Ok(Some((value, true)));
        }
        Ok(self.read_as(&format!("OTEL_EXPORTER_OTLP_{what}"), &parse)?.map(|value| (value, false)))
    }
}

/// `http://127.0.0.1:4317`, `http://collector:4318/v1/metrics`, `http://[::1]:4317`.
pub fn url(text: &str) -> Result<Url, String> {
    const VALID: &str = "valid are http://127.0.0.1:4317 (gRPC) and http://127.0.0.1:4318 (HTTP)";
    let uri: Uri = text.parse().map_err(|why| format!("{text:?} is not a URL ({why}); {VALID}"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err(format!(
                "{text:?} wants TLS, which is not built in; push in plain text to a collector on this host, which does TLS: http://127.0.0.1:4317"
            ));
        }
        _ => return Err(format!("{text:?} does not begin with http://; {VALID}")),
    }
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        // Not repeated: it may be a password.
        return Err(
            "a URL with a user name is not supported; valid is --otlp-header authorization=...".to_owned()
        );
    }
    if uri.query().is_some() {
        return Err(format!("{text:?} has a query, which receivers do not have; {VALID}"));
    }
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let has_port = !authority.ends_with(']') && authority.contains("]:")
        || !authority.contains(']') && authority.contains(':');
    let port = match uri.port_u16() {
        Some(port) if port > 0 => port,
        None if !has_port => 80,
        _ => return Err(format!("{text:?} has no valid port; {VALID}")),
    };
    if host.is_empty() {
        return Err(format!("{text:?} names no host; {VALID}"));
    }
    Ok(Url { host: host.to_owned(), port, path: uri.path().to_owned() })
}

fn protocol_by_name(text: &str) -> Result<Protocol, String> {
    match text {
        "grpc" => Ok(Protocol::Grpc),
        "http" | "http/protobuf" => Ok(Protocol::Http),
        _ => Err(format!("{text:?} is not a protocol that tcptrace has; valid are grpc and http/protobuf")),
    }
}

fn buckets(text: &str) -> Result<Buckets, String> {
    match text {
        "base2_exponential_bucket_histogram" => Ok(Buckets::Exponential),
        "explicit_bucket_histogram" => Ok(Buckets::Explicit),
        _ => Err(format!(
            "{text:?} is not a kind of histogram; valid are base2_exponential_bucket_histogram and explicit_bucket_histogram"
        )),
    }
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(ms) if ms > 0 => Ok(Duration::from_millis(ms)),
        _ => Err(format!("{text:?} is not a number of milliseconds; valid are 1 and more")),
    }
}

/// A time between two pushes.
pub fn interval(text: &str) -> Result<Duration, String> {
    match crate::cli::duration(text)? {
        every if every < LEAST_INTERVAL => {
            Err(format!("{text:?} is too often; valid are {LEAST_INTERVAL:?} and more"))
        }
        every => Ok(every),
    }
}

/// `name=value`.
pub fn header(text: &str) -> Result<Header, String> {
    // Not repeated: values are secrets, as a rule.
    let (name, value) = text.split_once('=').ok_or("it has no `=`; valid is name=value")?;
    header_of(&(name.trim().to_owned(), value.trim().to_owned()))
}

fn header_of((name, value): &(String, String)) -> Result<Header, String> {
    let valid = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes());
    let key =
        valid.map_err(|_| format!("{name:?} is not a header's name; valid are letters, digits and -"))?;
    if OWN_HEADERS.contains(&key.as_str()) || key.as_str().starts_with("grpc-") {
        return Err(format!("{name:?} is set by tcptrace itself; leave it out"));
    }
    if key.as_str().ends_with("-bin") {
        return Err(format!(
            "{name:?} would be binary in gRPC, which is not supported; valid are names without -bin"
        ));
    }
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| format!("the value of {name:?} cannot be in a header; valid is printable ASCII"))?;
    value.set_sensitive(true);
    Ok((key, value))
}

/// `key=value,key=value`, percent-encoded, as in W3C's baggage.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |part: &str| {
        let (key, value) = part.split_once('=').ok_or("an entry has no `=`; valid is key=value,key=value")?;
        let key = decoded(key.trim())?;
        if key.is_empty() {
            return Err("an entry has no name before its `=`; valid is key=value,key=value".to_owned());
        }
        Ok((key, decoded(value.trim())?))
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(pair).collect()
}

fn decoded(text: &str) -> Result<String, String> {
    const VALID: &str = "a % is not followed by two hexadecimal digits, or what they make is not UTF-8; valid is %20 for a space";
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).ok_or(VALID)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(VALID.to_owned());
        }
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| VALID)?);
        bytes.extend(rest.as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| VALID.to_owned())
}

#[cfg(test)]
mod tests;
