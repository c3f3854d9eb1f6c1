//! What the exporter says: one request, and the numbers in the answer.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Every sample of `/metrics`, by its name and labels as they are written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Asks for them.
    pub fn scrape(address: SocketAddr) -> Result<Self> {
        let mut stream = TcpStream::connect(address).context("the exporter does not answer")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("the exporter's answer is no text")?;
        ensure!(
            answer.starts_with("HTTP/1.1 200"),
            "the exporter says {}",
            answer.lines().next().unwrap_or("")
        );
        Ok(Self::parse(&answer))
    }

    /// From an answer; lines that are no samples are passed over.
    pub fn parse(text: &str) -> Self {
        let samples =
            text.lines().filter(|line| line.starts_with("tcptrace_") || line.starts_with("process_"));
        Self(
            samples
                .filter_map(|line| {
                    let (name, value) = line.rsplit_once(' ')?;
                    Some((name.to_owned(), value.parse().ok()?))
                })
                .collect(),
        )
    }

    /// A state change, how often.
    pub fn transition(&self, from: &str, to: &str) -> u64 {
        self.count(&format!("tcptrace_transitions_total{{from=\"{from}\",to=\"{to}\"}}"))
    }

    /// Sockets in a state.
    pub fn sockets(&self, state: &str) -> u64 {
        self.count(&format!("tcptrace_sockets{{state=\"{state}\"}}"))
    }

    /// The sum of a family's samples.
    pub fn sum(&self, family: &str) -> u64 {
        self.sum_if_there(family).unwrap_or(0)
    }

    /// The same; nothing of a family that is not there.
    pub fn sum_if_there(&self, family: &str) -> Option<u64> {
        self.of(family).map(|(_, value)| value as u64).reduce(|sum, value| sum + value)
    }

    /// Labels, as they are written, and value of every sample of this name.
    pub fn of(&self, name: &str) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().filter_map(move |(sample, value)| {
            let labels = sample.strip_prefix(name)?;
            (labels.is_empty() || labels.starts_with('{')).then_some((labels, *value))
        })
    }

    /// One sample; what is not there is 0, as counters are before the first event.
    pub fn count(&self, sample: &str) -> u64 {
        self.0.get(sample).map_or(0, |value| *value as u64)
    }

    /// Counters of `earlier` that are smaller here.
    pub fn gone_back(&self, earlier: &Self) -> Vec<String> {
        let counters = earlier
            .0
            .iter()
            .filter(|(name, _)| name.split('{').next().is_some_and(|name| name.ends_with("_total")));
        counters
            .filter(|(name, before)| self.0.get(*name).is_none_or(|now| now < before))
            .map(|(name, _)| name.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "HTTP/1.1 200 OK\r\n\r\n# TYPE tcptrace_transitions counter\n\
        tcptrace_transitions_total{from=\"SYN_SENT\",to=\"ESTABLISHED\"} 5\n\
        tcptrace_transitions_total{from=\"CLOSE\",to=\"SYN_SENT\"} 6\n\
        tcptrace_sockets{state=\"LISTEN\"} 1.0\n";

    #[test]
    fn samples_are_found_by_their_labels() {
        let metrics = Metrics::parse(ANSWER);
        assert_eq!((metrics.transition("SYN_SENT", "ESTABLISHED"), metrics.sockets("LISTEN")), (5, 1));
        assert_eq!((metrics.sum("tcptrace_transitions_total"), metrics.sum("tcptrace_transitions")), (11, 0));
        assert_eq!(metrics.transition("LISTEN", "CLOSE"), 0);
        assert_eq!(metrics.sum_if_there("tcptrace_transitions"), None);
        assert_eq!(metrics.of("tcptrace_sockets").collect::<Vec<_>>(), [("{state=\"LISTEN\"}", 1.0)]);
    }

    #[test]
    fn a_counter_that_goes_back_is_noticed() {
        let before = Metrics::parse(ANSWER);
        let after = Metrics::parse(&ANSWER.replace("} 6", "} 7").replace("} 5", "} 4").replace("1.0", "0.0"));
        assert_eq!(
            after.gone_back(&before),
            ["tcptrace_transitions_total{from=\"SYN_SENT\",to=\"ESTABLISHED\"}"]
        );
        assert!(before.gone_back(&before).is_empty());
    }
}
