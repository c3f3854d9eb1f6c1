use super::*;

fn with(asked: Asked, env: &[(&str, &str)]) -> Result<Option<Settings>, String> {
    Settings::new(asked, |name| {
        env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    })
}

fn asked(text: &str) -> Asked {
    Asked { url: Some(url(text).unwrap()), ..Asked::default() }
}

#[track_caller]
fn receiver(asked: Asked, env: &[(&str, &str)]) -> (String, Protocol) {
    let settings = with(asked, env).unwrap().unwrap();
    (settings.url.to_string(), settings.protocol)
}

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

#[test]
fn urls_are_read_or_refused_with_a_reason() {
    assert_eq!(url("http://[::1]:4317").unwrap().host, "::1");
    assert_eq!(url("http://[::1]:4317").unwrap().to_string(), "http://[::1]:4317");
    assert_eq!(url("http://collector").unwrap().to_string(), "http://collector:80");
    for (bad, why) in [
        ("", "not a URL"),
        ("127.0.0.1:4317", "does not begin with http://"),
        ("collector", "does not begin with http://"),
        ("/v1/metrics", "does not begin with http://"),
        ("ftp://collector:21", "does not begin with http://"),
        ("https://collector:4317", "TLS"),
        ("http://", "not a URL"),
        ("http://host:99999", "port"),
        ("http://host:0", "port"),
        ("http://host:", "port"),
        ("http://[::1]:", "port"),
        ("http://host:4318/v1/metrics?a=b", "query"),
        ("http://:4317", "host"),
    ] {
        let message = url(bad).unwrap_err();
        assert!(message.contains(why) && message.contains("http://127.0.0.1:4317"), "{bad}: {message}");
    }
    let message = url("http://me:secret@host:4317").unwrap_err();
    assert!(message.contains("--otlp-header") && !message.contains("secret"), "{message}");
}

#[test]
fn the_protocol_follows_from_the_usual_port_unless_it_is_said() {
    let grpc = |url: &str| (url.to_owned(), Protocol::Grpc);
    let http = |url: &str| (url.to_owned(), Protocol::Http);
    assert_eq!(receiver(asked("http://h:4317"), &[]), grpc("http://h:4317"));
    assert_eq!(receiver(asked("http://h:4318"), &[]), http("http://h:4318/v1/metrics"));
    assert_eq!(receiver(asked("http://h:9090/api/otlp/"), &[]), http("http://h:9090/api/otlp/v1/metrics"));
    assert_eq!(receiver(asked("http://h:9090/v1/metrics"), &[]), http("http://h:9090/v1/metrics"));
    let said = Asked { protocol: Some(Protocol::Grpc), ..asked("http://h:4318") };
    assert_eq!(receiver(said, &[]), grpc("http://h:4318"));
    assert_eq!(
        receiver(asked("http://h:4318"), &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]),
        grpc("http://h:4318")
    );
    let said = Asked { protocol: Some(Protocol::Grpc), ..asked("http://h:4318/v1/metrics") };
    assert!(with(said, &[]).unwrap_err().contains("gRPC knows no path"));
}

