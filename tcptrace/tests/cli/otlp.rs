//! What `export --otlp` refuses; what it pushes is in tests/otlp.

use crate::{
    refused::{HELP, assert_refused},
    run::*,
};

const URLS: &str = "http://127.0.0.1:4317";
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// Arguments that are refused, and words that the message has.
pub const REFUSED: &[(&[&str], &[&str])] = &[
    (&["export", "--otlp"], &["--otlp", HELP]),
    (&["export", "--otlp", ""], &["--otlp", "''"]),
    (&["export", "--otlp", "127.0.0.1:4317"], &["--otlp", "does not begin with http://", URLS]),
    (&["export", "--otlp", "ftp://127.0.0.1"], &["--otlp", "does not begin with http://", URLS]),
    (&["export", "--otlp", "https://127.0.0.1:4317"], &["--otlp", "TLS, which is not built in", URLS]),
    (&["export", "--otlp", "http://127.0.0.1:65536"], &["--otlp", URLS]),
    (&["export", "--otlp", "http://127.0.0.1:4318/v1/metrics?x=y"], &["--otlp", "query", URLS]),
    (&["export", "--otlp", URLS, "--otlp-protocol", "json"], &["--otlp-protocol", "'json'", "grpc, http"]),
    (
        &["export", "--otlp", "http://127.0.0.1:4317/v1/metrics", "--otlp-protocol", "grpc"],
        &["gRPC knows no path", "http://127.0.0.1:4317", "--otlp-protocol http"],
    ),
    (
        &["export", "--otlp", URLS, "--otlp-interval", "soon"],
        &["--otlp-interval", "\"soon\"", "valid are 10s"],
    ),
    (&["export", "--otlp", URLS, "--otlp-interval", "0"], &["--otlp-interval", "\"0\"", "valid are 10s"]),
    (&["export", "--otlp", URLS, "--otlp-interval", "-1s"], &["--otlp-interval", "\"-1s\"", "valid are 10s"]),
    (
        &["export", "--otlp", URLS, "--otlp-interval", "999ms"],
        &["--otlp-interval", "\"999ms\"", "1s and more"],
    ),
    (&["export", "--otlp", URLS, "--otlp-header", "blue"], &["--otlp-header", "no `=`", "name=value"]),
    (&["export", "--otlp", URLS, "--otlp-header", "a b=c"], &["--otlp-header", "\"a b\"", "letters, digits"]),
    (&["export", "--otlp", URLS, "--otlp-header", "host=c"], &["--otlp-header", "\"host\"", "leave it out"]),
    (&["export", "--otlp-interval", "5s"], &["--otlp-interval", "without a receiver", "--otlp http://"]),
    (&["export", "--otlp-protocol", "http"], &["--otlp-protocol", "without a receiver", "--otlp http://"]),
    (&["export", "--otlp-header", "a=b"], &["--otlp-header", "without a receiver", "--otlp http://"]),
];

#[test]
fn bad_input_is_refused_with_a_message_that_helps() {
    REFUSED.iter().for_each(|(args, said)| assert_refused(args, said));
}

#[test]
fn a_bad_environment_is_refused_in_one_line_that_names_the_variable() {
    for (name, value, said) in [
        (ENDPOINT, "localhost:4317", "does not begin with http://"),
        (ENDPOINT, "https://localhost:4317", "TLS, which is not built in"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "valid are grpc and http/protobuf"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "secret", "valid is key=value"),
        ("OTEL_RESOURCE_ATTRIBUTES", "secret", "valid is key=value"),
    ] {
        let mut command = program(&["export"], &[] as &[&str]);
        command.env(ENDPOINT, URLS).env(name, value);
        let ran = Running::start(command).end(None).expect(2);
        assert_eq!((ran.out.len(), ran.err.len()), (0, 1), "{ran:#?}");
        let message = ran.stderr();
        assert!(message.starts_with(&format!("tcptrace: {name}: ")) && message.contains(said), "{message}");
        assert!(!message.contains("secret"), "{message}");
    }
}
