//! Somebody who asks an exporter for its metrics, again and again, as Prometheus does.

use std::{
    net::SocketAddr,
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::output::Summary;
use crate::soak::scrape::Metrics;

/// More often than anybody does.
const EVERY: Duration = Duration::from_secs(1);
/// What the exporter shows is as old as this at most.
const PUBLISHED_WITHIN: Duration = Duration::from_millis(1500);

/// Asks once a second, until it is asked for the last answer.
pub struct Scraper {
    address: SocketAddr,
    stop: Sender<()>,
    thread: JoinHandle<Result<()>>,
}

impl Scraper {
    /// Begins.
    pub fn start(address: SocketAddr) -> Self {
        let (stop, stopped) = channel();
        let thread = thread::spawn(move || {
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                Metrics::scrape(address)?;
            }
            Ok(())
        });
        Self { address, stop, thread }
    }

    /// Where the exporter says that it serves: `serving http://127.0.0.1:40001/metrics; …`.
    pub fn address(said: &str) -> Option<SocketAddr> {
        said.split_once("serving http://")?.1.split_once('/')?.0.parse().ok()
    }

    /// The exporter has nothing left to do: its metrics, when it has published those.
    pub fn finish(self) -> Result<Metrics> {
        // Nobody is there to be told if it failed before.
        let _ = self.stop.send(());
        self.thread.join().ok().context("whoever asked for metrics panicked")??;
        thread::sleep(PUBLISHED_WITHIN);
        Metrics::scrape(self.address)
    }
}

/// What an exporter counted.
pub fn summary(metrics: &Metrics) -> Summary {
    Summary {
        transitions: metrics.sum("tcptrace_transitions_total"),
        lost: metrics.sum("tcptrace_lost_events_total"),
        // What the kernel adds up has no causes.
        closes: metrics.sum_if_there("tcptrace_closes_total"),
        lost_transitions: None,
        untimed: metrics.sum_if_there("tcptrace_untimed_states_total"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_what_it_says() {
        let said = "tcptrace: serving http://127.0.0.1:40001/metrics; Ctrl-C or SIGTERM ends it\n";
        assert_eq!(Scraper::address(said), "127.0.0.1:40001".parse().ok());
        assert_eq!(Scraper::address("tcptrace: no probes\n"), None);
    }

    #[test]
    fn sums_of_the_kernel_have_no_closes_but_tell_what_is_untimed() {
        let counted = "tcptrace_transitions_total{from=\"LISTEN\",to=\"SYN_RECV\"} 7\n";
        let of = |more: &str| summary(&Metrics::parse(&format!("{counted}{more}")));
        let found = of("tcptrace_untimed_states_total 2\ntcptrace_lost_events_total{kind=\"missed\"} 1\n");
        let sums =
            Summary { transitions: 7, lost: 1, closes: None, lost_transitions: None, untimed: Some(2) };
        assert_eq!(found, sums);
        assert_eq!(of("tcptrace_closes_total{cause=\"fin\"} 0\n").closes, Some(0));
    }
}
