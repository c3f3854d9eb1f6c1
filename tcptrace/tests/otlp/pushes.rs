//! What arrives, when, and what is said and counted if it does not.

use crate::{
    receiver::{GRPC_PATH, Got, Receiver, Reply},
    said,
};
use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point};
use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tcptrace::{
    export::{
        model::{FLOWS, Sample, Snapshot, TRANSITIONS, Value},
        otlp::{
            Pusher, Settings,
            settings::{Asked, Protocol, header, url},
        },
    },
    sandbox::Sandbox,
};
use tokio::sync::watch;

/// Long enough for a loaded machine; nothing waits that long unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);
const BOTH: [Protocol; 2] = [Protocol::Grpc, Protocol::Http];

/// Someone who publishes, and the thread that pushes it.
struct Pushing {
    publish: watch::Sender<Arc<Snapshot>>,
    pusher: Pusher,
    dropped: Arc<AtomicU64>,
    url: String,
}

impl Pushing {
    fn to(address: &str, protocol: Protocol) -> Self {
        Self::with(address, protocol, |_| {})
    }

    fn with(address: &str, protocol: Protocol, change: impl FnOnce(&mut Settings)) -> Self {
        said::collect();
        let asked = Asked {
            url: Some(url(address).unwrap()),
            protocol: Some(protocol),
            interval: Some(Duration::from_millis(20)),
            headers: vec![header("x-tenant=blue").unwrap()],
        };
        let mut settings = Settings::new(asked, |_| None).unwrap().unwrap();
        change(&mut settings);
        let (publish, snapshots) = watch::channel(Arc::default());
        let dropped = Arc::new(AtomicU64::new(0));
        let pusher = Pusher::start(settings, snapshots, Arc::clone(&dropped), Sandbox::On).unwrap();
        Self { publish, pusher, dropped, url: address.to_owned() }
    }

    fn publish(&self, number: u64) {
        let sample = |value| Sample {
            labels: vec![("from", "CLOSE".into()), ("to", "SYN_SENT".into())],
            value,
            began_unix_ns: None,
        };
        let flows = Sample { labels: Vec::new(), ..sample(Value::Number(number as f64 / 2.0)) };
        self.publish.send_replace(Arc::new(Snapshot {
            began_unix_ns: 5,
            at_unix_ns: 5 + number,
            made: Some(Instant::now()),
            families: vec![(&TRANSITIONS, vec![sample(Value::Count(number))]), (&FLOWS, vec![flows])],
        }));
    }

