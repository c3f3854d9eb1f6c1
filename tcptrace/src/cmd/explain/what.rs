//! What `explain` is asked about: a port, an address, an end, or a flow.

use crate::{
    cli,
    event::Ends,
    flow::{Entry, FlowId},
    sight::Sight,
    source::filter::FilterSpec,
};
use ipnet::IpNet;
use std::{fmt, net::SocketAddr};

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Connections with this port, at either end. A flow with this number is meant where there is no such port.
    Port(u16),
    /// Connections with this address, at either end.
    Network(IpNet),
    /// The connections with this end.
    End(SocketAddr),
    /// The connection with this cookie.
    Flow(u64),
}

/// Reads what the user typed.
pub fn parse(text: &str) -> Result<Subject, String> {
    if let Some(cookie) = text.strip_prefix("flow:") {
        return cli::cookie(cookie).map(Subject::Flow);
    }
    if text.starts_with("sk:") {
        return cli::cookie(text).map(Subject::Flow);
    }
    if let Ok(number) = text.parse::<u64>() {
        return match u16::try_from(number) {
            Ok(0) => Err("0 is no port".to_owned()),
            Ok(port) => Ok(Subject::Port(port)),
            Err(_) => cli::cookie(text).map(Subject::Flow),
        };
    }
    if let Ok(end) = text.parse::<SocketAddr>() {
        return Ok(Subject::End(SocketAddr::new(end.ip().to_canonical(), end.port())));
    }
    cli::network(text).map(Subject::Network).map_err(|_| {
        format!(
            "{text:?} is none of: a port (10000), an address or network (10.0.0.9, 10.0.0.0/8), an end \
             (10.0.0.1:52624, [fd00::1]:52624), a flow (flow:4711, or sk:1267 as `ss -e` prints it)"
        )
    })
}

impl Subject {
    /// What of it the kernel programs can decide.
    pub fn filter(&self) -> FilterSpec {
        let mut filter = FilterSpec::default();
        match self {
            Self::Port(port) => filter.port = vec![*port..=*port],
            Self::Network(network) => filter.addresses = vec![*network],
            Self::End(end) => {
                filter.port = vec![end.port()..=end.port()];
                filter.addresses = vec![IpNet::from(end.ip())];
            }
            Self::Flow(_) => {}
        }
        filter
    }

    /// Whether a socket, of those that the filter lets through, is meant.
    pub fn concerns(&self, sight: &Sight) -> bool {
        match self {
            Self::Flow(cookie) => sight.cookie == *cookie,
            Self::End(end) => has_end(&sight.ends, end),
            Self::Port(_) | Self::Network(_) => true,
        }
    }

    /// Whether something that happened concerns it.
    pub fn concerns_entry(&self, entry: &Entry) -> bool {
        match self {
            Self::Flow(cookie) => entry.who.id == FlowId::Cookie(*cookie),
            Self::End(end) => has_end(&entry.who.ends, end),
            Self::Port(_) | Self::Network(_) => entry.who.id != FlowId::None,
        }
    }
}

fn has_end(ends: &Ends, end: &SocketAddr) -> bool {
    [ends.local(), ends.remote()].contains(end)
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => write!(f, "port {port}"),
            Self::Network(network) => write!(f, "an address in {network}"),
            Self::End(end) => write!(f, "the end {end}"),
            Self::Flow(cookie) => write!(f, "the cookie {cookie} (sk:{cookie:x})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_known_by_its_form() {
        assert_eq!(parse("10000"), Ok(Subject::Port(10000)));
        assert_eq!(parse("flow:4711"), Ok(Subject::Flow(4711)));
        assert_eq!(parse("sk:1267"), Ok(Subject::Flow(4711)));
        assert_eq!(parse("70000"), Ok(Subject::Flow(70000)));
        assert_eq!(parse("10.0.0.1:52624"), Ok(Subject::End("10.0.0.1:52624".parse().unwrap())));
        assert_eq!(parse("[::ffff:10.0.0.1]:80"), Ok(Subject::End("10.0.0.1:80".parse().unwrap())));
        assert_eq!(parse("fd00::/16"), Ok(Subject::Network("fd00::/16".parse().unwrap())));
        for bad in ["", "0", "nginx", "10.0.0.1:", "flow:", "flow:x", "sk:", "10.0.0.1:70000", "-1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
