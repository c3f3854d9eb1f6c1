//! `explain`: one connection as it stands, with what it has tried and will still try.

use super::{
    line::{OwnerJson, begin, both, end_with},
    sight,
};
use crate::{
    diagnose::{
        Case,
        retries::{Retries, Tried},
    },
    enrich::Places,
    flow::{FlowId, Seen, Who, least_age},
    wall::Wall,
};
use serde::Serialize;

#[derive(Serialize)]
struct Body<'a> {
    closed_by: Option<OwnerJson<'a>>,
    shown: sight::SightBody,
    retries: Option<RetriesJson>,
}

#[derive(Serialize)]
struct RetriesJson {
    what: &'static str,
    tried: Vec<TryJson>,
    ahead: Vec<TryJson>,
    end_ns: Option<u64>,
    end_latest_ns: Option<u64>,
}

/// Behind us negative, ahead positive.
#[derive(Serialize)]
struct TryJson {
    number: u32,
    in_ns: i64,
}

/// Writes it as one line.
///
/// # Errors
/// None: memory is all it writes to.
pub fn line(
    out: &mut Vec<u8>,
    wall: &mut Wall,
    places: &Places,
    case: &Case,
    retries: Option<&Retries>,
) -> serde_json::Result<()> {
    let told = &case.told;
    let owner_place = told.owner.as_ref().and_then(|owner| places.of_owner(&owner.process));
    let closer_place = told.closed_by.as_ref().and_then(|owner| places.of_owner(&owner.process));
    let (_, bound) = least_age(&case.sight);
    let mut shown = sight::body(&Seen { sight: case.sight, age: told.age, bound });
    (shown.state, shown.exact) = (case.state().name(), told.age.is_some_and(|age| age.exact));
    let who = Who {
        id: FlowId::Cookie(case.sight.cookie),
        netns: case.sight.netns,
        ends: case.sight.ends,
        role: told.role,
        owner: told.owner.clone(),
    };
    let body = Body {
        closed_by: told.closed_by.as_ref().map(|owner| OwnerJson::new(owner, closer_place.as_deref())),
        shown,
        retries: retries.map(|retries| RetriesJson {
            what: retries.what,
            tried: retries
                .tried
                .iter()
                .map(|Tried { number, ago_ns }| TryJson { number: *number, in_ns: -ago_ns.cast_signed() })
                .collect(),
            ahead: retries
                .ahead
                .rungs
                .iter()
                .map(|rung| TryJson { number: rung.number, in_ns: rung.in_ns.cast_signed() })
                .collect(),
            end_ns: retries.ahead.end.map(|end| end.in_ns),
            end_latest_ns: retries.ahead.end.map(|end| end.latest_ns),
        }),
    };
    begin(out, wall, "explain", (case.taken_ns, &who), both(&who.ends), owner_place.as_deref());
    end_with(out, body)
}