    /// Publishes on and on, from this number, until it is so. Gives the number that was the last.
    fn publish_until(&self, first: u64, what: &str, mut so: impl FnMut() -> bool) -> u64 {
        let mut number = first;
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.publish(number);
            if so() {
                return number;
            }
            assert!(Instant::now() < deadline, "{what}: it did not come to that; {:#?}", said::of(&self.url));
            thread::sleep(Duration::from_millis(5));
            number += 1;
        }
    }

    fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn said(&self) -> String {
        said::of(&self.url).join("\n")
    }

    /// Waits until it has said this.
    fn wait_for_words(&self, words: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.said().contains(words) {
            assert!(Instant::now() < deadline, "{words}: {}", self.said());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The number that was published.
fn number(got: &Got) -> u64 {
    let metrics = &got.message.resource_metrics[0].scope_metrics[0].metrics;
    let [transitions, flows] = metrics.as_slice() else { panic!("{metrics:?}") };
    let Some(Data::Sum(sum)) = &transitions.data else { panic!("{transitions:?}") };
    let Some(Data::Gauge(gauge)) = &flows.data else { panic!("{flows:?}") };
    let Some(number_data_point::Value::AsInt(number)) = sum.data_points[0].value else { panic!("{sum:?}") };
    let Some(number_data_point::Value::AsDouble(half)) = gauge.data_points[0].value else {
        panic!("{gauge:?}")
    };
    assert_eq!(half, number as f64 / 2.0);
    let number = number.cast_unsigned();
    assert_eq!((sum.data_points[0].start_time_unix_nano, sum.data_points[0].time_unix_nano), (5, 5 + number));
    number
}

/// The next that arrives.
fn next(receiver: &Receiver) -> Got {
    receiver.got.recv_timeout(PATIENCE).expect("a push")
}

#[test]
fn the_numbers_arrive_on_one_connection() {
    for protocol in BOTH {
        let receiver = Receiver::start(protocol, []);
        let pushing = Pushing::to(&receiver.url(), protocol);
        for published in 1..=5 {
            pushing.publish(published);
            let got = next(&receiver);
            assert_eq!(number(&got), published, "{protocol}");
            let header = |name: &str| got.headers.get(name).map_or("", |value| value.to_str().unwrap());
            assert_eq!(header("x-tenant"), "blue");
            assert!(header("user-agent").starts_with("tcptrace/"));
            match protocol {
                Protocol::Grpc => {
                    assert_eq!((got.path.as_str(), header("content-type")), (GRPC_PATH, "application/grpc"));
                    assert_eq!((header("te"), header("grpc-timeout")), ("trailers", "10000m"));
                }
                Protocol::Http => {
                    assert_eq!(got.path, "/v1/metrics");
                    assert_eq!(header("content-type"), "application/x-protobuf");
                    assert_eq!(header("host"), receiver.address.to_string());
                }
            }
        }
        assert_eq!(receiver.connections.load(Ordering::Relaxed), 1, "{protocol}");
        let dropped = Arc::clone(&pushing.dropped);
        pushing.pusher.finish();
        // It had all of it: there was nothing to push at the end.
        assert!(receiver.got.try_recv().is_err(), "{protocol}");
        assert_eq!(dropped.load(Ordering::Relaxed), 0, "{protocol}");
    }
}

#[test]
fn the_last_numbers_are_pushed_at_the_end() {
    for protocol in BOTH {
        let receiver = Receiver::start(protocol, []);
        let hour = |settings: &mut Settings| settings.interval = Duration::from_secs(3600);
        let pushing = Pushing::with(&receiver.url(), protocol, hour);
        pushing.publish(1);
        assert_eq!(number(&next(&receiver)), 1);
        pushing.publish(2);
        pushing.pusher.finish();
        assert_eq!(receiver.got.try_recv().map(|got| number(&got)), Ok(2), "{protocol}");
    }
}

#[test]
fn a_dead_receiver_costs_snapshots_and_gets_the_newest_when_it_comes() {
    for protocol in BOTH {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let pushing = Pushing::to(&format!("http://{address}"), protocol);
        let last = pushing.publish_until(1, "drops", || pushing.dropped() >= 3);
        pushing.wait_for_words("Connection refused");
        assert!(pushing.said().contains("tracing goes on"), "{}", pushing.said());
        let receiver = Receiver::at(address, protocol, []);
        pushing.publish(last + 1);
        assert_eq!(number(&next(&receiver)), last + 1, "{protocol}: the newest, none of the old");
        pushing.wait_for_words("works again");
        // Said once, however often it was tried.
        assert_eq!(said::of(&pushing.url).len(), 2, "{}", pushing.said());
        pushing.pusher.finish();
    }
}

#[test]
fn a_receiver_that_never_answers_holds_nobody_up() {
    for protocol in BOTH {
        // The kernel accepts for it; nobody reads.
        let hole = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", hole.local_addr().unwrap());
        let short = |settings: &mut Settings| settings.timeout = Duration::from_millis(100);
        let pushing = Pushing::with(&address, protocol, short);
        pushing.publish_until(1, "drops", || pushing.dropped() >= 3);
        pushing.wait_for_words("no answer within 100ms");
        let dropped = Arc::clone(&pushing.dropped);
        let before = dropped.load(Ordering::Relaxed);
        pushing.publish(1_000_000);
        pushing.pusher.finish();
        assert!(dropped.load(Ordering::Relaxed) > before, "the last one is counted, too");
        let words = said::of(&address);
        assert!(words.iter().any(|line| line.contains("the last numbers were not pushed")), "{words:#?}");
    }
}

/// Of a time-out of ten seconds the end does not wait for more than three.
#[test]
fn the_end_waits_for_a_silent_receiver_but_not_for_long() {
    for protocol in BOTH {
        let receiver = Receiver::start(protocol, [Reply::Silence, Reply::Silence]);
        let pushing = Pushing::to(&receiver.url(), protocol);
        pushing.publish(1);
        assert_eq!(number(&next(&receiver)), 1);
        let (before, url) = (Instant::now(), pushing.url.clone());
        pushing.pusher.finish();
        assert!(before.elapsed() < Duration::from_secs(8), "{:?}", before.elapsed());
        assert!(said::of(&url).join("").contains("not pushed: no answer within 3s"), "{:?}", said::of(&url));
    }
}

#[test]
fn a_busy_receiver_is_asked_again_when_it_says() {
    let grpc = (Protocol::Grpc, vec![Reply::Grpc("14", "draining"), Reply::Http(503, Some("0"))]);
    let http = (Protocol::Http, vec![Reply::Http(503, None), Reply::Http(429, Some("0"))]);
    for (protocol, replies) in [grpc, http] {
        let receiver = Receiver::start(protocol, replies);
        let pushing = Pushing::to(&receiver.url(), protocol);
        pushing.publish(7);
        for _ in 0..3 {
            assert_eq!(number(&next(&receiver)), 7, "{protocol}");
        }
        pushing.wait_for_words("works again; 0 dropped");
        assert_eq!(pushing.dropped(), 0, "{protocol}: it was sent again");
        pushing.pusher.finish();
        assert!(receiver.got.try_recv().is_err(), "{protocol}");
    }
}

#[test]
fn a_receiver_that_wants_to_be_left_alone_is_even_at_the_end() {
    for protocol in BOTH {
        let receiver = Receiver::start(protocol, [Reply::Http(503, Some("60"))]);
        let pushing = Pushing::to(&receiver.url(), protocol);
        pushing.publish(1);
        assert_eq!(number(&next(&receiver)), 1);
        pushing.wait_for_words("503");
        pushing.publish(2);
        let url = pushing.url.clone();
        pushing.pusher.finish();
        assert!(receiver.got.try_recv().is_err(), "{protocol}");
        assert!(said::of(&url).join("").contains("wants to be left alone"), "{:?}", said::of(&url));
    }
}

#[test]
fn what_is_refused_is_dropped_and_not_sent_again() {
    let grpc = (Protocol::Grpc, Reply::Grpc("16", "who are you"), "UNAUTHENTICATED: who are you");
    let http = (Protocol::Http, Reply::Http(401, None), "HTTP 401 Unauthorized");
    for (protocol, reply, words) in [grpc, http] {
        let receiver = Receiver::start(protocol, [reply]);
        let pushing = Pushing::to(&receiver.url(), protocol);
        pushing.publish(1);
        assert_eq!(number(&next(&receiver)), 1);
        pushing.wait_for_words(words);
        assert!(pushing.said().contains("--otlp-header"), "{}", pushing.said());
        assert_eq!(pushing.dropped(), 1, "{protocol}");
        pushing.publish(2);
        assert_eq!(number(&next(&receiver)), 2, "{protocol}");
        pushing.wait_for_words("works again; 1 dropped");
        pushing.pusher.finish();
    }
}

#[test]
fn what_was_rejected_is_told_once() {
    for protocol in BOTH {
        let partly = Reply::Partly(2, "label value too long");
        let receiver = Receiver::start(protocol, [partly.clone(), partly]);
        let pushing = Pushing::to(&receiver.url(), protocol);
        for published in 1..=3 {
            pushing.publish(published);
            assert_eq!(number(&next(&receiver)), published, "{protocol}");
        }
        pushing.wait_for_words("took all but 2 data points: label value too long");
        let (url, dropped) = (pushing.url.clone(), Arc::clone(&pushing.dropped));
        pushing.pusher.finish();
        assert_eq!(said::of(&url).len(), 1, "{:#?}", said::of(&url));
        assert_eq!(dropped.load(Ordering::Relaxed), 0, "{protocol}: it was pushed");
    }
}

/// Collectors close connections that are idle, and are restarted.
#[test]
fn a_closed_connection_is_made_anew_without_a_word() {
    for protocol in BOTH {
        let receiver = Receiver::start(protocol, []);
        let address = receiver.address;
        let pushing = Pushing::to(&receiver.url(), protocol);
        pushing.publish(1);
        assert_eq!(number(&next(&receiver)), 1);
        // So that the answer is there, too.
        pushing.publish(2);
        assert_eq!(number(&next(&receiver)), 2);
        pushing.publish(3);
        assert_eq!(number(&next(&receiver)), 3);
        drop(receiver);
        let receiver = Receiver::at(address, protocol, []);
        pushing.publish(4);
        assert_eq!(number(&next(&receiver)), 4, "{protocol}");
        pushing.pusher.finish();
    }
}

#[test]
fn who_is_asked_in_the_wrong_language_is_suspected_of_another() {
    for (protocol, other, name) in
        [(Protocol::Grpc, Protocol::Http, "HTTP"), (Protocol::Http, Protocol::Grpc, "gRPC")]
    {
        let receiver = Receiver::start(other, []);
        let pushing = Pushing::to(&receiver.url(), protocol);
        pushing.publish(1);
        pushing.wait_for_words(&format!("does it speak {name} at this port? (--otlp-protocol)"));
        pushing.pusher.finish();
    }
}
