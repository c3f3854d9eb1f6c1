//! `rst-storm`: connections end by RST in a row.

use super::{
    Finding, From, Judge, Rule, Scene,
    connect_refused::{about, window},
    words,
};
use crate::{diagnose::history::Burst, flow::cause::Cause};

/// Reset within the window; where we have watched for less, in proportion.
const MANY: u64 = 20;
/// Of all connections that ended there, one in so many: on busy services a few resets are nothing.
const SHARE: u64 = 5;

pub(super) const RULE: Rule = Rule {
    name: "rst-storm",
    states: &["ESTABLISHED"],
    says: "connections of one service end by RST in a row, and not in order",
    judge: Judge::All(judge),
};

fn judge(scene: &Scene) -> Vec<Finding> {
    let Some(traced) = &scene.around.traced else { return Vec::new() };
    let many = traced.burst(MANY);
    let storm = |count: u64, burst: &Burst| count >= many && count * SHARE >= burst.closed;
    let sent: Vec<_> = traced.bursts.iter().filter(|burst| storm(burst.sent, burst)).collect();
    // Where both ends are on this host the one that sends tells the whole story.
    let told = |burst: &&Burst| {
        sent.iter().any(|other| {
            other.place.port == burst.place.port
                && other.place.addr == burst.place.addr
                && other.place.incoming != burst.place.incoming
        })
    };
    let received =
        traced.bursts.iter().filter(|burst| storm(burst.received, burst)).filter(|burst| !told(burst));
    let mut findings: Vec<_> = sent.iter().map(|burst| sender(burst, scene)).collect();
    findings.extend(received.map(|burst| receiver(burst, scene)));
    findings
}

fn place(burst: &Burst) -> String {
    let ends = burst.place.ends();
    if burst.place.incoming { format!("on {}", ends.local()) } else { format!("to {}", ends.remote()) }
}

fn sender(burst: &Burst, scene: &Scene) -> Finding {
    let (why, next_step) = match burst.sent_cause {
        Some(Cause::UnreadData) => (
            "the program here closes with received data unread",
            "the program must read to the end before close(), or shutdown() and drain: the peer loses what was under way",
        ),
        Some(Cause::DataAfterClose) => (
            "data comes after the program here has closed",
            "the peer still sends: is a time-out of the program here shorter than the peer's?",
        ),
        Some(Cause::Destroyed) => {
            ("somebody destroys the sockets (ss -K, tcptrace kill)", "see the audit log for who")
        }
        _ => (
            "the program here aborts them (SO_LINGER 0 or disconnect)",
            "look for SO_LINGER with 0 seconds in the program",
        ),
    };
    let verdict = format!(
        "{} of {} connections {} were reset by this side in the last {}: {why}",
        burst.sent,
        burst.closed,
        place(burst),
        window(burst, scene)
    );
    let mut finding = about(RULE.name, burst, scene, verdict, burst.sent);
    finding.evidence.push(words::fact(
        From::Events,
        format!(
            "{} closes with an RST of ours, the last: {}",
            burst.sent,
            burst.sent_cause.map_or("unknown", Cause::sentence)
        ),
    ));
    finding.next_step = next_step.to_owned();
    finding
}

fn receiver(burst: &Burst, scene: &Scene) -> Finding {
    let verdict = format!(
        "{} of {} connections {} were reset by the other side in the last {}",
        burst.received,
        burst.closed,
        place(burst),
        window(burst, scene)
    );
    let mut finding = about(RULE.name, burst, scene, verdict, burst.received);
    finding
        .evidence
        .push(words::fact(From::Events, format!("{} closes by an RST that was received", burst.received)));
    finding.missing.push("why: only the other side knows; a firewall in between may do it too".to_owned());
    finding.next_step = if burst.place.incoming {
        "clients give up: look at how long answers take, and at their time-outs".to_owned()
    } else {
        format!(
            "look at the program at {}: it closes with data unread, aborts, or has been restarted",
            burst.place.ends().remote()
        )
    };
    finding
}