#[test]
fn the_environment_names_a_receiver_and_the_command_line_another() {
    let env = [(ENDPOINT, "http://all:4318"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")];
    let http = |url: &str| (url.to_owned(), Protocol::Http);
    assert_eq!(receiver(Asked::default(), &env), http("http://all:4318/v1/metrics"));
    assert_eq!(receiver(asked("http://flag:1"), &env), http("http://flag:1/v1/metrics"));
    // That of metrics is taken as it is.
    let env = [env[0], env[1], ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://metrics:9/in")];
    assert_eq!(receiver(Asked::default(), &env), http("http://metrics:9/in"));
    assert!(with(Asked::default(), &[(ENDPOINT, " ")]).unwrap().is_none());
    assert!(with(Asked::default(), &[]).unwrap().is_none());
}

#[test]
fn what_is_wrong_in_the_environment_is_said_with_its_name() {
    for (name, value, why) in [
        (ENDPOINT, "localhost:4317", "http://"),
        (ENDPOINT, "https://localhost:4317", "TLS"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "https://localhost:4317", "TLS"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "novalue", "key=value"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a b=c", "header"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "milliseconds"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0", "milliseconds"),
        ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "native", "explicit_bucket_histogram"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=%zz", "%20"),
        ("OTEL_RESOURCE_ATTRIBUTES", "=x", "no name"),
    ] {
        let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:4317"), (name, value)];
        // The later one of the same name counts here.
        let env: Vec<_> = env.into_iter().rev().collect();
        let message = with(Asked::default(), &env).unwrap_err();
        assert!(message.starts_with(&format!("{name}: ")) && message.contains(why), "{message}");
    }
}

#[test]
fn a_flag_without_a_receiver_is_refused() {
    for (asked, flag) in [
        (Asked { protocol: Some(Protocol::Http), ..Asked::default() }, "--otlp-protocol"),
        (Asked { interval: Some(INTERVAL), ..Asked::default() }, "--otlp-interval"),
        (Asked { headers: vec![header("a=b").unwrap()], ..Asked::default() }, "--otlp-header"),
    ] {
        let message = with(asked, &[]).unwrap_err();
        assert!(message.starts_with(flag) && message.contains("--otlp http://127.0.0.1:4317"), "{message}");
    }
}

#[test]
fn headers_are_joined_and_the_command_line_counts() {
    let asked = Asked { headers: vec![header("X-Tenant=b").unwrap()], ..asked("http://h:1") };
    let env = [("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a, authorization=Bearer%20t%3D=,")];
    let headers = with(asked, &env).unwrap().unwrap().headers;
    let text: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(text, [("authorization", "Bearer t=="), ("x-tenant", "b")]);
    assert!(!format!("{headers:?}").contains("Bearer"), "{headers:?}");
}

#[test]
fn bad_headers_are_refused_without_showing_their_value() {
    for (bad, why) in [
        ("secret", "no `=`"),
        ("=secret", "not a header's name"),
        ("a b=secret", "not a header's name"),
        ("x=secret\n", ""),
        ("x=sec\nret", "printable ASCII"),
        ("content-type=secret", "set by tcptrace itself"),
        ("Host=secret", "set by tcptrace itself"),
        ("grpc-timeout=secret", "set by tcptrace itself"),
        ("key-bin=secret", "binary"),
    ] {
        match header(bad) {
            Ok(_) => assert_eq!(why, "", "{bad}: white space around is no part of it"),
            Err(message) => assert!(message.contains(why) && !message.contains("secret"), "{bad}: {message}"),
        }
    }
}

#[test]
fn times_are_those_of_the_command_line_then_those_of_the_environment() {
    let times = |asked, env: &[_]| {
        let settings = with(asked, env).unwrap().unwrap();
        (settings.interval, settings.timeout)
    };
    assert_eq!(times(asked("http://h:1"), &[]), (INTERVAL, TIMEOUT));
    let env = [("OTEL_METRIC_EXPORT_INTERVAL", "30000"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "500")];
    let half = Duration::from_millis(500);
    assert_eq!(times(asked("http://h:1"), &env), (Duration::from_secs(30), half));
    let five = Asked { interval: Some(Duration::from_secs(5)), ..asked("http://h:1") };
    assert_eq!(times(five, &env), (Duration::from_secs(5), half));
    assert_eq!(interval("1s"), Ok(LEAST_INTERVAL));
    for bad in ["999ms", "0", "-1", "soon", ""] {
        assert!(interval(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_environment_adds_to_the_resource() {
    let env = [
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "service.name=other,deployment.environment.name=a%2Cb,service.instance.id=7",
        ),
        ("OTEL_SERVICE_NAME", "edge"),
    ];
    let resource = with(asked("http://h:1"), &env).unwrap().unwrap().resource;
    let value = |key: &str| {
        let mut values = resource.iter().filter(|(known, _)| known == key).map(|(_, value)| value.as_str());
        (values.next().unwrap_or_default(), values.next())
    };
    assert_eq!(value("service.name"), ("edge", None));
    assert_eq!(value("deployment.environment.name"), ("a,b", None));
    assert_eq!(value("service.instance.id"), ("7", None));
    assert_eq!(value("os.type"), ("linux", None));
}
