//! Whatever happens, in whatever order: no counter of a series goes back, and what is written can be read.

use super::made::*;
use crate::{
    event::{Direction, Reason, Segment, TcpState},
    export::{collect::Label, model::Snapshot, openmetrics, strict},
    flow::{Entry, Known, Role, cause::Cause},
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use std::{collections::BTreeMap, sync::Arc};

fn entry() -> impl Strategy<Value = Entry> {
    let state = || select(TcpState::ALL.to_vec());
    let roles = [Role::Active, Role::Passive, Role::Listen, Role::Unknown];
    let flow = (0u32..6, "[a\"\\\\{}\n,é]{0,3}", select(roles.to_vec()), any::<bool>());
    let flow = flow.prop_map(|(peer, comm, role, owned)| {
        let mut who = who(peer, &comm);
        who.role = role;
        who.owner = who.owner.filter(|_| owned);
        who
    });
    let known = [Known::Event, Known::Probe, Known::Seen, Known::Rule, Known::Timer];
    let what = (
        0u8..4,
        (state(), state(), option::of(any::<u64>()), select(known.to_vec())),
        (select(Segment::ALL.to_vec()), select(Reason::ALL.to_vec()), any::<u16>(), -1i32..=0),
        (any::<bool>(), option::of(select(vec!["unknown", "a-reason", "another\"one"]))),
        (select(Cause::ALL.to_vec()), option::of(state())),
    );
    (flow, 0..u64::MAX / 2, what).prop_map(|(who, time_ns, what)| {
        let (kind, (old, new, ns, known), (segment, reason, segments, err), (sent, why), (cause, goes_on)) =
            what;
        match kind {
            0 => moves(time_ns, who, old, new, ns, known),
            1 => resend(time_ns, who, segment, reason, segments, err),
            2 => reset(time_ns, who, if sent { Direction::Sent } else { Direction::Received }, why),
            _ => close(time_ns, who, old, cause, goes_on),
        }
    })
}

/// Every sample that only grows, by its name and labels.
fn growing(snapshot: &Arc<Snapshot>) -> Result<BTreeMap<String, f64>, String> {
    let text = openmetrics::text(snapshot).map_err(|error| error.to_string())?;
    let families = strict::read(&text)?;
    let grows = families.values().filter(|family| ["counter", "histogram"].contains(&family.kind.as_str()));
    // A sum of seconds that is rounded may be smaller by the last bit.
    let samples = grows.flat_map(|family| &family.samples).filter(|(name, ..)| !name.ends_with("_sum"));
    Ok(samples.map(|(name, labels, value)| (format!("{name} {labels:?}"), *value)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn counters_only_grow(batches in vec(vec(entry(), 0..20), 1..6), most in 1usize..5) {
        let labels = [Label::Peer, Label::Process, Label::Role, Label::Port, Label::Netns];
        let mut counted = Counted::by(&labels, most);
        let mut before = BTreeMap::new();
        for (second, batch) in (1u64..).zip(batches) {
            counted.take(batch);
            let now = growing(&counted.at(second * SECOND_NS)).map_err(TestCaseError::fail)?;
            for (name, value) in &before {
                prop_assert!(now.get(name).is_some_and(|now| now >= value), "{} was {}", name, value);
            }
            before = now;
        }
    }
}
