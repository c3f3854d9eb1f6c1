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

    /// The exporter has nothing left to do: what it counted, when it has published that.
    pub fn finish(self) -> Result<Summary> {
        // Nobody is there to be told if it failed before.
        let _ = self.stop.send(());
        self.thread.join().ok().context("whoever asked for metrics panicked")??;
        thread::sleep(PUBLISHED_WITHIN);
        let metrics = Metrics::scrape(self.address)?;
        let sum = |family: &str| metrics.sum(family);
        Ok(Summary {
            transitions: sum("tcptrace_transitions_total"),
            lost: sum("tcptrace_lost_events_total"),
            closes: Some(sum("tcptrace_closes_total")),
            lost_transitions: None,
        })
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
}
