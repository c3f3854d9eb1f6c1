use super::*;
use hyper::header::{HeaderName, HeaderValue};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsPartialSuccess;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn map(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let header = |(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
    };
    pairs.iter().map(header).collect()
}

fn by_http(status: u16, headers: &[(&'static str, &str)], body: &[u8]) -> Answer {
    http(StatusCode::from_u16(status).unwrap(), &map(headers), body, NOW)
}

fn by_grpc(trailers: &[(&'static str, &str)], body: &[u8]) -> Answer {
    grpc(StatusCode::OK, &HeaderMap::new(), Some(&map(trailers)), body, NOW)
}

fn partial(rejected: i64, why: &str) -> Vec<u8> {
    let partial =
        ExportMetricsPartialSuccess { rejected_data_points: rejected, error_message: why.to_owned() };
    ExportMetricsServiceResponse { partial_success: Some(partial) }.encode_to_vec()
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&[0], (message.len() as u32).to_be_bytes().as_slice(), message].concat()
}

#[test]
fn taken_is_taken_even_if_it_says_nothing_or_nonsense() {
    for body in [&[] as &[u8], &partial(0, ""), b"{}", &[0xff; 20]] {
        assert_eq!(by_http(200, &[], body), Answer::Taken, "{body:?}");
        assert_eq!(by_grpc(&[("grpc-status", "0")], &framed(body)), Answer::Taken, "{body:?}");
    }
    assert_eq!(by_grpc(&[("grpc-status", "0")], &[]), Answer::Taken);
    assert_eq!(by_http(202, &[], &[]), Answer::Taken);
}

#[test]
fn what_was_rejected_is_told() {
    let partly = Answer::Partly { rejected: 3, why: "too  old".to_owned() };
    assert_eq!(by_http(200, &[], &partial(3, "too \nold\n")), partly);
    assert_eq!(by_grpc(&[("grpc-status", "0")], &framed(&partial(3, "too \nold\n"))), partly);
    let warning = Answer::Partly { rejected: 0, why: "use deltas".to_owned() };
    assert_eq!(by_http(200, &[], &partial(0, "use deltas")), warning);
}

#[test]
fn only_what_may_pass_is_tried_again() {
    for status in [429, 502, 503, 504] {
        assert!(matches!(by_http(status, &[], &[]), Answer::Again { wait: None, .. }), "{status}");
    }
    for status in [301, 400, 401, 404, 413, 500, 501] {
        assert!(matches!(by_http(status, &[], &[]), Answer::Refused { .. }), "{status}");
    }
    for code in ["1", "4", "10", "11", "14", "15"] {
        assert!(matches!(by_grpc(&[("grpc-status", code)], &[]), Answer::Again { .. }), "{code}");
    }
    for code in ["2", "3", "5", "6", "7", "8", "9", "12", "13", "16", "99", "-1", "x"] {
        assert!(matches!(by_grpc(&[("grpc-status", code)], &[]), Answer::Refused { .. }), "{code}");
    }
}

#[test]
fn the_receiver_says_when() {
    let wait = |headers: &[(&'static str, &str)]| match by_http(503, headers, &[]) {
        Answer::Again { wait, .. } => wait,
        other => panic!("{other:?}"),
    };
    assert_eq!(wait(&[("retry-after", "7")]), Some(Duration::from_secs(7)));
    assert_eq!(wait(&[("retry-after", "Thu, 01 Jan 1970 00:01:00 GMT")]), Some(Duration::from_secs(60)));
    assert_eq!(wait(&[("retry-after", "Wed, 31 Dec 1969 23:59:00 GMT")]), Some(Duration::ZERO));
    assert_eq!(wait(&[("retry-after", "99999999999")]), Some(LONGEST_WAIT));
    for bad in ["soon", "-1", ""] {
        assert_eq!(wait(&[("retry-after", bad)]), None, "{bad}");
    }
}

#[test]
fn grpc_says_when_in_its_details() {
    // Status { code: 8, details: [RetryInfo { retry_delay: 1.5 s }] }, as a Go server writes it.
    let info = RetryInfo { delay: Some(Delay { seconds: 1, nanos: 500_000_000 }) }.encode_to_vec();
    let detail = Detail { kind: "type.googleapis.com/google.rpc.RetryInfo".to_owned(), value: info };
    let status = Status { message: String::new(), details: vec![detail] }.encode_to_vec();
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in status.chunks(3) {
        let bits =
            chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        (0..=chunk.len()).for_each(|at| text.push(DIGITS[(bits >> (18 - 6 * at) & 63) as usize] as char));
    }
    let answer = by_grpc(&[("grpc-status", "8"), ("grpc-status-details-bin", &text)], &[]);
    let wait = Some(Duration::from_millis(1500));
    assert_eq!(answer, Answer::Again { why: "RESOURCE_EXHAUSTED".to_owned(), wait });
    let answer = by_grpc(&[("grpc-status", "8"), ("grpc-status-details-bin", "!")], &[]);
    assert!(matches!(answer, Answer::Refused { .. }), "{answer:?}");
    assert_eq!(base64(b"aGVsbG8="), Some(b"hello".to_vec()));
    assert_eq!(base64(b"aGVsbG8"), Some(b"hello".to_vec()));
}

#[test]
fn its_words_are_one_line_of_text() {
    let text = [("content-type", "text/plain; charset=utf-8")];
    let refused = |answer| match answer {
        Answer::Refused { why } => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        refused(by_http(400, &text, b"bad\x1b[31m\nrequest")),
        "HTTP 400 Bad Request: bad [31m request"
    );
    let status = Status { message: "no".to_owned(), details: Vec::new() }.encode_to_vec();
    let protobuf = [("content-type", "application/x-protobuf")];
    assert_eq!(refused(by_http(400, &protobuf, &status)), "HTTP 400 Bad Request: no");
    assert_eq!(refused(by_http(400, &[("content-type", "text/html")], b"<html>")), "HTTP 400 Bad Request");
    assert_eq!(refused(by_http(400, &text, &[b'x'; 5000])).len(), "HTTP 400 Bad Request: ".len() + WORDS);
    let trailers = [("grpc-status", "3"), ("grpc-message", "50%25 of %zz%0a")];
    assert_eq!(refused(by_grpc(&trailers, &[])), "INVALID_ARGUMENT: 50% of %zz");
}

#[test]
fn a_receiver_of_another_kind_is_told_from_a_broken_one() {
    let other = grpc(StatusCode::NOT_FOUND, &HeaderMap::new(), None, b"<html>", NOW);
    assert!(matches!(&other, Answer::Refused { why } if why.contains("gRPC")), "{other:?}");
    let busy = grpc(StatusCode::SERVICE_UNAVAILABLE, &map(&[("retry-after", "2")]), None, &[], NOW);
    assert!(matches!(busy, Answer::Again { wait: Some(_), .. }), "{busy:?}");
    let silent = grpc(StatusCode::OK, &HeaderMap::new(), None, &[], NOW);
    assert!(matches!(silent, Answer::Again { .. }), "{silent:?}");
    // Without a body the status stands among the headers.
    let headers = map(&[("grpc-status", "14")]);
    assert!(matches!(grpc(StatusCode::OK, &headers, None, &[], NOW), Answer::Again { .. }));
}
