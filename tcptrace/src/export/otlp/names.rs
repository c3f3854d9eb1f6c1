//! What a family is called in OTLP: its name, its unit in UCUM, its attributes by the semantic conventions. A collector's Prometheus
//! exporter makes of it the names and labels that our own endpoint has.

use crate::export::model::{Family, Type, Unit};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use std::net::IpAddr;

/// `tcptrace_lost_events` as `tcptrace.lost_events`: one namespace; what belongs to a unit or a type stays out of the name.
pub fn name(family: &Family) -> String {
    let name = family.name.replacen('_', ".", 1);
    // The only suffix that nobody derives: to OTLP this is a gauge.
    if family.kind == Type::Info { name + "_info" } else { name }
}

/// The unit; what is counted stands in braces, which Prometheus' translation leaves out of the name.
pub fn unit(family: &Family) -> &'static str {
    match (family.unit, family.name) {
        (Some(Unit::Seconds), _) => "s",
        (Some(Unit::Bytes), _) => "By",
        (None, "tcptrace_transitions" | "tcptrace_inferred_transitions") => "{transition}",
        (None, "tcptrace_sockets" | "tcptrace_stuck_flows" | "tcptrace_unexplained_flows") => "{socket}",
        (None, "tcptrace_retransmitted_segments" | "tcptrace_failed_retransmits" | "tcptrace_resets") => {
            "{segment}"
        }
        (None, "tcptrace_closes") => "{connection}",
        (None, "tcptrace_lost_events" | "tcptrace_label_overflow") => "{event}",
        (None, "tcptrace_evicted_flows" | "tcptrace_tracked_flows") => "{flow}",
        (None, "tcptrace_untimed_states") => "{state}",
        (None, "tcptrace_otlp_dropped_exports") => "{export}",
        (None, "tcptrace_bpf_runs") => "{run}",
        (None, "tcptrace_resyncs") => "{resync}",
        (None, "tcptrace_unread_namespaces") => "{namespace}",
        (None, "tcptrace_hook_attached") => "{hook}",
        (None, _) => "",
    }
}

/// A string attribute.
pub fn text(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

/// The same under the name and with the value of the semantic conventions, where they have one for it.
pub fn convention(label: &str, value: &str) -> Option<KeyValue> {
    let (key, value) = match (label, value) {
        ("port", _) => {
            let port = any_value::Value::IntValue(value.parse::<u16>().ok()?.into());
            let value = Some(AnyValue { value: Some(port) });
            return Some(KeyValue { key: "server.port".to_owned(), value, ..KeyValue::default() });
        }
        ("peer", _) if value.parse::<IpAddr>().is_ok() => ("network.peer.address", value),
        ("state", _) => ("network.connection.state", state(value)?),
        ("direction", "sent") => ("network.io.direction", "transmit"),
        ("direction", "received") => ("network.io.direction", "receive"),
        _ => return None,
    };
    Some(text(key, value))
}

fn state(name: &str) -> Option<&'static str> {
    Some(match name {
        "CLOSE" => "closed",
        "CLOSE_WAIT" => "close_wait",
        "CLOSING" => "closing",
        "ESTABLISHED" => "established",
        "FIN_WAIT1" => "fin_wait_1",
        "FIN_WAIT2" => "fin_wait_2",
        "LAST_ACK" => "last_ack",
        "LISTEN" => "listen",
        "SYN_RECV" => "syn_received",
        "SYN_SENT" => "syn_sent",
        "TIME_WAIT" => "time_wait",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::model::FAMILIES;
    use tcptrace_common::state::TcpState;

    /// The rules of the OpenTelemetry specification ("Prometheus and OpenMetrics Compatibility") for names: other characters become
    /// underscores, then the unit, then `_total` of a sum that only grows.
    fn translated(family: &Family) -> String {
        let mut name = name(family).replace('.', "_");
        match unit(family) {
            "s" => name += "_seconds",
            "By" => name += "_bytes",
            other => assert!(other.is_empty() || (other.starts_with('{') && other.ends_with('}')), "{other}"),
        }
        if family.kind == Type::Counter { name + "_total" } else { name }
    }

    #[test]
    fn prometheus_makes_the_names_of_our_own_endpoint_of_them() {
        for family in FAMILIES {
            assert_eq!(translated(family), family.sample_name());
        }
    }

    #[test]
    fn what_is_counted_is_said() {
        for family in FAMILIES.iter().filter(|family| family.kind != Type::Info) {
            assert_ne!(unit(family), "", "{}", family.name);
        }
    }

    #[test]
    fn every_state_has_its_name_in_the_conventions() {
        for state in TcpState::ALL {
            assert!(convention("state", state.name()).is_some(), "{}", state.name());
        }
        for (label, value) in [("state", "no such"), ("port", "other"), ("peer", "none"), ("direction", "")] {
            assert_eq!(convention(label, value), None, "{label}={value}");
        }
        assert_eq!(convention("from", "LISTEN"), None);
    }
}
